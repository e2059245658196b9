// A host has workers, and places engines on them: each engine on the worker that has the fewest
// engines. If no worker can run, engines are placed on the main thread.

import { compile, isModule, join } from './core.js';
import { coreLocation, defaults, macrotask, supportsWorkers } from './environment.js';
import { badInput, canceledError, HyperTokenError, shutdownError, timeoutError } from './errors.js';
import { Executor } from './executor.js';
import { answerOf, kind } from './frames.js';
import { checkOptions, checkTimeout, nameOf, unknownOption } from './options.js';
import { onAbort } from './signals.js';
import { Thread } from './thread.js';

// How long the main thread runs actions before it lets the page's other tasks run, in milliseconds.
const turn = 8;

const bounds = {
  workers: [0, 1024], timeout: [0, 2 ** 31 - 1], batchWindow: [0, 60_000], startTimeout: [1, 2 ** 31 - 1], killGrace: [0, 60_000],
  maxRestarts: [0, 1e6], restartWindow: [1, 1e9], maxAttempts: [1, 100], maxQueue: [1, 1e9], maxPayload: [1, 32 << 20], maxStateBytes: [1, 2 ** 40],
  maxResult: [1, 64 << 20], maxDepth: [1, 128], snapshotBytes: [1, 2 ** 40], replayBudget: [1, 1e9],
};

// A call for 16 random bytes takes as long as one for a few thousand.
function randomness() {
  const pool = new Uint8Array(4096);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      crypto.getRandomValues(pool);
      at = 0;
    }
    return pool.subarray(at, at += 16);
  };
}

const isAddress = (value) => (typeof value === 'string' && value !== '') || (typeof value === 'object' && typeof value?.href === 'string');
const isBuffer = (value) => ArrayBuffer.isView(value) || Object.prototype.toString.call(value) === '[object ArrayBuffer]';

/**
 * The options that are no numbers: a test of the value, and what the error says that it has to be.
 */
const kinds = {
  debug: [(v) => typeof v === 'boolean', 'true or false'],
  enableBatching: [(v) => typeof v === 'boolean', 'true or false'],
  workerPath: [isAddress, 'a path or a URL'],
  wasmPath: [isAddress, 'a path or a URL'],
  clock: [(v) => typeof v === 'function', 'a function'],
  entropy: [(v) => typeof v === 'function', 'a function'],
  logger: [(v) => typeof v?.debug === 'function' && typeof v.warn === 'function', 'an object with the functions debug and warn'],
  core: [(v) => isModule(v) || isBuffer(v), 'a WebAssembly.Module, an ArrayBuffer or a view of one'],
};

/**
 * Checks the options of a host, and adds the defaults of those that are not given. It throws
 * `bad_input`.
 */
export function hostOptions(options, what = 'Host') {
  const all = {
    workers: 1, debug: false, timeout: 30_000, enableBatching: false, batchWindow: 10, ...defaults(),
    startTimeout: 10_000, killGrace: 250, maxRestarts: 5, restartWindow: 10_000, maxAttempts: 2, maxQueue: 16_384,
    maxPayload: 16 << 20, maxStateBytes: 256 << 20, maxResult: 16 << 20, maxDepth: 64, snapshotBytes: 1 << 20, replayBudget: 250,
    clock: Date.now, entropy: randomness(), logger: console, core: undefined,
  };
  const names = Object.keys(all);
  checkOptions(what, options, names);
  for (const [name, value] of Object.entries(options ?? {})) {
    if (!names.includes(name)) throw unknownOption(what, name, names);
    if (value === undefined) continue;
    const limits = bounds[name];
    if (limits) {
      const [least, most] = limits;
      if (!Number.isInteger(value) || value < least || value > most) throw badInput(`${what}: ${name} is ${nameOf(value)}, want an integer from ${least} to ${most}`);
    } else {
      const [is, wanted] = kinds[name];
      if (!is(value)) throw badInput(`${what}: ${name} is ${nameOf(value)}, want ${wanted}`);
    }
    all[name] = value;
  }
  return all;
}

export class Host {
  /**
   * How many workers died by themselves, how many the host killed because of what they ran, how
   * often an engine was placed, and how many engines went to the main thread because no worker
   * could run.
   */
  counts = { died: 0, killed: 0, placed: 0, fallbacks: 0 };
  /** @type {Promise<WebAssembly.Module>} the compiled core */
  module;
  #threads = []; #games = new Set(); #asking = []; #placements = 0; #closing = false; #closed = null;
  #compiled = null; #broken = null; #executor = null; #here = new Map(); #running = []; #scheduled = false; #inFlight = 0; #hasWarnedFallback = false;
  /**
   * The requests that have a deadline, in a set for each timeout. So each set is in the order of
   * the deadlines.
   */
  #deadlines = new Map();
  #timer = null; #timerAt = Infinity;

