// The ends of workers, and what callers see of them. test/recovery.test.js has the rules that the Go host shares.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Engine } from '../src/index.js';
import { deck, dying, engineFor, event, exampleCore, folder, hostFor, kill, record, script, silent, smallCore, testCore } from './support/cores.js';

const ids = (tokens) => tokens.map((x) => x.id);

test('an action that never ends fails at its deadline, and those behind it run', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions: { killGrace: 20 } });
  await engine.ready;
  const before = engine.dispatchAsync('stack:draw');
  const spin = engine.dispatchAsync('test:spin', {}, { timeout: 150 });
  const behind = engine.dispatchAsync('stack:draw');
  assert.deepEqual(ids(await before), ['t8']); // it waits for nothing
  await assert.rejects(spin, (e) => e.code === 'timeout' && /timeout, not done after 150 ms/.test(e.message));
  assert.deepEqual(ids(await behind), ['t7']);
  assert.equal(engine.host.counts.killed, 1);
  assert.equal(engine.sequence, 2);
});

test('an application makes the workers, also one that replaces another', async (t) => {
  let made = 0;
  const worker = () => {
    made++;
    return new Worker(new URL('../src/worker.js', import.meta.url));
  };
  const engine = engineFor(t, { setup: deck(9), workerOptions: { worker, workerPath: '/nowhere.js' } });
  await engine.ready;
  await kill(engine.host);
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t8']);
  assert.deepEqual([made, engine.place], [2, 'worker']);
});

for (const [what, worker, want] of [
  ['throws', () => { throw new Error('no more threads'); }, /: no more threads$/],
  ['returns no worker', () => 5, /: workerOptions\.worker returned no worker: return new Worker\(\.\.\.\)$/],
  ['returns a worker without a script', () => new Worker(new URL('none.mjs', import.meta.url)), /the worker of workerOptions\.worker could not be loaded/],
]) {
  test(`if the function that makes workers ${what}, the engine says so and runs on the main thread`, async (t) => {
    const engine = engineFor(t, { setup: deck(2), workerOptions: { worker } });
    const told = event(engine, 'engine:error');
    await engine.ready;
    assert.match((await told).error.message, want);
    assert.equal(engine.place, 'main thread');
  });
}

test('an action that never ends holds up the engines of its worker alone, and those only until it is ended', async (t) => {
  const host = hostFor(t, { workers: 2, killGrace: 20 });
  const [a, b, c] = Array.from({ length: 3 }, () => engineFor(t, { host, setup: deck(3) }));
  await Promise.all([a.ready, b.ready, c.ready]);
  const spin = assert.rejects(a.dispatchAsync('test:spin', {}, { timeout: 1500 }), { code: 'timeout' });
  const others = [b, c].map((e) => e.dispatchAsync('stack:draw', { count: 2 }));
  assert.deepEqual(ids(await Promise.race(others)).length, 2);
  assert.equal(host.counts.killed, 0); // one of them was on the other worker
  await spin;
  for (const o of others) assert.deepEqual(ids(await o), ['t2', 't1']);
  await a.digest(); // it has a place again
  assert.equal(host.counts.killed, 1);
});

test('if an action is aborted while it runs, it has no effect, and its worker is ended', async (t) => {
  const engine = engineFor(t, { setup: deck(3), workerOptions: { killGrace: 1 } });
  await engine.ready;
  const stop = new AbortController();
  const spin = engine.dispatchAsync('test:spin', {}, { signal: stop.signal, timeout: 0 });
  const digest = engine.digest();
  stop.abort(new Error('enough'));
  await assert.rejects(spin, (e) => e.code === 'canceled' && e.cause.message === 'enough');
  const fresh = new Engine({ setup: deck(3), workerOptions: { core: testCore } });
  assert.equal(await digest, await fresh.digest());
});

