// The guide's patterns, each as a test.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../src/index.js';
import { deck, dying, engineFor, event, exampleCore, hostFor, kill, wasmPath } from './support/cores.js';

const workerOptions = { core: exampleCore };

test('quick start', async () => {
  const engine = new Engine({ useWorker: true, setup: deck(52), workerOptions: { wasmPath } });
  await engine.dispatchAsync('stack:shuffle', { seed: 42 });
  assert.equal((await engine.dispatchAsync('stack:draw', { count: 5 })).length, 5);
  await engine.shutdown();
});

test('the defaults find the worker', async (t) => {
  const engine = engineFor(t, { setup: deck(5), workerOptions });
  await engine.ready;
  assert.equal(engine.place, 'worker');
});

test('concurrent workflows: parallel independent actions', async (t) => {
  const engine = engineFor(t, { setup: deck(52), workerOptions });
  const [shuffled, drawn, valid] = await Promise.all([
    engine.dispatchAsync('stack:shuffle'),
    engine.dispatchAsync('stack:draw', { count: 5 }),
    engine.dispatchAsync('space:validate'),
  ]);
  assert.equal(shuffled, null);
  assert.equal(drawn.length, 5);
  assert.deepEqual(valid, { placements: 0, twice: 0, zones: 0 });
});

test('sequential dependent actions', async (t) => {
  const engine = engineFor(t, { setup: deck(52), workerOptions });
  await engine.dispatchAsync('agent:create', { name: 'ada' });
  await engine.dispatchAsync('stack:shuffle');
  const drawn = await engine.dispatchAsync('stack:draw', { count: 5 });
  assert.equal(await engine.dispatchAsync('agent:receive', { tokens: drawn }), 5);
});

test('sequential dependent actions, with built-in ones', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions: { core: undefined, wasmPath } });
  await engine.dispatchAsync('agent:create', { name: 'ada' });
  await engine.dispatchAsync('stack:shuffle', { seed: 42 });
  const drawn = await engine.dispatchAsync('stack:draw', { count: 2 });
  for (const token of drawn) await engine.dispatchAsync('agent:addToken', { name: 'ada', token });
  const own = await engine.dispatchAsync('agent:drawCards', { name: 'ada', count: 1000 });
  assert.deepEqual((await engine.dispatchAsync('agent:get', { name: 'ada' })).inventory.length, drawn.length + own.length);
  const outcomes = await engine.dispatchBatch(['stack:reset', 'stack:draw', 'no:such'].map((type) => ({ type })), { mode: 'independent' });
  assert.deepEqual(outcomes.map((o) => o.error?.code), [undefined, undefined, 'unknown_action']);
});

test('what the guide leaves out: a stack, and actions of one\'s own', async (t) => {
  const engine = engineFor(t, { workerOptions: { core: undefined, wasmPath } });
  await assert.rejects(engine.dispatchAsync('stack:shuffle', { seed: 42 }), (e) => e.code === 'not_found' && e.message.includes('setup.stack'));
  await assert.rejects(engine.dispatchAsync('slow:operation'), { code: 'unknown_action' });
  await assert.rejects(engine.dispatchAsync('agent:drawCards', { count: 1000 }), { code: 'bad_payload' });
});

test('dispatch with a worker is a promise', async (t) => {
  const engine = engineFor(t, { setup: deck(9), workerOptions });
  const peeked = engine.dispatch('stack:peek', { count: 1 });
  assert.ok(peeked instanceof Promise);
  assert.deepEqual(await peeked, [{ id: 't8' }]);
});

test('a race that an action loses does not end the action; its signal does', async (t) => {
  const engine = engineFor(t, { workerOptions });
  await engine.ready;
  const done = event(engine, 'engine:action'), lost = engine.dispatchAsync('slow:operation', { rounds: 1e6 });
  await assert.rejects(Promise.race([lost, Promise.reject(new Error('Custom timeout'))]), /Custom timeout/);
  assert.equal((await done).type, 'slow:operation');
  const controller = new AbortController(), aborted = engine.dispatchAsync('slow:operation', { rounds: 1e6 }, { signal: controller.signal });
  controller.abort();
  await assert.rejects(aborted, { code: 'canceled' });
});

test('batch processing', async (t) => {
  const engine = engineFor(t, { workerOptions: { ...workerOptions, enableBatching: true, batchWindow: 50 } });
  const items = Array.from({ length: 100 }, (_, n) => ({ item: n }));
  const results = await Promise.all(items.map((item) => engine.dispatchAsync('process:item', item)));
  assert.deepEqual(results.map((r) => r.processed), items.map((_, k) => k + 1));
});

test('with batching, one action after the other works too', async (t) => {
  const engine = engineFor(t, { setup: deck(20), workerOptions: { ...workerOptions, enableBatching: true, batchWindow: 1 } });
  for (let k = 0; k < 10; k++) assert.equal((await engine.dispatchAsync('stack:draw', { count: 1 })).length, 1);
});

