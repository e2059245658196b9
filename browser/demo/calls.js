// Calls to an engine that do not fail because of its worker. An action that misses its deadline has had no effect, so it is sent again.

/** How long an answer may take until its worker is held for hung, in milliseconds. */
export const deadline = 700;
/** How long it is asked for again, in milliseconds. */
const patience = 30_000;

export class Calls {
  #engine; #seen;

  /**
   * @param {import('/hypertoken/hypertoken.js').Engine} engine
   * @param {(call: {what: string, ms: number, missed: number}) => void} [seen] is told how long each call took, and how many deadlines it missed
   */
  constructor(engine, seen = () => {}) {
    this.#engine = engine;
    this.#seen = seen;
  }

  act(type, payload) { return this.#until(type, () => this.#engine.dispatchAsync(type, payload, { timeout: deadline })); }

  /** All of the actions, [type, payload], or none. */
  batch(actions) {
    const list = actions.map(([type, payload]) => ({ type, payload }));
    return this.#until('batch', () => this.#engine.dispatchBatch(list, { timeout: deadline }));
  }

  state() { return this.#until('state', () => this.#engine.state({ timeout: deadline })); }

  stateAt(sequence) { return this.#until('stateAt', () => this.#engine.stateAt(sequence, { timeout: deadline })); }

  undo() { return this.#until('undo', () => this.#engine.undo({ timeout: deadline })); }

  redo() { return this.#until('redo', () => this.#engine.redo({ timeout: deadline })); }

  revert(sequence) { return this.#until('revert', () => this.#engine.revert(sequence, { timeout: deadline })); }

  digest() { return this.#until('digest', () => this.#engine.digest({ timeout: deadline })); }

  async #until(what, call) {
    const began = performance.now();
    for (let missed = 0; ; missed++) {
      try {
        const result = await call();
        this.#seen({ what, ms: performance.now() - began, missed });
        return result;
      } catch (error) {
        if (error.code !== 'timeout' || performance.now() - began > patience) throw error;
      }
    }
  }
}
