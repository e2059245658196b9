// The answers of an engine whose journal is kept in a store. A caller gets an answer only once
// everything is stored that the answer saw. So answers wait here in their order. One group of them
// is handed to the store at a time; the answers that come meanwhile are the next group.

import { badInput, HyperTokenError } from './errors.js';
import { entryHead } from './frames.js';

/**
 * An answer that waits for the store.
 * @typedef {{
 *   op: import('./game.js').Op | null, settle: () => void, records: {bytes: Uint8Array, sum: number}[],
 *   outcome: {result?: any, error?: HyperTokenError} | undefined, base: Partial<import('./history.js').Base> | null,
 *   isHanded: boolean}} Answer
 * `records` are those that the answer adds to the journal. `base` is a snapshot that replaces the
 * journal, or the marker of a rewind. From the moment that `isHanded` is true, the request can't be
 * withdrawn.
 */

/** The entries of records, one behind the other, in the form of a replay. */
export function entriesOf(records) {
  const entries = new Uint8Array(records.reduce((n, r) => n + entryHead + r.bytes.length, 0));
  const view = new DataView(entries.buffer);
  let at = 0;
  for (const { bytes, sum } of records) {
    view.setUint32(at, bytes.length, true);
    view.setFloat64(at + 4, sum, true);
    entries.set(bytes, at + entryHead);
    at += entryHead + bytes.length;
  }
  return entries;
}

/** An error as a plain object, which is stored and sent to other tabs. */
export const plainError = ({ code, message, index }) => ({ code, message, index });

/** A result of a request as values that can be stored, and sent to other tabs. */
export const plainResult = (op, result) => (op.members ? result.map((o) => (o.error ? { error: plainError(o.error) } : o)) : result);

/** A call of another tab with its outcome, as the store keeps it. */
const callOf = (op, { result, error }) => ({ ...op.key, outcome: error ? { error: plainError(error) } : { result: plainResult(op, result) } });

export class Storing {
  /** Whether the store does not have the game yet. */
  isNew = false;
  #game; #saved; #waiting = []; #handed = []; #isRunning = true;
  /** Called when the last answer has been settled. */
  #idle = [];
  #isAbandoned = false;

  /**
   * Opens the game in the store.
   * @param {import('./game.js').Game} game
   * @param {import('./store.js').SavedGame} saved
   */
  constructor(game, saved) {
    this.#game = game;
    this.#saved = saved;
    saved.open().then((found) => {
      this.isNew = found === null;
      this.#rest();
      game.handleOpened(found);
    }, (error) => {
      this.#rest();
      if (!game.broken) game.fail(error);
    });
  }

