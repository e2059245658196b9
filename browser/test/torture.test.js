// Many callers, workers that are terminated at random, aborts and deadlines. The engine is compared with a model: an engine on the main
// thread that runs the actions which the first one says it has done. Another seed: HYPERTOKEN_SEED=7 node --test test/torture.test.js

import assert from 'node:assert/strict';
import { test } from 'node:test';
import 'fake-indexeddb/auto';
import { engineFor, hostFor, kill, random, testCore, testCoreBytes } from './support/cores.js';
import { failingStore } from './support/store.js';

const seeds = process.env.HYPERTOKEN_SEED ? [Number(process.env.HYPERTOKEN_SEED)] : [1, 2, 3];
const engines = 5, callers = 6, steps = 60;

// An action whose result depends on those before it. So an action that is lost, run twice or moved shows in the results.
function choose(next) {
  const k = Math.floor(next() * 10);
  if (k < 3) return ['stack:draw', { count: 1 + Math.floor(next() * 3) }];
  if (k < 4) return ['stack:shuffle', { seed: Math.floor(next() * 1e6) }];
  if (k < 5) return ['stack:shuffle', {}];
  if (k < 6) return ['stack:peek', { count: 3 }];
  if (k < 7) return ['agent:create', { name: `a${Math.floor(next() * 30)}` }]; // often it exists
  if (k < 8) return ['stack:reset', {}];
  if (k < 9) return ['test:work', { rounds: Math.floor(next() * 3e5) }];
  return ['no:such', {}];
}

const outcome = (p) => p.then((result) => ({ result }), (error) => ({ error: error.code, message: error.message }));
const none = new Set(['timeout', 'canceled', 'batch_aborted', 'overloaded', 'poisoned', 'worker_unavailable', 'trap', 'store_full', 'store_refused']);

const variants = [...seeds.flatMap((s) => [[s, false, false], [s, true, false]]), [seeds[0], false, true], [seeds[0], true, true]];

