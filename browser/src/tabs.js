// A saved game that several engines play: in several tabs of a browser, or in one. One of them
// holds the lock of the game. It runs the game; the calls of the others, and the events for them,
// go over a BroadcastChannel. If its tab ends, however that happens, the next engine gets the lock.
// It goes on from the journal, and the others send their calls again that had no answer. The
// journal has the outcome of each call that it has the records of. So no call runs twice.

import { canceledError, HyperTokenError, shutdownError } from './errors.js';
import { kind } from './frames.js';
import { Game, Op } from './game.js';
import { macrotask } from './environment.js';
import { Rewind } from './past.js';
import { clientLock, randomId } from './store.js';
import { plainError, plainResult } from './storing.js';
import { decode, encode } from './values.js';

/** The version of the messages. A tab may have another version of the package. */
const protocol = 2;

/** Whether engines of several tabs can find each other here. */
export const canShare = () => typeof globalThis.navigator?.locks?.request === 'function' && typeof globalThis.BroadcastChannel === 'function';

/** The payload of an action as the core takes it, for events. */
function payloadOf(action) {
  const from = 28 + new DataView(action.buffer, action.byteOffset, action.length).getUint32(24, true);
  return from < action.length ? decode(action.subarray(from)) : undefined;
}

/** Whether a request changes the state. So it has to run once. */
const isChange = ({ kind: k }) => k === kind.dispatch || k === kind.batch || k === kind.rewind;

/** A request as a message has it; and the request of such a message. */
const messageOf = ({ what, kind: k, flags, parts, to }) => ({ what, kind: k, flags, parts, to });

function requestOf({ what, kind: k, flags, parts, to }) {
  if (k === kind.rewind) return new Rewind(what, to);
  const op = new Op(what, k, parts, flags);
  if (k === kind.dispatch) op.payload = payloadOf(parts[0]);
  if (k === kind.batch) op.members = membersOf(parts[0]);
  return op;
}

const utf8 = new TextDecoder();

/** The members of a batch as the core takes it. */
function membersOf(body) {
  const view = new DataView(body.buffer, body.byteOffset, body.length), members = [];
  for (let at = 8; at < body.length;) {
    const bytes = body.subarray(at + 4, at += 4 + view.getUint32(at, true));
    members.push({ type: utf8.decode(bytes.subarray(28, 28 + new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(24, true))), payload: payloadOf(bytes), bytes });
  }
  return members;
}

const revived = ({ code, message, index }) => new HyperTokenError(code, message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message, { index });
const noEffect = (what) => new HyperTokenError('moved', `${what}: the tab that ran the game ended, and the action is not in the journal; it had no effect`);

/**
 * How long a request may still take, in milliseconds: full tenths of a second, so that requests
 * share a deadline. 0 is no limit.
 */
const timeLeft = ({ timeout, deadline }) => (timeout > 0 ? Math.max(1, Math.ceil((deadline - performance.now()) / 100)) * 100 : 0);

export class SharedGame {
  closed = false; broken = null;
  flush = () => {};
  /** Called after each change of the state; null if nothing follows the state. */
  handleChange = null;
  /** The list of its host that it is in: none, but for its own game. */
  list = null; prev = null; next = null;
  #host; #base; #listener; #isHeard; #saved; #client = randomId(); #channel; #stop = new AbortController();
  /**
   * The game, if this engine holds its lock; whether it is open, so that it takes calls; and a
   * function that gives the lock up.
   */
  #game = null; #isLeading = false; #release = null;
  /**
   * The client that runs the game, if it is another one, the id of the game, and its sequence as
   * that client has told it.
   */
  #leader = null; #id; #sequence = 0;
  /**
   * The own calls that have no outcome and are not in #game, by number: {op, isSent, withdrawn}.
   */
  #calls = new Map(); #number = 0;
  /** The calls of others that run here. */
  #running = new Map(); #hasOthers = false;
  /**
   * The messages that this engine sends at the end of the turn: calls to the leader, or events and answers to the others.
   */
  #out = { calls: [], events: [], answers: [] }; #isChanged = false; #isSending = false;
  #closing = null; #isOver = false; #wake = () => {};

