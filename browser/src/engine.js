// The engine that the guide promises: a game, its actions as promises, its events.

import { badInput, canceledError, HyperTokenError, shutdownError, unreadable } from './errors.js';
import { flag, kind } from './frames.js';
import { decode, encodeAction, Game, Op, overhead } from './game.js';
import { checkTimeout, Host } from './host.js';

const maxBatch = 4096;

export class Engine {
  #host; #own; #game; #options; #listeners = new Map();
  #window = []; #windowBytes = 0; #windowTimer = null;

  /**
   * @param {{useWorker?: boolean, setup?: object, snapshot?: Uint8Array, workerOptions?: object, host?: Host}} [options] see index.d.ts
   */
  constructor({ useWorker = false, setup, snapshot, workerOptions = {}, host, ...others } = {}) {
    const unknown = Object.keys(others);
    if (unknown.length > 0) throw badInput(`there is no option ${unknown[0]}; there are useWorker, setup, snapshot, workerOptions, host`);
    if (host && Object.keys(workerOptions).length > 0) throw badInput('workerOptions are those of the host: give them to new Host');
    this.#own = !host;
    this.#host = host ?? new Host({ ...workerOptions, workers: useWorker ? (workerOptions.workers ?? 1) : 0 });
    this.#options = this.#host.options;
    try {
      this.#game = new Game(this.#host, { setup, snapshot }, (name, payload) => this.#emit(name, payload), () => this.#listeners.size > 0);
      this.#host.add(this.#game);
    } catch (error) {
      if (this.#own) this.#host.shutdown();
      throw error;
    }
    this.#game.flush = () => this.#flushWindow();
    const op = new Op('ready', kind.digest);
    /** Resolves once the engine is set up where it runs; rejects where its setup or its core can't be used. */
    this.ready = op.promise.then(() => {});
    this.ready.catch(() => {}); // whoever wants it has it
    this.#game.push(op);
  }

  /** How many actions have changed the state. */
  get sequence() { return this.#game.sequence; }

  /** Where the engine is: 'worker', 'main thread', or 'nowhere' while it is placed anew. */
  get place() { return this.#game.place ? (this.#game.place.thread ? 'worker' : 'main thread') : 'nowhere'; }

  get host() { return this.#host; }

  #check() {
    if (this.#game.closed) throw shutdownError();
    if (this.#game.broken) throw this.#game.broken;
  }

  #encode(type, payload, { now, entropy } = {}) {
    const o = this.#options;
    return encodeAction(type, payload, now ?? o.clock(), entropy ?? o.entropy(), o.maxPayload);
  }

  #op(type, payload, options) {
    const op = new Op(type, kind.dispatch, [this.#encode(type, payload, options)]);
    op.payload = payload;
    return op;
  }

  #take(op, { signal, timeout = this.#options.timeout } = {}) {
    if (signal && typeof signal.addEventListener !== 'function') throw badInput(`${op.what}: signal is no AbortSignal`);
    if (signal?.aborted) throw canceledError(op.what, signal.reason);
    checkTimeout(op.what, timeout);
    this.#host.charge(op);
    this.#host.bound(this.#game, op, timeout, signal);
    return op;
  }

  /**
   * Runs an action. The promise rejects with a HyperTokenError; then the action had no effect.
   * @param {string} type
   * @param {object} [payload]
   * @param {{signal?: AbortSignal, timeout?: number, now?: number, entropy?: Uint8Array}} [options] timeout in ms, 0 for none
   */
  dispatchAsync(type, payload, options) {
    let op;
    try {
      this.#check();
      op = this.#op(type, payload, options ?? {});
      this.#take(op, options ?? {});
      if (this.#options.enableBatching) this.#gather(op);
      else this.#push(op);
      return op.promise;
    } catch (error) {
      return this.#refused(type, error, op);
    }
  }

  #refused(type, cause, op) {
    if (op) this.#host.release(op);
    const error = cause instanceof HyperTokenError ? cause : badInput(`${type}: ${cause?.message ?? cause}`, cause);
    this.#emit('engine:error', { error, type });
    return Promise.reject(error);
  }

  #push(op) {
    this.#flushWindow();
    this.#game.push(op);
  }

  /**
   * Runs an action: on a worker as dispatchAsync does; without workers at once, and returns its result, or throws. Before `ready`, and while
   * actions of dispatchAsync are in flight, it throws too.
   */
  dispatch(type, payload, options = {}) {
    if (this.#host.threads.length > 0) return this.dispatchAsync(type, payload, options);
    this.#check();
    if (!this.#host.synchronous) throw new HyperTokenError('bad_input', `${type}: the core is not compiled yet; await engine.ready first`);
    if (this.#window.length > 0 || this.#game.pending > 0) {
      this.#flushWindow();
      this.#host.drain();
    }
    const op = this.#op(type, payload, options);
    op.promise.catch(() => {}); // its outcome is thrown
    this.#host.charge(op);
    this.#game.push(op);
    this.#host.drain();
    if (!op.outcome) throw new HyperTokenError('trap', `${type}: no outcome`);
    if (op.outcome.error) throw op.outcome.error;
    return op.outcome.result;
  }

  /**
   * Runs actions one after the other, nothing between them. An atomic batch, the default, is all or nothing: it rejects with the error of the
   * member that failed, whose index it has. An independent one resolves with an outcome for each: {result} or {error}.
   * @param {{type: string, payload?: object, now?: number, entropy?: Uint8Array}[]} actions
   * @param {{mode?: 'atomic' | 'independent', signal?: AbortSignal, timeout?: number}} [options]
   */
  dispatchBatch(actions, options) {
    let op;
    try {
      this.#check();
      const { mode = 'atomic' } = options ?? {};
      if (mode !== 'atomic' && mode !== 'independent') throw badInput(`mode is ${mode}, want atomic or independent`);
      if (!Array.isArray(actions) || actions.length > maxBatch) throw badInput(`a batch of ${actions?.length} actions, want an array of at most ${maxBatch}`);
      if (actions.length === 0) return Promise.resolve([]);
      const members = actions.map((a) => ({ type: a.type, payload: a.payload, bytes: this.#encode(a.type, a.payload, a) }));
      const payloads = members.reduce((n, m) => n + m.bytes.length - overhead(m.type), 0);
      if (payloads > this.#options.maxPayload) {
        throw new HyperTokenError('payload_too_large', `the batch has payloads of ${payloads} bytes together, above ${this.#options.maxPayload} (maxPayload)`);
      }
      op = batchOp(members, mode);
      this.#push(this.#take(op, options ?? {}));
      return op.promise.then((outcomes) => (mode === 'atomic' ? outcomes.map((o) => o.result) : outcomes));
    } catch (error) {
      return this.#refused('batch', error, op);
    }
  }

  // Actions of the same window are one batch: they succeed or fail together.
  #gather(op) {
    const size = op.parts[0].length;
    if (this.#window.length === maxBatch || this.#windowBytes + size > this.#options.maxPayload) this.#flushWindow();
    this.#window.push(op);
    this.#windowBytes += size;
    this.#windowTimer ??= setTimeout(() => this.#flushWindow(), this.#options.batchWindow);
  }

  #flushWindow() {
    clearTimeout(this.#windowTimer);
    this.#windowTimer = null;
    this.#windowBytes = 0;
    const ops = this.#window.splice(0).filter((op) => !op.settled); // withdrawn
    if (ops.length === 0) return;
    try {
      this.#game.push(ops.length > 1 ? this.#batch(ops) : ops[0]);
    } catch (error) { // it has broken since they came
      for (const op of ops) this.#game.withdraw(op, error);
    }
  }

  #batch(ops) {
    const batch = batchOp(ops.map((op) => ({ type: op.what, payload: op.payload, bytes: op.parts[0] })), 'atomic');
    batch.quiet = true;
    const settle = (op, f) => this.#game.settle(op, f);
    batch.promise.then(
      (outcomes) => ops.forEach((op, k) => settle(op, () => op.resolve(outcomes[k].result))),
      (error) => ops.forEach((op, k) => settle(op, () => {
        const own = error.index < 0 || error.index === k ? error
          : new HyperTokenError('batch_aborted', `it had no effect: ${op.what} was in a batch of which action ${error.index} failed: ${error.message}`, { cause: error });
        this.#emit('engine:error', { error: own, type: op.what });
        op.reject(own);
      })),
    );
    for (const op of ops) op.batch = batch;
    return batch;
  }

  async #question(what, k, options) {
    this.#check();
    const op = this.#take(new Op(what, k), options ?? {});
    this.#push(op);
    return op.promise;
  }

  /** The whole state, as one object. It sees what was dispatched before. */
  async state(options) {
    const bytes = await this.#question('state', kind.state, options);
    try {
      return decode(bytes);
    } catch (cause) {
      throw unreadable('state', cause);
    }
  }

  /** A hash over the canonical state, 16 hexadecimal digits: equal states have equal digests, here and in Go. */
  async digest(options) {
    const b = await this.#question('digest', kind.digest, options);
    return [...b].reverse().map((x) => x.toString(16).padStart(2, '0')).join('');
  }

  /** The state as bytes, for the option `snapshot` of another engine, here or in Go. */
  async snapshot(options) { return this.#question('snapshot', kind.snapshot, options); }

  /**
   * Calls f with every event of a name, '*' for all: state:updated, engine:action, engine:error, engine:shutdown, and those that a core
   * raises. f gets {name, payload, ...payload}. Returns what ends that.
   */
  on(name, f) {
    if (typeof f !== 'function') throw badInput(`on(${name}): want a function`);
    let list = this.#listeners.get(name);
    if (!list) this.#listeners.set(name, (list = new Set()));
    list.add(f);
    return () => this.off(name, f);
  }

  off(name, f) {
    const list = this.#listeners.get(name);
    if (list?.delete(f) && list.size === 0) this.#listeners.delete(name);
  }

  #emit(name, payload) {
    if (this.#listeners.size === 0) return;
    for (const key of [name, '*']) {
      for (const f of [...this.#listeners.get(key) ?? []]) { // a listener may add others, which are for the next event
        // A listener that fails is its own problem, and that of who looks for unhandled errors.
        try {
          f({ ...payload, name, payload });
        } catch (error) {
          queueMicrotask(() => { throw error; });
        }
      }
    }
  }

  /**
   * Waits for what was dispatched, and frees the engine, and its host where that is its own: then no worker of it is left. It may be called
   * any number of times, for example with a timeout where it takes too long.
   * @param {{timeout?: number}} [options] after so many milliseconds what is in flight fails; 0, the default, for never
   */
  async shutdown({ timeout = 0 } = {}) {
    checkTimeout('shutdown', timeout);
    if (this.#own) return this.#host.shutdown({ timeout });
    await this.#game.close(timeout);
    this.#game.over();
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { return this.shutdown(); }
}

function batchOp(members, mode) {
  let size = 8;
  for (const m of members) size += 4 + m.bytes.length;
  const body = new Uint8Array(size), v = new DataView(body.buffer);
  v.setUint32(0, mode === 'atomic' ? 0 : 1, true);
  v.setUint32(4, members.length, true);
  let at = 8;
  for (const m of members) {
    v.setUint32(at, m.bytes.length, true);
    body.set(m.bytes, at + 4);
    at += 4 + m.bytes.length;
  }
  const op = new Op(`a batch of ${members.length}`, kind.batch, [body], mode === 'atomic' ? flag.atomic : 0);
  op.members = members;
  return op;
}