for (const [seed, enableBatching, isSaved] of variants) {
  test(`callers see one engine each, whatever happens to the workers (${isSaved ? 'saved in a store that fails, ' : ''}${enableBatching ? 'batching, ' : ''}seed ${seed})`, async (t) => {
    const next = random(seed);
    const store = isSaved ? failingStore(t, next) : null;
    const host = hostFor(t, { core: isSaved ? testCoreBytes : testCore, workers: 2, restartWindow: 1, snapshotBytes: 3000, killGrace: 3, timeout: 60_000, enableBatching, batchWindow: 1, maxInstances: seed % 2 ? 64 : 2 });
    const setup = { stack: Array.from({ length: 60 }, (_, k) => ({ id: `t${k}`, label: `token ${k}` })) };
    let killed = 0, over = false;
    const codes = {};
    const late = []; // those of the default deadline, which only what hangs can miss

    const games = Array.from({ length: engines }, (_, n) => {
      const saved = isSaved ? { name: `torture ${seed} ${enableBatching} ${n}`, persist: true } : {};
      const engine = engineFor(t, { host, setup, ...saved });
      const log = []; // what was dispatched, in order, with its outcome
      const dispatched = (actions, mode, promise) => log.push({ actions, mode, done: outcome(promise) });
      const action = () => {
        const [type, payload] = choose(next);
        return { type, payload, now: 1_700_000_000_000 + log.length, entropy: Uint8Array.from({ length: 16 }, () => next() * 256) };
      };
      const one = () => {
        const a = action(), k = next(), options = { now: a.now, entropy: a.entropy };
        if (k < 0.06) options.timeout = 1 + next() * 5;
        const stop = k > 0.94 ? new AbortController() : null;
        if (stop) options.signal = stop.signal;
        const promise = engine.dispatchAsync(a.type, a.payload, options);
        dispatched([a], 'single', promise);
        if (stop) (next() < 0.5 ? queueMicrotask : setImmediate)(() => stop.abort());
        return promise;
      };
      const spin = () => {
        const promise = engine.dispatchAsync('test:spin', {}, { timeout: 20 });
        dispatched([{ type: 'test:spin' }], 'single', promise);
        return promise;
      };
      const batch = () => {
        const actions = Array.from({ length: 1 + next() * 4 }, action), mode = next() < 0.5 ? 'atomic' : 'independent';
        const promise = engine.dispatchBatch(actions, { mode });
        dispatched(actions, mode, promise);
        return promise;
      };
      const call = async (_, caller) => {
        if (caller === 0) spin().catch(() => {}); // one at least
        for (let k = 0; k < steps; k++) {
          const many = Array.from({ length: 1 + next() * 4 }, () => {
            const r = next();
            return r < 0.15 ? batch() : r < 0.152 ? spin() : one();
          });
          await Promise.allSettled(many);
        }
      };
      return { n, engine, saved, log, run: () => Promise.all(Array.from({ length: callers }, call)) };
    });

    await Promise.all(games.map((g) => g.engine.ready));
    store?.begin();
    const running = Promise.all(games.map((g) => g.run())).then(() => { over = true; });
    // Terminates a worker after so many answers.
    let left = 40;
    const off = games.map((g) => g.engine.on('engine:action', () => {
      if (--left > 0 || over) return;
      left = 20 + Math.floor(next() * 300);
      if (kill(host, Math.floor(next() * 2))) killed++;
    }));
    await running;
    off.forEach((f) => f());
    store?.end();

    for (const { n, engine, saved, log } of games) {
      const model = engineFor(t, { useWorker: false, setup, workerOptions: { core: testCore } });
      await model.ready;
      let sequence = 0;
      for (const [k, { actions, mode, done }] of log.entries()) {
        const got = await done, where = `engine ${n}, ${k} of ${log.length}: ${mode} ${actions.map((a) => a.type)}`;
        if (got.error) codes[got.error] = (codes[got.error] ?? 0) + 1;
        if (/60000 ms/.test(got.message)) late.push(where);
        if (none.has(got.error)) continue; // an error says that it had no effect
        // An action that failed in a gathered batch ran behind others of it, which had no effect either: the model does not know them.
        if (got.error && mode === 'single' && enableBatching) continue;
        // A worker died while it ran an independent batch: then each member has its own outcome.
        const hadEffect = (_, at) => mode !== 'independent' || !none.has(got.result?.[at].error?.code);
        const ran = actions.filter(hadEffect), [a] = ran;
        if (got.result && mode === 'independent') got.result = got.result.filter(hadEffect);
        const want = await outcome(mode === 'single' ? model.dispatchAsync(a.type, a.payload, { now: a.now, entropy: a.entropy }) : model.dispatchBatch(ran, { mode }));
        const plain = (o) => JSON.stringify(o, (key, v) => (v instanceof Error ? v.code : v));
        assert.equal(plain(got), plain(want), where);
        sequence = model.sequence;
      }
      assert.equal(engine.sequence, sequence);
      assert.equal(await engine.digest(), await model.digest(), `engine ${n}`);
      if (isSaved) {
        await engine.shutdown();
        const again = engineFor(t, { host, ...saved });
        assert.equal(await again.digest(), await model.digest(), `engine ${n}, opened again`);
        assert.equal(again.sequence, sequence);
      }
    }
    const { counts } = host;
    t.diagnostic(`${killed} terminated, ${counts.killed} killed, ${counts.died} died, ${counts.placed} placings; ${JSON.stringify(codes)}`);
    assert.ok(counts.died + counts.killed >= 3 && (isSaved || (counts.died >= 2 && counts.killed >= 1)) && counts.placed > engines + 5, JSON.stringify(counts));
    assert.ok(codes.canceled > 10 && codes.timeout > 0, JSON.stringify(codes));
    if (isSaved) assert.ok(codes.store_full > 10 && codes.store_refused > 10, JSON.stringify(codes));
    assert.deepEqual(late, []);
    assert.equal(host.stats.inFlight, 0);
  });
}
