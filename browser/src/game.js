// An engine's journal and its way to where it runs: placed from the journal, what was in flight when its place was lost runs again, and
// what was acknowledged is held against what a replay gives.

import { badInput, HyperTokenError, shutdownError, unreadable } from './errors.js';
import { entryHead, flag, kind, readAnswer } from './frames.js';
import { isBytes, nameOf } from './options.js';
import { decode, decodeAll, encode, hasLoneSurrogate, TooLarge } from './values.js';

const feedSize = 1 << 20, replaySize = 256 << 10;
/** How many requests of a game are under way at once. */
const window = 1024;
const maxAttempts = 3;
const utf8 = new TextEncoder();
const names = new Map();
const none = new Uint8Array(0);

// What is written before an action's name, again and again in the same place: views are dear.
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

/** What an encoded action takes beside its payload. */
export const overhead = (type) => 28 + nameBytes(type).length;

const tooLarge = (type, size, most) => new HyperTokenError('payload_too_large', `${type}: a payload of ${size} bytes is above ${most} (maxPayload)`);

/** An action as the core takes it: the clock, entropy, its name, and its payload as MessagePack. */
export function encodeAction(type, payload, now, entropy, maxPayload) {
  if (typeof type !== 'string' || type === '') throw badInput(`an action's type is ${nameOf(type)}, want a string that is not empty`);
  if (!Number.isSafeInteger(now)) throw badInput(`${type}: now is ${nameOf(now)}, want whole milliseconds since the epoch`);
  if (!isBytes(entropy) || entropy.length !== 16) throw badInput(`${type}: entropy is no Uint8Array of 16 bytes`);
  let bytes;
  try {
    bytes = payload === undefined || payload === null ? none : encode(payload, 'payload', maxPayload); // until the next one
  } catch (cause) {
    if (cause instanceof TooLarge) throw tooLarge(type, `more than ${cause.size}`, maxPayload);
    throw badInput(`${type}: ${cause.message}`, cause.cause);
  }
  if (bytes.length > maxPayload) throw tooLarge(type, bytes.length, maxPayload);
  const name = nameBytes(type), b = new Uint8Array(28 + name.length + bytes.length);
  head.setUint32(0, now >>> 0, true);
  head.setInt32(4, Math.floor(now / 2 ** 32), true);
  head.setUint32(24, name.length, true);
  headBytes.set(entropy, 8);
  b.set(headBytes);
  b.set(name, 28);
  b.set(bytes, 28 + name.length);
  return b;
}

/** A setup as the core takes it; nothing for none. */
export function encodeSetup(setup) {
  if (setup === undefined || setup === null) return none;
  if (typeof setup !== 'object' || Array.isArray(setup)) throw badInput(`setup is ${nameOf(setup)}, want an object`);
  try {
    return encode(setup, 'setup').slice();
  } catch (cause) {
    throw badInput(cause.message, cause.cause);
  }
}

/** Something to do: an action, a batch, a question, or a piece of a placing. */
export class Op {
  withdrawn = false; settled = false; members = null;
  /** Where it belongs, how long it may take, and until when, where that is bounded. */
  game = null; timeout = 0; deadline = 0;
  /** A worker has died since this was sent: maybe of it, so it goes alone. deaths counts those of which this ran. */
  suspect = false; deaths = 0;
  /** The host's own, a snapshot or a piece of a placing: nobody waits for it. */
  internal = false;
  /** The batch that it was gathered into. */
  batch = null;
  /** Its failure is no event: those of its members are. */
  quiet = false;
  /** What ends with it: room that it has, and who listens for its end. */
  charged = false; release = null;
  #resolve; #reject;

  constructor(what, k, parts = [], flags = 0) {
    this.what = what;
    /** What has come of it, for who does not wait: {result} or {error}. */
    this.outcome = null;
    this.kind = k;
    this.parts = parts;
    this.flags = flags;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  resolve(result) {
    this.outcome = { result };
    this.#resolve(result);
  }

  reject(error) {
    this.outcome = { error };
    this.#reject(error);
  }
}

/** The actions since the base, as a replay has them, in pieces: an object for each would be dear to keep. */
class Journal {
  bytes = 0;
  #full = []; #piece = new Uint8Array(1024); #view = new DataView(this.#piece.buffer); #end = 0;

