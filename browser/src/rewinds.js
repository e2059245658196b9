// The rewind of an engine that is under way: an undo, a redo or a revert. It begins once everything
// before it has ended. If the game is saved, the part of the journal that it needs is read from the
// store. A past computes the state that it leads to (see past.js); what is behind it waits.

export class Rewinds {
  #game;
  /**
   * The Rewind whose journal is being read, or whose state is being computed, or null. It is the
   * first request of its game.
   */
  #op = null;

  /** @param {import('./game.js').Game} game */
  constructor(game) { this.#game = game; }

  /** The game that computes the state, or null. */
  get past() { return this.#op?.past ?? null; }

  /**
   * Begins a rewind, unless it has begun. Everything before it has ended.
   * @param {import('./past.js').Rewind} op the first request of the game
   * @returns whether the rewind ends at once: it leads nowhere
   */
  endsAtOnce(op) {
    if (op === this.#op) return false;
    const game = this.#game, history = game.history(op.what, ...op.span(game.position, game.sequence));
    this.#op = op;
    if (!(history instanceof Promise)) return this.#failsToBegin(op, history);
    history.then((read) => {
      if (this.#op === op && this.#failsToBegin(op, read)) game.pump();
    }, (error) => {
      if (this.#op !== op) return; // it has ended meanwhile
      this.#end(op, error);
      game.pump();
    });
    return false;
  }

  #end(op, error) {
    this.#op = null;
    this.#game.endRewind(op, error);
  }

  #failsToBegin(op, history) {
    const game = this.#game;
    let found;
    try {
      found = op.choose(history, game.position);
    } catch (error) {
      this.#end(op, error);
      return true;
    }
    game.leavePlace(true); // the past needs a place, and there may be one only
    op.begin(game.host, found, (error, bytes, digest) => {
      this.#op = null;
      if (error) game.endRewind(op, error);
      else game.takeRewind(op, { sequence: game.sequence + 1, bytes, isSnapshot: true, digest, marker: found.marker });
      game.pump();
    });
    return false;
  }

  /** Stops the rewind, if this request is the one that is under way: it has ended with an error. */
  abandon(op, error) {
    if (op !== this.#op) return;
    this.#op = null;
    op.abandon(error);
  }
}
