import { Engine } from './engine.js';
import { getEnvironment } from './environment.js';
import { badInput } from './errors.js';
import { hostOptions } from './host.js';
import { checkOptions } from './options.js';

/** A worker with one engine, in whichever environment this is. */
export class UniversalWorker {
  #options; #engine = null;

  /** @param {object} [options] workerOptions, see Engine */
  constructor(options) {
    hostOptions(options, 'UniversalWorker'); // checked here, so that errors do not come with init only
    this.#options = { ...options };
  }

  get environment() { return getEnvironment(); }

  get engine() { return this.#engine; }

  /** Starts the worker and sets the engine up. */
  async init(options) {
    checkOptions('init', options, ['setup', 'snapshot']);
    const { setup, snapshot } = options ?? {};
    this.#engine ??= new Engine({ useWorker: true, setup, snapshot, workerOptions: this.#options });
    await this.#engine.ready;
  }

  #started() {
    if (!this.#engine) throw badInput('the Worker is not started: await init() first');
    return this.#engine;
  }

  async dispatch(type, payload, options) { return this.#started().dispatchAsync(type, payload, options); }

  on(name, f) { return this.#started().on(name, f); }

  async terminate() { await this.#engine?.shutdown(); }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { return this.terminate(); }
}
