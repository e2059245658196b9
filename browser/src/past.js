// The states that an engine had at earlier sequences. A game of its own, the past, is placed from
// the part of the journal that leads there, asked, and closed. It recovers from the death of a
// worker as any game does. The engine itself, if it is placed, goes on meanwhile.

import { badInput, HyperTokenError } from './errors.js';
import { kind } from './frames.js';
import { Game, Op } from './game.js';

/** Eight bytes as 16 hexadecimal digits, of the number that they are. */
export const hex64 = (bytes) => [...bytes].reverse().map((b) => b.toString(16).padStart(2, '0')).join('');

/**
 * A question to a past. f is called in the moment of the answer, with the bytes or with an error.
 */
class Question extends Op {
  #f;

  constructor(what, k, parts, f) {
    super(what, k, parts);
    this.#f = f;
  }

  resolve(bytes) { this.#f(null, bytes); }

  reject(error) { this.#f(error); }
}

export class Past {
  /** The game that is placed. */
  game;
  #host; #what; #sequence; #questions = new Set();

  /**
   * @param {import('./host.js').Host} host
   * @param {string} what names the request in errors
   * @param {number} sequence of the state
   * @param {{base: import('./history.js').Base, pieces: Uint8Array[]}} part what leads to that
   *   state
   */
  constructor(host, what, sequence, { base, pieces }) {
    this.#host = host;
    this.#what = what;
    this.#sequence = sequence;
    this.game = new Game(host, base, () => true, () => false, { pieces });
    host.adopt(this.game);
  }

  /** Asks a question. f is called once, with (error) or with (null, bytes). */
  askThen(k, parts, f, take = undefined) {
    const question = new Question(this.#what, k, parts, (error, bytes) => {
      this.#questions.delete(question);
      f(error && this.#explain(error), bytes);
    });
    this.#questions.add(question);
    try {
      take?.(this.game, question);
      this.game.push(question);
    } catch (error) {
      this.#questions.delete(question);
      this.#host.release(question);
      throw error;
    }
  }

  /**
   * Asks a question, and resolves with the answer's bytes.
   * @param {(game: Game, question: Op) => void} take makes room for the question in the host's
   *   queue, and gives it its deadline and its signal
   */
  ask(k, parts, take) {
    return new Promise((resolve, reject) => {
      this.askThen(k, parts, (error, bytes) => (error ? reject(error) : resolve(bytes)), take);
    });
  }

  // A past that can not be placed is no fault of the engine itself.
  #explain(error) {
    if (error !== this.game.broken) return error;
    const { code, message } = error.code === 'broken' && error.cause instanceof HyperTokenError ? error.cause : error;
    const which = `the state of the sequence ${this.#sequence}`;
    return new HyperTokenError(code, `${this.#what}: ${which} can not be placed: ${message}`, { cause: error });
  }

  /** Ends the questions that are open with an error, and gives the place up. */
  close(error) {
    for (const question of [...this.#questions]) this.game.withdraw(question, error);
    this.game.leavePlace(true);
    return this.game.close(0);
  }
}

/**
 * A request that sets the engine to the state of an earlier sequence: a revert, an undo or a
 * redo. It is not sent to a place. Once all before it has ended, its game calls begin, and waits.
 */
export class Rewind extends Op {
  #past = null;

  /**
   * @param {'revert' | 'undo' | 'redo'} what
   * @param {number} [to] the sequence of the state that a revert leads to
   */
  constructor(what, to) {
    super(what, kind.rewind);
    if (what === 'revert' && !isSequence(to)) throw badInput('revert: the sequence is not a whole number from 0 on');
    this.to = to;
  }

  /**
   * Returns which part of the journal the rewind needs: from the state of one sequence to that of
   * another.
   * @param {import('./history.js').Position} position that of the newest state
   * @param {number} newest its sequence
   * @returns {[number, number]}
   */
  span({ current, redo }, newest) {
    if (this.what === 'undo' && current > 0) return [current - 1, current];
    const to = this.what === 'undo' ? newest : this.what === 'redo' ? redo.at(-1) : this.to;
    return to <= newest ? [to, to] : [newest, newest];
  }

  /**
   * Returns where the rewind leads to, or throws.
   * @param {import('./history.js').History} history
   * @param {import('./history.js').Position} position that of the newest state
   */
  choose(history, position) { return this.what === 'revert' ? history.revertTo(this.to) : history[this.what](position); }

  /** The game that computes the state, or null. */
  get past() { return this.#past?.game ?? null; }

  /**
   * Computes the state, with its digest. done is called once, unless the rewind is abandoned: with
   * (error), or with (null, bytes, digest).
   */
  begin(host, { marker, part }, done) {
    this.#past = new Past(host, this.what, marker.to, part);
    const end = (error, ...found) => {
      const past = this.#past;
      if (!past) return;
      this.#past = null;
      past.close(error);
      done(error, ...found);
    };
    let digest;
    this.#past.askThen(kind.digest, [], (error, bytes) => {
      if (error) end(error);
      else digest = hex64(bytes);
    });
    this.#past?.askThen(kind.snapshot, [], (error, bytes) => end(error, bytes, digest));
  }

  /** Stops computing the state: the rewind has ended with an error. */
  abandon(error) {
    const past = this.#past;
    this.#past = null;
    past?.close(error);
  }
}

export const isSequence = (n) => Number.isSafeInteger(n) && n >= 0;

/** Checks the options `from` and `to` of a part of a journal. */
export function checkSpan(history, { from, to }) {
  if (to !== undefined) history.check(to, 'to');
  if (from !== undefined) history.check(from, 'from');
  if (from > (to ?? history.newest)) throw badInput(`journal: from is ${from}, which is behind ${to}, which is to`);
}
