// A game: the journal of one engine, and the rules of its recovery, which docs/recovery.md has with
// numbers. A game is placed on a worker, or on the main thread, from its journal. If the place is
// lost, the requests without an answer run again elsewhere. A replay has to give the results that
// were acknowledged.

import { badInput, HyperTokenError, shutdownError, unreadable } from './errors.js';
import { entryHead, flag, kind, readAnswer } from './frames.js';
import { History, positionAt } from './history.js';
import { instances } from './instances.js';
import { List } from './list.js';
import { isBytes, nameOf } from './options.js';
import { Rewinds } from './rewinds.js';
import { Storing } from './storing.js';
import { decode, decodeAll, decodeRange, encode, encodeBehind, hasLoneSurrogate, TooLarge } from './values.js';

const feedSize = 1 << 20, replaySize = 256 << 10;
/** How many requests of a game may be sent and unanswered. */
const window = 1024;
const utf8 = new TextEncoder();
const names = new Map();
const none = new Uint8Array(0);

// The bytes before an action's name. They are written to the same place again and again, because it
// takes long to make a view.
const headBytes = new Uint8Array(28), head = new DataView(headBytes.buffer);

function nameBytes(type) {
  let b = names.get(type);
  if (!b) {
    if (hasLoneSurrogate(type)) throw badInput('an action\'s type has half of a surrogate pair, for which UTF-8 has no bytes');
    b = utf8.encode(type);
    if (names.size < 256) names.set(type, b);
  }
  return b;
}

/** How many bytes an encoded action has in addition to its payload. */
export const overhead = (type) => 28 + nameBytes(type).length;

const tooLarge = (type, size, most) => new HyperTokenError('payload_too_large', `${type}: a payload of ${size} bytes is above ${most} (maxPayload)`);

/** An action as the core takes it: the clock, entropy, its name, and its payload as MessagePack. */
export function encodeAction(type, payload, now, entropy, maxPayload) {
  if (typeof type !== 'string' || type === '') throw badInput(`an action's type is ${nameOf(type)}, want a string that is not empty`);
  if (!Number.isSafeInteger(now)) throw badInput(`${type}: now is ${nameOf(now)}, want whole milliseconds since the epoch`);
  if (!isBytes(entropy) || entropy.length !== 16) {
    const found = isBytes(entropy) ? `a Uint8Array of ${entropy.length} bytes` : nameOf(entropy);
    throw badInput(`${type}: entropy is ${found}, want a Uint8Array of 16 bytes`);
  }
  const name = nameBytes(type), before = 28 + name.length;
  let b;
  try {
    b = encodeBehind(before, payload ?? undefined, 'payload', maxPayload);
  } catch (cause) {
    if (cause instanceof TooLarge) throw tooLarge(type, `more than ${cause.size - before}`, maxPayload);
    throw badInput(`${type}: ${cause.message}`, cause.cause);
  }
  if (b.length - before > maxPayload) throw tooLarge(type, b.length - before, maxPayload);
  head.setUint32(0, now >>> 0, true);
  head.setInt32(4, Math.floor(now / 2 ** 32), true);
  head.setUint32(24, name.length, true);
  headBytes.set(entropy, 8);
  b.set(headBytes);
  b.set(name, 28);
  return b;
}

/** A setup as the core takes it; no bytes if there is none. */
export function encodeSetup(setup) {
  if (setup === undefined || setup === null) return none;
  if (typeof setup !== 'object' || Array.isArray(setup)) throw badInput(`setup is ${nameOf(setup)}, want an object`);
  try {
    return encode(setup, 'setup').slice();
  } catch (cause) {
    throw badInput(cause.message, cause.cause);
  }
}

// The functions of the promise that was made last. The executor takes them from there: a closure for
// each promise would be two more objects for each action.
let resolveOne = null, rejectOne = null;
const takeFunctions = (resolve, reject) => {
  resolveOne = resolve;
  rejectOne = reject;
};

