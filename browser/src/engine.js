// The engine for callers: its actions as promises, and its events.

import { Current } from './current.js';
import { badInput, canceledError, HyperTokenError, shutdownError, unreadable } from './errors.js';
import { flag, kind } from './frames.js';
import { encodeAction, encodeSetup, Game, Op, overhead } from './game.js';
import { journalLines } from './exporting.js';
import { Host, hostOptions } from './host.js';
import { checkOptions, checkSignal, checkTimeout, checkType, isBytes, nameOf } from './options.js';
import { checkSpan, hex64, isSequence, Past, Rewind } from './past.js';
import { checkFormerCores, upgradeFrom } from './saved.js';
import { checkName, SavedGame } from './store.js';
import { checkCanPersist } from './storing.js';
import { canShare, SharedGame } from './tabs.js';
import { decode } from './values.js';

const maxBatch = 4096;

const engineNames = ['useWorker', 'setup', 'snapshot', 'history', 'workerOptions', 'host', 'name', 'persist'];
const persistNames = ['durability', 'formerCores'];
const questionNames = ['signal', 'timeout'];
const actionNames = [...questionNames, 'now', 'entropy'];
const batchNames = [...questionNames, 'mode'];
const journalNames = [...questionNames, 'from', 'to'];
const none = Object.freeze({});
const memberNames = ['type', 'payload', 'now', 'entropy'];

export class Engine {
  #host; #own; #isSaved; #isReady = false; #game; #options; #current; #listeners = new Map();
  #window = []; #windowBytes = 0; #windowTimer = null;
  /** The states of the past that are asked for; null before the first. */
  #pasts = null;

