// A host has workers, and places engines on them: each engine on the worker that has the fewest
// engines. If no worker can run, engines are placed on the main thread.

import { compile, hashCore, isModule, join } from './core.js';
import { coreLocation, getEnvironment, macrotask, supportsWorkers } from './environment.js';
import { Deadlines } from './deadlines.js';
import { badInput, canceledError, HyperTokenError, shutdownError, timeoutError } from './errors.js';
import { Executor } from './executor.js';
import { files } from './files.js';
import { answerOf, flag, kind } from './frames.js';
import { instances } from './instances.js';
import { List } from './list.js';
import { checkOptions, checkTimeout, nameOf, unknownOption } from './options.js';
import { onAbort } from './signals.js';
import { Thread } from './thread.js';

// How long the main thread runs actions before it lets the page's other tasks run, in milliseconds.
const turn = 8;
/** The room that a request takes of maxQueueBytes in addition to its payload, as in Go. */
const requestSize = 512;

const bounds = {
  workers: [0, 1024], timeout: [0, 2 ** 31 - 1], batchWindow: [0, 60_000], startTimeout: [1, 2 ** 31 - 1], killGrace: [0, 60_000],
  maxRestarts: [0, 1e6], restartWindow: [1, 1e9], maxAttempts: [1, 100], maxQueue: [1, 1e9], maxQueueBytes: [1 << 10, 2 ** 50],
  maxInstances: [1, 1e6], idleAfter: [0, 2 ** 31 - 1], maxPayload: [1, 32 << 20], maxStateBytes: [1, 2 ** 40],
  maxResult: [1, 64 << 20], maxDepth: [1, 128], snapshotBytes: [1, 2 ** 40], replayBudget: [1, 1e9],
};

// A call for 16 random bytes takes as long as one for a few thousand. The bytes that are returned are
// valid until the next call: an action copies them.
function randomness() {
  const pool = new Uint8Array(4096), taken = new Uint8Array(16);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      crypto.getRandomValues(pool);
      at = 0;
    }
    for (let k = 0; k < 16; k++) taken[k] = pool[at++];
    return taken;
  };
}

export const isAddress = (value) => (typeof value === 'string' && value !== '') || (typeof value === 'object' && typeof value?.href === 'string');
export const isBuffer = (value) => ArrayBuffer.isView(value) || Object.prototype.toString.call(value) === '[object ArrayBuffer]';

/**
 * The options that are no numbers: a test of the value, and what the error says that it has to be.
 */