  append(bytes, sum) {
    const size = entryHead + bytes.length;
    if (this.#end + size > this.#piece.length) this.#grow(size);
    this.#view.setUint32(this.#end, bytes.length, true);
    this.#view.setFloat64(this.#end + 4, sum, true);
    this.#piece.set(bytes, this.#end + entryHead);
    this.#end += size;
    this.bytes += size;
  }

  #grow(size) {
    let kept = this.#piece.subarray(0, this.#end);
    if (this.#end + size > replaySize) {
      if (this.#end > 0) this.#full.push(kept);
      kept = kept.subarray(0, 0);
    }
    this.#piece = new Uint8Array(Math.max(size, Math.min(replaySize, 2 * this.#piece.length)));
    this.#piece.set(kept);
    this.#view = new DataView(this.#piece.buffer);
    this.#end = kept.length;
  }

  pieces() { return this.#end > 0 ? [...this.#full, this.#piece.subarray(0, this.#end)] : this.#full; }
}

export class Game {
  sequence = 0;
  place = null; // {thread: Thread | null for the main thread, placement}
  broken = null;
  closed = false;
  /** Called before the game closes: what is gathered is to be pushed. */
  flush = () => {};
  #host; #listener; #heard; #limits; #base; #snapshot; #journal = new Journal(); #ran = 0;
  #queue = []; #sent = []; #placing = null; #attempts = 0; #waiting = false; #saving = false; #idle = [];
  #closing = null; #over = false; #fellBack = false;
  /** A worker has died while this was placed there: maybe of it. */
  #dangerous = false;

  /**
   * @param {import('./host.js').Host} host
   * @param {{bytes: Uint8Array, isSnapshot: boolean}} base a setup or a snapshot as the core takes it
   * @param {(name: string, detail: object) => void} listener
   * @param {() => boolean} heard whether anybody listens
   */
  constructor(host, { bytes, isSnapshot }, listener, heard) {
    this.#host = host;
    this.#listener = listener;
    this.#heard = heard;
    this.#snapshot = isSnapshot;
    this.#base = bytes;
    this.#limits = new Uint8Array(16);
    const v = new DataView(this.#limits.buffer), o = host.options;
    v.setUint32(0, o.maxStateBytes >>> 0, true);
    v.setUint32(4, Math.floor(o.maxStateBytes / 2 ** 32), true);
    v.setUint32(8, o.maxResult, true);
    v.setUint32(12, o.maxDepth, true);
  }

  get pending() { return this.#queue.length + this.#sent.length; }

  /** Takes an operation in. */
  push(op) {
    if (this.closed) throw shutdownError();
    if (this.broken) throw this.broken;
    this.#queue.push(op);
    this.pump();
  }

  /** Sends what can be sent, and asks for a place where there is none. */
  pump() {
    if (!this.broken && this.#queue.length > 0) {
      if (this.place) {
        while (this.#queue.length > 0 && this.place && this.#mayGo(this.#queue[0])) this.#go(this.#queue.shift());
      } else if (!this.#waiting) {
        this.#waiting = true;
        this.#host.ask(this);
      }
    }
    if (this.#idle.length > 0 && !this.#owes) {
      for (const done of this.#idle.splice(0)) done();
    }
  }

  // What a worker may have died of goes alone.
  #mayGo(op) {
    if (this.#sent.length === 0) return true;
    return this.#sent.length < window && !op.suspect && !this.#sent[0].suspect;
  }

  #go(op) {
    if (op.deaths > 0 && !this.place.thread) {
      this.#failed(op, new HyperTokenError('worker_unavailable', `${op.what}: a worker has died while it ran, and there is none to try it again`));
      return;
    }
    this.#send(op);
  }

  #send(op) {
    this.#sent.push(op);
    const { thread, placement } = this.place;
    if (thread) thread.send(this, placement, op);
    else this.#host.runHere(this, placement, op);
  }

  /** Whether it still wants a place, once it is its turn. */
  wants() {
    this.#waiting = this.#queue.length > 0;
    return this.#waiting;
  }

  /** Whether the main thread may run it, for want of a worker. Where not, all that waits fails. */
  harmless() {
    if (!this.#dangerous) return true;
    this.#waiting = false;
    for (const op of [...this.#queue]) {
      this.withdraw(op, new HyperTokenError('worker_unavailable', `${op.what}: a worker has died while the engine was placed, and there is none to try it again`));
    }
    return false;
  }

  /** Takes a place, and rebuilds the game there. What is to be done follows at once. */
  placed(thread, placement) {
    this.#waiting = false;
    this.place = { thread, placement };
    const ops = [new Op('placing', kind.open, [this.#limits], this.#snapshot ? flag.restore : 0)];
    for (let at = 0; at < this.#base.length; at += feedSize) ops.push(new Op('placing', kind.feed, [this.#base.subarray(at, at + feedSize)]));
    ops.push(new Op('placing', kind.ready));
    for (const piece of this.#journal.pieces()) ops.push(new Op('placing', kind.replay, [piece]));
    this.#placing = new Set(ops);
    this.#saving = false;
    thread?.games.set(placement, this);
    if (thread) this.#fellBack = false;
    for (const op of ops) {
      op.internal = true;
      this.#send(op);
    }
    this.pump();
  }

  /** Takes in the answer to an operation. */
  answered(thread, placement, op, f) {
    if (this.place?.placement !== placement || this.place.thread !== thread) return; // it comes from a place that was left
    this.#sent.shift();
    if (this.#placing?.has(op)) this.#placedPiece(op, f);
    else this.#done(op, f);
    this.pump();
  }

  #placedPiece(op, f) {
    if (f.flags & flag.failed) {
      const cause = errorOf(f.body);
      this.leave();
      // A setup, or a snapshot, that the core refuses is refused again.
      const never = this.sequence === 0 && !(f.flags & flag.lost);
      if (never || ++this.#attempts >= maxAttempts) this.#break(cause);
      return;
    }
    this.#placing.delete(op);
    if (this.#placing.size === 0) {
      this.#placing = null;
      this.#attempts = 0;
      this.#dangerous = false;
      this.#host.counts.placed++;
    }
  }

  // An engine that was never used fails with the cause itself.
  #break(cause) {
    this.fail(this.sequence === 0 ? cause : new HyperTokenError('broken', `the engine can not be placed: ${cause.message}`, { cause }));
  }

  #done(op, f) {
    const lost = f.flags & flag.lost, changed = (f.flags & flag.changed) !== 0;
    if (lost || (op.withdrawn && changed)) this.leave(); // what was sent after it goes again
    if (op.withdrawn) return;
    if (f.flags & flag.failed) {
      this.#failed(op, errorOf(f.body));
      return;
    }
    if (op.kind === kind.dispatch || op.kind === kind.batch) this.#acted(op, f, changed);
    else if (op.internal) this.#saved(f.body.slice()); // a copy: what it lies in is as large as all that was answered with it
    else this.settle(op, () => op.resolve(f.body.slice()));
  }

  #append(bytes, sum) {
    this.#journal.append(bytes, sum);
    this.sequence++;
  }

  #acted(op, f, changed) {
    let ran, events, done;
    try {
      const r = readAnswer(f);
      ran = r.ran;
      events = r.events ? decodeAll(r.events) : [];
      done = op.members
        ? r.members.map((m, k) => (m.failed ? { ...op.members[k], error: errorOf(m.body) } : { ...op.members[k], ...m, result: decode(m.body) }))
        : [{ type: op.what, payload: op.payload, bytes: op.parts[0], changed, sum: r.sum, result: decode(r.result) }];
    } catch (cause) {
      if (changed) this.leave(); // so that it has no effect
      this.#failed(op, unreadable(op.what, cause));
      return;
    }
    if (changed) this.#ran += ran;
    for (const d of done) if (d.changed) this.#append(d.bytes, d.sum);
    this.#save();
    this.settle(op, () => op.resolve(op.members ? done.map(({ result, error }) => (error ? { error } : { result })) : done[0].result));
    if (this.#heard()) this.#tell(events, done);
  }

  #tell(events, done) {
    let sequence = this.sequence - done.filter((d) => d.changed).length; // a listener may add to it
    for (const [name, detail] of events) this.#listener(name, detail);
    for (const { type, payload, result, error, changed } of done) {
      if (error) {
        this.#listener('engine:error', { error, type });
        continue;
      }
      if (changed) sequence++;
      const detail = { type, payload, result, sequence };
      this.#listener('engine:action', detail);
      if (changed) this.#listener('state:updated', detail);
    }
  }

  #failed(op, error) {
    if (op.internal) {
      this.#saving = false;
      return;
    }
    if (op.settled) return;
    this.settle(op, () => op.reject(error));
    if (!op.quiet) this.#listener('engine:error', { error, type: op.kind === kind.batch ? 'batch' : op.what });
  }

  /** Ends an operation, once: f tells whoever waits for it. */
  settle(op, f) {
    if (op.settled) return;
    op.settled = true;
    this.#host.release(op);
    f();
  }

  // A snapshot replaces the entries once a replay of them would cost more than it.
  #save() {
    const { snapshotBytes, replayBudget } = this.#host.options;
    if (this.#saving || (this.#journal.bytes <= Math.max(this.#base.length, snapshotBytes) && this.#ran <= replayBudget)) return;
    this.#saving = true;
    const op = new Op('snapshot', kind.snapshot);
    op.internal = true;
    this.#queue.unshift(op);
  }

  // What is answered in order is the state after exactly what was acknowledged so far.
  #saved(bytes) {
    this.#base = bytes;
    this.#snapshot = true;
    this.#journal = new Journal();
    this.#ran = 0;
    this.#saving = false;
  }

  /** Takes in that the place is gone. op is what ran there, if anything; killed says that it was ended because of that. */
  lost(op, killed) {
    if (!this.place) return;
    const placing = this.#placing?.has(op);
    if (!killed) for (const s of this.#sent) s.suspect = true;
    this.#gone();
    if (placing) {
      if (!killed) this.#dangerous = true;
      if (++this.#attempts >= maxAttempts) {
        this.#break(killed ? new HyperTokenError('timeout', 'a worker was silent while the engine was placed')
          : new HyperTokenError('poisoned', `${this.#attempts} workers have died while the engine was placed`));
      }
    } else if (!killed && op && this.#queue[0] === op && ++op.deaths >= maxAttempts) {
      this.#queue.shift();
      this.#failed(op, new HyperTokenError('poisoned', `${op.what}: ${op.deaths} workers have died while they ran it`));
    }
    this.pump();
  }

  /** Gives the place up. */
  leave() {
    if (!this.place) return;
    const { thread, placement } = this.place;
    if (thread) {
      thread.games.delete(placement);
      thread.close(placement);
    } else {
      this.#host.leftHere(placement);
    }
    this.#gone();
    thread?.drop(); // what it runs for the game, nobody wants any more
  }

  #gone() {
    const again = this.#sent.filter((op) => !this.#placing?.has(op) && !op.withdrawn && !op.internal);
    this.#sent = [];
    this.#placing = null;
    this.#saving = false;
    this.#queue = [...again, ...this.#queue.filter((op) => !op.internal)];
    this.place = null;
  }

  /** Ends an operation with an error, as far as that is still possible: nothing comes of it any more. */
  withdraw(op, error) {
    if (op.settled) return;
    const at = this.#queue.indexOf(op);
    if (at >= 0) this.#queue.splice(at, 1);
    else op.withdrawn = true;
    this.#failed(op, error);
    if (op.batch) {
      // What was gathered succeeds or fails together.
      this.withdraw(op.batch, new HyperTokenError('batch_aborted', `it had no effect: ${op.what} was in the same batch, and ended: ${error.message}`, { cause: error }));
    }
    this.place?.thread?.drop();
    this.pump();
  }

  /** Breaks the game: all that has no outcome fails. */
  fail(error) {
    this.broken = error;
    this.#listener('engine:error', { error });
    this.#withdrawAll(error);
  }

  #withdrawAll(error) {
    for (const op of [...this.#sent, ...this.#queue]) if (!op.internal) this.withdraw(op, error);
  }

  // Whether anybody waits for something of it.
  get #owes() {
    const owed = (op) => !op.internal && !op.settled;
    return this.#sent.some(owed) || this.#queue.some(owed);
  }

  /**
   * Waits for what is in flight, for so many milliseconds at most, 0 for no bound, and gives the place up. From its first call on nothing is
   * taken in; a later one may bound it.
   */
  close(timeout) {
    this.#closing ??= (async () => {
      this.flush();
      this.closed = true;
      if (this.#owes) await new Promise((resolve) => this.#idle.push(resolve));
      this.leave();
      this.#host.remove(this);
    })();
    if (timeout > 0 && timeout < Infinity) {
      const timer = setTimeout(() => this.#withdrawAll(shutdownError()), Math.min(timeout, 2 ** 31 - 1));
      this.#closing.then(() => clearTimeout(timer));
    }
    return this.#closing;
  }

  /** Tells that the game is closed. */
  over() {
    if (this.#over) return;
    this.#over = true;
    this.#listener('engine:shutdown', {});
  }

  /** Tells, once, why the game goes on on the main thread. */
  fellBack(error) {
    if (this.#fellBack) return;
    this.#fellBack = true;
    this.#host.counts.fallbacks++;
    this.#listener('engine:error', { error });
  }

  /** Goes to a worker, now that there is one, as soon as nothing runs here. */
  moveBack() {
    if (this.place && !this.place.thread && this.#sent.length === 0) {
      this.leave();
      this.pump();
    }
  }
}

/** The error that a core, or an executor, has written. */
export function errorOf(body) {
  try {
    const { code, message, index } = decode(body);
    if (typeof code !== 'string') throw new Error('it has no code');
    return new HyperTokenError(code, message, { index });
  } catch (cause) {
    return unreadable('an error', cause);
  }
}
