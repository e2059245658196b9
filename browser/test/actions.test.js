// The promises about actions, batches, events and limits, on a worker and on the main thread.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import v8 from 'node:v8';
import vm from 'node:vm';
import { Engine, getEnvironment, Host, HyperTokenError, supportsWorkers, UniversalWorker } from '../src/index.js';
import { deck, engineFor, exampleCore, hostFor, kill, record, script, testCore, wasmPath } from './support/cores.js';

const ids = (tokens) => tokens.map((x) => x.id);

for (const useWorker of [true, false]) {
  const where = useWorker ? 'on a worker' : 'on the main thread';

  test(`actions, questions and errors ${where}`, async (t) => {
    const engine = engineFor(t, { useWorker, setup: deck(5) });
    await engine.ready;
    assert.equal(engine.place, useWorker ? 'worker' : 'main thread');
    assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', { count: 2 })), ['t4', 't3']);
    await assert.rejects(engine.dispatchAsync('no:such'), (e) => e instanceof HyperTokenError && e.code === 'unknown_action' && e.index === -1);
    await assert.rejects(engine.dispatchAsync('stack:draw', { count: -1 }), { code: 'out_of_range' });
    await assert.rejects(engine.dispatchAsync('stack:draw', { count: 'x' }), { code: 'bad_payload' });
    assert.equal(engine.sequence, 1);
    assert.equal((await engine.state()).stack.stack.length, 3);
    assert.match(await engine.digest(), /^[0-9a-f]{16}$/);
  });

  test(`an atomic batch ${where} is all or nothing, and an independent one tells each outcome`, async (t) => {
    const engine = engineFor(t, { useWorker, setup: deck(5) });
    const want = await engine.digest();
    const draw = { type: 'stack:draw' }, bad = { type: 'no:such' };
    await assert.rejects(engine.dispatchBatch([draw, draw, bad, draw]), (e) => e.code === 'unknown_action' && e.index === 2);
    assert.equal(await engine.digest(), want);
    assert.equal(engine.sequence, 0);
    assert.deepEqual((await engine.dispatchBatch([draw, draw])).map(ids), [['t4'], ['t3']]);
    const mixed = await engine.dispatchBatch([bad, draw, bad], { mode: 'independent' });
    assert.deepEqual(mixed.map((o) => o.error?.code ?? ids(o.result)), ['unknown_action', ['t2'], 'unknown_action']);
    assert.equal(engine.sequence, 3);
    assert.deepEqual(await engine.dispatchBatch([]), []);
    await assert.rejects(engine.dispatchBatch([draw], { mode: 'some' }), { code: 'bad_input' });
    // A replay runs the actions that were acknowledged.
    const digest = await engine.digest();
    await assert.rejects(engine.dispatchAsync('test:trap'), { code: 'trap' });
    assert.equal(await engine.digest(), digest);
  });

  test(`events ${where} come in order, once, and those of what failed are errors`, async (t) => {
    const engine = engineFor(t, { useWorker, setup: deck(6) });
    await engine.ready;
    const events = record(engine);
    let payload;
    engine.on('engine:action', (e) => { payload ??= e; });
    const draws = [1, 2, 3].map(() => engine.dispatchAsync('stack:draw'));
    if (useWorker) await kill(engine.host);
    await Promise.all(draws);
    await engine.dispatchAsync('stack:peek');
    await engine.dispatchAsync('no:such', { a: 1 }).catch(() => {});
    await engine.dispatchBatch([{ type: 'no:such' }, { type: 'stack:draw' }], { mode: 'independent' });
    await engine.shutdown();
    const own = events.filter((e) => /^(engine|state):/.test(e.name));
    assert.deepEqual(own.map((e) => `${e.name} ${e.type ?? ''} ${e.sequence ?? e.error?.code ?? ''}`.trim()), [
      ...[1, 2, 3].flatMap((n) => [`engine:action stack:draw ${n}`, `state:updated stack:draw ${n}`]),
      'engine:action stack:peek 3', 'engine:error no:such unknown_action',
      'engine:error no:such unknown_action', 'engine:action stack:draw 4', 'state:updated stack:draw 4', 'engine:shutdown',
    ]);
    // As in the guide, a listener finds every member in payload, and beside it.
    assert.deepEqual(ids(payload.payload.result), ['t5']);
    assert.equal(payload.payload.type, payload.type);
  });

  test(`events that a core raises ${where} come once, though a replay raises them again`, async (t) => {
    const engine = engineFor(t, { useWorker, workerOptions: { core: exampleCore } });
    const raised = [];
    engine.on('item:processed', ({ payload }) => raised.push(payload.n));
    const item = (n, type = 'process:item') => ({ type, payload: { item: { n } } });
    await engine.dispatchAsync('process:item', { item: { n: 1 } });
    if (useWorker) await kill(engine.host);
    await engine.dispatchAsync('process:item', { item: { n: 2 } });
    await engine.dispatchBatch([item(0, 'no:such'), item(3), item(4)], { mode: 'independent' });
    await engine.dispatchBatch([item(5), item(6)]);
    await assert.rejects(engine.dispatchBatch([item(7), item(0, 'no:such')]), { code: 'unknown_action' });
    assert.deepEqual(raised, [1, 2, 3, 4, 5, 6]);
    assert.equal((await engine.state()).processed, 6);
  });

  test(`with the clock and the entropy given, runs ${where} are identical`, async (t) => {
    const run = async (seed) => {
      let n = 0;
      const engine = engineFor(t, { useWorker, setup: deck(52), workerOptions: { clock: () => 1_700_000_000_000 + n, entropy: () => new Uint8Array(16).fill(seed + n++) } });
      for (let k = 0; k < 5; k++) await engine.dispatchAsync('stack:shuffle');
      await engine.dispatchAsync('agent:create', { name: 'ada' });
      return engine.digest();
    };
    assert.equal(await run(1), await run(1));
    assert.notEqual(await run(1), await run(2));
    // An action may be given its own entropy. By default no two actions have the same.
    const engine = engineFor(t, { useWorker, setup: deck(52) });
    const entropy = new Uint8Array(16).fill(7);
    await engine.dispatchAsync('stack:shuffle', {}, { entropy, now: 5 });
    const a = await engine.digest();
    const other = engineFor(t, { useWorker, setup: deck(52) });
    await other.dispatchAsync('stack:shuffle', {}, { entropy, now: 6 });
    const third = engineFor(t, { useWorker, setup: deck(52) });
    await third.dispatchAsync('stack:shuffle');
    assert.equal(await other.digest(), a);
    assert.notEqual(await third.digest(), a);
  });

  test(`a snapshot ${where} opens elsewhere, with more than a message's worth of state`, async (t) => {
    const setup = { stack: Array.from({ length: 3000 }, (_, k) => ({ id: `t${k}`, meta: { text: 'x'.repeat(900) } })) };
    const engine = engineFor(t, { useWorker, setup, workerOptions: { snapshotBytes: 1000 } });
    const long = 'y'.repeat(2 << 20);
    await engine.dispatchAsync('agent:create', { name: 'ada', meta: { long } });
    await engine.dispatchAsync('stack:draw', { count: 7 });
    const snapshot = await engine.snapshot();
    assert.ok(snapshot.length > 4 << 20, `${snapshot.length} bytes`);
    const other = engineFor(t, { useWorker: !useWorker, snapshot });
    assert.equal(await other.digest(), await engine.digest());
    assert.equal(JSON.stringify(await other.state()), JSON.stringify(await engine.state()));
    if (useWorker) await kill(engine.host);
    assert.equal(await other.digest(), await engine.digest());
    const bad = engineFor(t, { useWorker, snapshot: snapshot.subarray(0, 1000) });
    await assert.rejects(bad.ready, { code: 'bad_snapshot' });
  });

  test(`shutdown ${where} waits for what was dispatched, and after it everything is an error`, async (t) => {
    const engine = engineFor(t, { useWorker, setup: deck(5), workerOptions: { enableBatching: true, batchWindow: 60_000 } });
    let over = 0;
    engine.on('engine:shutdown', () => over++);
    const draws = [1, 2].map(() => engine.dispatchAsync('stack:draw'));
    const both = [engine.shutdown(), engine.shutdown()];
    await assert.rejects(engine.dispatchAsync('stack:draw'), { code: 'shutdown' });
    assert.deepEqual((await Promise.all(draws)).map(ids), [['t4'], ['t3']]);
    await Promise.all(both);
    await engine.shutdown();
    assert.equal(over, 1);
    for (const f of [() => engine.dispatchAsync('stack:draw'), () => engine.dispatchBatch([{ type: 'stack:draw' }]), () => engine.state(),
      () => engine.digest(), () => engine.snapshot(), async () => engine.dispatch('stack:draw')]) {
      await assert.rejects(f(), { code: 'shutdown' });
    }
  });
}

