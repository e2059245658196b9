// A worker of a host over all its threads: one that ends is started again, and where that does not help it is given up, and tried now
// and then.

import { startWorker } from './environment.js';
import { eachFrame, Writer } from './frames.js';

const backoff = (n) => Math.min(50 * 2 ** n, 5000);
const probeAfter = (n) => Math.min(1000 * 2 ** n, 60_000);

export class Thread {
  /** @type {'starting' | 'ready' | 'waiting' | 'given up' | 'stopped'} */
  state = 'waiting';
  /** What it owes an answer to, oldest first: by request. */
  pending = new Map();
  /** Why its last thread ended, or could not be started. */
  cause = null;
  /** The games that are placed here, by placement. */
  games = new Map();
  #host; #worker = null; #requests = 0; #out = new Writer(); #flushing = false; #timer = null;
  #failures = 0; #probes = 0; #deaths = []; #generation = 0; #startFailed = null; #ending = new Set();

  constructor(host) { this.#host = host; }

  /** Whether it starts for the first time, or again after it was ready: that goes well, as a rule. */
  get promising() { return this.state === 'starting' && this.#failures === 0 && this.#probes === 0; }

  get able() { return this.state !== 'given up' && this.state !== 'stopped'; }

  async start() {
    const { workerPath, startTimeout, maxRestarts } = this.#host.options;
    const generation = ++this.#generation;
    this.state = 'starting';
    const current = () => generation === this.#generation && this.state !== 'stopped';
    this.#startFailed = (cause) => {
      if (!current()) return;
      this.#stopThread();
      this.cause = cause;
      this.#failures++;
      this.#host.log('a worker did not start', cause);
      if (this.#failures > maxRestarts || this.#probes > 0) this.#giveUp();
      else this.#later(backoff(this.#failures));
      this.#host.assign();
    };
    this.#timer = setTimeout(() => this.#startFailed(new Error(`the worker was not ready within ${startTimeout} ms`)), startTimeout);
    try {
      const module = await this.#host.module;
      const worker = await startWorker(workerPath, {
        message: (data) => current() && this.#came(data, module),
        gone: (cause) => current() && (this.state === 'ready' ? this.#died(cause) : this.#startFailed(cause)),
      });
      if (current()) this.#worker = worker;
      else await worker.terminate();
    } catch (cause) {
      this.#startFailed(cause);
    }
  }

  #came(data, module) {
    if (data?.loaded) {
      this.#worker.post({ module }, []);
    } else if (data?.ready) {
      clearTimeout(this.#timer);
      this.state = 'ready';
      this.#failures = 0;
      this.#probes = 0;
      this.#host.log('a worker is ready');
      this.#host.workerReady();
    } else {
      try {
        eachFrame(data, (f) => this.#answered(f));
      } catch (cause) {
        this.#died(cause);
      }
    }
  }

  #answered(f) {
    const entry = this.pending.get(f.request);
    if (!entry) throw new Error(`an answer to request ${f.request}, which nobody has sent`);
    this.pending.delete(f.request);
    entry.game.answered(this, f.placement, entry.op, f);
    const [oldest] = this.pending.values();
    if (oldest?.op.withdrawn) this.#host.watch(this, oldest.op);
  }

  /** Sends a request. All that is sent before this turn of the event loop is over is one message. */
  send(game, placement, op) {
    const request = (this.#requests = (this.#requests + 1) >>> 0);
    this.pending.set(request, { game, op });
    this.#out.frame(request, placement, op.kind, op.flags, ...op.parts);
    this.#flushSoon();
  }

  tell(placement, kind) {
    this.#out.frame(0, placement, kind, 0);
    this.#flushSoon();
  }

  #flushSoon() {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#out.length === 0) return;
      const message = this.#out.take();
      if (this.state !== 'ready') return; // what was sent goes elsewhere
      this.#worker.post(message, [message]);
    });
  }

  /** Whether an operation is what runs, or what runs next. */
  runs(op) {
    const [oldest] = this.pending.values();
    return oldest?.op === op;
  }

  /** Ends the thread because of what it runs: another one takes its place. */
  kill(cause) {
    this.#host.counts.killed++;
    this.#end(cause, false);
    this.start();
  }

  #died(cause) {
    const now = performance.now(), { maxRestarts, restartWindow } = this.#host.options;
    this.#host.counts.died++;
    this.#deaths = [...this.#deaths.filter((at) => now - at < restartWindow), now];
    this.#end(cause, true);
    if (this.#deaths.length > maxRestarts) this.#giveUp();
    else if (this.#deaths.length === 1) this.start();
    else this.#later(backoff(this.#deaths.length));
    this.#host.assign();
  }

  #end(cause, byItself) {
    this.cause = cause;
    this.#host.log('a worker ended', cause);
    this.#stopThread();
    this.state = 'waiting';
    const [oldest] = this.pending.values();
    this.pending = new Map();
    this.#out.take();
    const games = this.games;
    this.games = new Map();
    for (const game of games.values()) game.lost(byItself ? oldest?.op : undefined);
  }

  #stopThread() {
    clearTimeout(this.#timer);
    this.#generation++;
    const worker = this.#worker;
    this.#worker = null;
    if (!worker) return;
    const ended = Promise.resolve(worker.terminate()).catch(() => {}).then(() => this.#ending.delete(ended));
    this.#ending.add(ended);
  }

  #later(ms) {
    this.state = 'waiting';
    this.#timer = setTimeout(() => this.start(), ms);
  }

  #giveUp() {
    this.state = 'given up';
    this.#deaths = [];
    this.#timer = setTimeout(() => {
      this.#failures = 0;
      this.start();
    }, probeAfter(this.#probes++));
    this.#timer.unref?.();
  }

  /** Ends it, and waits until none of its threads is left. */
  async stop() {
    this.state = 'stopped';
    this.#stopThread();
    await Promise.all(this.#ending);
  }

  /** For tests: the thread itself. */
  get thread() { return this.#worker?.thread; }
}
