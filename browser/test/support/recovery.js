// Runs the scenarios of recovery that the Go host runs too: integration/testdata/recovery/README.md has their language. A gate stands
// between the host and each of its worker threads. It lets the worker have one request at a time, and does what the scenario says: it
// ends the thread, holds an answer back, or answers in the worker's place.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import workerThreads from 'node:worker_threads';
import { eachFrame, failure, flag, kind, Writer } from '../../src/frames.js';
import { Engine, Host } from '../../src/index.js';
import { testCore } from './cores.js';

const folder = new URL('../../../integration/testdata/recovery/', import.meta.url);

/** All scenarios, in the order of their files. */
export async function readScenarios() {
  const files = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort();
  const lists = await Promise.all(files.map(async (name) => JSON.parse(await readFile(new URL(name, folder), 'utf8'))));
  return lists.flat();
}

/** The names of scenarios that every side has to have run. */
export async function scenarioNames() {
  return (await readFile(new URL('scenarios.txt', folder), 'utf8')).trim().split('\n');
}

const known = {
  scenario: ['name', 'shows', 'options', 'engines', 'requests', 'steps', 'expect'],
  options: ['killGrace', 'placeTimeout', 'maxRestarts', 'snapshotBytes'],
  engine: ['placings', 'snapshots'],
  request: ['engine', 'type', 'ask', 'batch', 'mode', 'runs', 'timeout'],
  step: ['dispatch', 'together', 'outcome', 'begun', 'times', 'cancel', 'release', 'kill', 'workers', 'snapshots', 'place'],
  expect: ['outcomes', 'journal', 'runs', 'died', 'killed', 'placedAnew', 'place', 'broken'],
};

function checkMembers(what, object, names) {
  for (const name of Object.keys(object)) assert.ok(names.includes(name), `${what} has the member ${name}, which this side does not know`);
}

const deckSize = 12;
const time = 1_700_000_000_000;
const setupOf = (engine) => ({ stack: Array.from({ length: deckSize }, (_, k) => ({ id: `${engine}:t${k}` })) });

/** One scenario as it runs: which requests there are, what happens to each, and what has happened so far. */
class Script {
  gates = new Set();
  isPaused = false;
  areWorkersGone = false;
  /** Descriptions of things that must never happen, and have. */
  violations = [];
  begun = new Map(); arrived = new Map(); placings = new Map(); snapshots = new Map();
  outcomes = new Map(); results = new Map();
  /** Requests that ran on a worker when it died: they have to run alone. */
  suspects = new Set();
  #placements = new Map(); #waits = new Set();

  constructor(scenario) {
    this.scenario = scenario;
    this.engines = scenario.engines ?? { e: {} };
    this.names = Object.keys(scenario.requests).sort();
  }

  /** The 16 bytes of entropy by which a request is known again in a frame. */
  entropyOf(name) { return Uint8Array.from({ length: 16 }, (_, k) => (k === 0 ? 1 + this.names.indexOf(name) : 7)); }

  /** The requests in a frame: one for an action or a question, one for each member of a batch, none for the host's own. */
  namesIn(frame) {
    const mark = (action) => this.names[action[8] - 1];
    if (frame.kind === kind.dispatch) return [mark(frame.body)];
    if (frame.kind === kind.digest) return this.names.filter((name) => this.scenario.requests[name].ask === 'digest' && this.isDispatched?.has(name) && !this.outcomes.has(name));
    if (frame.kind !== kind.batch) return [];
    const v = new DataView(frame.body.buffer, frame.body.byteOffset, frame.body.length), list = [];
    for (let at = 8; at < frame.body.length; at += 4 + v.getUint32(at, true)) list.push(mark(frame.body.subarray(at + 4)));
    return list;
  }

