// A histogram of the times that calls took. It is drawn again while new ones come in.

import { svg } from './cards.js';

// Buckets over a logarithmic scale: from 10 microseconds to 10 seconds.
const first = -2, decades = 6, per = 8;
const width = 360, height = 120, floor = 100;
const ticks = [['0.1 ms', -1], ['1 ms', 0], ['10 ms', 1], ['100 ms', 2], ['1 s', 3]];

export const bucketOf = (ms) => Math.max(0, Math.min(decades * per - 1, Math.floor((Math.log10(Math.max(ms, 1e-9)) - first) * per)));

/** Milliseconds as a person reads them. */
export function duration(ms) {
  if (ms < 1) return `${ms < 0.1 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

// The numbers are those of so many of the latest calls.
const kept = 10_000;

export class Latency {
  #counts = new Array(decades * per).fill(0); #calm = new Array(decades * per).fill(0);
  #all = new Float64Array(kept); #total = 0; #bars; #drawing = false; #told = 0; #telling = 0; #picture;

  constructor(picture) {
    this.#picture = picture;
    picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const x = (exponent) => ((exponent - first) / decades) * width;
    for (const [label, exponent] of ticks) {
      picture.append(svg('line', { class: 'tick', x1: x(exponent), x2: x(exponent), y1: 4, y2: floor }),
        svg('text', { class: 'label', x: x(exponent), y: floor + 14 }, label));
    }
    picture.append(svg('line', { class: 'axis', x1: 0, x2: width, y1: floor, y2: floor }));
    this.#bars = this.#counts.map((_, k) => ['missed', 'calm'].map((name) => {
      const bar = svg('rect', { class: `count ${name}`, x: (k * width) / this.#counts.length + 0.5, width: width / this.#counts.length - 1, y: floor, height: 0, rx: 1 });
      picture.append(bar);
      return bar;
    }));
  }

  /** Takes in how long a call took, and how many deadlines it missed on the way. */
  add(ms, missed) {
    const k = bucketOf(ms);
    this.#counts[k]++;
    if (missed === 0) this.#calm[k]++;
    this.#all[this.#total++ % kept] = ms;
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = false;
    const most = Math.max(...this.#counts);
    // A bar of one call among thousands stays visible: the rare slow calls matter most here.
    const tall = (n) => (n === 0 ? 0 : Math.max(4, (n / most) * (floor - 8)));
    this.#bars.forEach(([missed, calm], k) => {
      for (const [bar, n] of [[missed, this.#counts[k]], [calm, this.#calm[k]]]) {
        bar.setAttribute('y', floor - tall(n));
        bar.setAttribute('height', tall(n));
      }
    });
    // To sort all of it takes too long for each frame.
    const now = performance.now();
    clearTimeout(this.#telling);
    if (now - this.#told > 500) this.#tell();
    else this.#telling = setTimeout(() => this.#tell(), 500);
  }

  #tell() {
    this.#told = performance.now();
    const sorted = this.#all.slice(0, Math.min(this.#total, kept)).sort();
    const at = (q) => duration(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
    const figures = { calls: this.#total.toLocaleString('en'), p50: at(0.5), p99: at(0.99), worst: duration(sorted.at(-1)) };
    for (const [name, value] of Object.entries(figures)) document.getElementById(`latency-${name}`).textContent = value;
    this.#picture.setAttribute('aria-label', `Histogram of ${figures.calls} calls: half of them took less than ${figures.p50}, 99 of 100 less than ${figures.p99}, the slowest ${figures.worst}.`);
  }
}