  /**
   * @param {import('./host.js').Host} host
   * @param {{bytes: Uint8Array, isSnapshot: boolean}} base the beginning of a game that is new
   * @param {(name: string, detail: object) => boolean} listener returns whether there is a listener
   *   to that event
   * @param {() => boolean} isHeard whether there is any listener
   * @param {import('./store.js').SavedGame} saved
   * @param {string} name
   */
  constructor(host, base, listener, isHeard, saved, name) {
    this.#host = host;
    this.#base = base;
    this.#listener = listener;
    this.#isHeard = isHeard;
    this.#saved = saved;
    const lock = `hypertoken game ${name}`, { signal } = this.#stop;
    this.#channel = new BroadcastChannel(lock);
    this.#channel.onmessage = ({ data }) => this.#handle(data);
    const untilOver = () => signal.aborted || new Promise((over) => signal.addEventListener('abort', over));
    const handleRefusal = (cause) => {
      if (!signal.aborted) this.fail(new HyperTokenError('store_refused', `the lock of the game was refused, or taken away: ${cause?.message ?? cause}`, { cause }));
    };
    navigator.locks.request(clientLock(this.#client), untilOver).catch(() => {});
    navigator.locks.request(lock, { signal }, () => this.broken || this.#lead()).catch(handleRefusal);
    this.#post({ who: true });
  }

  get host() { return this.#host; }

  get sequence() { return this.#game ? this.#game.sequence : this.#sequence; }

  get place() { return this.#game?.place ?? null; }

  /** Whether another engine runs the game. */
  get isElsewhere() { return this.#leader !== null; }

  get pending() { return this.#calls.size + (this.#game?.pending ?? 0); }

  // The engine that runs the game.

  // Runs the game until this engine is shut down or breaks. The lock is given up then.
  #lead() {
    return new Promise((release) => {
      this.#release = release;
      this.#leader = null;
      const kept = this.#saved, saved = {
        open: () => kept.open(this.#id), create: (base) => kept.create(base), append: (group) => kept.append(group),
        replace: (base, own) => kept.replace(base, own), defer: (call) => kept.defer(call), history: (what, from, to) => kept.history(what, from, to),
      };
      const game = new Game(this.#host, this.#base, (name, detail) => this.#raise(name, detail), () => this.#hasOthers || this.#isHeard(), { saved });
      game.handleChange = () => {
        this.#isChanged = true;
        this.#sendSoon();
        this.handleChange?.();
      };
      this.#game = game;
      this.#saved.opening.then(() => this.#begin(), () => {});
    });
  }

  // The game is open: what waited for it comes first, and then the calls of the others.
  #begin() {
    if (this.#game.broken) return;
    this.#isLeading = true;
    this.#id = this.#saved.id;
    for (const [number, { op, isSent, withdrawn }] of this.#calls) {
      this.#calls.delete(number);
      const key = [this.#client, number], stored = isSent && isChange(op) ? this.#storedOutcome(op, ...key) : undefined;
      op.key = null;
      if (stored) this.#end(op, stored, withdrawn);
      else if (withdrawn) this.#end(op, { error: plainError(withdrawn.error) }, withdrawn);
      else if (isSent && isChange(op) && this.#saved.hasLater(...key)) this.#fail(op, noEffect(op.what));
      else if (this.broken) this.#fail(op, this.broken);
      else this.#game.push(op);
    }
    this.#saved.forget(this.#client, Infinity); // from now on its calls go to the game itself
    this.#announce();
    this.#wake();
  }

  #announce(to) { this.#post({ leader: this.#client, id: this.#id, sequence: this.sequence }, to); }

  // The outcome of a call that the journal has records of, or undefined. A batch that was split may
  // be there in part: its other members had no effect.
  #storedOutcome(op, client, number) {
    const found = this.#saved.recall(client, number);
    if (!found?.parts) return found;
    const result = op.members.map(({ type }) => ({ error: plainError(noEffect(type)) }));
    for (const [part, one] of found.parts) if (part in result) result[part] = one;
    return { result };
  }

  // An event of the game: for the listeners here, and for those of the others. Each tab tells of
  // the failures of its own calls.
  #raise(name, detail) {
    if (name === 'engine:error') {
      if (this.#game.broken && !this.broken) this.#handleBroken(this.#game.broken);
    } else if (this.#hasOthers) {
      this.#out.events.push([name, detail]);
      this.#sendSoon();
    }
    return this.#listener(name, detail);
  }

  #handleBroken(error) {
    this.broken = error;
    for (const { op } of [...this.#calls.values()]) this.#fail(op, error);
    this.#calls.clear();
    this.#wake();
    macrotask(() => this.#resign()); // the answers to the others go first
  }

  // Lets another engine run the game.
  #resign() {
    if (!this.#release) return;
    this.#isLeading = false;
    this.#post({ isGone: true });
    this.#release();
  }

  #runCalls(client, calls, acked) {
    if (!this.#isLeading || this.closed) return; // they are sent again to the next one
    this.#hasOthers = true;
    this.#saved.forget(client, acked);
    for (const call of calls) {
      const id = `${client} ${call.number}`, running = this.#running.get(id);
      if (running) {
        if (call.isWithdrawn) this.#game.withdraw(running, canceledError(call.what));
      } else {
        this.#runCall(id, client, call);
      }
    }
  }

  #runCall(id, client, { number, timeout, isWithdrawn, ...request }) {
    const op = requestOf(request), { what } = op;
    op.quiet = true;
    const answer = (outcome) => {
      this.#running.delete(id);
      this.#out.answers.push([client, number, outcome]);
      this.#sendSoon();
    };
    const stored = isChange(op) ? this.#storedOutcome(op, client, number) : undefined;
    if (stored) answer(stored);
    else if (isWithdrawn) answer({ error: plainError(canceledError(what)) });
    else if (isChange(op) && this.#saved.hasLater(client, number)) answer({ error: plainError(noEffect(what)) });
    else {
      if (isChange(op)) op.key = { client, number };
      this.#running.set(id, op);
      this.#host.limit(this.#game, op, timeout); // the client may end before it withdraws the call
      op.promise.then((result) => answer({ result: plainResult(op, result) }), (error) => answer({ error: plainError(error) }));
      try {
        this.#game.push(op);
      } catch (error) {
        answer({ error: plainError(error) });
      }
    }
  }

  // The engines that do not run the game.

  #follow({ leader, id, sequence }) {
    if (this.#release || leader === this.#leader) return;
    this.#leader = leader;
    this.#id = id;
    this.#sequence = sequence;
    for (const [number, call] of this.#calls) this.#sendCall(number, call);
    this.handleChange?.(); // there may have been changes of which nobody has told
  }

  #sendCall(number, call) {
    const { op, withdrawn } = call;
    call.isSent = true;
    this.#out.calls.push({ number, ...messageOf(op), timeout: timeLeft(op), isWithdrawn: withdrawn !== null });
    this.#sendSoon();
  }

  #handleNews({ events, answers, sequence, isChanged }) {
    this.#sequence = sequence;
    for (const [name, detail] of events) this.#listener(name, detail);
    for (const [client, number, outcome] of answers) {
      const call = client === this.#client ? this.#calls.get(number) : undefined;
      if (!call) continue;
      this.#calls.delete(number);
      this.#end(call.op, outcome, call.withdrawn);
    }
    if (isChanged) this.handleChange?.();
    if (this.#calls.size === 0) this.#wake();
  }

  // Ends an own call with what its leader has told. `withdrawn` is the request that was withdrawn,
  // and why: the call itself, or an action that was gathered into it.
  #end(op, { error, result }, withdrawn) {
    if (!error) {
      this.settle(op, () => op.resolve(op.members ? result.map((o) => (o.error ? { error: revived(o.error) } : o)) : result));
    } else if (withdrawn) {
      this.#fail(withdrawn.op, withdrawn.error);
      if (withdrawn.op !== op) this.#fail(op, aborted(withdrawn.op, withdrawn.error));
    } else {
      this.#fail(op, revived(error));
    }
  }

  // Messages.

  #post(message, to) {
    if (this.#isOver) return;
    const whole = { ...message, protocol, from: this.#client, to };
    try {
      this.#channel.postMessage(whole);
    } catch (cause) {
      if (!whole.events) throw cause;
      // A payload may be what the core takes and a message does not: a proxy, for example.
      this.#channel.postMessage({ ...whole, events: whole.events.map(([name, detail]) => [name, decode(encode(detail, 'an event').slice())]) });
    }
  }

  #sendSoon() {
    if (this.#isSending) return;
    this.#isSending = true;
    queueMicrotask(() => {
      this.#isSending = false;
      const { calls, events, answers } = this.#out, isChanged = this.#isChanged;
      this.#out = { calls: [], events: [], answers: [] };
      this.#isChanged = false;
      if (calls.length > 0 && this.#leader) {
        const [first = this.#number + 1] = this.#calls.keys();
        this.#post({ calls, acked: first - 1 }, this.#leader);
      }
      if (this.#game && this.#hasOthers) this.#post({ news: true, events, answers, sequence: this.sequence, isChanged });
    });
  }

  #handle(message) {
    const { from, to } = message;
    if (this.#isOver || this.broken || (to !== undefined && to !== this.#client)) return;
    if (message.protocol !== protocol) {
      // Of the rest of such a message nothing is known.
      if (message.leader && !this.#release) this.fail(new HyperTokenError('moved', 'another tab plays this game with another version of hypertoken-worker: reload that tab, or this one'));
      else if (message.who && this.#isLeading) this.#announce();
    } else if (message.leader) this.#follow(message);
    else if (message.who && this.#isLeading && !this.closed) {
      this.#hasOthers = true;
      this.#announce(from);
    } else if (message.calls) this.#runCalls(from, message.calls, message.acked);
    else if (message.news && from === this.#leader) this.#handleNews(message);
    else if (message.isGone && from === this.#leader) this.#leader = null;
  }

  // The methods that an engine calls on its game: see game.js.

  /** Reads a part of the journal. Each engine reads the store itself. */
  history(what, from, to) { return this.#saved.history(what, from, to, this.#id); }

  push(op) {
    if (this.closed) throw shutdownError();
    if (this.broken) throw this.broken;
    if (this.#isLeading) {
      this.#game.push(op);
      return;
    }
    const number = ++this.#number, call = { op, isSent: false, withdrawn: null };
    op.key = { number };
    this.#calls.set(number, call);
    if (this.#leader) this.#sendCall(number, call);
  }

  settle(op, f) {
    if (this.#game && op.isOpen) {
      this.#game.settle(op, f);
    } else if (!op.settled) {
      op.settled = true;
      this.#host.release(op);
      f();
    }
  }

  #fail(op, error) {
    if (op.settled) return;
    this.settle(op, () => op.reject(error));
    if (!op.quiet) this.#listener('engine:error', { error, type: op.kind === kind.batch ? 'batch' : op.what });
  }

  /**
   * Ends a request with an error. If another engine may run it, that engine says what became of it.
   */
  withdraw(op, error) {
    if (op.settled) return;
    const whole = op.batch ?? op, number = whole.key?.number, call = this.#calls.get(number);
    if (!call) {
      if (this.#game) this.#game.withdraw(op, error);
      else this.#fail(op, error);
      return;
    }
    if (call.isSent) {
      if (call.withdrawn) return;
      call.withdrawn = { op, error };
      if (this.#leader) this.#sendCall(number, call);
      return;
    }
    this.#calls.delete(number);
    this.#fail(op, error);
    if (whole !== op) this.#fail(whole, aborted(op, error));
    if (this.#calls.size === 0) this.#wake();
  }

  fail(error) {
    if (this.#game) {
      this.#game.fail(error);
    } else {
      this.#listener('engine:error', { error });
      this.#handleBroken(error);
    }
  }

  close(timeout) {
    this.#closing ??= (async () => {
      this.flush();
      this.closed = true;
      while (!this.#isLeading && this.#calls.size > 0) await new Promise((resolve) => { this.#wake = resolve; });
      if (this.#game) await this.#game.close(0);
      await new Promise(macrotask); // the last answers are sent
      this.#resign();
      this.#isOver = true;
      this.#channel.close();
      this.#stop.abort();
      this.#host.remove(this);
    })();
    if (timeout > 0 && timeout < Infinity) {
      const timer = setTimeout(() => {
        this.#game?.close(1);
        for (const { op, isSent } of [...this.#calls.values()]) {
          this.#fail(op, isSent && isChange(op) ? new HyperTokenError('outcome_unknown', `${op.what}: the tab that runs the game has not said what became of it`) : shutdownError());
        }
        this.#calls.clear();
        this.#wake();
      }, Math.min(timeout, 2 ** 31 - 1));
      this.#closing.then(() => clearTimeout(timer));
    }
    return this.#closing;
  }

  #hasTold = false;

  /** Raises the event that the engine is shut down, once. */
  raiseShutdown() {
    if (this.#hasTold) return;
    this.#hasTold = true;
    this.#listener('engine:shutdown', {});
  }
}

const aborted = (op, cause) => new HyperTokenError('batch_aborted', `it had no effect: ${op.what} was in the same batch, and ended: ${cause.message}`, { cause });
