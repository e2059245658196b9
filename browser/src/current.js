// The state of an engine as a value that can be read at once, for user interfaces. After each change
// the engine is asked for its state. The parts that are equal to those of the state before are the
// same objects.

import { kind } from './frames.js';
import { Op } from './game.js';
import { decode } from './values.js';

const isObject = (value) => typeof value === 'object' && value !== null;

/**
 * Returns a value that is equal to `after`, in which every part that is equal to the same part of
 * `before` is the part of `before` itself. All arrays and maps in it are frozen.
 */
export function share(before, after) {
  if (!isObject(after)) return after;
  const isSame = Array.isArray(after) ? shareItems(Array.isArray(before) ? before : [], after)
    : shareMembers(isObject(before) && !Array.isArray(before) ? before : {}, after);
  return isSame && isObject(before) && Array.isArray(before) === Array.isArray(after) ? before : Object.freeze(after);
}

function shareItems(before, after) {
  let isSame = before.length === after.length;
  for (let k = 0; k < after.length; k++) {
    const was = before[k]; // undefined behind the end, which is no value
    let value = after[k];
    if (isObject(value)) {
      const shared = share(was, value);
      if (shared !== value) after[k] = value = shared;
    }
    if (value !== was) isSame = false;
  }
  return isSame;
}

function shareMembers(before, after) {
  const keys = Object.keys(after), formerKeys = Object.keys(before);
  let isSame = keys.length === formerKeys.length;
  for (let k = 0; k < keys.length; k++) {
    const key = keys[k];
    // A map may have a member of its own that is called __proto__ or toString.
    const was = formerKeys[k] === key || Object.hasOwn(before, key) ? before[key] : undefined;
    let value = after[key];
    if (isObject(value)) {
      const shared = share(was, value);
      if (shared !== value) after[key] = value = shared;
    }
    if (value !== was) isSame = false;
  }
  return isSame;
}

/** A request for the state. f is called in the moment of the answer, before any later answer counts. */
class StateRequest extends Op {
  #f;

  constructor(f) {
    super('state', kind.state);
    this.#f = f;
  }

  resolve(bytes) {
    super.resolve(bytes);
    this.#f(bytes);
  }

  reject(error) {
    super.reject(error);
    this.#f(null);
  }
}

export class Current {
  #game; #limit; #fail; #state; #isFollowing = false; #isAsking = false; #listeners = new Set();

  /**
   * @param {import('./game.js').Game} game
   * @param {(request: Op) => void} limit gives a request its deadline
   * @param {(cause: Error) => void} fail is called if the core's answer can't be read
   */
  constructor(game, limit, fail) {
    this.#game = game;
    this.#limit = limit;
    this.#fail = fail;
  }

  /** The state as it was last told, or undefined. From the first read on, the engine is followed. */
  get state() {
    this.#follow();
    return this.#state;
  }

  /** Calls f after each change of `state`. Returns a function after which f is not called any more. */
  subscribe(f) {
    const listener = () => f(); // an entry of its own, in case f is given twice
    this.#listeners.add(listener);
    this.#follow();
    return () => { this.#listeners.delete(listener); };
  }

  #follow() {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    this.#game.handleChange = () => this.#ask();
    this.#ask();
  }

  // Answers come in the order of the requests. So, while a request for the state is unanswered, its
  // answer will have all changes that are told meanwhile.
  #ask() {
    if (this.#isAsking || this.#game.closed || this.#game.broken) return;
    this.#isAsking = true;
    const request = new StateRequest((bytes) => this.#take(bytes));
    this.#limit(request);
    this.#game.push(request);
  }

  #take(bytes) {
    this.#isAsking = false;
    if (bytes === null) return; // the next change asks again
    let state;
    try {
      state = share(this.#state, decode(bytes));
    } catch (cause) {
      this.#fail(cause);
      return;
    }
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of [...this.#listeners]) {
      // An error of a listener does not stop the engine. It is reported as an unhandled error.
      try {
        if (this.#listeners.has(listener)) listener();
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}