test('an action that is quick until it hangs holds up nobody whose answer was held back behind it', async (t) => {
  // While the clock stands still every action is quick, so that the answers of a message wait for its end.
  const workerPath = await script(t, 'performance.now = () => 0; await real();');
  const host = hostFor(t, { core: exampleCore, workerPath, killGrace: 20, timeout: 0 });
  const [a, b] = [1, 2].map(() => engineFor(t, { host, setup: deck(9) }));
  for (const e of [a, b]) {
    await e.dispatchAsync('stack:draw');
    await e.dispatchAsync('slow:operation', { rounds: 1 });
  }
  const draws = [a.dispatchAsync('stack:draw'), b.dispatchAsync('stack:draw')];
  const hangs = a.dispatchAsync('slow:operation', { rounds: 1e15 }, { timeout: 100 });
  const behind = [a.dispatchAsync('stack:draw'), b.dispatchAsync('stack:draw')];
  await assert.rejects(hangs, { code: 'timeout' });
  assert.deepEqual((await Promise.all([...draws, ...behind])).flatMap(ids), ['t7', 't7', 't6', 't6']);
  assert.equal(host.counts.killed, 1);
});

test('an action that takes long is not ended because one behind it was dropped', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions: { killGrace: 0 } });
  await engine.dispatchAsync('stack:draw'); // it is quick
  const stop = new AbortController();
  const works = engine.dispatchAsync('test:work', { rounds: 3e7 }); // of a name that is not known yet
  const dropped = engine.dispatchAsync('stack:draw', {}, { signal: stop.signal });
  await Promise.resolve(); // they are sent
  stop.abort();
  await assert.rejects(dropped, { code: 'canceled' });
  await works;
  assert.equal(engine.host.counts.killed, 0);
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t7']);
});

test('an action that never ends, of an engine that has left the worker, holds up no other engine', async (t) => {
  const host = hostFor(t, { workers: 2, killGrace: 20 });
  // The third one shares its worker, which then has more to do than the other.
  const others = [1, 2].map(() => engineFor(t, { host, setup: deck(3) })), a = engineFor(t, { host, setup: deck(3) });
  await Promise.all([...others, a].map((e) => e.ready));
  const stop = new AbortController();
  const dropped = assert.rejects(a.dispatchAsync('stack:draw', {}, { signal: stop.signal }), { code: 'canceled' });
  // It is sent to the worker behind the draw, whose late answer fences the engine. So it runs again on the other worker while it still
  // runs on the first.
  const spin = assert.rejects(a.dispatchAsync('test:spin', {}, { timeout: 200 }), { code: 'timeout' });
  await Promise.resolve();
  stop.abort();
  await Promise.all([dropped, spin]);
  for (const d of others.map((e) => e.dispatchAsync('stack:draw', {}, { timeout: 5000 }))) assert.deepEqual(ids(await d), ['t2']);
  assert.deepEqual(ids(await a.dispatchAsync('stack:draw', {}, { timeout: 5000 })), ['t2']);
});

test('if an action is aborted while it runs, it has no effect, though it ends well', async (t) => {
  const engine = engineFor(t, { setup: deck(5), workerOptions: { killGrace: 5000 } });
  await engine.ready;
  const stop = new AbortController();
  const dropped = engine.dispatchAsync('stack:draw', {}, { signal: stop.signal });
  const behind = engine.dispatchAsync('stack:draw', { count: 2 });
  await Promise.resolve(); // it is sent
  stop.abort();
  await assert.rejects(dropped, { code: 'canceled' });
  assert.deepEqual(ids(await behind), ['t4', 't3']);
  assert.equal(engine.sequence, 1);
  assert.equal(engine.host.counts.killed, 0);
});

test('a worker that dies is replaced: acknowledged actions stay, and those in flight take effect once', async (t) => {
  const engine = engineFor(t, { setup: deck(40) });
  const drawn = [];
  for (let k = 0; k < 10; k++) {
    const two = [engine.dispatchAsync('stack:draw'), engine.dispatchAsync('stack:draw')];
    if (k % 3 === 2) await kill(engine.host);
    for (const d of two) drawn.push(...ids(await d));
  }
  assert.deepEqual(drawn, Array.from({ length: 20 }, (_, k) => `t${39 - k}`));
  assert.equal(engine.sequence, 20);
  assert.equal(engine.host.counts.died, 3);
});

