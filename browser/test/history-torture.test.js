// Actions, batches, reverts, undos and redos, while workers are terminated, and calls are aborted or late. The engine is compared with a
// model: what each call was told says what the state is, and which steps there are. Another seed:
// HYPERTOKEN_SEED=7 node --test test/history-torture.test.js

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deck, engineFor, hostFor, kill, random, testCore } from './support/cores.js';

const seeds = process.env.HYPERTOKEN_SEED ? [Number(process.env.HYPERTOKEN_SEED)] : [1, 2, 3];
const rounds = 50, engines = 3;
/** The codes of errors that say that the call had no effect, and that the model can not foresee. */
const none = new Set(['timeout', 'canceled', 'poisoned', 'worker_unavailable', 'trap']);

function action(next, time) {
  const k = next() * 8;
  const [type, payload] = k < 3 ? ['stack:draw', { count: 1 + Math.floor(next() * 2) }] : k < 4 ? ['stack:shuffle', {}] : k < 5 ? ['stack:peek', { count: 2 }]
    : k < 6 ? ['agent:create', { name: `a${Math.floor(next() * 20)}` }] : k < 7.5 ? ['stack:reset', {}] : ['no:such', {}];
  return { type, payload, now: 1_700_000_000_000 + time, entropy: Uint8Array.from({ length: 16 }, () => next() * 256) };
}

/** An engine of one's own for each state, and the steps as DESIGN has them. */
class Model {
  /** Of each sequence: the digest, the snapshot, the current step and those to redo. */
  states = []; batches = new Map(); counts = {};
  #t; #engine;

