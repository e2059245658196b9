// What a core says of itself, and the types that are made from it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deck, engineFor, exampleCore, wasmPath } from './support/cores.js';

test('an engine lists the actions of its core, on a worker and on the main thread', async (t) => {
  for (const useWorker of [true, false]) {
    const engine = engineFor(t, { useWorker, setup: deck(3), workerOptions: { core: undefined, wasmPath } });
    const actions = await engine.actions(), draw = actions.find((a) => a.name === 'stack:draw');
    assert.deepEqual(draw, {
      name: 'stack:draw', about: 'Moves up to count tokens from the top to drawn; returns them, top first.', result: 'Token[]',
      fields: [{ name: 'count', kind: draw.fields[0].kind, shape: 'int', required: false, default: '1' }],
    });
    assert.deepEqual(actions.map((a) => a.name), actions.map((a) => a.name).sort());
    assert.equal(engine.sequence, 0);
  }
  const own = await engineFor(t, { workerOptions: { core: exampleCore } }).actions();
  assert.ok(own.some((a) => a.name === 'process:item') && own.every((a) => Array.isArray(a.fields)));
});
