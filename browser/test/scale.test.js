// Many engines, many actions: the bound of instances, the queue and its room, and what a hostile core streams.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { List } from '../src/list.js';
import { deck, engineFor, event, hostFor, kill, record, script, testCore, wasmPath } from './support/cores.js';

const ids = (tokens) => tokens.map((x) => x.id);
const placed = (engines) => engines.filter((e) => e.place !== 'nowhere').length;
const task = () => new Promise((later) => setImmediate(later));

/** The answers of a deck of so many tokens to draws of one. */
const drawsOf = (size, n) => Array.from({ length: n }, (_, k) => `t${size - 1 - k}`);

test('a list keeps its order, whatever is added and removed', () => {
  const list = new List(), names = () => [...list].map((m) => m.name).join('');
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => ({ name, list: null, prev: null, next: null }));
  for (const m of [b, c]) list.push(m);
  list.unshift(a);
  list.push(d);
  assert.equal(names(), 'abcd');
  list.remove(b);
  list.remove(d);
  assert.deepEqual([names(), list.length, list.first, list.last, b.list], ['ac', 2, a, c, null]);
  list.unshift(d);
  for (const m of list) if (m !== c) list.remove(m);
  assert.deepEqual([names(), list.shift(), list.shift(), list.length, list.first, list.last], ['c', c, null, 0, null, null]);
});

for (const [where, options] of [['a worker', { workers: 1 }], ['two workers', { workers: 2 }], ['the main thread', { workers: 0 }]]) {
  test(`on ${where}, many engines share few instances: each goes on where it was`, async (t) => {
    const host = hostFor(t, { ...options, maxInstances: 3 });
    const engines = Array.from({ length: 40 }, () => engineFor(t, { host, useWorker: undefined, setup: deck(9) }));
    let most = 0;
    for (const e of engines) e.on('engine:action', () => { most = Math.max(most, placed(engines)); });
    await Promise.all(engines.map((e) => e.ready));
    for (let round = 0; round < 3; round++) {
      const drawn = await Promise.all(engines.flatMap((e) => [e.dispatchAsync('stack:draw'), e.dispatchAsync('stack:draw')]));
      assert.deepEqual(drawn.flatMap(ids), engines.flatMap(() => drawsOf(9, 6).slice(2 * round, 2 * round + 2)));
    }
    assert.ok(most <= 3 && placed(engines) <= 3, `${most} engines had an instance`);
    const fresh = engineFor(t, { setup: deck(9) });
    for (let k = 0; k < 6; k++) await fresh.dispatchAsync('stack:draw');
    const want = await fresh.state();
    assert.deepEqual(await engines[0].state(), want);
    assert.deepEqual({ waiting: host.stats.waiting, inFlight: host.stats.inFlight, inFlightBytes: host.stats.inFlightBytes }, { waiting: 0, inFlight: 0, inFlightBytes: 0 });
  });
}

test('all workers have their share of the instances, though some start later', async (t) => {
  const host = hostFor(t, { workers: 3, maxInstances: 6 });
  const engines = Array.from({ length: 60 }, () => engineFor(t, { host, setup: deck(5) }));
  await Promise.all(engines.map((e) => e.ready));
  await Promise.all(engines.map((e) => e.dispatchAsync('stack:draw')));
  assert.deepEqual(host.stats.workers.map((w) => w.engines), [2, 2, 2]);
});

test('engines that always have an action yield their instances in turn', async (t) => {
  const host = hostFor(t, { maxInstances: 2 });
  const [a, b, c] = Array.from({ length: 3 }, () => engineFor(t, { host, setup: deck(4000) }));
  let over = false;
  // Each of these has two actions in flight until the third engine has had its own.
  const busy = [a, b].map((e) => Promise.all([1, 2].map(async () => {
    const drawn = [];
    while (!over) drawn.push(...ids(await e.dispatchAsync('stack:draw')));
    return drawn;
  })));
  await Promise.all([event(a, 'engine:action'), event(b, 'engine:action')]);
  for (let k = 0; k < 3; k++) assert.deepEqual(ids(await c.dispatchAsync('stack:draw', {}, { timeout: 0 })), [`t${3999 - k}`]);
  over = true;
  for (const [k, drawn] of (await Promise.all(busy)).entries()) {
    const all = drawn.flat();
    assert.deepEqual(new Set(all), new Set(drawsOf(4000, all.length)), `engine ${k}`);
    assert.equal(all.length, new Set(all).size);
  }
});