test('a result that can not be read fails its action, and has no effect', async (t) => {
  // A worker that damages the ends of answers to actions that change the state, and of long answers.
  const workerPath = await script(t, `
    const post = parentPort.postMessage.bind(parentPort);
    parentPort.postMessage = (m, transfer) => {
      if (m instanceof ArrayBuffer) {
        const v = new DataView(m);
        for (let at = 0; at < m.byteLength; at += 16 + v.getUint32(at, true)) {
          const n = v.getUint32(at, true);
          if ((v.getUint8(at + 13) & 2 && n > 24) || n > 60) v.setUint8(at + 15 + n, 0xc1);
        }
      }
      post(m, transfer);
    };
    await real();
  `);
  const engine = engineFor(t, { setup: deck(9), workerOptions: { workerPath } });
  const want = await engine.digest();
  await assert.rejects(engine.dispatchAsync('stack:draw'), { code: 'trap' });
  await assert.rejects(engine.dispatchBatch([{ type: 'stack:draw' }]), { code: 'trap' });
  await assert.rejects(engine.state(), (e) => e instanceof HyperTokenError && e.code === 'trap');
  assert.equal(await engine.digest(), want);
  assert.equal(engine.sequence, 0);
  assert.equal(engine.host.counts.died, 0);
});

test('without a worker dispatch is synchronous, also behind actions in flight and within a listener', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(9) });
  assert.throws(() => engine.dispatch('stack:draw'), (e) => e.code === 'bad_input' && /await engine\.ready/.test(e.message));
  await engine.ready;
  const first = engine.dispatchAsync('stack:draw');
  assert.deepEqual(ids(engine.dispatch('stack:draw')), ['t7']);
  assert.deepEqual(ids(await first), ['t8']);
  assert.throws(() => engine.dispatch('no:such'), { code: 'unknown_action' });
  let nested;
  const off = engine.on('engine:action', () => {
    off();
    nested = ids(engine.dispatch('stack:draw'));
  });
  assert.deepEqual(ids(engine.dispatch('stack:draw')), ['t6']);
  assert.deepEqual(nested, ['t5']);
  assert.equal(engine.sequence, 4);
});