/** A request to an engine: an action, a batch, a question, or one piece of placing the engine. */
export class Op {
  withdrawn = false; settled = false; members = null;
  /**
   * The engine's game, the time that the request may take in milliseconds, and when that is over. 0
   * is no limit.
   */
  game = null; timeout = 0; deadline = 0;
  /** The list of those with the same timeout, and the neighbours there: see deadlines.js. */
  line = null; earlier = null; later = null;
  /**
   * The last death of a worker that had this request, or null. All requests of that worker share
   * the object. `cleared` says that another of them has killed a worker while it ran alone, so that
   * the rest are no suspects any more.
   */
  death = null;
  /** How many workers died while they ran this request alone. */
  deaths = 0;
  /**
   * Whether the request is the host's own: a snapshot, or a piece of placing the engine. No caller
   * waits for it.
   */
  internal = false;
  /** The batch that the action was gathered into. */
  batch = null;
  /** The requests that an independent batch was split into, one for each member, or null. */
  split = null;
  /** Whether a failure of this request raises no event, because its members raise their own. */
  quiet = false;
  /**
   * charged says that the request counts against maxQueue, and `size` how many bytes it counts
   * against maxQueueBytes. release is called when the request ends.
   */
  charged = false; size = 0; release = null;
  /** Whether a game counts the request as one for which a caller waits. */
  isOpen = false;
  /** The answer to this request, while it waits for the store: see storing.js. */
  answer = null;
  /**
   * The call of another tab that the request is for: {client, number, part}. The store keeps its
   * outcome.
   */
  key = null;
  /** The list of its game that the request is in, and its neighbours there: see list.js. */
  list = null; prev = null; next = null;
  #promise = null; #resolve = null; #reject = null;

  constructor(what, k, parts = [], flags = 0) {
    this.what = what;
    /** The payload of an action, for its events. */
    this.payload = undefined;
    /**
     * {result} or {error} once the request has ended, unless the promise was asked for before.
     */
    this.outcome = null;
    this.kind = k;
    this.parts = parts;
    this.flags = flags;
  }

  /** The promise of the outcome. It is made when it is first asked for: many requests need none. */
  get promise() {
    if (this.#promise === null) {
      this.#promise = new Promise(takeFunctions);
      this.#resolve = resolveOne;
      this.#reject = rejectOne;
      resolveOne = rejectOne = null; // they keep no result alive
      if (this.outcome?.error) this.#reject(this.outcome.error);
      else if (this.outcome) this.#resolve(this.outcome.result);
    }
    return this.#promise;
  }

  /** Whether this request is a suspect. A suspect runs alone, and never on the main thread. */
  get suspect() { return this.death !== null && !this.death.cleared; }