test('dispatch on the main thread returns at once, though other engines have all instances', async (t) => {
  const host = hostFor(t, { workers: 0, maxInstances: 2 });
  const engines = Array.from({ length: 5 }, () => engineFor(t, { host, useWorker: undefined, setup: deck(3) }));
  await Promise.all(engines.map((e) => e.ready));
  const late = engines.map((e) => e.dispatchAsync('stack:draw'));
  for (const e of engines) assert.deepEqual(ids(e.dispatch('stack:draw')), ['t1']);
  assert.deepEqual((await Promise.all(late)).flatMap(ids), ['t2', 't2', 't2', 't2', 't2']);
  for (const e of [...engines].reverse()) assert.deepEqual(ids(e.dispatch('stack:draw')), ['t0']);
  assert.ok(placed(engines) <= 2, `${placed(engines)} engines have an instance`);
});

test('hosts share the bound: an idle engine of one is taken out for an engine of another', async (t) => {
  const engines = Array.from({ length: 4 }, (_, k) => engineFor(t, { useWorker: k % 2 === 0, setup: deck(5), workerOptions: { maxInstances: 2 } }));
  await Promise.all(engines.map((e) => e.ready));
  for (let round = 0; round < 2; round++) {
    for (const e of engines) {
      assert.deepEqual(ids(await e.dispatchAsync('stack:draw')), [`t${4 - round}`]);
      assert.ok(placed(engines) <= 2, `${placed(engines)} engines have an instance`);
    }
  }
});

test('an engine that waits for an instance can be shut down, and its action aborted', async (t) => {
  const host = hostFor(t, { maxInstances: 1, killGrace: 20 });
  const [a, b, c] = Array.from({ length: 3 }, () => engineFor(t, { host, setup: deck(3) }));
  await Promise.all([a, b, c].map((e) => e.ready));
  const spin = assert.rejects(a.dispatchAsync('test:spin', {}, { timeout: 300 }), { code: 'timeout' });
  const stop = new AbortController();
  const aborted = assert.rejects(b.dispatchAsync('stack:draw', {}, { signal: stop.signal }), { code: 'canceled' });
  const ended = assert.rejects(c.dispatchAsync('stack:draw'), { code: 'shutdown' });
  assert.equal(host.stats.waiting, 2);
  stop.abort();
  await Promise.all([aborted, c.shutdown({ timeout: 1 }), ended, spin]);
  assert.deepEqual(ids(await b.dispatchAsync('stack:draw')), ['t2']);
  assert.equal(host.stats.waiting, 0);
});

test('a worker that dies while engines wait for its instances loses nothing', async (t) => {
  const host = hostFor(t, { workers: 2, maxInstances: 3, restartWindow: 1 });
  const engines = Array.from({ length: 12 }, () => engineFor(t, { host, setup: deck(30) }));
  let answers = 0, next = 20;
  for (const e of engines) {
    e.on('engine:action', () => {
      const ready = host.threads.findIndex((x) => x.state === 'ready');
      if (++answers < next || ready < 0) return;
      next = answers + 30;
      kill(host, ready);
    });
  }
  const drawn = await Promise.all(engines.map(async (e) => {
    const all = [];
    for (let k = 0; k < 10; k++) all.push(...(await Promise.all([e.dispatchAsync('stack:draw'), e.dispatchAsync('stack:draw')])).flatMap(ids));
    return all;
  }));
  for (const d of drawn) assert.deepEqual(d, drawsOf(30, 20));
  assert.ok(host.counts.died > 0);
});

test('an engine that has been idle for idleAfter is taken out, and its next action places it', async (t) => {
  const host = hostFor(t, { idleAfter: 1 });
  const engine = engineFor(t, { host, setup: deck(3) }), kept = engineFor(t, { setup: deck(3), workerOptions: { idleAfter: 0 } });
  for (let k = 0; k < 3; k++) {
    assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), [`t${2 - k}`]);
    while (engine.place !== 'nowhere') await task();
    if (k === 0) await kept.ready;
  }
  assert.equal(host.counts.placed, 3);
  assert.deepEqual([kept.place, host.stats.workers[0].engines], ['worker', 0]);
});

/** A worker whose browser has room for so many instances. */
const roomFor = (t, most) => script(t, `
  const { Instance } = WebAssembly;
  let made = 0;
  WebAssembly.Instance = function (module, imports) {
    if (++made > ${most}) throw new RangeError('WebAssembly.Instance(): Out of memory');
    return new Instance(module, imports);
  };
  await real();
`);