test('with a worker dispatch returns a promise', async (t) => {
  const engine = engineFor(t, { setup: deck(2) });
  const promise = engine.dispatch('stack:draw');
  assert.ok(promise instanceof Promise);
  assert.deepEqual(ids(await promise), ['t1']);
});

test('a signal that is aborted before, while it waits, and afterwards', async (t) => {
  const engine = engineFor(t, { setup: deck(5) });
  await assert.rejects(engine.dispatchAsync('stack:draw', {}, { signal: AbortSignal.abort('no') }), (e) => e.code === 'canceled' && e.cause === 'no');
  const stop = new AbortController();
  // It waits for its place, as the worker has just begun to start.
  const waiting = engineFor(t, { setup: deck(5) });
  const dropped = waiting.dispatchAsync('stack:draw', {}, { signal: stop.signal });
  stop.abort();
  await assert.rejects(dropped, { code: 'canceled' });
  assert.equal(waiting.host.stats.inFlight, 0);
  const late = new AbortController();
  const drawn = await engine.dispatchAsync('stack:draw', {}, { signal: late.signal });
  late.abort();
  assert.deepEqual(ids(drawn), ['t4']);
  assert.equal(engine.sequence, 1);
  await waiting.shutdown(); // nothing is in flight
});

test('within a batching window actions are one batch: they succeed or fail together', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions: { enableBatching: true, batchWindow: 20 } });
  await engine.ready;
  const draws = await Promise.all([1, 2, 3].map(() => engine.dispatchAsync('stack:draw')));
  assert.deepEqual(draws.map(ids), [['t8'], ['t7'], ['t6']]);
  const events = record(engine);
  const mixed = await Promise.allSettled(['stack:draw', 'no:such', 'stack:draw'].map((type) => engine.dispatchAsync(type)));
  assert.deepEqual(mixed.map((m) => m.reason.code), ['batch_aborted', 'unknown_action', 'batch_aborted']);
  assert.deepEqual(events.map((e) => `${e.name} ${e.type}`), ['engine:error stack:draw', 'engine:error no:such', 'engine:error stack:draw']);
  assert.equal(engine.sequence, 3);
  // A question closes the window, and sees what was dispatched before it.
  const draw = engine.dispatchAsync('stack:draw');
  assert.equal((await engine.state()).stack.stack.length, 5);
  await draw;
});

