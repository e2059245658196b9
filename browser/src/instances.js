// Which engines of this page have an instance of the core. Browsers reserve gigabytes of address
// space for the memory of each instance: Chromium fails at the 125th of a tab. So all hosts of a
// page share this bound. If it is reached, the engine that was idle longest is taken out: its
// journal stays, and its next request places it again. If none is idle, engines yield their places
// in turn.

import { List } from './list.js';

class Instances {
  /**
   * The games that have a place. #idle has those without a request, the one that was idle longest
   * first. #busy has the others, in the order in which they got requests. #yielding has those that
   * give their place up once the requests that were sent there are answered.
   */
  #idle = new List(); #busy = new List(); #yielding = new List();
  /** The hosts that have engines waiting for room, with the number of instances that they allow. */
  #waiting = new Map();
  #isTelling = false;
  /** How many instances the browser has shown to have room for. */
  #bound = Infinity;

  /** How many engines of this page have an instance, or are about to get one. */
  get count() { return this.#idle.length + this.#busy.length + this.#yielding.length; }

  /** The games without a request, the one that was idle longest first. */
  get idle() { return this.#idle; }

  /** Whether more engines wait than there is room for now. */
  get isWanted() {
    for (const [host, bound] of this.#waiting) if (host.waiting > bound - this.count) return true;
    return false;
  }

  /** Notes that a game has a place and a request. */
  markBusy(game) {
    if (game.list !== this.#busy && game.list !== this.#yielding) this.#move(game, this.#busy);
  }

  /** Notes that a game has a place and no request. */
  markIdle(game) {
    if (game.list === this.#idle) return;
    this.#move(game, this.#idle);
    this.#tellHosts();
  }

  /** Notes that a game has lost its place. */
  remove(game) {
    game.list.remove(game);
    this.#tellHosts();
  }

  #move(game, list) {
    game.list?.remove(game);
    list.push(game);
  }

  /**
   * Makes room for engines that wait: idle engines are taken out at once, others yield.
   * @param {import('./host.js').Host} host is told by assign() when there may be room
   * @param {number} most how many engines may have an instance
   * @param {number} wanted how many engines wait
   * @returns {boolean} whether there is room for one now
   */
  makeRoom(host, most, wanted) {
    const bound = Math.min(most, this.#bound);
    while (this.count >= bound && this.#idle.length > 0) this.#idle.first.leavePlace(true);
    if (this.count < bound) return true;
    while (this.#yielding.length < wanted && this.#busy.length > 0) {
      const game = this.#busy.first;
      this.#move(game, this.#yielding);
      game.yieldPlace();
    }
    this.#waiting.set(host, bound);
    return false;
  }

  /**
   * Notes that the browser had no room for another instance: from now on there are no more than the
   * page has now. It returns false if the page has none, so that fewer are not possible.
   */
  lowerBound() {
    if (this.count === 0) return false;
    this.#bound = Math.min(this.#bound, this.count);
    return true;
  }

  /**
   * Whether the page's workers have so many instances, with and without engines, that an engine has
   * to be placed where an instance is spare. Workers keep instances, and each has a garbage collector
   * of its own: so a worker may find no room because of instances in others.
   */
  needsSpare(most, made) { return made >= Math.min(1.5 * most, this.#bound); }

  // A game may be in the middle of an answer now, so hosts are told afterwards.
  #tellHosts() {
    if (this.#isTelling || this.#waiting.size === 0) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      const hosts = [...this.#waiting.keys()];
      this.#waiting.clear();
      for (const host of hosts) host.assign();
    });
  }
}

export const instances = new Instances();
