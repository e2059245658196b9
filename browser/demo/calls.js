// Calls to an engine that do not fail because of its worker or its server. An action that misses its deadline has had no effect, so it is sent again.

/** How long an answer may take until its worker is held for hung, in milliseconds. */
export const deadline = 700;
/** How long it is asked for again, in milliseconds. */
const patience = 30_000;

export class Calls {
  #engine; #seen; #deadline; #patience;

  /**
   * @param {import('/hypertoken/hypertoken.js').Engine | import('./server.js').ServerGame} engine
   * @param {(call: {what: string, ms: number, missed: number}) => void} [seen] is told how long each call took, and how often it had to be made again
   * @param {{deadline?: number, patience?: number}} [times] other ones than those above; a deadline of 0 is none
   */
  constructor(engine, seen = () => {}, times = {}) {
    this.#engine = engine;
    this.#seen = seen;
    this.#deadline = times.deadline ?? deadline;
    this.#patience = times.patience ?? patience;
  }

  act(type, payload) { return this.#until(type, () => this.#engine.dispatchAsync(type, payload, { timeout: this.#deadline })); }

  /** All of the actions, [type, payload], or none. */
  batch(actions) {
    const list = actions.map(([type, payload]) => ({ type, payload }));
    return this.#until('batch', () => this.#engine.dispatchBatch(list, { timeout: this.#deadline }));
  }

  state() { return this.#until('state', () => this.#engine.state({ timeout: this.#deadline })); }

  stateAt(sequence) { return this.#until('stateAt', () => this.#engine.stateAt(sequence, { timeout: this.#deadline })); }

  undo() { return this.#until('undo', () => this.#engine.undo({ timeout: this.#deadline })); }

  redo() { return this.#until('redo', () => this.#engine.redo({ timeout: this.#deadline })); }

  revert(sequence) { return this.#until('revert', () => this.#engine.revert(sequence, { timeout: this.#deadline })); }

  digest() { return this.#until('digest', () => this.#engine.digest({ timeout: this.#deadline })); }

  async #until(what, call) {
    const began = performance.now(), lost = this.#engine.lost ?? 0;
    for (let missed = 0; ; missed++) {
      try {
        const result = await call();
        this.#seen({ what, ms: performance.now() - began, missed: missed + (this.#engine.lost ?? 0) - lost });
        return result;
      } catch (error) {
        if (error.code !== 'timeout' || performance.now() - began > this.#patience) throw error;
      }
    }
  }
}