  /** @param {Partial<ReturnType<typeof hostOptions>>} [options] see README.md */
  constructor(options) {
    this.options = hostOptions(options);
    const { core, wasmPath, workers } = this.options;
    this.module = compile(core ? { module: core } : coreLocation(wasmPath), (problem) => this.warn(problem));
    this.module.then((m) => {
      this.#compiled = m;
      this.assign();
    }, (cause) => {
      const error = new HyperTokenError('bad_input', `the core can not be run: ${cause.message}`, { cause });
      this.#broken = error;
      for (const game of this.#games) game.fail(error);
      for (const t of this.#threads) t.stop();
    });
    for (let k = 0; k < workers; k++) this.#threads.push(new Thread(this));
    if (workers > 0 && !supportsWorkers()) {
      for (const t of this.#threads) {
        t.state = 'given up';
        t.cause = new Error('there are no Workers in this environment');
      }
    } else {
      for (const t of this.#threads) t.start();
    }
  }

  get threads() { return this.#threads; }

  /** How many engines are on the main thread, and how many actions have no outcome. */
  get stats() {
    return { ...this.counts, here: this.#here.size, inFlight: this.#inFlight, workers: this.#threads.map((t) => ({ state: t.state, engines: t.games.size, pending: t.pending.size })) };
  }

  log(message, cause) {
    if (this.options.debug) this.options.logger.debug(`hypertoken: ${message}`, ...(cause ? [cause] : []));
  }

  /** Warns that engines run on the main thread, once until a worker is ready. */
  warnFallback(error) {
    if (!this.#hasWarnedFallback) this.warn(error.message);
    this.#hasWarnedFallback = true;
  }

  warn(message) { this.options.logger.warn(`hypertoken: ${message}`); }

  // Engines.

  add(game) {
    if (this.#closing) throw shutdownError('host');
    if (this.#broken) throw this.#broken;
    this.#games.add(game);
  }

  remove(game) { this.#games.delete(game); }

  /**
   * Counts a request against maxQueue. It throws `overloaded` if there is no room; release, when
   * the request ends, gives the room back.
   */
  charge(op) {
    if (this.#closing) throw shutdownError('host');
    if (this.#inFlight >= this.options.maxQueue) {
      throw new HyperTokenError('overloaded', `${op.what}: ${this.#inFlight} actions have no outcome yet (maxQueue); wait for some`);
    }
    this.#inFlight++;
    op.charged = true;
  }

  release(op) {
    if (op.charged) this.#inFlight--;
    op.charged = false;
    op.release?.();
    const list = this.#deadlines.get(op.timeout);
    if (list?.delete(op) && list.size === 0 && op.timeout !== this.options.timeout) this.#deadlines.delete(op.timeout);
  }

  // Places.

  /**
   * Whether the host has no workers, and the core is compiled: then the main thread can run an
   * action at once.
   */
  get synchronous() { return this.#threads.length === 0 && this.#compiled !== null; }

  requestPlace(game) {
    this.#asking.push(game);
    this.assign();
  }

  assign() {
    const ready = this.#threads.filter((t) => t.state === 'ready');
    const wait = ready.length === 0 && this.#threads.some((t) => t.isExpected);
    if (wait || (ready.length === 0 && !this.#compiled)) return;
    // A worker whose first start is under way gets its share of the engines once it is ready.
    const coming = this.#threads.filter((t) => t.state === 'starting' && t.isNew).length;
    const share = coming > 0 ? Math.ceil(this.#games.size / (ready.length + coming)) : Infinity;
    for (const game of this.#asking.splice(0)) {
      if (!game.wantsPlace()) continue;
      const least = ready.reduce((a, b) => ((b.games.size - a.games.size || b.pending.size - a.pending.size) < 0 ? b : a), ready[0]);
      if (!least) this.#placeHere(game);
      else if (least.games.size >= share) this.#asking.push(game);
      else game.placeAt(least, ++this.#placements);
    }
  }

  workerReady(thread) {
    this.#hasWarnedFallback = false;
    this.assign();
    for (const game of [...this.#here.values()]) game.moveBack();
    // Idle engines leave workers that have more engines than this one will have. Their next action
    // places them again.
    for (const t of this.#threads) {
      const most = Math.ceil((t.games.size + thread.games.size) / 2);
      for (const game of [...t.games.values()]) if (t !== thread && t.games.size > most && game.pending === 0) game.leavePlace();
    }
  }

  #placeHere(game) {
    if (!game.mayRunHere()) return;
    const placement = ++this.#placements;
    this.#executor ??= new Executor(this.#compiled);
    this.#here.set(placement, game);
    if (this.#threads.length > 0) {
      game.raiseFallback(new HyperTokenError('worker_unavailable',
        `no Worker can run, the engine goes on on the main thread: ${this.#threads.find((t) => t.cause)?.cause.message ?? 'unknown'}`, { cause: this.#threads[0].cause }));
    }
    game.placeAt(null, placement);
  }

  leftHere(placement) {
    this.#here.delete(placement);
    this.#executor.run({ placement, kind: kind.close }, () => {});
  }

  /** Runs a request on the main thread, behind the others that wait there. */
  runHere(game, placement, op) {
    this.#running.push({ game, placement, op });
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(() => this.drain(turn));
    }
  }

  /**
   * Runs the requests that wait on the main thread, for about `most` milliseconds. The rest runs in
   * a later task.
   */
  drain(most = Infinity) {
    const until = performance.now() + most;
    while (this.#running.length > 0) {
      const { game, placement, op } = this.#running.shift();
      if (!this.#here.has(placement) || op.withdrawn) {
        if (op.withdrawn) game.handleAnswer(null, placement, op, { flags: 0 });
        continue;
      }
      const body = op.parts.length === 1 ? op.parts[0] : join(op.parts);
      let answer;
      this.#executor.run({ placement, kind: op.kind, flags: op.flags, body }, (flags, ...parts) => {
        answer = answerOf(flags, join(parts));
      });
      game.handleAnswer(null, placement, op, answer);
      if (performance.now() > until) {
        macrotask(() => this.drain(turn));
        return;
      }
    }
    this.#scheduled = false;
    if (this.#threads.some((t) => t.state === 'ready')) {
      for (const game of [...this.#here.values()]) game.moveBack();
    }
  }

  // Time.

  /** Ends a request when its time is over, or when its signal aborts. */
  limit(game, op, timeout, signal) {
    if (signal) {
      op.release = onAbort(signal, () => game.withdraw(op, canceledError(op.what, signal.reason)));
    }
    if (timeout > 0 && timeout < Infinity) {
      op.game = game;
      op.timeout = timeout;
      op.deadline = performance.now() + timeout;
      const list = this.#deadlines.get(timeout);
      if (list) list.add(op);
      else this.#deadlines.set(timeout, new Set([op]));
      this.#wake(op.deadline);
    }
  }

  #wake(at) {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    // If this thread was busy meanwhile, answers that have arrived are read first.
    this.#timer = setTimeout(() => macrotask(() => this.#expire()), Math.min(Math.max(0, at - performance.now()), 2 ** 31 - 1));
    this.#timer.unref?.();
  }

  #expire() {
    clearTimeout(this.#timer); // a timer that was set in the meantime
    this.#timerAt = Infinity;
    const now = performance.now();
    let next = Infinity;
    for (const list of this.#deadlines.values()) {
      for (const op of list) {
        if (op.deadline > now) {
          next = Math.min(next, op.deadline);
          break;
        }
        op.game.withdraw(op, timeoutError(op.what, op.timeout)); // this takes the request off the list
      }
    }
    if (next < Infinity) this.#wake(next);
  }

  /**
   * Waits for the requests in flight, and ends the engines and the workers: once it resolves, none
   * is left. It may be called any number of times, for example again with a timeout if it takes too
   * long.
   * @param {{timeout?: number}} [options] after so many milliseconds the requests in flight fail; 0, the default, is no limit
   */
  async shutdown(options) {
    checkOptions('shutdown', options, ['timeout']);
    const { timeout = 0 } = options ?? {};
    checkTimeout('shutdown', timeout);
    this.#closing = true;
    const games = [...this.#games], closed = games.map((game) => game.close(timeout));
    this.#closed ??= (async () => {
      await Promise.all(closed);
      clearTimeout(this.#timer);
      await Promise.all(this.#threads.map((t) => t.stop()));
      for (const game of games) game.raiseShutdown();
    })();
    return this.#closed;
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { return this.shutdown(); }
}