test('if there is no room for another instance, engines wait for one; if there is none at all, they are broken', async (t) => {
  const host = hostFor(t, { workerPath: await roomFor(t, 2) });
  const engines = Array.from({ length: 6 }, () => engineFor(t, { host, setup: deck(5) }));
  for (let round = 0; round < 2; round++) {
    const drawn = await Promise.all(engines.map((e) => e.dispatchAsync('stack:draw')));
    assert.deepEqual(drawn.flatMap(ids), engines.map(() => `t${4 - round}`));
    assert.equal(placed(engines), 2);
  }
  const none = engineFor(t, { workerOptions: { workerPath: await roomFor(t, 0) } });
  for (const e of engines) await e.shutdown();
  await assert.rejects(none.dispatchAsync('stack:draw'), (e) => e.code === 'out_of_memory' && /Out of memory/.test(e.message));
});

test('an instance that an engine has left holds nothing of it for the next one', async (t) => {
  const host = hostFor(t, { maxInstances: 1 });
  const a = engineFor(t, { host, setup: { stack: [{ id: 'secret' }] } });
  await a.dispatchAsync('agent:create', { name: 'someone' });
  const b = engineFor(t, { host }), fresh = engineFor(t);
  assert.equal(await b.digest(), await fresh.digest());
  const c = engineFor(t, { host, snapshot: await a.snapshot() });
  assert.equal(await c.digest(), await a.digest());
  assert.equal(host.counts.killed + host.counts.died, 0);
});

test('a queue with holes: aborted actions have no effect, and the others run in their order', async (t) => {
  const engine = engineFor(t, { setup: deck(9000), workerOptions: { timeout: 0 } });
  await engine.ready;
  const stop = new AbortController(), listeners = () => getEventListeners(stop.signal, 'abort').length;
  const all = Array.from({ length: 9000 }, (_, k) => engine.dispatchAsync('stack:draw', {}, k >= 1500 && k % 3 === 1 ? { signal: stop.signal } : {}));
  const settled = Promise.allSettled(all);
  assert.equal(listeners(), 1);
  stop.abort(new Error('enough'));
  assert.equal(listeners(), 0);
  const drawn = [], errors = [];
  for (const { value, reason } of await settled) {
    if (value) drawn.push(...ids(value));
    else errors.push(reason);
  }
  assert.deepEqual(drawn, drawsOf(9000, 6500));
  assert.deepEqual([errors.length, new Set(errors).size, errors[0].code, errors[0].cause.message], [2500, 1, 'canceled', 'enough']);
  assert.equal(engine.sequence, 6500);
  assert.equal(engine.host.stats.inFlight, 0);
});

test('maxQueueBytes, on both sides', async (t) => {
  const text = (bytes) => ({ text: 'x'.repeat(bytes - 512 - 28 - 'debug:log'.length - 9) }); // with all that an action takes
  const engine = engineFor(t, { workerOptions: { maxQueueBytes: 4000 } });
  await engine.ready;
  const first = engine.dispatchAsync('debug:log', text(3000));
  assert.equal(engine.host.stats.inFlightBytes, 3000);
  await assert.rejects(engine.dispatchAsync('debug:log', text(1001)), (e) => e.code === 'overloaded' && /its 1001 bytes do not fit beside the 3000 .* 4000 are allowed \(maxQueueBytes\)/.test(e.message));
  const second = engine.dispatchAsync('debug:log', text(1000));
  await assert.rejects(engine.digest(), { code: 'overloaded' });
  await Promise.all([first, second]);
  const large = engine.dispatchAsync('debug:log', text(5000)); // alone it has room
  await assert.rejects(engine.dispatchAsync('debug:log', text(600)), { code: 'overloaded' });
  await large;
  assert.equal(engine.host.stats.inFlightBytes, 0);
});