  /** Whether nothing waits for the store: the journal has all that the engine has answered. */
  get isIdle() { return !this.#isRunning && this.#waiting.length === 0; }

  /** The requests whose answers were not handed to the store yet. */
  get waiting() { return this.#waiting.filter((answer) => answer.op !== null).map((answer) => answer.op); }

  /**
   * Has an answer settled once all answers before it are, and its own records are stored.
   * @param {{bytes: Uint8Array, sum: number}[]} [records]
   * @param {{result?: any, error?: HyperTokenError}} [outcome] is stored if the request has a key:
   *   with the records, or with those of the next group
   */
  push(op, settle, records = [], outcome = undefined) {
    if (records.length > 0 || !this.isIdle) {
      this.#add({ op, settle, records, outcome, base: null, isHanded: false });
      return;
    }
    if (op.key) this.#saved.defer(callOf(op, outcome));
    settle();
  }

  /**
   * Has a base stored, which replaces the journal once all answers before it are settled. A snapshot
   * has no sequence yet: it is that of the last of these answers.
   */
  pushBase(op, base, settle, outcome = undefined) { this.#add({ op, settle, records: [], outcome, base, isHanded: false }); }

  /** Reads a part of the journal: see Game.history. */
  history(what, from, to) { return this.#saved.history(what, from, to); }

  /** Has the store take the game in, which is new to it. */
  create(base) {
    const settle = () => { this.isNew = false; };
    this.#add({ op: null, settle, records: [], base: null, first: base, isHanded: false });
  }

  /** Takes an answer, and all behind it, out of those that wait, and returns those behind it. */
  takeBehind(answer) { return this.#waiting.splice(this.#waiting.indexOf(answer)).slice(1); }

  /** Takes one answer out of those that wait. */
  remove(answer) { this.#waiting.splice(this.#waiting.indexOf(answer), 1); }

  #add(answer) {
    if (answer.op) answer.op.answer = answer;
    this.#waiting.push(answer);
    if (this.#isRunning) return;
    this.#isRunning = true;
    queueMicrotask(() => this.#run()); // the other answers of the same message come first
  }

  async #run() {
    while (this.#waiting.length > 0 && !this.#isAbandoned) {
      const group = this.#nextGroup();
      this.#handed = group;
      for (const answer of group) answer.isHanded = true;
      let error = null;
      try {
        await this.#store(group);
      } catch (cause) {
        error = cause;
      }
      this.#handed = [];
      for (const { op } of group) if (op) op.answer = null;
      if (this.#isAbandoned) break;
      if (error) this.#handleNotStored(group, error);
      else for (const answer of group) answer.settle();
    }
    this.#rest();
    this.#game.pump();
  }

  #rest() {
    this.#isRunning = false;
    for (const done of this.#idle.splice(0)) done();
  }

  // A group ends at a base, so that no base is older than a record that it should contain.
  #nextGroup() {
    const isOwn = ({ base, first }) => base !== null || first !== undefined;
    const end = this.#waiting.findIndex(isOwn);
    return this.#waiting.splice(0, end < 0 ? this.#waiting.length : Math.max(end, 1));
  }

  #store([one, ...others]) {
    const { sequence } = this.#game;
    if (one.first) return this.#saved.create(one.first);
    if (one.base) return this.#saved.replace({ sequence, ...one.base }, one.op.key ? [callOf(one.op, one.outcome)] : []);
    const records = [], batches = [], calls = [];
    for (const answer of [one, ...others]) {
      if (answer.op?.key && answer.outcome) calls.push(callOf(answer.op, answer.outcome));
      if (answer.records.length > 1) batches.push([sequence + records.length + 1, answer.records.length]);
      for (const record of answer.records) records.push(record);
    }
    if (records.length === 0) {
      calls.forEach((call) => this.#saved.defer(call));
      return undefined;
    }
    return this.#saved.append({ first: sequence + 1, count: records.length, bytes: entriesOf(records), batches, calls });
  }

  #handleNotStored(group, cause) {
    const error = cause instanceof HyperTokenError ? cause : new HyperTokenError('store_refused', `the store has failed: ${cause?.message ?? cause}`, { cause });
    if (group[0].first) this.#game.fail(error);
    else if (group[0].base && group[0].op.internal && error.code !== 'moved') this.#game.handleBaseNotStored();
    else this.#game.handleNotStored(group, this.#waiting.splice(0), error);
  }

  /**
   * Gives up waiting for the store. Returns the requests of which it is not known whether they are
   * stored.
   */
  abandon() {
    this.#isAbandoned = true;
    const unknown = this.#handed.filter((answer) => answer.op && !answer.op.internal).map((answer) => answer.op);
    this.#handed = [];
    this.#rest();
    return unknown;
  }

  /** Waits until the store has all that it was handed. */
  async close() {
    if (this.#isRunning && !this.#isAbandoned) await new Promise((resolve) => this.#idle.push(resolve));
  }
}

/** Throws `bad_input` unless this environment can keep games. */
export function checkCanPersist(what) {
  if (globalThis.indexedDB === undefined) throw badInput(`${what}: there is no IndexedDB here, as in Node; games are kept in pages and their workers`);
  if (globalThis.crypto?.subtle === undefined) throw badInput(`${what}: the page is no secure context; serve it by https, or from localhost`);
}
