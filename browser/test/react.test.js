// The hooks where no component is ever mounted: on a server. test/browser/react.test.js has them in pages.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement as h } from 'react';
import { renderToString } from 'react-dom/server';
import { useEngine, useEngineState } from '../src/react.js';
import { deck, engineFor } from './support/cores.js';

test('on a server no engine is made, and the state is undefined', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(2) });
  await engine.ready;
  function Table({ shared }) {
    const own = useEngine(() => assert.fail('an engine is made'));
    const state = useEngineState(shared ?? own), size = useEngineState(shared, (s) => s.stack.stack.length);
    return h('p', null, `${own} ${state} ${size}`);
  }
  for (const shared of [null, undefined, engine]) assert.equal(renderToString(h(Table, { shared })), '<p>null undefined undefined</p>');
});