  engineOf(frame) {
    if (frame.kind === kind.feed && !this.#placements.has(frame.placement)) {
      const text = Buffer.from(frame.body).toString('latin1');
      const engine = Object.keys(this.engines).find((name) => text.includes(`${name}:t0`));
      this.#placements.set(frame.placement, engine);
      return { engine, isNew: true };
    }
    return { engine: this.#placements.get(frame.placement), isNew: false };
  }

  /** Takes note that a worker has died of its own while it ran some requests. If they ran alone, the others are no suspects any more. */
  suspect(names) {
    if (names.some((name) => this.suspects.has(name))) this.suspects.clear();
    for (const name of names) this.suspects.add(name);
  }

  /** Returns what is to happen to a frame that a worker begins now. */
  begin(gate, frame) {
    const nth = (list, n) => list?.[Math.min(n, list.length) - 1] ?? 'answer';
    const count = (map, key) => {
      map.set(key, (map.get(key) ?? 0) + 1);
      return map.get(key);
    };
    let what = 'answer';
    const { engine, isNew } = this.engineOf(frame);
    if (isNew) what = nth(this.engines[engine].placings, count(this.placings, engine));
    if (frame.kind === kind.snapshot) what = nth(this.engines[engine].snapshots, count(this.snapshots, engine));
    for (const name of frame.names) {
      const own = nth(this.scenario.requests[name].runs, count(this.begun, name));
      if (what === 'answer') what = own;
    }
    if (frame.names.some((name) => this.suspects.has(name))) gate.checkAlone(frame);
    this.changed();
    return what;
  }

  /** Waits until something holds. It is looked at after every event of a gate, and every outcome. */
  until(what, holds) {
    if (holds()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited in vain for: ${what}; ${JSON.stringify({ begun: [...this.begun], outcomes: [...this.outcomes], placings: [...this.placings] })}`)), 60_000);
      this.#waits.add(() => {
        if (!holds()) return false;
        clearTimeout(timer);
        resolve();
        return true;
      });
    });
  }

  changed() {
    for (const wait of this.#waits) if (wait()) this.#waits.delete(wait);
  }
}

const RealWorker = workerThreads.Worker;
/** The scripts of the scenarios that run, by the number that the address of their worker's script ends with. */
const scripts = new Map();
let scriptCount = 0;

/** A worker thread with a gate before it. */
class GatedWorker extends EventEmitter {
  #real; #queue = []; #running = null; #held = []; #isOver = false;
  /** Placements whose instance is gone: the worker answers requests to them, and runs none. */
  #lost = new Set();

  constructor(url, options) {
    super();
    this.script = scripts.get(new URL(url).search);
    this.#real = new RealWorker(url, options);
    this.#real.on('message', (data) => this.#isOver || this.#handleMessage(data));
    this.#real.on('error', (cause) => this.emit('error', cause));
    this.#real.on('exit', (code) => {
      this.#isOver = true;
      this.script.gates.delete(this);
      this.emit('exit', code);
      this.script.changed();
    });
    this.script.gates.add(this);
    if (this.script.areWorkersGone) this.die();
  }

  postMessage(data, transfer) {
    if (this.#isOver) return;
    if (!(data instanceof ArrayBuffer)) {
      this.#real.postMessage(data, transfer);
      return;
    }
    eachFrame(data, ({ request, placement, kind: k, flags, body }) => {
      const frame = { request, placement, kind: k, flags, body };
      frame.names = this.script.namesIn(frame);
      this.#queue.push(frame);
      for (const name of frame.names) this.script.arrived.set(name, (this.script.arrived.get(name) ?? 0) + 1);
    });
    if (this.#running?.isSuspect) this.checkAlone(this.#running);
    this.script.changed();
    this.advance();
  }

  /** A suspect runs alone: no other request of its engine is at the worker. */
  checkAlone(suspect) {
    suspect.isSuspect = true;
    const others = this.#queue.filter((f) => f.placement === suspect.placement && f.names.length > 0);
    if (others.length > 0) this.script.violations.push(`${suspect.names} runs as a suspect, and ${others.map((f) => f.names)} are at the worker with it`);
  }

  /** Lets the worker begin the next request, if it runs none. */
  advance() {
    while (!this.#running && !this.script.isPaused && !this.#isOver && this.#queue.length > 0) {
      const frame = this.#queue.shift();
      if (frame.kind === kind.close) {
        this.#forward(frame);
        continue;
      }
      this.#running = frame;
      frame.behaviour = this.#lost.has(frame.placement) ? 'answer' : this.script.begin(this, frame);
      if (frame.behaviour === 'die') this.die();
      else if (frame.behaviour === 'die for good') this.script.removeWorkers();
      else if (frame.behaviour === 'hang for good') this.script.areWorkersGone = true;
      else if (frame.behaviour !== 'hang') this.#forward(frame);
    }
  }

  #forward({ request, placement, kind: k, flags, body }) {
    const out = new Writer();
    out.frame(request, placement, k, flags, [body]);
    const buffer = out.take();
    this.#real.postMessage(buffer, [buffer]);
  }

  #handleMessage(data) {
    if (!(data instanceof ArrayBuffer)) {
      this.emit('message', data);
      return;
    }
    eachFrame(data, ({ request, placement, flags, body }) => {
      if (!this.#isOver) this.#handleAnswer({ request, placement, flags, body: body.slice() });
    });
  }

  #handleAnswer(answer) {
    const frame = this.#running;
    assert.equal(answer.request, frame.request);
    if (frame.behaviour === 'run and die') return this.die();
    if (frame.behaviour === 'late' && !frame.isReleased) {
      this.#held.push(answer);
      this.script.changed();
      return;
    }
    if (frame.behaviour === 'garble') answer.request += 1000;
    if (frame.behaviour === 'refuse') {
      answer.flags = flag.failed | flag.lost;
      answer.body = failure('not_placed', 'the scenario says so');
      this.#forward({ ...frame, kind: kind.close, request: 0, flags: 0, body: new Uint8Array(0) });
    }
    if (answer.flags & flag.lost) this.#lost.add(frame.placement);
    for (const name of frame.names) this.script.suspects.delete(name);
    this.#running = null;
    const out = new Writer();
    out.frame(answer.request, answer.placement, kind.answer, answer.flags, [answer.body]);
    this.emit('message', out.take());
    this.script.changed();
    this.advance();
  }

  /** Whether the worker has run a request whose answer is held back. */
  holds(name) { return this.#held.length > 0 && this.#running.names.includes(name); }

  release() {
    this.#running.isReleased = true;
    for (const answer of this.#held.splice(0)) this.#handleAnswer(answer);
  }

  /** Ends the thread, as something other than the host would. */
  die() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.script.suspect(this.#running?.names ?? []);
    this.#real.terminate();
  }

  /** The host ends the thread. */
  terminate() {
    this.#isOver = true;
    this.script.gates.delete(this);
    return this.#real.terminate();
  }
}

Script.prototype.removeWorkers = function () {
  this.areWorkersGone = true;
  for (const gate of [...this.gates]) gate.die();
};

workerThreads.Worker = GatedWorker; // for src/environment.js, which asks for it when it starts a worker
syncBuiltinESMExports();

/** Runs a scenario, and fails the test if it ends in another way than it says. */
export async function runScenario(t, scenario) {
  checkMembers('the scenario', scenario, known.scenario);
  checkMembers('options', scenario.options ?? {}, known.options);
  checkMembers('expect', scenario.expect, known.expect);
  for (const [name, engine] of Object.entries(scenario.engines ?? {})) checkMembers(`the engine ${name}`, engine, known.engine);
  for (const [name, request] of Object.entries(scenario.requests)) checkMembers(`the request ${name}`, request, known.request);
  for (const step of scenario.steps) checkMembers('a step', step, known.step);

  const script = new Script(scenario), workerPath = new URL(`../../src/worker.js?${++scriptCount}`, import.meta.url);
  scripts.set(workerPath.search, script);
  t.after(() => scripts.delete(workerPath.search));
  const { placeTimeout, ...options } = scenario.options ?? {};
  const host = new Host({ core: testCore, workers: 1, workerPath, ...(placeTimeout ? { startTimeout: placeTimeout } : {}), ...options });
  t.after(() => host.shutdown({ timeout: 1 }));
  const run = new Run(script, host);
  for (const name of Object.keys(script.engines)) run.engines[name] = new Engine({ host, setup: setupOf(name) });
  await Promise.all(Object.values(run.engines).map((e) => e.ready));
  for (const step of scenario.steps) await run.step(step);
  await run.check();
}

class Run {
  engines = {}; #aborts = {}; #place = {};

  constructor(running, host) {
    this.script = running;
    this.host = host;
    running.isDispatched = new Set();
  }

  #requestOf(name) { return this.script.scenario.requests[name]; }

  #actionOf(name) {
    const type = this.#requestOf(name).type ?? 'stack:draw';
    return { type, payload: {}, now: time, entropy: this.script.entropyOf(name) };
  }

  #dispatch(name) {
    const r = this.#requestOf(name), engine = this.engines[r.engine ?? 'e'], stop = this.#aborts[name] = new AbortController();
    const options = { signal: stop.signal, timeout: r.timeout ?? 0 };
    this.script.isDispatched.add(name);
    const record = (who, { result, error }) => {
      this.script.outcomes.set(who, error ? error.code : 'ok');
      this.script.results.set(who, result);
    };
    let promise;
    if (r.ask) {
      promise = engine.digest(options);
    } else if (r.batch) {
      promise = engine.dispatchBatch(r.batch.map((member) => this.#actionOf(member)), { mode: r.mode, ...options }).then((list) => {
        list.forEach((o, k) => (r.mode === 'independent' ? record(r.batch[k], o) : this.script.results.set(r.batch[k], o)));
      });
    } else {
      const { type, payload, now, entropy } = this.#actionOf(name);
      promise = engine.dispatchAsync(type, payload, { ...options, now, entropy });
    }
    promise.then((result) => record(name, { result }), (error) => record(name, { error })).then(() => this.script.changed());
  }

  async step(step) {
    const { script: s } = this;
    if (step.dispatch) {
      step.dispatch.forEach((name) => this.#dispatch(name));
    } else if (step.together) {
      s.isPaused = true;
      step.together.forEach((name) => this.#dispatch(name));
      const marks = step.together.flatMap((name) => this.#requestOf(name).batch ?? [name]);
      await s.until(`${marks} to arrive`, () => marks.every((name) => s.arrived.get(name) > 0));
      s.isPaused = false;
      for (const gate of [...s.gates]) gate.advance();
    } else if (step.outcome) {
      await s.until(`the outcome of ${step.outcome}`, () => s.outcomes.has(step.outcome));
    } else if (step.begun) {
      await s.until(`${step.begun} to begin`, () => (s.begun.get(step.begun) ?? 0) >= (step.times ?? 1));
    } else if (step.snapshots) {
      await s.until('a snapshot', () => (s.snapshots.get('e') ?? 0) >= step.snapshots);
    } else if (step.cancel) {
      this.#aborts[step.cancel].abort();
    } else if (step.release) {
      const holder = () => [...s.gates].find((gate) => gate.holds(step.release));
      await s.until(`the worker to have run ${step.release}`, holder);
      holder().release();
    } else if (step.kill) {
      const { died } = this.host.counts, gates = [...s.gates];
      gates.forEach((gate) => gate.die());
      await s.until('the host to see the death', () => this.host.counts.died >= died + gates.length);
    } else if (step.workers === 'gone') {
      s.removeWorkers();
      await s.until('the workers to be gone', () => s.gates.size === 0);
    } else if (step.workers === 'back') {
      s.areWorkersGone = false;
      const ready = this.host.workerReady, alive = setInterval(() => {}, 1000); // a worker that was given up keeps no process going
      await new Promise((resolve) => {
        this.host.workerReady = function (thread) {
          ready.call(this, thread);
          resolve();
        };
      });
      clearInterval(alive);
    } else if (step.place) {
      this.#checkPlace('e', step.place);
    } else {
      throw new Error(`the step ${JSON.stringify(step)} is not known`);
    }
  }

  #checkPlace(name, want) { assert.equal(this.engines[name].place, { worker: 'worker', host: 'main thread' }[want], `the place of ${name}`); }

  /** Holds the scenario's end against what it expects. */
  async check() {
    const { script: s, host } = this, { expect } = s.scenario;
    const callers = s.names.filter((name) => s.isDispatched.has(name));
    await s.until('all outcomes', () => callers.every((name) => s.outcomes.has(name)));
    assert.deepEqual(Object.fromEntries([...s.outcomes].sort()), Object.fromEntries(Object.entries(expect.outcomes).sort()));
    const digests = {};
    for (const name of Object.keys(this.engines)) {
      if (expect.broken?.includes(name)) await assert.rejects(this.engines[name].digest(), { code: 'broken' });
      else digests[name] = await this.engines[name].digest();
    }
    assert.deepEqual(s.violations, []);
    for (const [name, n] of Object.entries(expect.runs)) assert.equal(s.begun.get(name) ?? 0, n, `runs of ${name}`);
    if ('died' in expect) assert.equal(host.counts.died, expect.died, 'workers that died');
    assert.equal(host.counts.killed, expect.killed, 'workers that the host killed');
    for (const [name, anew] of Object.entries(expect.placedAnew ?? {})) assert.equal(s.placings.get(name) > 1, anew, `${name} was placed anew`);
    for (const [name, want] of Object.entries(expect.place ?? {})) this.#checkPlace(name, want);
    for (const [name, journal] of Object.entries(expect.journal)) await this.#checkJournal(name, journal, digests[name]);
  }

  // An engine that nothing happens to, and that runs the journal alone, gives the same results and the same state.
  async #checkJournal(name, journal, digest) {
    assert.equal(this.engines[name].sequence, journal.length, `the sequence of ${name}`);
    const model = new Engine({ useWorker: false, setup: setupOf(name), workerOptions: { core: testCore } });
    try {
      await model.ready;
      for (const action of journal) {
        const { type, payload, now, entropy } = this.#actionOf(action);
        const want = await model.dispatchAsync(type, payload, { now, entropy });
        if (!(this.script.scenario.expect.broken ?? []).includes(name)) assert.deepEqual(this.script.results.get(action), want, `the result of ${action}`);
      }
      if (digest) assert.equal(digest, await model.digest(), `the state of ${name}`);
    } finally {
      await model.shutdown();
    }
  }
}