test('an abort and a deadline within a batch end it as a whole', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions: { enableBatching: true, batchWindow: 1, killGrace: 5 } });
  await engine.ready;
  const gathered = new AbortController();
  const [gone, stays] = [engine.dispatchAsync('stack:draw', {}, { signal: gathered.signal }), engine.dispatchAsync('stack:draw')];
  gathered.abort(); // before it is sent: the others are a batch without it
  await assert.rejects(gone, { code: 'canceled' });
  assert.deepEqual(ids(await stays), ['t8']);

  const sent = new AbortController();
  const running = [engine.dispatchAsync('stack:draw', {}, { signal: sent.signal }), engine.dispatchAsync('stack:draw')];
  const digest = engine.digest(); // it closes the window
  sent.abort();
  const codes = (await Promise.allSettled(running)).map((r) => r.reason.code);
  assert.deepEqual(codes, ['canceled', 'batch_aborted']);
  const fresh = engineFor(t, { setup: deck(9) });
  await fresh.dispatchAsync('stack:draw');
  assert.equal(await digest, await fresh.digest());

  const hung = await Promise.allSettled([engine.dispatchAsync('stack:draw'), engine.dispatchAsync('test:spin', {}, { timeout: 60 })]);
  assert.deepEqual(hung.map((r) => r.reason.code), ['batch_aborted', 'timeout']);
  assert.equal(engine.sequence, 1);
  assert.equal(engine.host.stats.inFlight, 0);
});

test('each limit, on both sides', async (t) => {
  // A payload {text: 'x...'} of n bytes: a map, a key of four, and a string with a head of three.
  const payload = (n) => ({ text: 'x'.repeat(n - 9) });
  const engine = engineFor(t, { setup: deck(3), workerOptions: { maxPayload: 1000, maxQueue: 3, maxDepth: 8, maxResult: 1 << 20 } });
  await engine.ready;
  await engine.dispatchAsync('debug:log', payload(1000));
  await assert.rejects(engine.dispatchAsync('debug:log', payload(1001)), (e) => e.code === 'payload_too_large' && /1001 bytes is above 1000 \(maxPayload\)/.test(e.message));
  const peeks = (...sizes) => sizes.map((n) => ({ type: 'debug:log', payload: payload(n) }));
  await engine.dispatchBatch(peeks(500, 500));
  await assert.rejects(engine.dispatchBatch(peeks(500, 501)), { code: 'payload_too_large' });

  const three = [1, 2, 3].map(() => engine.dispatchAsync('stack:peek'));
  await assert.rejects(engine.dispatchAsync('stack:peek'), (e) => e.code === 'overloaded' && /3 actions.*maxQueue/.test(e.message));
  await Promise.all(three);
  await engine.dispatchAsync('stack:peek');

  const deep = (n) => (n === 0 ? 1 : { a: deep(n - 1) });
  await engine.dispatchAsync('debug:log', deep(8));
  await assert.rejects(engine.dispatchAsync('debug:log', deep(9)), { code: 'too_deep' });
  await assert.rejects(engine.dispatchAsync('debug:log', deep(300)), { code: 'bad_input' });
  await engine.dispatchAsync('test:huge', { bytes: (1 << 20) - 5 });
  await assert.rejects(engine.dispatchAsync('test:huge', { bytes: 1 << 20 }), { code: 'too_large' });

  const one = Array.from({ length: 4096 }, () => ({ type: 'stack:peek' }));
  const wide = engineFor(t, { setup: deck(3) });
  assert.equal((await wide.dispatchBatch(one)).length, 4096);
  await assert.rejects(wide.dispatchBatch([...one, one[0]]), { code: 'bad_input' });
  // More than a window's worth is two batches.
  const rapid = engineFor(t, { setup: deck(5000), workerOptions: { enableBatching: true, batchWindow: 5 } });
  assert.equal((await Promise.all(Array.from({ length: 5000 }, () => rapid.dispatchAsync('stack:draw')))).length, 5000);
});

