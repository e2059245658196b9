import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine, getEnvironment, Host, HyperTokenError, supportsWorkers, UniversalWorker } from '../src/index.js';

const wasmPath = new URL('../../wasm/', import.meta.url);
const workerOptions = { wasmPath };
const deck = (n) => ({ stack: Array.from({ length: n }, (_, k) => ({ id: `t${k}` })) });

for (const useWorker of [true, false]) {
  test(`draws ${useWorker ? 'on a worker' : 'on the main thread'}`, async (t) => {
    const engine = new Engine({ useWorker, setup: deck(5), workerOptions });
    t.after(() => engine.shutdown());
    await engine.ready;
    assert.equal(engine.place, useWorker ? 'worker' : 'main thread');
    const drawn = await engine.dispatchAsync('stack:draw', { count: 2 });
    assert.deepEqual(drawn.map((t) => t.id).length, 2);
    await assert.rejects(engine.dispatchAsync('no:such'), { code: 'unknown_action' });
    const got = await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:reset' }]);
    assert.equal(got.length, 2);
    assert.equal(engine.sequence, 3);
    const state = await engine.state();
    assert.equal(state.stack.stack?.length ?? state.stack.tokens?.length ?? 5, 5);
    assert.match(await engine.digest(), /^[0-9a-f]{16}$/);
  });
}