  resolve(result) {
    if (this.#promise) this.#resolve(result);
    else this.outcome = { result };
  }

  reject(error) {
    if (this.#promise) this.#reject(error);
    else this.outcome = { error };
  }
}

/**
 * The actions since the base, in the form of a replay. They are in a few large pieces of memory,
 * because one object for each action would take several times as much.
 */
class Journal {
  bytes = 0;
  /** The first and the last sequence of each batch of several actions, or null: see history.js. */
  batches = null;
  #full; #piece = none; #view = null; #end = 0;

  /** @param {Uint8Array[]} [pieces] what a journal that does not grow by append begins with */
  constructor(pieces = []) { this.#full = pieces; }

  append(bytes, sum) {
    const size = entryHead + bytes.length;
    if (this.#end + size > this.#piece.length) this.#grow(size);
    this.#view.setUint32(this.#end, bytes.length, true);
    this.#view.setFloat64(this.#end + 4, sum, true);
    this.#piece.set(bytes, this.#end + entryHead);
    this.#end += size;
    this.bytes += size;
  }

  /** Appends whole entries, as a store has kept them. */
  appendEntries(entries) {
    if (this.#end > 0) this.#full.push(this.#piece.subarray(0, this.#end));
    this.#piece = none;
    this.#end = 0;
    this.#full.push(entries);
    this.bytes += entries.length;
  }

  #grow(size) {
    let kept = this.#piece.subarray(0, this.#end);
    if (this.#end + size > replaySize) {
      if (this.#end > 0) this.#full.push(kept);
      kept = kept.subarray(0, 0);
    }
    this.#piece = new Uint8Array(Math.max(size, Math.min(replaySize, Math.max(256, 2 * this.#piece.length))));
    this.#piece.set(kept);
    this.#view = new DataView(this.#piece.buffer);
    this.#end = kept.length;
  }

  /** Appends a whole piece of a replay, to a journal that does not grow by append. */
  keep(piece) { this.#full.push(piece); }

  noteBatch(first, last) { (this.batches ??= []).push(first, last); }

  pieces() { return this.#end > 0 ? [...this.#full, this.#piece.subarray(0, this.#end)] : this.#full; }
}

export class Game {
  sequence = 0;
  place = null; // {thread: Thread | null for the main thread, placement}
  broken = null;
  closed = false;
  /** Called before the game closes: sends the actions that are still gathered for a batch. */
  flush = () => {};
  /** Called after each commit that has changed the state; null if nothing follows the state. */
  handleChange = null;
  /**
   * The list that the game is in, and its neighbours there (see list.js): the one of its host that
   * has the games that wait for a place, or one of those in instances.js.
   */
  list = null; prev = null; next = null;
  /** When the game ended its last request, as performance.now(). */
  idleSince = 0;
  #host; #listener; #isHeard; #limits; #base; #journal; #ran = 0;
  /**
   * The parts of the journal before the base, if the engine keeps its history in memory; else null.
   * That of a saved game is in the store.
   */
  #kept;
  /** The rewind that is under way; null before the first. */
  #rewinds = null;
  #queue = new List(); #sent = new List(); #placing = null; #saving = null; #idle = [];
  #closing = null; #over = false; #hasToldFallback = false;
  /** How many requests that callers wait for are in #queue and #sent. */
  #open = 0;
  /**
   * Whether another game waits for this one's place, and how many requests of callers were sent
   * there.
   */
  #isYielding = false; #ranHere = 0;
  /** Keeps the journal in a store, or null: then the journal is in memory only. */
  #storing = null;
  /**
   * How large the journal has to be for the next snapshot, in bytes, after the store had no room
   * for one.
   */
  #leastToSave = 0;
  /**
   * How many placings in a row have failed, and the last death of a worker while this engine was
   * placed there (see Op.death).
   */
  #attempts = 0; #placeDeath = null;

  /**
   * @param {import('./host.js').Host} host
   * @param {import('./history.js').Base} base
   * @param {(name: string, detail: object) => boolean} listener returns whether there is a listener to that event
   * @param {() => boolean} isHeard whether there is any listener
   * @param {{pieces?: Uint8Array[], hasHistory?: boolean, saved?: import('./store.js').SavedGame}}
   *   [more] pieces: what follows the base, if the game is a past (see past.js). hasHistory: whether
   *   memory keeps what is behind a snapshot. saved: keeps the journal; if it has one already, the
   *   game goes on from that
   */
  constructor(host, base, listener, isHeard, { pieces, hasHistory = false, saved } = {}) {
    this.#host = host;
    this.#listener = listener;
    this.#isHeard = isHeard;
    this.#base = base;
    this.#journal = new Journal(pieces);
    this.#kept = hasHistory ? [] : null;
    this.#limits = new Uint8Array(16);
    const v = new DataView(this.#limits.buffer), o = host.options;
    v.setUint32(0, o.maxStateBytes >>> 0, true);
    v.setUint32(4, Math.floor(o.maxStateBytes / 2 ** 32), true);
    v.setUint32(8, o.maxResult, true);
    v.setUint32(12, o.maxDepth, true);
    if (saved) this.#storing = new Storing(this, saved);
  }

  get host() { return this.#host; }

  get pending() { return this.#queue.length + this.#sent.length; }

  /** Queues a request. */
  push(op) {
    if (this.closed) throw shutdownError();
    if (this.broken) throw this.broken;
    this.#enqueue(op);
    this.pump();
  }

  #enqueue(op) {
    op.isOpen = true;
    this.#open++;
    this.#queue.push(op);
  }

  // Notes that no caller waits for a request any more.
  #close(op) {
    if (!op.isOpen) return;
    op.isOpen = false;
    this.#open--;
  }

  /** Sends the requests that may be sent now. If the engine has no place, asks the host for one. */
  pump() {
    const queue = this.#queue;
    do {
      if (!this.place && queue.length > 0 && this.wantsPlace) this.#host.requestPlace(this);
      while (this.place && queue.length > 0 && this.#mayBeSent(queue.first)) this.#sendOrRefuse(queue.shift());
    } while (this.#isRewindNext && this.#endsRewindAtOnce());
    if (this.place) this.#noteUse();
    if (this.#idle.length > 0 && this.#open === 0) {
      for (const done of this.#idle.splice(0)) done();
    }
  }

  // Tells instances.js whether the engine has anything to do. If another one waits for its place,
  // the engine gives the place up as soon as everything that was sent is answered.
  #noteUse() {
    const hasQueue = this.#queue.length > 0;
    if (this.#sent.length > 0 || (hasQueue && !this.#isYielding)) {
      instances.markBusy(this);
    } else if (this.#isYielding && instances.isWanted) {
      this.leavePlace(true);
      if (hasQueue) this.pump();
    } else {
      this.#isYielding = false;
      instances.markIdle(this);
      this.#host.noteIdle(this);
      if (hasQueue) this.pump();
    }
  }

  /**
   * Has the engine give its place up once everything that was sent there is answered. The rest of
   * its requests wait until it has a place again. At least one request runs at each place: otherwise
   * two engines could take the place from each other for ever.
   */
  yieldPlace() { this.#isYielding = true; }

  // A suspect runs alone: nothing of this engine is sent before it is answered, and it is sent when
  // nothing is unanswered.
  #mayBeSent(op) {
    if (op.kind === kind.rewind) return false;
    if (this.#isYielding && this.#ranHere > 0) return false;
    if (this.#sent.length === 0) return true;
    return this.#sent.length < window && !op.suspect && !this.#sent.first.suspect;
  }

  #sendOrRefuse(op) {
    if (op.suspect && !this.place.thread) {
      this.#fail(op, new HyperTokenError('worker_unavailable', `${op.what}: a Worker died while it may have run, and there is none to run it again`));
      return;
    }
    if (!op.internal) this.#ranHere++;
    this.#send(op);
  }

  #send(op) {
    this.#sent.push(op);
    const { thread, placement } = this.place;
    if (thread) thread.send(this, placement, op);
    else this.#host.runHere(this, placement, op);
  }

  /** Whether the engine still wants a place, now that the host comes to its request for one. */
  get wantsPlace() { return !this.broken && this.#queue.length > 0 && !this.#isRewindNext && (this.#storing === null || this.#storing.isIdle); }

  get #isRewindNext() { return this.#queue.first?.kind === kind.rewind; }

  /**
   * Whether the engine may be placed on the main thread. It may not if a worker died while it was
   * placed: then all requests that wait fail, because the same death would end the page.
   */
  mayRunHere() {
    if (!this.#placeDeath) return true;
    for (const op of [...this.#queue]) {
      this.withdraw(op, new HyperTokenError('worker_unavailable', `${op.what}: a Worker died while the engine was placed, and there is none to try again`));
    }
    return false;
  }

  /**
   * Takes a place that the host has found, and sends the base and the journal there. The requests
   * that wait follow at once.
   */
  placeAt(thread, placement) {
    this.place = { thread, placement };
    this.#isYielding = false;
    this.#ranHere = 0;
    instances.markBusy(this);
    const ops = [new Op('placing', kind.open, [this.#limits], this.#base.isSnapshot ? flag.restore : 0)];
    const { bytes } = this.#base;
    for (let at = 0; at < bytes.length; at += feedSize) ops.push(new Op('placing', kind.feed, [bytes.subarray(at, at + feedSize)]));
    ops.push(new Op('placing', kind.ready));
    for (const piece of this.#journal.pieces()) ops.push(new Op('placing', kind.replay, [piece]));
    this.#placing = new Set(ops);
    this.#saving = null;
    thread?.add(placement, this);
    if (thread) this.#hasToldFallback = false;
    for (const op of ops) {
      op.internal = true;
      op.death = this.#placeDeath;
      this.#send(op);
    }
    this.pump();
  }

  /**
   * Takes the answer to a request. An answer from a place that the engine has left counts for
   * nothing.
   */
  handleAnswer(thread, placement, op, f) {
    if (this.place?.placement !== placement || this.place.thread !== thread) return;
    if (op.list === this.#sent) this.#sent.remove(op);
    if (this.#placing?.has(op)) this.#handlePlacingAnswer(op, f);
    else this.#handleRequestAnswer(op, f);
    this.pump();
  }

  #handlePlacingAnswer(op, f) {
    if (f.flags & flag.failed) {
      const cause = errorOf(f.body);
      this.leavePlace();
      if (op.kind === kind.open && cause.code === 'out_of_memory' && instances.lowerBound()) return; // it waits for room
      // The core would refuse the same setup, or the same snapshot, again.
      if (this.sequence === 0 && !(f.flags & flag.lost)) this.fail(cause);
      else this.#countFailedPlacing(cause, this.sequence === 0);
      return;
    }
    this.#placing.delete(op);
    if (this.#placing.size === 0) {
      this.#placing = null;
      this.#attempts = 0;
      this.#placeDeath = null;
      this.#host.counts.placed++;
      if (this.#storing?.isNew) this.#storing.create({ sequence: 0, bytes: this.#base.bytes, isSnapshot: this.#base.isSnapshot, limits: this.#limits });
    }
  }

  // isOwnError says that the engine was never used and the core has said why: then callers get the
  // core's error itself.
  #countFailedPlacing(cause, isOwnError = false) {
    if (++this.#attempts < this.#host.options.maxAttempts) return;
    this.fail(isOwnError ? cause : new HyperTokenError('broken', `the engine could not be placed ${this.#attempts} times (maxAttempts): ${cause.message}`, { cause }));
  }

  #handleRequestAnswer(op, f) {
    const lost = f.flags & flag.lost, changed = (f.flags & flag.changed) !== 0;
    // The state at the place is no longer that of the journal. The requests that were sent after
    // this one run again elsewhere.
    if (lost || (op.withdrawn && changed)) this.leavePlace();
    if (op.withdrawn) return;
    if (f.flags & flag.failed) {
      const error = errorOf(f.body);
      if (this.#storing) this.#storing.push(op, () => this.#fail(op, error), [], { error });
      else this.#fail(op, error);
      return;
    }
    if (op.kind === kind.checksums) this.#journal.keep(op.parts[0]); // the state at the place is the one behind it
    if (op.kind === kind.dispatch || op.kind === kind.batch) {
      this.#commit(op, f, changed);
      return;
    }
    const body = f.body.slice(); // a copy: the body lies in a message with other answers
    if (op.internal && this.#storing) this.#storing.pushBase(op, { bytes: body, isSnapshot: true }, () => this.#saved(body));
    else if (op.internal) this.#saved(body);
    else if (this.#storing) this.#storing.push(op, () => this.#succeed(op, body));
    else this.#succeed(op, body);
  }

  #append(bytes, sum) {
    this.#journal.append(bytes, sum);
    this.sequence++;
  }

  #commit(op, f, changed) {
    let r, events, members = null, result;
    try {
      r = readAnswer(f);
      events = r.events ? decodeAll(r.events) : none;
      if (op.members) {
        members = (r.members ?? []).map((m, k) => (m.failed ? { ...op.members[k], error: errorOf(m.body) } : { ...op.members[k], ...m, result: decode(m.body) }));
        result = members.map((m) => (m.error ? { error: m.error } : { result: m.result }));
      } else {
        result = decodeRange(f.bytes, f.view, r.from, r.end);
      }
    } catch (cause) {
      if (changed) this.leavePlace(); // so that the request has no effect
      this.#fail(op, unreadable(op.what, cause));
      return;
    }
    if (this.#storing) {
      const { ran, sum } = r; // r is valid until the next answer
      const records = !changed ? [] : members ? members.filter((m) => m.changed) : [{ bytes: op.parts[0], sum }];
      this.#storing.push(op, () => this.#settleAction(op, { ran, sum }, result, events, members, changed), records, { result });
    } else {
      this.#settleAction(op, r, result, events, members, changed);
    }
  }

  // Takes an action into the journal, and tells its caller and the listeners.
  #settleAction(op, r, result, events, members, changed) {
    if (changed) this.#ran += r.ran;
    if (!members && changed) this.#append(op.parts[0], r.sum);
    const before = this.sequence;
    if (members) for (const m of members) if (m.changed) this.#append(m.bytes, m.sum);
    if (members && this.sequence > before + 1) this.#journal.noteBatch(before + 1, this.sequence);
    this.#saveIfDue();
    this.#succeed(op, result);
    if (this.#isHeard()) this.#raise(events, members ?? [{ type: op.what, payload: op.payload, result, changed }]);
    if (changed) this.handleChange?.();
  }

  #raise(events, done) {
    const changes = done.length > 1 ? done.filter((d) => d.changed).length : done[0].changed ? 1 : 0;
    let sequence = this.sequence - changes; // a listener may add to this.sequence
    const first = sequence + 1;
    for (const [name, detail] of events) this.#listener(name, detail);
    for (const { type, payload, result, error, changed } of done) {
      if (error) {
        this.#listener('engine:error', { error, type });
        continue;
      }
      if (changed) sequence++;
      const detail = { type, payload, result, sequence };
      if (changed && changes > 1) detail.batch = first;
      this.#listener('engine:action', detail);
      if (changed) this.#listener('state:updated', detail);
    }
  }

  #fail(op, error) {
    if (op.internal) {
      this.#saving = null;
      return;
    }
    if (op.settled) return;
    this.settle(op, () => op.reject(error));
    if (!op.quiet) this.#listener('engine:error', { error, type: op.kind === kind.batch ? 'batch' : op.what });
  }

  /** Ends a request, once. f resolves or rejects its promise. */
  settle(op, f) {
    if (this.#end(op)) f();
  }

  // Ends a request whose promise the caller resolves. Returns false if it has ended before.
  #end(op) {
    if (op.settled) return false;
    op.settled = true;
    this.#close(op);
    this.#host.release(op);
    return true;
  }

  #succeed(op, result) {
    if (this.#end(op)) op.resolve(result);
  }

  // A snapshot replaces the journal once a replay of the journal would cost more than the snapshot
  // does.
  #saveIfDue() {
    const { snapshotBytes, replayBudget } = this.#host.options;
    if (this.#saving || (this.#journal.bytes <= Math.max(this.#base.bytes.length, snapshotBytes) && this.#ran <= replayBudget)) return;
    if (this.#journal.bytes < this.#leastToSave) return;
    this.#saving = new Op('snapshot', kind.snapshot);
    this.#saving.internal = true;
    this.#queue.unshift(this.#saving);
  }

  // Answers come in order. So the snapshot is the state after exactly the actions that were
  // acknowledged before it.
  #saved(bytes) {
    this.#goOnFrom({ sequence: this.sequence, bytes, isSnapshot: true, digest: null, marker: null });
    this.#saving = null;
    this.#leastToSave = 0;
  }

  // A base takes the place of the journal.
  #goOnFrom(base) {
    this.#kept?.push(this.#newestSegment(base.marker ? base.sequence - 1 : base.sequence));
    this.#base = base;
    this.#journal = new Journal();
    this.#ran = 0;
  }

  #newestSegment(end) { return { base: this.#base, journal: this.#journal, end }; }

  /**
   * The part of the journal that this game keeps. If the game is saved, it is a promise of the part from
   * the state of one sequence to that of another.
   * @param {string} what names the request in errors
   */
  history(what, from, to) {
    if (this.#storing) return this.#storing.history(what, from, to);
    return new History([...this.#kept ?? none, this.#newestSegment(this.sequence)], what);
  }

  /** The current step, and those to redo. */
  get position() { return positionAt(this.#base, this.sequence); }

  /** The game that computes where a rewind leads, or null. It needs a place before this one. */
  get past() { return this.#rewinds?.past ?? null; }

  #endsRewindAtOnce() {
    if (this.#sent.length > 0 || this.#storing?.isIdle === false) return false;
    this.#rewinds ??= new Rewinds(this);
    return this.#rewinds.endsAtOnce(this.#queue.first);
  }

  /** Ends the rewind that is under way, the first request that waits, with an error. */
  endRewind(op, error) {
    this.#queue.shift();
    if (this.#storing) this.#storing.push(op, () => this.#fail(op, error), [], { error });
    else this.#fail(op, error);
  }

  /** Takes in the base that the rewind under way leads to. */
  takeRewind(op, base) {
    this.#queue.shift();
    const result = { sequence: base.sequence, digest: base.digest };
    if (this.#storing) this.#storing.pushBase(op, base, () => this.#settleRewind(op, base, result), { result });
    else this.#settleRewind(op, base, result);
  }

  #settleRewind(op, base, result) {
    this.sequence++;
    this.#goOnFrom(base);
    this.#succeed(op, result);
    if (this.#isHeard()) this.#raise([], [{ type: op.what, result: { to: base.marker.to, digest: base.digest }, changed: true }]);
    this.handleChange?.();
  }

  // The store, which storing.js asks.

  /**
   * Takes in what the store has of this game: its base, and the entries behind it. null if the name
   * is new: then the game begins as the engine was made.
   */
  handleOpened(saved) {
    if (saved) {
      const { base, groups } = saved;
      this.#base = { sequence: base.sequence, bytes: base.bytes, isSnapshot: base.isSnapshot, digest: null, marker: base.marker };
      this.#limits = base.limits;
      this.sequence = base.sequence;
      for (const { bytes, count } of groups) {
        this.#journal.appendEntries(bytes);
        this.sequence += count;
      }
    }
    this.pump();
  }

  /**
   * Takes in that the store has not stored a group. Its actions, or its rewind, fail. What was
   * answered behind them runs again, from the journal without them.
   * @param {import('./storing.js').Answer[]} group
   * @param {import('./storing.js').Answer[]} rest what waited behind the group
   * @param {HyperTokenError} error if its code is `moved`, the game is no longer this engine's
   */
  handleNotStored(group, rest, error) {
    const changes = ({ op, records, base }) => records.length > 0 || (base !== null && !op.internal);
    this.#runAgain([...group.filter((answer) => !changes(answer)), ...rest]);
    for (const answer of group) if (changes(answer)) this.#fail(answer.op, error);
    if (error.code === 'moved') this.fail(error);
  }

  /**
   * Takes in that the store has not stored a snapshot. The journal goes on without it, and is to
   * double before the next one.
   */
  handleBaseNotStored() {
    this.#saving = null;
    this.#ran = 0;
    this.#leastToSave = 2 * this.#journal.bytes;
  }

  // Gives the place up, and has requests run again whose answers saw what is not stored.
  #runAgain(answers) {
    this.leavePlace();
    for (const { op } of answers.reverse()) {
      op.answer = null;
      if (op.internal) this.#saving = null;
      else if (!op.settled) this.#queue.unshift(op);
    }
  }

  // A request ends whose answer waits for the store, and was not handed to it.
  #dropAnswer(op) {
    const { answer } = op;
    if (answer.records.length > 0) {
      this.#runAgain(this.#storing.takeBehind(answer));
    } else {
      this.#storing.remove(answer);
    }
    op.answer = null;
  }

  /**
   * Takes in that the worker of this engine has ended, by the rules of docs/recovery.md.
   * @param {Op} [ran] the oldest request that the worker had not answered; it may be of another engine
   * @param {{cleared: boolean} | null} death null if the host has killed the worker because of `ran`; then nothing is suspected
   */
  handleWorkerEnd(ran, death) {
    if (!this.place) return;
    const ranPlacing = this.#placing?.has(ran), ranAlone = death !== null && ran?.suspect && ran.list === this.#sent;
    if (ranAlone) {
      ran.death.cleared = true;
      ran.deaths++;
    }
    if (death) {
      if (this.#placing) this.#placeDeath = death;
      for (const op of this.#sent) op.death = death;
    }
    this.#forgetPlace();
    if (death) this.#splitBatches();
    const { maxAttempts } = this.#host.options;
    if (ranPlacing && death === null) {
      this.#countFailedPlacing(new HyperTokenError('timeout', 'a Worker was silent while the engine was placed'));
    } else if (ranPlacing && ranAlone) {
      this.#countFailedPlacing(new HyperTokenError('poisoned', 'the Worker died while the engine was placed alone'));
    } else if (ranAlone && ran.deaths >= maxAttempts && this.#queue.first === ran) {
      this.#queue.shift();
      this.#fail(ran, new HyperTokenError('poisoned', `${ran.what}: the Worker died ${ran.deaths} times while it ran alone (maxAttempts)`));
    }
    this.pump();
  }

  // A worker that had an independent batch has died. Each member becomes a request of its own. So
  // the member that kills workers is found, and the others have their effect.
  #splitBatches() {
    const queue = this.#queue;
    this.#queue = new List();
    for (let op = queue.shift(); op; op = queue.shift()) {
      if (!op.suspect || !op.members || op.flags & flag.atomic || op.members.length < 2) {
        this.#queue.push(op);
        continue;
      }
      this.#close(op);
      op.split = op.members.map(({ type, payload, bytes }, k) => {
        const part = new Op(type, kind.dispatch, [bytes]);
        part.payload = payload;
        part.death = op.death;
        part.quiet = op.quiet;
        if (op.key) part.key = { ...op.key, part: k };
        this.#enqueue(part);
        return part;
      });
      const outcomes = op.split.map((part) => part.promise.then((result) => ({ result }), (error) => ({ error })));
      Promise.all(outcomes).then((all) => this.settle(op, () => op.resolve(all)));
    }
  }

  /**
   * Gives the place up. The requests that were sent and have no answer run again elsewhere.
   * @param {boolean} [isKept] whether the instance is kept for another engine
   */
  leavePlace(isKept = false) {
    if (!this.place) return;
    const { thread, placement } = this.place, isRunning = this.#sent.length > 0;
    if (thread) thread.close(placement, isKept);
    else this.#host.leftHere(placement, isKept);
    this.#forgetPlace();
    if (isRunning) thread?.noteDropped(); // no caller waits any more for the requests of this engine that it runs
  }

  #forgetPlace() {
    if (this.#saving?.list) this.#saving.list.remove(this.#saving);
    this.#saving = null;
    for (let op = this.#sent.last; op; op = this.#sent.last) {
      this.#sent.remove(op);
      if (!op.internal && !op.withdrawn) this.#queue.unshift(op);
    }
    this.#placing = null;
    this.place = null;
    instances.remove(this);
  }

  /**
   * Ends a request with an error, unless it has ended. From then on it has no effect: if it was
   * sent, its answer fences the engine.
   */
  withdraw(op, error) {
    if (op.settled) return;
    if ((op.batch ?? op).answer?.isHanded) return; // the store has it: the caller gets the truth
    if (op.split) {
      for (const part of op.split) this.withdraw(part, error);
      return;
    }
    const isSent = op.list === this.#sent;
    if (op.list === this.#queue) this.#queue.remove(op);
    else if (op.answer) this.#dropAnswer(op);
    else op.withdrawn = true;
    this.#rewinds?.abandon(op, error);
    this.#fail(op, error);
    if (op.batch) {
      // Actions that were gathered into one batch succeed or fail together.
      this.withdraw(op.batch, new HyperTokenError('batch_aborted', `it had no effect: ${op.what} was in the same batch, and ended: ${error.message}`, { cause: error }));
    }
    if (isSent) this.place?.thread?.noteDropped();
    this.pump();
  }

  /** Breaks the game: every request that has no outcome fails. */
  fail(error) {
    this.broken = error;
    this.#listener('engine:error', { error });
    this.#withdrawAll(error);
  }

  #withdrawAll(error) {
    const waiting = this.#storing?.waiting ?? [];
    for (const op of [...waiting.reverse(), ...this.#sent, ...this.#queue]) if (!op.internal) this.withdraw(op, error);
  }

  /**
   * Waits until every request has its outcome, for `timeout` milliseconds at most, 0 for any time,
   * and gives the place up. From the first call on no request is taken. A later call may set the
   * timeout.
   */
  close(timeout) {
    this.#closing ??= (async () => {
      this.flush();
      this.closed = true;
      if (this.#open > 0) await new Promise((resolve) => this.#idle.push(resolve));
      await this.#storing?.close();
      this.leavePlace();
      this.#host.remove(this);
    })();
    if (timeout > 0 && timeout < Infinity) {
      const expire = () => {
        this.#withdrawAll(shutdownError());
        for (const op of this.#storing?.abandon() ?? []) this.#fail(op, new HyperTokenError('outcome_unknown', `${op.what}: the store has not said whether it is stored`));
        this.pump();
      };
      const timer = setTimeout(expire, Math.min(timeout, 2 ** 31 - 1));
      this.#closing.then(() => clearTimeout(timer));
    }
    return this.#closing;
  }

  /** Raises the event that the engine is shut down, once. */
  raiseShutdown() {
    if (this.#over) return;
    this.#over = true;
    this.#listener('engine:shutdown', {});
  }

  /**
   * Raises an event that says why the engine goes on on the main thread, once until it has been on
   * a worker again.
   */
  raiseFallback(error) {
    if (this.#hasToldFallback) return;
    this.#hasToldFallback = true;
    this.#host.counts.fallbacks++;
    if (!this.#listener('engine:error', { error })) this.#host.warnFallback(error);
  }

  /** Leaves the main thread for a worker, unless a request runs here. */
  moveBack() {
    if (this.place && !this.place.thread && this.#sent.length === 0) {
      this.leavePlace();
      this.pump();
    }
  }
}

/** Returns the error that a core or an executor has written. */
export function errorOf(body) {
  try {
    const { code, message, index } = decode(body);
    if (typeof code !== 'string') throw new Error('it has no code');
    return new HyperTokenError(code, message, { index });
  } catch (cause) {
    return unreadable('an error', cause);
  }
}
