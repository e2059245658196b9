// The buttons that break the worker, and the time until the game goes on.

import { deadline } from './calls.js';
import { duration } from './latency.js';

const $ = (id) => document.getElementById(id);

const deeds = {
  hang: { done: `The worker is in a loop that never ends. It is noticed when a call has no answer within ${duration(deadline)}.`, on: (worker) => worker.postMessage({ trouble: 'hang' }) },
  kill: { done: 'You have killed the worker.', on: (worker) => worker.terminate() },
  crash: { done: 'The worker has crashed: it threw an error that nothing catches.', on: (worker) => worker.postMessage({ trouble: 'crash' }) },
};

/** Adds a line to the log. */
export function say(text, kind = '') {
  const line = document.createElement('li'), time = document.createElement('time');
  time.textContent = new Date().toLocaleTimeString('en-GB');
  line.dataset.kind = kind;
  line.append(time, text);
  const log = $('log');
  log.append(line);
  while (log.children.length > 30) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}

const parts = ['noticed', 'started', 'restored'];

export class Trouble {
  #engine; #calls; #busy = false; #recoveries = [];

  /**
   * @param {import('/hypertoken/hypertoken.js').Engine} engine
   * @param {import('./calls.js').Calls} calls
   */
  constructor(engine, calls) {
    this.#engine = engine;
    this.#calls = calls;
    for (const kind of Object.keys(deeds)) {
      $(kind).addEventListener('click', () => this.make(kind).catch((error) => {
        say(`The game did not go on: ${error.message}`, 'bad');
        this.#outcome('The game did not go on. Load the page again.', 'bad');
      }));
    }
    this.#watch();
    setInterval(() => this.#watch(), 200);
  }

  get #thread() { return this.#engine.host.threads[0]; }

  async make(kind) {
    if (this.#busy) return;
    const thread = this.#thread;
    if (this.#engine.place === 'another tab') {
      say('The game runs in another tab. Break its worker there, or close that tab: then the game goes on here.');
      this.#outcome('The game runs in another tab. Break it there.');
      return;
    }
    if (!thread.thread || this.#engine.place !== 'worker') {
      say('There is no worker to break at the moment: the game runs on the main thread until one starts.');
      this.#outcome('There is no worker at the moment. The game runs on the main thread.');
      return;
    }
    this.#busy = true;
    this.#buttons();
    try {
      const digest = await this.#calls.digest();
      const before = this.#engine.sequence, worker = thread.thread;
      say(deeds[kind].done, 'bad');
      this.#outcome('Broken. A new one starts …', 'bad');
      const at = { began: performance.now() };
      deeds[kind].on(worker);
      // The package has no event that says so.
      const poll = setInterval(() => {
        if (thread.thread !== worker || thread.state !== 'ready') at.noticed ??= performance.now();
        if (at.noticed && thread.state === 'ready' && thread.thread !== worker) at.started ??= performance.now();
        this.#watch(!at.noticed);
      }, 4);
      try {
        const after = await this.#calls.digest();
        at.restored = performance.now();
        this.#recovered(at, digest, after, this.#engine.sequence - before);
      } finally {
        clearInterval(poll);
      }
    } finally {
      this.#busy = false;
      this.#buttons();
      this.#watch();
    }
  }

  #recovered(at, digest, after, others) {
    // A recovery that was faster than the poll counts as 0 ms.
    at.started = Math.min(at.started ?? at.restored, at.restored);
    at.noticed = Math.min(at.noticed ?? at.started, at.started);
    const took = { noticed: at.noticed - at.began, started: at.started - at.noticed, restored: at.restored - at.started };
    const all = at.restored - at.began;
    this.#recoveries.push(all);
    for (const part of parts) {
      $(`time-${part}`).textContent = duration(took[part]);
      $(`bar-${part}`).style.flexGrow = Math.max(took[part], all / 100);
    }
    $('recovery').hidden = false;
    $('recovery-time').textContent = duration(all);
    const good = after === digest || others > 0;
    const proof = after === digest ? `Nothing is lost: the checksum of the game is still ${after}.`
      : others > 0 ? `${others} actions that were waiting have been run.` : `The game is another: its checksum was ${digest}, and is ${after}.`;
    say(`The game goes on after ${duration(all)}. ${proof}`, good ? 'good' : 'bad');
    this.#outcome(good ? `Back after ${duration(all)}. Nothing is lost.` : 'The game is another.', good ? 'good' : 'bad');
    $('digest').textContent = after;
  }

  // A disabled button would lose the focus.
  #buttons() {
    for (const kind of Object.keys(deeds)) $(kind).setAttribute('aria-disabled', this.#busy);
  }

  #watch(silent = false) {
    const { state } = this.#thread, { place, sequence, host } = this.#engine;
    const [kind, text] = place === 'main thread' ? ['warn', 'on the main thread']
      : silent ? ['bad', 'not answering'] : state === 'ready' ? ['good', 'ready'] : state === 'given up' ? ['bad', 'given up'] : ['warn', 'starting'];
    const figures = {
      worker: text, sequence: sequence.toLocaleString('en'), replaced: `${host.counts.died + host.counts.killed}`,
      place: place === 'nowhere' ? 'worker, from the next action on' : place,
    };
    for (const [id, value] of Object.entries(figures)) {
      if ($(id).textContent !== value) $(id).textContent = value;
    }
    $('worker').dataset.kind = kind;
  }

  // The line beside the buttons: a visitor who has just pressed one looks there.
  #outcome(text, kind = '') {
    $('outcome').textContent = text;
    $('outcome').dataset.kind = kind;
  }
}
