// When the requests of a host have to end. Requests that have the same timeout end in the order in
// which they came. So there is a list for each timeout, and its first member is the next to end. The
// members are the requests themselves, as in list.js, so that a request costs no other object.

import { macrotask } from './environment.js';

class Line {
  first = null; last = null;

  push(op) {
    op.line = this;
    op.earlier = this.last;
    if (this.last) this.last.later = op;
    else this.first = op;
    this.last = op;
  }

  unshift(op) {
    op.line = this;
    op.later = this.first;
    if (this.first) this.first.earlier = op;
    else this.last = op;
    this.first = op;
  }

  remove(op) {
    const { earlier, later } = op;
    if (earlier) earlier.later = later;
    else this.first = later;
    if (later) later.earlier = earlier;
    else this.last = earlier;
    op.line = op.earlier = op.later = null;
  }
}

export class Deadlines {
  /** The requests, by their timeouts. */
  #lines = new Map();
  #timer = null; #timerAt = Infinity;
  #kept; #expire;

  /**
   * @param {number} kept the timeout that most requests have, in milliseconds. Its list stays when it
   *   is empty
   * @param {(op: import('./game.js').Op, shared: Map<string, Error>) => void} expire ends a request
   *   whose time is over, if it can still be ended. It gets the same map for all that have the same
   *   timeout and end in one moment, empty at first
   */
  constructor(kept, expire) {
    this.#kept = kept;
    this.#expire = expire;
  }

  /** Notes that a request has to end in so many milliseconds. */
  add(op, timeout) {
    op.timeout = timeout;
    op.deadline = performance.now() + timeout;
    this.#lineOf(timeout).push(op);
    this.#wake(op.deadline);
  }

  #lineOf(timeout) {
    let line = this.#lines.get(timeout);
    if (!line) this.#lines.set(timeout, (line = new Line()));
    return line;
  }

  /** Forgets a request, if it has a deadline. */
  remove(op) {
    const { line } = op;
    if (line === null) return;
    line.remove(op);
    if (line.first === null) this.#dropLine(op.timeout, line);
  }

  #dropLine(timeout, line) {
    if (timeout !== this.#kept && this.#lines.get(timeout) === line) this.#lines.delete(timeout);
  }

  stop() { clearTimeout(this.#timer); }

  #wake(at) {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    // If this thread was busy meanwhile, answers that have arrived are read first.
    this.#timer = setTimeout(() => macrotask(() => this.#expireDue()), Math.min(Math.max(0, at - performance.now()), 2 ** 31 - 1));
    this.#timer.unref?.();
  }

  #expireDue() {
    clearTimeout(this.#timer); // a timer that was set in the meantime
    this.#timerAt = Infinity;
    const now = performance.now();
    let next = Infinity;
    for (const [timeout, line] of [...this.#lines]) { // a copy: lists may come and go meanwhile
      const shared = new Map(), left = [];
      for (let op = line.first; op !== null && op.deadline <= now; op = line.first) {
        line.remove(op); // it may add and remove others
        this.#expire(op, shared);
        if (!op.settled) left.push(op);
      }
      if (line.first !== null) next = Math.min(next, line.first.deadline);
      // The end of these is under way, or they run again: then they are late at once.
      for (const op of left.reverse()) this.#lineOf(timeout).unshift(op);
      if (line.first === null) this.#dropLine(timeout, line);
    }
    if (next < Infinity) this.#wake(next);
  }
}
