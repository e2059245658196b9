// The state as a value that can be read at once.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { share } from '../src/current.js';
import { deck, engineFor, kill, record, testCore, wasmPath } from './support/cores.js';

/** Waits until f is true; it is asked after each change of an engine's current state. */
const until = (engine, f) => new Promise((resolve) => {
  const look = () => {
    if (engine.current === undefined || !f(engine.current)) return;
    stop();
    resolve(engine.current);
  };
  const stop = engine.subscribe(look);
  queueMicrotask(look);
});
const stack = (n) => (state) => state.stack.stack.length === n;

test('parts that are equal are the same objects, and all parts are frozen', () => {
  const before = share(undefined, { a: [{ id: 1 }, { id: 2 }], b: { c: { d: 1 }, e: null }, n: 1 });
  const after = share(before, { a: [{ id: 1 }, { id: 2 }, { id: 3 }], b: { c: { d: 1 }, e: null }, n: 1 });
  assert.notEqual(after, before);
  assert.deepEqual(after, { a: [{ id: 1 }, { id: 2 }, { id: 3 }], b: { c: { d: 1 }, e: null }, n: 1 });
  assert.equal(after.a[0], before.a[0]);
  assert.equal(after.a[1], before.a[1]);
  assert.equal(after.b, before.b);
  assert.ok([after, after.a, after.a[2], after.b.c].every(Object.isFrozen));
  assert.equal(share(after, structuredClone(after)), after);
  for (const [a, b] of [[[], {}], [{}, []], [[1], { 0: 1 }], [{ a: 1 }, { b: 1 }], [{ a: 1, b: 2 }, { a: 1 }], [null, {}], [1, '1'], [[1, 2], [1]], [{}, null]]) {
    assert.deepEqual(share(a, structuredClone(b)), b);
  }
  // A member called __proto__ is one like any other.
  const odd = () => JSON.parse('{"__proto__": {"x": [1]}, "y": 1}');
  const first = share({}, odd());
  assert.deepEqual(Object.keys(first), ['__proto__', 'y']);
  assert.equal(share(first, odd()), first);
  assert.equal(Object.getPrototypeOf(first), Object.prototype);
  const { hasOwn } = Object;
  assert.ok(hasOwn(share({}, odd()), '__proto__'));
});

for (const useWorker of [true, false]) {
  test(`an engine on ${useWorker ? 'a worker' : 'the main thread'} tells its state after each change, once it is followed`, async (t) => {
    const engine = engineFor(t, { useWorker, setup: deck(9) });
    await engine.dispatchAsync('stack:draw');
    assert.equal(engine.current, undefined); // this read follows it
    const one = await until(engine, stack(8));
    assert.equal(engine.current, one);
    let told = 0;
    const stop = engine.subscribe(() => { told++; }), again = engine.subscribe(() => { told++; });
    const states = [];
    engine.subscribe(() => states.push(engine.current));
    await Promise.all([1, 2, 3].map(() => engine.dispatchAsync('stack:draw')));
    const two = await until(engine, stack(5));
    assert.deepEqual(two, await engine.state());
    assert.notEqual(two, one);
    assert.equal(two.agents, one.agents);
    assert.equal(two.stack.stack[0], one.stack.stack[0]);
    assert.throws(() => { two.stack.stack[0].id = 'x'; }, TypeError);
    assert.ok(states.length >= 1 && states.length <= 3);
    assert.equal(told, 2 * states.length);

    // Neither a question, nor a failure, nor an action that changes nothing.
    await engine.dispatchAsync('stack:peek');
    await assert.rejects(engine.dispatchAsync('no:such'));
    await engine.digest();
    assert.equal(engine.current, two);
    stop();
    again();
    stop();
    await engine.dispatchAsync('stack:draw');
    await until(engine, stack(4));
    assert.equal(told, 2 * (states.length - 1));
    assert.equal(engine.host.stats.inFlight, 0);
  });
}

test('without a worker the state is there when dispatch returns', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(3) });
  await engine.ready;
  assert.equal(engine.current, undefined);
  await until(engine, stack(3));
  engine.dispatch('stack:draw');
  assert.equal(engine.current.stack.stack.length, 2);
});

test('an engine that nothing follows is never asked for its state', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(3) });
  await engine.dispatchAsync('stack:draw');
  const events = record(engine);
  const { host } = engine, ran = [], was = host.runHere;
  host.runHere = function (game, placement, op) {
    ran.push(op.what);
    return was.call(this, game, placement, op);
  };
  await engine.dispatchAsync('stack:draw');
  assert.deepEqual(ran, ['stack:draw']);
  assert.equal(events.length, 2);
});

test('the state is told though the worker dies', async (t) => {
  const engine = engineFor(t, { setup: deck(60) });
  await engine.ready;
  for (let k = 0; k < 10; k++) {
    const drawn = engine.dispatchAsync('stack:draw');
    if (k % 3 === 1) await kill(engine.host);
    await drawn;
  }
  assert.deepEqual(await until(engine, stack(50)), await engine.state());
  await engine.shutdown();
  assert.equal(engine.current.stack.stack.length, 50); // it keeps the last one
});

test('a state that can not be told is an event, and the next change asks again', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions: { core: testCore, maxStateBytes: 1 << 20 } });
  await until(engine, stack(9));
  const [thread] = engine.host.threads, was = thread.send;
  const failed = new Promise((resolve) => {
    engine.on('engine:error', ({ error, type }) => resolve([error.code, type]));
  });
  thread.send = function (game, placement, op) {
    if (op.what !== 'state') return was.call(this, game, placement, op);
    thread.send = was;
    op.kind = 99; // a kind of request that there is not
    return was.call(this, game, placement, op);
  };
  await engine.dispatchAsync('stack:draw');
  assert.deepEqual(await failed, ['trap', 'state']);
  assert.equal(engine.current.stack.stack.length, 9);
  await engine.dispatchAsync('stack:draw');
  await until(engine, stack(7));
});

test('a listener that throws stops neither the engine nor the other listeners', async () => {
  const program = `
    import { Engine } from ${JSON.stringify(String(new URL('../src/index.js', import.meta.url)))};
    const engine = new Engine({ setup: { stack: [{ id: 'a' }] }, workerOptions: { wasmPath: ${JSON.stringify(String(wasmPath))} } });
    process.once('uncaughtException', (e) => console.log('uncaught', e.message));
    engine.subscribe(() => { throw new Error('mine'); });
    await new Promise((resolve) => { engine.subscribe(resolve); });
    console.log('told', engine.current.stack.stack[0].id);
    await engine.shutdown();
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  assert.deepEqual(stdout.trim().split('\n').sort(), ['told a', 'uncaught mine']);
});

test('a listener is a function, and subscribe needs no this', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(2) });
  assert.throws(() => engine.subscribe(), { code: 'bad_input' });
  const { subscribe } = engine;
  await new Promise((resolve) => { subscribe(resolve); });
  assert.equal(engine.current.stack.stack.length, 2);
});