test('arguments that make no sense are refused', async (t) => {
  const engine = engineFor(t, { setup: deck(3) });
  const bad = { code: 'bad_input' };
  for (const [type, payload, options] of [['', {}], [7, {}], ['stack:draw', { f() {} }], ['stack:draw', {}, { now: 0.5 }], ['stack:draw', {}, { now: NaN }],
    ['stack:draw', {}, { entropy: new Uint8Array(15) }], ['stack:draw', {}, { timeout: -1 }], ['stack:draw', {}, { timeout: '5' }],
    ['stack:draw', {}, { signal: {} }]]) {
    await assert.rejects(engine.dispatchAsync(type, payload, options), bad);
  }
  for (const actions of [null, {}, [null], [{}]]) await assert.rejects(engine.dispatchBatch(actions), bad);
  assert.equal(engine.host.stats.inFlight, 0); // what is refused takes no room
  for (const options of [{ nonsense: 1 }, { workerOptions: { nonsense: 1 } }, { workerOptions: { timeout: -1 } }, { workerOptions: { timeout: NaN } }, { workerOptions: { workers: 1.5 } },
    { workerOptions: { maxDepth: 129 } }, { workerOptions: { clock: 5 } }, { snapshot: 'text' }, { setup: { f() {} } }]) {
    assert.throws(() => new Engine({ useWorker: true, ...options }), bad, JSON.stringify(options));
  }
  const circular = {};
  circular.self = circular;
  assert.throws(() => new Engine({ setup: circular }), bad);
  await assert.rejects(new Engine({ setup: { stack: 5 }, workerOptions: { core: testCore } }).ready, { code: 'bad_payload' });
  // Any number of milliseconds is a timeout, and those that no timer can hold are too.
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', {}, { timeout: 1e15 })), ['t2']);
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', {}, { timeout: Infinity })), ['t1']);
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', {}, { timeout: 0 })), ['t0']);
});

test('a listener may dispatch, listen and abort: each event comes once, with its own sequence', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(9), workerOptions: { core: exampleCore } });
  await engine.ready;
  const updates = [];
  engine.on('state:updated', (e) => updates.push(`${e.type} ${e.sequence}`));
  const offItem = engine.on('item:processed', () => {
    offItem();
    engine.dispatch('stack:draw');
  });
  engine.dispatch('process:item', { item: { n: 1 } });
  assert.deepEqual(updates, ['stack:draw 2', 'process:item 1']);
  let heard = 0;
  engine.on('engine:action', function again() {
    if (heard++ < 50) engine.on('engine:action', () => again());
  });
  engine.dispatch('stack:peek');
  assert.equal(heard, 1);

  const stop = new AbortController(), errors = [];
  engine.on('engine:error', ({ error }) => {
    errors.push(error.code);
    stop.abort();
  });
  await assert.rejects(engine.dispatchAsync('no:such', {}, { signal: stop.signal }), { code: 'unknown_action' });
  assert.deepEqual(errors, ['unknown_action']);
});