test('a trap and exhausted memory fail the action alone', async (t) => {
  const core = await smallCore(2048); // pages of 64 KiB
  const engine = engineFor(t, { setup: deck(3), workerOptions: { core } });
  const want = await engine.digest();
  for (const [type, code] of [['test:trap', 'trap'], ['test:grow', 'out_of_memory'], ['test:lie', 'trap'], ['test:huge', 'too_large']]) {
    await assert.rejects(engine.dispatchAsync(type), { code }, type);
    assert.equal(await engine.digest(), want, type);
  }
  assert.equal(engine.host.counts.killed + engine.host.counts.died, 0);
});

test('an action that kills each worker it runs on is poisoned; the actions that were sent with it are not', async (t) => {
  const host = hostFor(t, { workerPath: await dying(t, 'dies of this') });
  const engine = engineFor(t, { host, setup: deck(9) }), other = engineFor(t, { host, setup: deck(9) });
  await Promise.all([engine.ready, other.ready]);
  const before = engine.dispatchAsync('stack:draw');
  const poison = engine.dispatchAsync('stack:peek', { note: 'dies of this' });
  const behind = engine.dispatchAsync('stack:draw');
  const others = [1, 2, 3].map(() => other.dispatchAsync('stack:draw'));
  await assert.rejects(poison, (e) => e.code === 'poisoned' && /died 2 times while it ran alone \(maxAttempts\)/.test(e.message));
  assert.deepEqual(ids(await before), ['t8']);
  assert.deepEqual(ids(await behind), ['t7']);
  assert.deepEqual((await Promise.all(others)).flatMap(ids), ['t8', 't7', 't6']);
  assert.equal(host.counts.died, 3); // once of all together, and twice of the one that ran alone
});

test('a worker that is silent while an engine is placed is replaced', async (t) => {
  const workerPath = await script(t, `
    if (existsSync(path)) await real();
    else {
      writeFileSync(path, '');
      ${silent}
    }
  `);
  const engine = engineFor(t, { setup: deck(2), workerOptions: { workerPath, startTimeout: 1000 } });
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t1']);
  assert.equal(engine.host.counts.killed, 1);
  assert.equal(engine.place, 'worker');
});

test('if every worker is silent while the engine is placed, the engine is broken', async (t) => {
  const workerPath = await script(t, silent);
  const engine = engineFor(t, { workerOptions: { workerPath, startTimeout: 1000 } }); // time enough for a busy machine to start one
  await assert.rejects(engine.ready, (e) => e.code === 'broken' && e.cause.code === 'timeout' && /2 times \(maxAttempts\).*silent/.test(e.message));
  assert.equal(engine.host.counts.killed, 2);
});

test('an engine that kills workers while it is placed is broken alone, and never comes to the main thread', async (t) => {
  const host = hostFor(t, { workerPath: await dying(t, 'dies of this') }), other = engineFor(t, { host, setup: deck(9) });
  await other.dispatchAsync('stack:draw');
  const setup = { stack: [{ id: 'a', label: 'dies of this' }] };
  const engine = engineFor(t, { host, setup });
  await assert.rejects(engine.ready, (e) => e.code === 'broken' && e.cause.code === 'poisoned' && /died while the engine was placed alone/.test(e.message));
  assert.deepEqual(ids(await other.dispatchAsync('stack:draw')), ['t7']);
  assert.equal(host.counts.died, 3);
  assert.equal(host.counts.fallbacks, 0);

  const weak = engineFor(t, { setup, workerOptions: { workerPath: host.options.workerPath, maxRestarts: 0 } });
  await assert.rejects(weak.ready, (e) => e.code === 'worker_unavailable' && /while the engine was placed/.test(e.message));
  await assert.rejects(weak.dispatchAsync('stack:draw'), { code: 'worker_unavailable' });
  assert.equal(weak.place, 'nowhere');
});

test('a worker that answers a request that was never sent is replaced', async (t) => {
  const workerPath = await script(t, `
    if (!existsSync(path)) {
      writeFileSync(path, '');
      parentPort.on('message', (m) => m instanceof ArrayBuffer && parentPort.postMessage(new ArrayBuffer(16)));
    }
    await real();
  `);
  const engine = engineFor(t, { setup: deck(2), workerOptions: { workerPath } });
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t1']);
  assert.equal(engine.host.counts.died, 1);
});

