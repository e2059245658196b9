// Runs the same heavy work on a worker and on the main thread, and shows how long the page's frames take meanwhile.

import { Engine } from '/hypertoken/hypertoken.js';
import { svg } from './cards.js';

const $ = (id) => document.getElementById(id);

const tokens = 20_000;
/** One request: so many shuffles of all the tokens. */
const shuffles = Array.from({ length: 400 }, () => ({ type: 'stack:shuffle' }));
const lasts = 4000; // milliseconds
const still = matchMedia('(prefers-reduced-motion: reduce)');

// Lets the browser draw. Without this, work on the main thread would freeze the page instead of making it stutter.
const turn = (() => {
  const { port1, port2 } = new MessageChannel(), waiting = [];
  port1.onmessage = () => waiting.shift()();
  return () => new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(0);
  });
})();

// The picture of a lane: a bar for each frame, as high as the frame was long, to 150 ms.
const width = 400, height = 72, tallest = 150;
const y = (ms) => height - (Math.min(ms, tallest) / tallest) * (height - 4);

class Lane {
  #name; #trace; #path;

  constructor(name) {
    this.#name = name;
    this.#trace = $(`${name}-trace`);
    this.#path = svg('path', { class: 'frames' });
    this.#trace.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.#trace.append(this.#path, svg('line', { class: 'limit', x1: 0, x2: width, y1: y(1000 / 60), y2: y(1000 / 60) }));
  }

  async run() {
    const lane = $(`lane-${this.#name}`);
    lane.dataset.running = lane.dataset.ran = 'true';
    this.#figure('fps', '…');
    this.#figure('longest', '…');
    this.#figure('rate', '…');
    const setup = { stack: Array.from({ length: tokens }, (_, k) => ({ id: `t${k}` })) };
    const engine = new Engine({ useWorker: this.#name === 'worker', setup });
    try {
      await engine.ready;
      await turn();
      let going = true, count = 0;
      const until = performance.now() + lasts;
      const frames = this.#frames(() => going);
      while (performance.now() < until) {
        await engine.dispatchBatch(shuffles);
        count += shuffles.length;
        await turn();
      }
      going = false;
      return this.#tell(await frames, count / (lasts / 1000));
    } finally {
      lane.dataset.running = 'false';
      await engine.shutdown();
    }
  }

  // Each frame's length in milliseconds, drawn as they come.
  async #frames(going) {
    const lengths = [], bars = [], dot = $(`${this.#name}-dot`);
    let from = null, last = null;
    while (going()) {
      const now = await new Promise((resolve) => requestAnimationFrame(resolve));
      if (last !== null) {
        lengths.push(now - last);
        const x = ((now - from) / lasts) * width, wide = Math.max(1, ((now - last) / lasts) * width - 0.3);
        bars.push(`M${(x - wide).toFixed(1)} ${height}V${y(now - last).toFixed(1)}h${wide.toFixed(1)}V${height}Z`);
        this.#path.setAttribute('d', bars.join(''));
        // The script moves it on purpose: an animation in CSS would go on while the main thread stands still.
        if (!still.matches) dot.style.transform = `translateX(${50 - 50 * Math.cos(((now - from) / 1000) * Math.PI)}cqw) rotate(${((now - from) / 1000) * 180}deg)`;
      }
      from ??= now;
      last = now;
    }
    dot.style.transform = '';
    return lengths;
  }

  #figure(name, text) { $(`${this.#name}-${name}`).textContent = text; }

  #tell(lengths, rate) {
    const fps = Math.round((1000 * lengths.length) / lengths.reduce((a, b) => a + b, 0)), longest = Math.round(Math.max(...lengths));
    this.#figure('fps', `${fps}`);
    this.#figure('longest', `${longest} ms`);
    this.#figure('rate', Math.round(rate).toLocaleString('en'));
    this.#trace.setAttribute('aria-label', `${lengths.length} frames in ${lasts / 1000} seconds, the longest of ${longest} milliseconds`);
    return { fps, longest, rate };
  }
}

export class Race {
  #lanes = { worker: new Lane('worker'), main: new Lane('main') }; #running = false;

  constructor() {
    $('race').addEventListener('click', () => this.run(['worker', 'main']));
    for (const name of Object.keys(this.#lanes)) $(`run-${name}`).addEventListener('click', () => this.run([name]));
  }

  /** Runs one lane after the other: at the same time, the main thread's would spoil the worker's. */
  async run(names) {
    if (this.#running) return;
    this.#running = true;
    const buttons = ['race', 'run-worker', 'run-main'].map($);
    for (const b of buttons) b.setAttribute('aria-disabled', 'true');
    try {
      const told = [];
      for (const name of names) {
        const where = name === 'worker' ? 'on a worker' : 'on the main thread';
        $('race-result').textContent = `Shuffling ${where} …`;
        const { fps, longest } = await this.#lanes[name].run();
        told.push(`${where} ${fps} frames a second, the longest ${longest} ms`);
      }
      const text = told.join('; ');
      $('race-result').textContent = `${text[0].toUpperCase()}${text.slice(1)}.`;
    } catch (error) {
      $('race-result').textContent = `It failed: ${error.message}`;
    } finally {
      this.#running = false;
      for (const b of buttons) b.setAttribute('aria-disabled', 'false');
    }
  }
}