const kinds = {
  debug: [(v) => typeof v === 'boolean', 'true or false'],
  enableBatching: [(v) => typeof v === 'boolean', 'true or false'],
  worker: [(v) => typeof v === 'function', 'a function that returns a Worker (workers is their number)'],
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
    workers: 1, worker: undefined, debug: false, timeout: 30_000, enableBatching: false, batchWindow: 10, ...files(),
    startTimeout: 10_000, killGrace: 250, maxRestarts: 5, restartWindow: 10_000, maxAttempts: 2, maxQueue: 16_384, maxQueueBytes: 64 << 20,
    maxInstances: getEnvironment() === 'node' ? 1024 : 64, idleAfter: 300_000,
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

// Requests that end for the same reason at the same moment have the same error. The stack of an
// error takes longer to make than all else that there is to do for a request.
function sharedError(shared, what, make) {
  let error = shared.get(what);
  if (!error) shared.set(what, (error = make()));
  return error;
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
  #threads = []; #games = new Set(); #placements = 0; #closing = false; #closed = null;
  /** The games that wait for a place, in the order in which they asked. */
  #asking = new List(); #isAssigning = false;
  #compiled = null; #broken = null; #executor = null; #here = new Map(); #running = new List(); #scheduled = false;
  /** How many requests have no outcome, and the room of maxQueueBytes that they take. */
  #inFlight = 0; #inFlightBytes = 0;
  /**
   * The callers of drained() that wait; how many were told and are about to dispatch; and whether
   * some are told in the next task.
   */
  #undrained = []; #promised = 0; #isTelling = false;
  #hasWarnedFallback = false;
  #deadlines;
  /** Takes out the engines that have been idle for idleAfter. */
  #idleTimer = null;

  /** @param {Partial<ReturnType<typeof hostOptions>>} [options] see README.md */
  constructor(options) {
    this.options = hostOptions(options);
    const { core, wasmPath, workers, timeout } = this.options;
    this.#deadlines = new Deadlines(timeout, (op, shared) => op.game.withdraw(op, sharedError(shared, op.what, () => timeoutError(op.what, op.timeout))));
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

  /** The SHA-256 of the core, in hexadecimal: saved games name their core by it. */
  coreHash() {
    const { core, wasmPath } = this.options;
    return hashCore(core ? { module: core } : coreLocation(wasmPath));
  }

  /** How many engines wait for a place. */
  get waiting() { return this.#asking.length; }

  /**
   * How many engines are on the main thread, how many wait for a place, and how many requests have
   * no outcome, with the room of maxQueueBytes that they take.
   */
  get stats() {
    return {
      ...this.counts, here: this.#here.size, waiting: this.#asking.length, inFlight: this.#inFlight, inFlightBytes: this.#inFlightBytes,
      workers: this.#threads.map((t) => ({ state: t.state, engines: t.games.size, pending: t.pending.length })),
    };
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

  /** Takes in the past of an engine. It may come while the host shuts down, for a rewind that was accepted before. */
  adopt(past) { this.#games.add(past); }

  remove(game) {
    this.#games.delete(game);
    if (game.list === this.#asking) this.#asking.remove(game);
  }

  /**
   * Counts a request against maxQueue and maxQueueBytes. It throws `overloaded` if there is no room;
   * release, when the request ends, gives the room back. A request that is larger than maxQueueBytes
   * counts as that much: it has room if there is no other.
   */
  charge(op) {
    if (this.#closing) throw shutdownError('host');
    const { maxQueue, maxQueueBytes } = this.options;
    if (this.#inFlight >= maxQueue) {
      throw new HyperTokenError('overloaded', `${op.what}: ${this.#inFlight} actions have no outcome yet (maxQueue); wait for some, or await drained()`);
    }
    let size = requestSize;
    for (const part of op.parts) size += part.length;
    size = Math.min(size, maxQueueBytes);
    if (this.#inFlightBytes + size > maxQueueBytes) {
      throw new HyperTokenError('overloaded',
        `${op.what}: its ${size} bytes do not fit beside the ${this.#inFlightBytes} of actions that have no outcome yet: ${maxQueueBytes} are allowed (maxQueueBytes); wait for some, or await drained()`);
    }
    this.#inFlight++;
    if (this.#promised > 0) this.#promised--;
    this.#inFlightBytes += size;
    op.charged = true;
    op.size = size;
  }

  release(op) {
    if (op.charged) {
      this.#inFlight--;
      this.#inFlightBytes -= op.size;
      op.charged = false;
      if (this.#undrained.length > 0 && this.#room(0.5) > 0) this.#tellUndrained();
    }
    op.release?.();
    this.#deadlines.remove(op);
  }

  // How many more requests may be dispatched until `part` of the queue is taken, those included that
  // callers of drained() are about to dispatch.
  #room(part) {
    const { maxQueue, maxQueueBytes } = this.options;
    return this.#inFlightBytes < maxQueueBytes * part ? maxQueue * part - this.#inFlight - this.#promised : 0;
  }

  /**
   * Resolves at once if there is room for another request. If the queue is full, it resolves when
   * half of it is free. If several callers wait, they are served in their order. The room is kept
   * for a caller until the next task.
   */
  drained() {
    if (this.#undrained.length === 0 && this.#room(1) > 0) {
      this.#promised++;
      this.#tellUndrained();
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#undrained.push(resolve);
      if (this.#room(0.5) > 0) this.#tellUndrained();
    });
  }

  // In the next task: tells as many callers of drained() as there is room for.
  #tellUndrained() {
    if (this.#isTelling) return;
    this.#isTelling = true;
    macrotask(() => {
      this.#isTelling = false;
      this.#promised = 0;
      if (this.#undrained.length === 0 || this.#room(0.5) <= 0) return;
      const told = this.#undrained.splice(0, Math.ceil(this.#room(1)));
      this.#promised = told.length;
      for (const resolve of told) resolve();
      this.#tellUndrained();
    });
  }

  // Places.

  /**
   * Whether the host has no workers, and the core is compiled: then the main thread can run an
   * action at once.
   */
  get synchronous() { return this.#threads.length === 0 && this.#compiled !== null; }

  /** Asks for a place for a game that has none. */
  requestPlace(game) {
    if (game.list === this.#asking) return;
    this.#asking.push(game);
    this.assign();
  }

  /** Gives places to the games that wait for one, in their order, as far as there are any. */
  assign() {
    if (this.#isAssigning || this.#asking.length === 0) return; // the loop below takes new ones, too
    this.#isAssigning = true;
    const ready = this.#threads.filter((t) => t.state === 'ready');
    const wait = ready.length === 0 && this.#threads.some((t) => t.isExpected);
    // A worker whose first start is under way gets its share of the engines once it is ready.
    const coming = this.#threads.filter((t) => t.state === 'starting' && t.isNew).length;
    const share = coming > 0 ? Math.ceil(Math.min(this.#games.size, this.options.maxInstances) / (ready.length + coming)) : Infinity;
    const canPlace = !wait && (ready.length > 0 || this.#compiled !== null);
    try {
      for (let game = this.#asking.first; canPlace && game; game = this.#asking.first) {
        const isWanted = game.wantsPlace && (ready.length > 0 || game.mayRunHere());
        if (!isWanted) {
          if (game.list === this.#asking) this.#asking.remove(game);
          continue;
        }
        if (ready.length > 0 && ready.every((t) => t.games.size >= share)) return;
        if (!instances.makeRoom(this, this.options.maxInstances, this.#asking.length)) return;
        const least = this.#leastOf(ready);
        this.#asking.remove(game);
        if (least) game.placeAt(least, ++this.#placements);
        else this.#placeHere(game);
      }
    } finally {
      this.#isAssigning = false;
    }
  }

  // The worker with the fewest engines; if the page has many instances, of those that have a spare
  // one.
  #leastOf(ready) {
    const least = (list) => list.reduce((a, b) => ((b.games.size - a.games.size || b.pending.length - a.pending.length) < 0 ? b : a), list[0]);
    const made = ready.reduce((n, t) => n + t.instances, 0);
    if (!instances.needsSpare(this.options.maxInstances, made)) return least(ready);
    return least(ready.filter((t) => t.games.size < t.instances)) ?? least(ready);
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
    const placement = ++this.#placements;
    this.#executor ??= new Executor(this.#compiled);
    this.#here.set(placement, game);
    if (this.#threads.length > 0) {
      game.raiseFallback(new HyperTokenError('worker_unavailable',
        `no Worker can run, the engine goes on on the main thread: ${this.#threads.find((t) => t.cause)?.cause.message ?? 'unknown'}`, { cause: this.#threads[0].cause }));
    }
    game.placeAt(null, placement);
  }

  leftHere(placement, isKept) {
    this.#here.delete(placement);
    this.#executor.run({ placement, kind: kind.close, flags: isKept ? flag.keep : 0 }, () => {});
  }

  /**
   * Runs the requests of a game on the main thread at once, behind the others that wait there. The
   * game gets a place though there may be no room for it, and so does its past.
   */
  runNow(game) {
    // A rewind takes two rounds: one for its past, and one for what is queued behind it.
    for (let rounds = 2 * game.pending + 2, asks = true; rounds > 0 && (asks || game.past); rounds--) {
      asks = false;
      for (const one of [game.past, game]) {
        if (!one || one.list !== this.#asking || !one.wantsPlace || !one.mayRunHere()) continue;
        asks = true;
        this.#asking.remove(one);
        this.#placeHere(one);
      }
      this.drain();
    }
  }

  /** Runs a request on the main thread, behind the others that wait there. */
  runHere(game, placement, op) {
    this.#running.push({ game, placement, op, list: null, prev: null, next: null });
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

  /** Notes that a game has ended its last request. */
  noteIdle(game) {
    game.idleSince = performance.now();
    if (this.#idleTimer === null && !this.#closing && this.options.idleAfter > 0) this.#takeOutAfter(this.options.idleAfter);
  }

  // Takes out the engines that have been idle for idleAfter, so many milliseconds from now.
  #takeOutAfter(ms) {
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = null;
      const { idleAfter } = this.options, now = performance.now();
      for (const game of instances.idle) {
        if (game.host !== this) continue;
        const left = game.idleSince + idleAfter - now;
        if (left > 0) {
          this.#takeOutAfter(Math.ceil(left)); // it was idle longest of those that are left
          return;
        }
        game.leavePlace();
      }
    }, ms);
    this.#idleTimer.unref?.();
  }

  /** Ends a request when its time is over, or when its signal aborts. */
  limit(game, op, timeout, signal) {
    if (signal) {
      op.release = onAbort(signal, (shared) => game.withdraw(op, sharedError(shared, op.what, () => canceledError(op.what, signal.reason))));
    }
    if (timeout > 0 && timeout < Infinity) {
      op.game = game;
      this.#deadlines.add(op, timeout);
    }
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
      this.#deadlines.stop();
      clearTimeout(this.#idleTimer);
      await Promise.all(this.#threads.map((t) => t.stop()));
      for (const game of games) game.raiseShutdown();
    })();
    return this.#closed;
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { return this.shutdown(); }
}