test('without a worker the engine goes on on the main thread, says what to fix, and returns once there is one', async (t) => {
  const dir = await folder(t), path = join(dir, 'worker.mjs');
  const starts = [], logger = { debug: (m) => /did not start/.test(m) && starts.push(m), warn() {} };
  const engine = engineFor(t, { setup: deck(9), workerOptions: { workerPath: pathToFileURL(path), debug: true, logger } });
  const events = record(engine);
  await engine.ready;
  assert.equal(starts.length, 1); // it has not waited for more
  assert.equal(engine.place, 'main thread');
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t8']);
  await assert.rejects(engine.dispatchAsync('test:trap'), { code: 'trap' }); // it is placed again, and that is not told twice
  await engine.dispatchAsync('stack:draw');
  const told = events.filter((e) => e.name === 'engine:error' && e.error.code === 'worker_unavailable');
  assert.equal(told.length, 1);
  assert.match(told[0].error.message, /worker\.mjs could not be loaded: check workerOptions\.workerPath/);
  assert.equal(engine.host.counts.fallbacks, 1);

  await writeFile(path, `import ${JSON.stringify(String(new URL('../src/worker.js', import.meta.url)))};`);
  const alive = setInterval(() => {}, 1000); // an engine on the main thread keeps no process going
  await new Promise((resolve) => {
    const was = engine.host.workerReady;
    engine.host.workerReady = function (thread) {
      was.call(this, thread);
      resolve();
    };
  });
  clearInterval(alive);
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t6']);
  assert.equal(engine.place, 'worker');
});

test('an engine does not wait for a worker that is only tried again', async (t) => {
  const workerPath = await script(t, `
    if (!existsSync(path)) {
      writeFileSync(path, '');
      process.exit(1);
    }
    parentPort.on('message', () => {}); // it will never be ready
  `);
  const engine = engineFor(t, { setup: deck(3), workerOptions: { workerPath, maxRestarts: 0, startTimeout: 60_000 } });
  const [thread] = engine.host.threads, was = thread.start;
  const tried = new Promise((resolve) => {
    thread.start = function () {
      was.call(this);
      resolve();
    };
  });
  await engine.ready;
  assert.equal(engine.place, 'main thread');
  const alive = setInterval(() => {}, 1000);
  await tried;
  clearInterval(alive);
  assert.equal(thread.state, 'starting');
  await assert.rejects(engine.dispatchAsync('test:trap'), { code: 'trap' }); // so that it has to be placed
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t2']);
  assert.equal(thread.state, 'starting');
});

test('a worker that is not ready in time is given up', async (t) => {
  const workerPath = await script(t, "parentPort.on('message', () => {});");
  const engine = engineFor(t, { workerOptions: { workerPath, startTimeout: 50, maxRestarts: 1 } });
  const told = event(engine, 'engine:error');
  await engine.ready;
  assert.match((await told).error.message, /not ready within 50 ms \(startTimeout\)/);
});

test('an action that a worker died of does not run on the main thread', async (t) => {
  const engine = engineFor(t, { setup: deck(3), workerOptions: { workerPath: await dying(t, 'dies of this'), maxRestarts: 0 } });
  await engine.ready;
  await assert.rejects(engine.dispatchAsync('stack:peek', { note: 'dies of this' }), { code: 'worker_unavailable' });
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t2']);
  assert.equal(engine.place, 'main thread');
});

test('a replay with another result breaks the engine, and says so', async (t) => {
  const engine = engineFor(t);
  // The batch has no effect on the state. But the instance has run the action once more than a replay will.
  await assert.rejects(engine.dispatchBatch([{ type: 'test:differ' }, { type: 'no:such' }]), { code: 'unknown_action' });
  assert.equal(await engine.dispatchAsync('test:differ'), 1);
  const told = event(engine, 'engine:error', (e) => e.error.code === 'broken');
  await assert.rejects(engine.dispatchAsync('test:trap'), { code: 'trap' });
  await assert.rejects(engine.dispatchAsync('stack:peek'), (e) => e.code === 'broken' && e.cause.code === 'diverged');
  await assert.rejects(engine.dispatchAsync('stack:peek'), { code: 'broken' });
  await told;
});