test('an action that has its outcome is not kept until its deadline', async (t) => {
  v8.setFlagsFromString('--expose-gc');
  const gc = vm.runInNewContext('gc');
  const engine = engineFor(t, { setup: deck(3) });
  await engine.dispatchAsync('debug:log', {}, { timeout: 500_000 }); // the first one is in what was sent last
  const payloads = [];
  for (let k = 0; k < 20; k++) {
    const payload = { k };
    payloads.push(new WeakRef(payload));
    await engine.dispatchAsync('debug:log', payload, { timeout: 600_000 + k });
  }
  await engine.dispatchAsync('debug:log');
  await new Promise(setImmediate);
  gc();
  const kept = payloads.filter((p) => p.deref()).length;
  assert.ok(kept <= 2, `${kept} payloads`);
});

test('a listener that throws fails the program, not the action', async () => {
  const program = `
    import { Engine } from ${JSON.stringify(String(new URL('../src/index.js', import.meta.url)))};
    const engine = new Engine({ setup: { stack: [{ id: 'a' }] }, workerOptions: { wasmPath: ${JSON.stringify(String(wasmPath))} } });
    process.once('uncaughtException', (e) => console.log('uncaught', e.message));
    engine.on('engine:action', () => { throw new Error('mine'); });
    console.log('drawn', (await engine.dispatchAsync('stack:draw'))[0].id);
    await engine.shutdown();
    console.log('over');
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  assert.deepEqual(stdout.trim().split('\n').sort(), ['drawn a', 'over', 'uncaught mine']);
});

test('a host that is shut down ends its engines, and with them the actions that wait in a batching window', async () => {
  const host = new Host({ core: testCore, workers: 2, enableBatching: true, batchWindow: 60_000 });
  const engines = [1, 2, 3].map(() => new Engine({ host, setup: deck(3) }));
  let over = 0;
  for (const e of engines) e.on('engine:shutdown', () => over++);
  const draws = engines.map((e) => e.dispatchAsync('stack:draw'));
  const done = host.shutdown();
  await assert.rejects(engines[0].dispatchAsync('stack:draw'), { code: 'shutdown' });
  assert.deepEqual((await Promise.all(draws)).map(ids), [['t2'], ['t2'], ['t2']]);
  await done;
  assert.equal(over, 3);
  assert.throws(() => new Engine({ host }), { code: 'shutdown' });
  await Promise.all(engines.map((e) => e.shutdown()));
  assert.equal(over, 3);
});

test('an engine of a host that it shares ends alone', async (t) => {
  const host = hostFor(t, { workers: 1 });
  const [a, b] = [engineFor(t, { host, setup: deck(3) }), engineFor(t, { host, setup: deck(3) })];
  await a.dispatchAsync('stack:draw');
  await b.dispatchAsync('stack:draw');
  await a[Symbol.asyncDispose]();
  await assert.rejects(a.dispatchAsync('stack:draw'), { code: 'shutdown' });
  assert.deepEqual(ids(await b.dispatchAsync('stack:draw')), ['t1']);
  assert.equal(host.stats.workers[0].engines, 1);
});

test('the environment, and the worker that is the same in each', async (t) => {
  assert.equal(getEnvironment(), 'node');
  assert.equal(supportsWorkers(), true);
  const worker = new UniversalWorker({ wasmPath: fileURLToPath(wasmPath) }); // in Node a path will do
  t.after(() => worker.terminate());
  await assert.rejects(worker.dispatch('stack:draw'), (e) => e.code === 'bad_input' && /await init\(\)/.test(e.message));
  await worker.init({ setup: deck(3) });
  assert.equal(worker.environment, 'node');
  assert.equal(worker.engine.place, 'worker');
  const seen = new Promise((resolve) => worker.on('state:updated', resolve));
  assert.deepEqual(ids(await worker.dispatch('stack:draw')), ['t2']);
  assert.equal((await seen).sequence, 1);
  await worker.terminate();
  await assert.rejects(worker.dispatch('stack:draw'), { code: 'shutdown' });
});