  constructor(t) { this.#t = t; }

  async begin(options) {
    await this.#engine?.shutdown();
    this.#engine = engineFor(this.#t, { useWorker: false, ...options, workerOptions: { core: testCore } });
  }

  async note(current, redo) {
    const [digest, snapshot] = await Promise.all([this.#engine.digest(), this.#engine.snapshot()]);
    this.states.push({ digest, snapshot, current, redo });
  }

  get newest() { return this.states.length - 1; }

  async #act(actions, isBatch) {
    const before = this.#engine.sequence, result = await (isBatch ? this.#engine.dispatchBatch(actions) : this.#engine.dispatchAsync(actions[0].type, actions[0].payload, { now: actions[0].now, entropy: actions[0].entropy }));
    const changed = this.#engine.sequence - before, first = this.newest + 1;
    // The states within a batch are those of its members, one after the other.
    if (changed > 1) {
      await this.begin({ snapshot: this.states[this.newest].snapshot });
      for (const { type, payload, now, entropy } of actions) {
        const was = this.#engine.sequence;
        await this.#engine.dispatchAsync(type, payload, { now, entropy });
        if (this.#engine.sequence === was) continue;
        await this.note(this.newest + 1, []);
        this.batches.set(this.newest, first);
      }
    } else if (changed === 1) {
      await this.note(this.newest + 1, []);
    }
    return result;
  }

  async #rewind(what, to) {
    const { current, redo } = this.states[this.newest];
    const fail = (code) => { throw Object.assign(new Error(code), { code }); };
    let target, after;
    if (what === 'undo') {
      if (current === 0) fail('conflict');
      const parent = this.states[(this.batches.get(current) ?? current) - 1].current;
      [target, after] = [parent, [parent, [...redo, current]]];
    } else if (what === 'redo') {
      if (redo.length === 0) fail('conflict');
      [target, after] = [redo.at(-1), [redo.at(-1), redo.slice(0, -1)]];
    } else {
      if (to > this.newest) fail('bad_input');
      [target, after] = [to, [this.newest + 1, []]];
    }
    await this.begin({ snapshot: this.states[target].snapshot });
    await this.note(...after);
    this.counts[what] = (this.counts[what] ?? 0) + 1;
    return { sequence: this.newest, digest: this.states[target].digest };
  }

  run({ what, actions, to }) { return actions ? this.#act(actions, what === 'batch') : this.#rewind(what, to); }
}

const outcome = (p) => p.then((result) => ({ result }), (error) => ({ error: error.code, index: error.index >= 0 ? error.index : undefined }));

for (const [seed, history] of seeds.flatMap((s) => [[s, true], [s, false]])) {
  test(`an engine goes back and forth as its model does (${history ? '' : 'no history, '}seed ${seed})`, async (t) => {
    const next = random(seed);
    const host = hostFor(t, { workers: 2, restartWindow: 1, snapshotBytes: 700, killGrace: 3, timeout: 0, startTimeout: 60_000, maxInstances: seed % 2 ? 64 : 2 });
    let left = 15, over = false;
    const games = Array.from({ length: engines }, () => {
      const engine = engineFor(t, { host, setup: deck(40), history }), calls = [], pasts = [];
      engine.on('engine:action', () => {
        if (--left > 0 || over) return;
        left = 10 + Math.floor(next() * 40);
        const k = Math.floor(next() * 2);
        kill(host, host.threads[k].thread ? k : 1 - k);
      });
      const call = () => {
        const k = next(), options = {};
        if (next() < 0.04) options.timeout = 1 + next() * 5;
        const stop = next() < 0.1 ? new AbortController() : null;
        if (stop) options.signal = stop.signal;
        const one = k < 0.4 ? { what: 'action', actions: [action(next, calls.length)] } : k < 0.55 ? { what: 'batch', actions: Array.from({ length: 1 + next() * 4 }, () => action(next, calls.length)) }
          : k < 0.75 ? { what: 'undo' } : k < 0.92 ? { what: 'redo' } : { what: 'revert', to: Math.floor(next() * (engine.sequence + 3)) };
        const [a] = one.actions ?? [];
        const promise = one.what === 'action' ? engine.dispatchAsync(a.type, a.payload, { ...options, now: a.now, entropy: a.entropy })
          : one.what === 'batch' ? engine.dispatchBatch(one.actions, options) : one.what === 'revert' ? engine.revert(one.to, options) : engine[one.what](options);
        calls.push({ ...one, done: outcome(promise) });
        if (stop) (next() < 0.5 ? queueMicrotask : setImmediate)(() => stop.abort());
        return promise;
      };
      const run = async () => {
        for (let k = 0; k < rounds; k++) {
          if (next() < 0.3) {
            const at = Math.floor(next() * (engine.sequence + 1));
            pasts.push([at, outcome(engine.digestAt(at))]);
          }
          await Promise.allSettled(Array.from({ length: 1 + next() * 4 }, call));
        }
      };
      return { engine, calls, pasts, run };
    });
    await Promise.all(games.map((g) => g.run()));
    over = true;

    const codes = {}, counts = {};
    for (const [n, { engine, calls, pasts }] of games.entries()) {
      const model = new Model(t);
      await model.begin({ setup: deck(40) });
      await model.note(0, []);
      for (const [k, one] of calls.entries()) {
        const got = await one.done, where = `engine ${n}, call ${k}: ${one.what} ${one.to ?? one.actions?.map((a) => a.type) ?? ''}, at ${model.newest}`;
        if (got.error) codes[got.error] = (codes[got.error] ?? 0) + 1;
        if (none.has(got.error) || (!history && got.error === 'history_trimmed')) continue;
        assert.deepEqual(got, await outcome(model.run(one)), where);
      }
      assert.equal(engine.sequence, model.newest);
      assert.equal(await engine.digest(), model.states[model.newest].digest, `engine ${n}`);
      for (const [at, past] of pasts) {
        const { result, error } = await past;
        if (result || history) assert.equal(result, model.states[at].digest, `engine ${n} at ${at}: ${error}`);
        else assert.equal(error, 'history_trimmed');
      }
      for (const [what, times] of Object.entries(model.counts)) counts[what] = (counts[what] ?? 0) + times;
    }
    t.diagnostic(`${host.counts.died} died, ${host.counts.killed} killed, ${host.counts.placed} placings; ${JSON.stringify({ ...counts, ...codes })}`);
    assert.ok(host.counts.died > 0 && codes.canceled > 0 && codes.conflict > 0, JSON.stringify({ ...host.counts, ...codes }));
    for (const what of ['undo', 'redo', 'revert']) assert.ok(counts[what] > 0 || !history, JSON.stringify(counts));
    assert.deepEqual([host.stats.inFlight, host.stats.waiting], [0, 0]);
  });
}