test('error handling: the message of a deadline has the word timeout', async (t) => {
  const engine = engineFor(t, { workerOptions: { ...workerOptions, timeout: 50, killGrace: 5 } });
  await engine.ready;
  await assert.rejects(engine.dispatchAsync('long:operation'), (e) => e.message.includes('timeout'));
  await assert.rejects(engine.dispatchAsync('risky:operation', { fail: true }, { timeout: 5000 }), (e) => e.code === 'risky');
  assert.equal(await engine.dispatchAsync('risky:operation', {}, { timeout: 5000 }), 1);
});

test('custom timeout handling', async (t) => {
  const engine = engineFor(t, { workerOptions: { ...workerOptions, killGrace: 5 } });
  await engine.ready;
  await assert.rejects(engine.dispatchAsync('long:operation', {}, { signal: AbortSignal.timeout(50) }), (e) => e.code === 'canceled' && e.cause.name === 'TimeoutError');
  assert.deepEqual(await engine.dispatchAsync('space:validate'), { placements: 0, twice: 0, zones: 0 });
});

test('error handling: the message of an error of a worker has the word Worker', async (t) => {
  const engine = engineFor(t, { workerOptions: { ...workerOptions, workerPath: await dying(t, 'risky:operation') } });
  await assert.rejects(engine.dispatchAsync('risky:operation'), (e) => e.code === 'poisoned' && e.message.includes('Worker') && !e.message.includes('timeout'));
  const none = engineFor(t, { workerOptions: { ...workerOptions, workerPath: '/nowhere/hypertoken.worker.js' } });
  const told = event(none, 'engine:error');
  await none.dispatchAsync('space:validate');
  assert.ok((await told).payload.error.message.includes('Worker'));
});

test('a fallback that nobody listens to is logged, once until a worker is ready', async (t) => {
  const warnings = [], logger = { debug() {}, warn: (m) => warnings.push(m) };
  const host = hostFor(t, { core: exampleCore, workerPath: '/nowhere/hypertoken.worker.js', logger });
  const engines = Array.from({ length: 3 }, () => engineFor(t, { host }));
  for (const engine of engines) await engine.ready;
  assert.equal(host.stats.fallbacks, 3);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /^hypertoken: worker_unavailable: no Worker can run, the engine goes on on the main thread: the script .* could not be loaded/);

  const quiet = hostFor(t, { core: exampleCore, workerPath: '/nowhere/hypertoken.worker.js', logger });
  for (const name of ['engine:error', '*']) {
    const engine = engineFor(t, { host: quiet });
    const stop = engine.on(name, () => stop());
    await engine.ready;
  }
  const deaf = engineFor(t, { host: quiet });
  deaf.on('engine:action', () => {});
  await deaf.ready;
  assert.equal(warnings.length, 2);
});

test('graceful fallback', async (t) => {
  const engine = engineFor(t, { setup: deck(5), workerOptions: { ...workerOptions, workerPath: '/nowhere/hypertoken.worker.js' } });
  const told = event(engine, 'engine:error');
  await engine.dispatchAsync('stack:shuffle');
  assert.match((await told).payload.error.message, /hypertoken\.worker\.js could not be loaded: check workerOptions\.workerPath/);
});

test('several engines, each with a worker of its own, in turn', async (t) => {
  const workers = Array.from({ length: 4 }, () => engineFor(t, { setup: deck(8), workerOptions }));
  const draws = await Promise.all(Array.from({ length: 16 }, (_, k) => workers[k % 4].dispatchAsync('stack:draw')));
  assert.deepEqual(draws.map(([token]) => token.id), Array.from({ length: 16 }, (_, k) => `t${7 - Math.floor(k / 4)}`));
});

test('several engines over the workers of one host, evenly, and evenly again after one has died', async (t) => {
  const host = hostFor(t, { core: exampleCore, workers: 3 });
  const engines = Array.from({ length: 6 }, () => engineFor(t, { host, setup: deck(30) }));
  const round = () => Promise.all(engines.map((e) => e.dispatchAsync('stack:draw')));
  await round();
  assert.deepEqual(host.stats.workers.map((w) => w.engines), [2, 2, 2]);
  const back = new Promise((resolve) => {
    const was = host.workerReady;
    host.workerReady = function (thread) {
      was.call(this, thread);
      resolve();
    };
  });
  await kill(host, 1);
  await back;
  await round();
  assert.deepEqual(host.stats.workers.map((w) => w.engines), [2, 2, 2]);
  for (const e of engines) assert.equal(e.sequence, 2);
});

test('the main thread goes on while a worker works', async (t) => {
  const engine = engineFor(t, { workerOptions });
  await engine.ready;
  let turns = 0, over = false;
  const count = () => over || (turns++, setImmediate(count));
  count();
  await engine.dispatchAsync('slow:operation', { rounds: 5e7 });
  over = true;
  assert.ok(turns > 100, `${turns} turns`);
});
