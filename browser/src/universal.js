import { Engine } from './engine.js';
import { getEnvironment } from './environment.js';

/** A worker with one engine, in whichever environment this is. */
export class UniversalWorker {
  #options; #engine = null;

  /** @param {object} [options] workerOptions, see Engine */
  constructor(options = {}) { this.#options = options; }

  get environment() { return getEnvironment(); }

  get engine() { return this.#engine; }

  /** Starts the worker and sets the engine up. */
  async init({ setup, snapshot } = {}) {
    this.#engine ??= new Engine({ useWorker: true, setup, snapshot, workerOptions: this.#options });
    await this.#engine.ready;
  }

  dispatch(type, payload, options) { return this.#engine.dispatchAsync(type, payload, options); }

  on(name, f) { return this.#engine.on(name, f); }

  async terminate() { await this.#engine?.shutdown(); }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { return this.terminate(); }
}