test('drained waits for room, in the order of its callers', async (t) => {
  const host = hostFor(t, { maxQueue: 8, timeout: 0 });
  const engine = engineFor(t, { host, setup: deck(5000) }), other = engineFor(t, { host, setup: deck(5) });
  await engine.drained(); // there is room
  // Many callers, each with as many actions as it likes: no action is refused.
  const outcomes = [];
  let inFlight = 0;
  await Promise.all(Array.from({ length: 30 }, async () => {
    for (let k = 0; k < 20; k++) {
      await engine.drained();
      outcomes.push(engine.dispatchAsync('stack:draw'));
      inFlight = Math.max(inFlight, host.stats.inFlight);
    }
  }));
  const drawn = (await Promise.all(outcomes)).flatMap(ids);
  assert.equal(new Set(drawn).size, 600);
  assert.ok(inFlight > 4 && inFlight <= 8, `${inFlight} in flight`);

  const all = Array.from({ length: 8 }, () => engine.dispatchAsync('stack:draw'));
  const told = [];
  const waiting = Array.from({ length: 12 }, (_, k) => (k % 2 ? engine : other).drained().then(() => told.push([k, host.stats.inFlight])));
  await assert.rejects(engine.dispatchAsync('stack:draw'), (e) => e.code === 'overloaded' && /await drained\(\)/.test(e.message));
  await Promise.all(waiting); // none of them uses its room
  await Promise.all(all);
  assert.deepEqual(told.map(([k]) => k), Array.from({ length: 12 }, (_, k) => k));
  assert.ok(told.every(([, n]) => n < 4), JSON.stringify(told));

  const last = Array.from({ length: 8 }, () => engine.dispatchAsync('stack:draw'));
  const shut = assert.rejects(engine.drained(), { code: 'shutdown' });
  await engine.shutdown();
  await Promise.all([shut, ...last]);
  await assert.rejects(engine.drained(), { code: 'shutdown' });
});

/** A core whose every answer has so many bytes. So its state and its snapshots never end. */
function endlessCore(bytes) {
  const leb = (n, signed = false) => {
    const all = [];
    for (;;) {
      const low = n & 127;
      n >>>= 7;
      if (n === 0 && !(signed && low & 64)) return [...all, low];
      all.push(low | 128);
    }
  };
  const section = (id, ...body) => [id, ...leb(body.length), ...body];
  const text = (s) => [s.length, ...Buffer.from(s)];
  const code = (...body) => [...leb(body.length + 2), 0, ...body, 0x0b];
  const constant = (n) => [0x41, ...leb(n, true)];
  return Uint8Array.from([
    0, 97, 115, 109, 1, 0, 0, 0,
    ...section(1, 3, 0x60, 0, 1, 0x7f, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7f),
    ...section(3, 4, 0, 0, 1, 2),
    ...section(5, 1, 0, ...leb(64)),
    ...section(7, 5, ...text('memory'), 2, 0, ...['ht_abi', 'ht_reply', 'ht_input', 'ht_call'].flatMap((name, k) => [...text(name), 0, k])),
    ...section(10, 4, ...code(...constant(1)), ...code(...constant(0)), ...code(...constant(4096)),
      // The body of the reply begins at 0x10000, and has so many bytes.
      ...code(...constant(8), ...constant(0x10000), 0x36, 2, 0, ...constant(12), ...constant(bytes), 0x36, 2, 0, ...constant(0))),
  ]);
}

for (const [what, bytes, want] of [
  ['a stream that never ends', 1 << 20, /its stream has more than 18874368 bytes, which no state of 1048576 has \(maxStateBytes\)/],
  ['a chunk that is too large', (1 << 20) + 1, /it streams a chunk of 1048577 bytes, 1048576 are allowed/],
]) {
  for (const useWorker of [true, false]) {
    test(`${what}, ${useWorker ? 'on a worker' : 'on the main thread'}: it is cut, and the engine goes on`, async (t) => {
      const engine = engineFor(t, { useWorker, workerOptions: { core: endlessCore(bytes), maxStateBytes: 1 << 20 } });
      await engine.ready;
      const events = record(engine);
      for (const question of ['state', 'snapshot']) await assert.rejects(engine[question](), (e) => e.code === 'trap' && want.test(e.message));
      await engine.digest();
      assert.deepEqual(events.map((e) => e.error.code), ['trap', 'trap']);
      assert.deepEqual([engine.host.counts.died, engine.host.counts.killed], [0, 0]);
    });
  }
}

test('a core is fetched and compiled once for all hosts, and again after an attempt that failed', async (t) => {
  const [a, b, other] = [wasmPath, String(wasmPath), new URL('core.wasm', wasmPath)].map((path) => hostFor(t, { core: undefined, wasmPath: path, workers: 0 }));
  assert.equal(await a.module, await b.module);
  assert.equal(await a.module, await other.module);
  assert.notEqual(await a.module, testCore);
  const missing = () => hostFor(t, { core: undefined, wasmPath: new URL('../none/', wasmPath), workers: 0 }).module;
  const first = missing(), second = missing();
  const errors = [];
  for (const attempt of [first, second]) await attempt.catch((e) => errors.push(e));
  await missing().catch((e) => errors.push(e));
  assert.match(errors[0].message, /copy core\.wasm there/);
  assert.deepEqual([errors[0] === errors[1], errors[1] === errors[2], errors[2].message === errors[0].message], [true, false, true]);
});