test('a file that is no core fails the engine and its gathered actions, and leaves no worker', async (t) => {
  const dir = await folder(t);
  const gathering = new Engine({ useWorker: true, workerOptions: { wasmPath: pathToFileURL(`${dir}/`), enableBatching: true, batchWindow: 50 } });
  const gathered = [1, 2].map(() => gathering.dispatchAsync('stack:draw'));
  for (const g of gathered) await assert.rejects(g, (e) => e.code === 'bad_input' && /core can not be run/.test(e.message));
  assert.equal(gathering.host.stats.inFlight, 0);
  await gathering.shutdown();
  const missing = new Engine({ useWorker: true, workerOptions: { wasmPath: pathToFileURL(`${dir}/`) } });
  await assert.rejects(missing.ready, (e) => e.code === 'bad_input' && /core can not be run/.test(e.message));
  await assert.rejects(missing.dispatchAsync('stack:draw'), { code: 'bad_input' });
  await missing.shutdown();
  assert.equal(threads(), 0);
  const other = engineFor(t, { workerOptions: { core: Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0) } });
  await assert.rejects(other.ready, /no core of this version/);
});

const threads = () => process.getActiveResourcesInfo().filter((r) => r === 'MessagePort' || r === 'Worker').length;

test('a shutdown with a timeout does not wait for the host\'s own requests, and may come after one without', async (t) => {
  const workerPath = await script(t, silent);
  const engine = new Engine({ useWorker: true, workerOptions: { core: testCore, workerPath, startTimeout: 600_000 } });
  engine.ready.catch(() => {});
  await engine.shutdown({ timeout: 30 });
  await assert.rejects(engine.ready, { code: 'shutdown' });

  const endless = new Engine({ useWorker: true, workerOptions: { core: testCore, killGrace: 60_000 } });
  await endless.ready;
  const never = assert.rejects(endless.dispatchAsync('test:spin', {}, { timeout: 0 }), { code: 'shutdown' });
  const patient = endless.shutdown();
  await endless.shutdown({ timeout: 30 });
  await Promise.all([patient, never]);
  assert.equal(threads(), 0);

  for (const timeout of [Infinity, 1e12, 0]) { // more than a timer can hold is no less than a moment
    const working = new Engine({ useWorker: true, workerOptions: { core: testCore } });
    await working.ready;
    const works = working.dispatchAsync('test:work', { rounds: 1e6 });
    await working.shutdown({ timeout });
    assert.equal(await works, 1e6);
  }
  for (const timeout of [-1, NaN, '5']) await assert.rejects(endless.shutdown({ timeout }), { code: 'bad_input' });
});

test('an engine that was shut down while it waited for a worker says nothing more', async (t) => {
  const host = hostFor(t, { workerPath: pathToFileURL(join(await folder(t), 'none.mjs')), maxRestarts: 1 });
  const engine = engineFor(t, { host }), other = engineFor(t, { host });
  engine.ready.catch(() => {});
  const events = record(engine);
  await engine.shutdown({ timeout: 1 });
  await other.ready; // on the main thread: so the workers are given up
  assert.deepEqual(events.map((e) => e.name), ['engine:error', 'engine:shutdown']);
  assert.equal(host.counts.fallbacks, 1);
});

test('after shutdown no worker is left, whether it starts, runs, hangs, or is being ended', async () => {
  const options = { core: testCore, killGrace: 1 };
  const starting = new Engine({ useWorker: true, workerOptions: options });
  await starting.shutdown();
  const idle = new Engine({ useWorker: true, workerOptions: { ...options, workers: 3 } });
  await idle.ready;
  assert.ok(threads() > 0);
  await idle.shutdown();
  const hanging = new Engine({ useWorker: true, workerOptions: options });
  await hanging.ready;
  const spin = assert.rejects(hanging.dispatchAsync('test:spin', {}, { timeout: 30 }), { code: 'timeout' });
  await hanging.shutdown();
  await spin;
  const endless = new Engine({ useWorker: true, workerOptions: options });
  await endless.ready;
  const never = assert.rejects(endless.dispatchAsync('test:spin', {}, { timeout: 0 }), { code: 'shutdown' });
  await endless.shutdown({ timeout: 30 });
  await never;
  for (const e of [starting, idle, hanging, endless]) {
    assert.ok(e.host.threads.every((x) => x.state === 'stopped' && x.thread === undefined));
  }
  assert.equal(threads(), 0, process.getActiveResourcesInfo().join());
});