  /**
   * @param {{useWorker?: boolean, setup?: object, snapshot?: Uint8Array, workerOptions?: object,
   *   host?: Host, name?: string, persist?: boolean | {durability?: 'strict' | 'relaxed',
   *   formerCores?: (string | URL | object)[]}}} [options] see index.d.ts
   */
  constructor(options) {
    checkOptions('Engine', options, engineNames);
    const { useWorker, setup, snapshot, history, workerOptions, host, name, persist } = options ?? {};
    if (history !== undefined) checkType('Engine', 'history', history, 'boolean');
    const durability = checkPersist(name, persist);
    if (useWorker !== undefined) checkType('Engine', 'useWorker', useWorker, 'boolean');
    if (setup !== undefined && snapshot !== undefined) throw badInput('Engine: setup and snapshot are two beginnings; give one of them');
    if (snapshot !== undefined && !isBytes(snapshot)) throw badInput(`Engine: snapshot is ${nameOf(snapshot)}, want a Uint8Array`);
    const isSnapshot = snapshot !== undefined;
    const base = { sequence: 0, bytes: isSnapshot ? snapshot.slice() : encodeSetup(setup), isSnapshot, digest: null, marker: null };
    this.#own = host === undefined || host === null;
    this.#host = this.#own ? ownHost(useWorker ?? false, workerOptions) : sharedHost(host, useWorker, workerOptions);
    this.#options = this.#host.options;
    try {
      const saved = durability === null ? undefined
        : new SavedGame(name, async () => this.#host.coreHash(), durability, (core) => upgradeFrom(persist.formerCores ?? [], core, () => this.#host.module), history);
      const listener = (event, payload) => this.#emit(event, payload), isHeard = () => this.#listeners.size > 0;
      this.#game = saved && canShare() ? new SharedGame(this.#host, base, listener, isHeard, saved, name) : new Game(this.#host, base, listener, isHeard, { saved, hasHistory: history });
      this.#host.add(this.#game);
    } catch (error) {
      if (this.#own) this.#host.shutdown();
      throw error;
    }
    this.#isSaved = durability !== null;
    this.#game.flush = () => this.#flushWindow();
    const limit = (op) => this.#host.limit(this.#game, op, this.#options.timeout);
    this.#current = new Current(this.#game, limit, (cause) => this.#emit('engine:error', { error: unreadable('state', cause), type: 'state' }));
    const op = new Op('ready', kind.digest);
    /** Resolves once the engine is placed; rejects if its setup or its core can't be used. */
    this.ready = op.promise.then(() => { this.#isReady = true; });
    this.ready.catch(() => {}); // no unhandled rejection if the caller does not use it
    this.#game.push(op);
  }

  /** How many actions have changed the state. */
  get sequence() { return this.#game.sequence; }

  /**
   * The place of the engine: 'worker', 'main thread', 'another tab', or 'nowhere' while it is
   * placed again.
   */
  get place() {
    if (this.#game.isElsewhere) return 'another tab';
    return this.#game.place ? (this.#game.place.thread ? 'worker' : 'main thread') : 'nowhere';
  }

  get host() { return this.#host; }

  /**
   * The state as the engine told it after its last change, or undefined as long as it has told none.
   * It is frozen. What has not changed since the value before is the same object.
   */
  get current() { return this.#current.state; }

  /**
   * Calls a listener after each change of `current`. Returns a function that removes the listener.
   * It needs no `this`.
   */
  subscribe = (listener) => {
    checkType('subscribe', 'the listener', listener, 'function');
    return this.#current.subscribe(listener);
  };

  #check() {
    if (this.#game.closed) throw shutdownError();
    if (this.#game.broken) throw this.#game.broken;
  }

  #encode(type, payload, { now, entropy }) {
    const o = this.#options;
    return encodeAction(type, payload, now ?? o.clock(), entropy ?? o.entropy(), o.maxPayload);
  }

  #op(type, payload, options) {
    const bytes = this.#encode(type, payload, options);
    checkOptions(type, options, actionNames);
    const op = new Op(type, kind.dispatch, [bytes]);
    op.payload = payload;
    return op;
  }

  #take(op, { signal, timeout = this.#options.timeout } = {}) {
    this.#checkWait(op.what, signal, timeout);
    this.#host.charge(op);
    this.#host.limit(this.#game, op, timeout, signal);
    return op;
  }

  #checkWait(what, signal, timeout) {
    if (signal !== undefined && signal !== null) {
      checkSignal(what, signal);
      if (signal.aborted) throw canceledError(what, signal.reason);
    }
    checkTimeout(what, timeout);
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
      op = this.#op(type, payload, options ?? none);
      this.#take(op, options ?? none);
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
   * Runs an action: on a worker as dispatchAsync does; without workers at once, and returns its
   * result, or throws. Before `ready`, and while actions of dispatchAsync are in flight, it throws
   * too. An engine that is kept in a store never returns at once: its results wait for the store.
   */
  dispatch(type, payload, options) {
    if (this.#host.threads.length > 0 || this.#isSaved) return this.dispatchAsync(type, payload, options);
    this.#check();
    if (!this.#host.synchronous) throw new HyperTokenError('bad_input', `${type}: the core is not compiled yet; await engine.ready first`);
    if (this.#window.length > 0 || this.#game.pending > 0) {
      this.#flushWindow();
      this.#host.runNow(this.#game);
    }
    const op = this.#op(type, payload, options ?? none);
    this.#checkWait(type, options?.signal, options?.timeout ?? 0); // an action that runs at once is neither withdrawn nor late
    this.#host.charge(op);
    this.#game.push(op);
    this.#host.runNow(this.#game);
    if (!op.outcome) this.#game.withdraw(op, new HyperTokenError('trap', `${type}: no outcome`));
    if (op.outcome.error) throw op.outcome.error;
    return op.outcome.result;
  }

  /**
   * Runs actions one after the other, with nothing between them. An atomic batch, which is the
   * default, is all or nothing. If a member fails, it rejects with the error of that member, which
   * has the member's index. An independent batch resolves with an outcome for each member: {result}
   * or {error}.
   * @param {{type: string, payload?: object, now?: number, entropy?: Uint8Array}[]} actions
   * @param {{mode?: 'atomic' | 'independent', signal?: AbortSignal, timeout?: number}} [options]
   */
  dispatchBatch(actions, options) {
    let op;
    try {
      this.#check();
      checkOptions('batch', options, batchNames);
      const { mode = 'atomic' } = options ?? {};
      if (mode !== 'atomic' && mode !== 'independent') throw badInput(`batch: mode is ${nameOf(mode)}, want atomic or independent`);
      if (!Array.isArray(actions)) throw badInput(`batch: actions are ${nameOf(actions)}, want an array`);
      if (actions.length > maxBatch) throw badInput(`batch: ${actions.length} actions are above ${maxBatch}, the most of one batch`);
      const members = Array.from(actions, (action, k) => this.#member(action, k));
      const payloads = members.reduce((n, m) => n + m.bytes.length - overhead(m.type), 0);
      if (payloads > this.#options.maxPayload) {
        throw new HyperTokenError('payload_too_large', `the batch has payloads of ${payloads} bytes together, above ${this.#options.maxPayload} (maxPayload)`);
      }
      if (members.length === 0) {
        this.#checkWait('batch', options?.signal, options?.timeout ?? 0);
        return Promise.resolve([]);
      }
      op = batchOp(members, mode);
      this.#push(this.#take(op, options ?? none));
      return op.promise.then((outcomes) => (mode === 'atomic' ? outcomes.map((o) => o.result) : outcomes));
    } catch (error) {
      return this.#refused('batch', error, op);
    }
  }

  // If a member is refused, the error has its index.
  #member(action, index) {
    try {
      if (typeof action !== 'object' || action === null || Array.isArray(action)) throw badInput(`it is ${nameOf(action)}, want an object`);
      checkOptions('action', action, memberNames);
      const { type, payload } = action;
      return { type, payload, bytes: this.#encode(type, payload, action) };
    } catch (cause) {
      const { code, message } = cause instanceof HyperTokenError ? cause : badInput(String(cause?.message ?? cause));
      throw new HyperTokenError(code, `actions[${index}]: ${message.slice(code.length + 2)}`, { cause: cause?.cause ?? cause, index });
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
    if (this.#window.length === 0) return;
    clearTimeout(this.#windowTimer);
    this.#windowTimer = null;
    this.#windowBytes = 0;
    const ops = this.#window.splice(0).filter((op) => !op.settled); // without those that were withdrawn
    if (ops.length === 0) return;
    try {
      this.#game.push(ops.length > 1 ? this.#batch(ops) : ops[0]);
    } catch (error) { // the engine has broken since they were dispatched
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

  /**
   * Resolves when the host has room for another action: at once if the queue is not full, or else
   * when half of it is free. A caller that awaits it before each dispatch gets no `overloaded`.
   */
  async drained() {
    this.#check();
    await this.#host.drained();
    this.#check();
  }

  async #question(what, k, options) {
    this.#check();
    checkOptions(what, options, questionNames);
    const op = this.#take(new Op(what, k), options ?? {});
    this.#push(op);
    return op.promise;
  }

  /** The whole state, as one object, after all actions that were dispatched before. */
  async state(options) { return read('state', await this.#question('state', kind.state, options)); }

  /** The actions of the core, sorted by name, as it describes them: see index.d.ts. */
  async actions(options) {
    const all = read('actions', await this.#question('actions', kind.actions, options));
    return all.map((action) => ({ ...action, fields: action.fields ?? [] }));
  }

  /**
   * A hash over the canonical state, 16 hexadecimal digits: equal states have equal digests, here
   * and in Go.
   */
  async digest(options) {
    return hex64(await this.#question('digest', kind.digest, options));
  }

  /** The state as bytes, for the option `snapshot` of another engine, here or in Go. */
  async snapshot(options) { return this.#question('snapshot', kind.snapshot, options); }

  /** The state that the engine had at a sequence, as one object. */
  async stateAt(sequence, options) {
    return read('stateAt', await this.#askPast('stateAt', kind.state, sequence, options));
  }

  /** The digest of the state that the engine had at a sequence. */
  async digestAt(sequence, options) {
    return hex64(await this.#askPast('digestAt', kind.digest, sequence, options));
  }

  async #askPast(what, k, sequence, options) {
    this.#check();
    checkOptions(what, options, questionNames);
    const { signal, timeout = this.#options.timeout } = options ?? {};
    this.#checkWait(what, signal, timeout);
    const at = isSequence(sequence) ? sequence : 0;
    const history = this.#isSaved ? await this.#storedHistory(what, at, at, { signal, timeout }) : this.#game.history(what);
    history.check(sequence);
    const past = new Past(this.#host, what, sequence, history.partAt(sequence));
    (this.#pasts ??= new Set()).add(past);
    try {
      return await past.ask(k, [], this.#taker(signal, timeout));
    } finally {
      this.#pasts.delete(past);
      past.close();
    }
  }

  // Reads a part of the journal of a saved game. Before it is ready there may be none.
  async #storedHistory(what, from, to, options) {
    if (!this.#isReady) await this.#question(what, kind.digest, options);
    const history = await this.#game.history(what, from, to);
    this.#check(); // it may have been shut down meanwhile
    return history;
  }

  // Returns a function that makes room for a question to a past, and gives it its bounds.
  #taker(signal, timeout) {
    return (game, op) => {
      if (signal?.aborted) throw canceledError(op.what, signal.reason); // since the last question
      this.#host.charge(op);
      this.#host.limit(game, op, timeout, signal);
    };
  }

  /**
   * Sets the engine to the state that it had at a sequence. It is one more entry of the journal, a
   * marker, with a sequence of its own. Resolves with {sequence, digest}.
   */
  revert(sequence, options) { return this.#rewind('revert', options, sequence); }

  /** Takes the current step back: an action, a whole batch, or a revert. It leaves a marker. */
  undo(options) { return this.#rewind('undo', options); }

  /** Does the step again that was undone last. It leaves a marker. */
  redo(options) { return this.#rewind('redo', options); }

  #rewind(what, options, to = undefined) {
    let op;
    try {
      this.#check();
      checkOptions(what, options, questionNames);
      op = this.#take(new Rewind(what, to), options ?? {});
      this.#push(op);
      return op.promise;
    } catch (error) {
      return this.#refused(what, error, op);
    }
  }

  /**
   * The lines of the journal, as `hypertoken run` plays them: an async iterable of strings
   * without a line feed.
   * @param {{from?: number, to?: number, signal?: AbortSignal, timeout?: number}} [options]
   */
  async* journal(options) {
    this.#check();
    checkOptions('journal', options, journalNames);
    const { from, to, signal, timeout = this.#options.timeout } = options ?? {};
    this.#checkWait('journal', signal, timeout);
    const end = isSequence(to) ? to : Infinity, begin = isSequence(from) ? from : end;
    const history = this.#isSaved ? await this.#storedHistory('journal', begin, end, { signal, timeout }) : this.#game.history('journal');
    checkSpan(history, { from, to });
    const last = to ?? history.newest, first = from === 0 ? history.oldest : from ?? last;
    yield* journalLines(this.#host, history.segments(first, last), this.#taker(signal, timeout));
  }

  /**
   * Calls f with every event of a name, '*' for all: state:updated, engine:action, engine:error,
   * engine:shutdown, and those that a core raises. f gets {name, payload, ...payload}. Returns a
   * function that removes the listener.
   */
  on(name, f) {
    checkType('on', 'the name of an event', name, 'string');
    checkType(`on ${name}`, 'the listener', f, 'function');
    let list = this.#listeners.get(name);
    if (!list) this.#listeners.set(name, (list = new Set()));
    list.add(f);
    return () => this.off(name, f);
  }

  off(name, f) {
    const list = this.#listeners.get(name);
    if (list?.delete(f) && list.size === 0) this.#listeners.delete(name);
  }

  // Returns whether there is a listener to the event.
  #emit(name, payload) {
    if (this.#listeners.size === 0) return false;
    const isHeard = this.#listeners.has(name) || this.#listeners.has('*');
    for (const key of [name, '*']) {
      for (const f of [...this.#listeners.get(key) ?? []]) { // a copy: a listener may add others, for the next event
        // An error of a listener does not stop the engine. It is reported as an unhandled error.
        try {
          f({ ...payload, name, payload });
        } catch (error) {
          queueMicrotask(() => { throw error; });
        }
      }
    }
    return isHeard;
  }

  /**
   * Waits for the requests in flight, and frees the engine. If the host is the engine's own, no
   * worker of it is left then. It may be called any number of times, for example again with a
   * timeout if it takes too long.
   * @param {{timeout?: number}} [options] after so many milliseconds the requests in flight fail; 0, the default, is no limit
   */
  async shutdown(options) {
    checkOptions('shutdown', options, ['timeout']);
    const { timeout = 0 } = options ?? {};
    checkTimeout('shutdown', timeout);
    if (this.#own) return this.#host.shutdown({ timeout });
    const pasts = Array.from(this.#pasts ?? [], (past) => past.game);
    await Promise.all([this.#game, ...pasts].map((game) => game.close(timeout)));
    this.#game.raiseShutdown();
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { return this.shutdown(); }
}

function read(what, bytes) {
  try {
    return decode(bytes);
  } catch (cause) {
    throw unreadable(what, cause);
  }
}

/**
 * Checks the options of an engine that is kept in a store. Returns its durability, or null if it is
 * not kept.
 */
function checkPersist(name, persist) {
  if (persist === undefined || persist === null || persist === false) {
    if (name !== undefined && name !== null) throw badInput('Engine: name is that of a saved game; set persist: true too, or leave it out');
    return null;
  }
  if (persist !== true && typeof persist !== 'object') throw badInput(`Engine: persist is ${nameOf(persist)}, want true, false or an object`);
  const options = persist === true ? {} : persist, { durability = 'strict', formerCores } = options;
  checkOptions('persist', options, persistNames);
  if (durability !== 'strict' && durability !== 'relaxed') throw badInput(`persist: durability is ${nameOf(durability)}, want strict or relaxed`);
  checkFormerCores('persist', formerCores);
  checkName('Engine', name);
  checkCanPersist('persist');
  return durability;
}

function ownHost(useWorker, workerOptions) {
  const { workers } = hostOptions(workerOptions, 'workerOptions'); // checked before any worker is started
  const given = workerOptions?.workers !== undefined;
  if (given && useWorker !== workers > 0) throw badInput(`Engine: useWorker is ${useWorker}, and workerOptions.workers is ${workers}; want true with workers, false with 0`);
  return new Host({ ...workerOptions, workers: useWorker ? workers : 0 });
}

function sharedHost(host, useWorker, workerOptions) {
  if (!(host instanceof Host)) throw badInput(`Engine: host is ${nameOf(host)}, want a Host`);
  if (Object.keys(workerOptions ?? {}).length > 0) throw badInput('Engine: workerOptions are those of the host; give them to new Host');
  if (useWorker !== undefined && useWorker !== host.threads.length > 0) {
    throw badInput(`Engine: useWorker is ${useWorker}, and the host has ${host.threads.length} workers; leave it out`);
  }
  return host;
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
