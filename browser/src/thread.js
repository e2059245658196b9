// A worker of a host over all its threads: one that ends is started again, and where that does not help it is given up, and tried now
// and then.

import { macrotask, startWorker } from './environment.js';
import { eachFrame, flag, kind, Writer } from './frames.js';

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
  #proven = false; // it has been ready once
  #host; #worker = null; #requests = 0; #out = new Writer(); #flushing = false; #timer = null;
  #failures = 0; #probes = 0; #deaths = []; #generation = 0; #watchdog = null; #watched = {};
  /** Messages so far, the last request of which something was dropped, and the names of actions whose answers may be held back. */
  #messages = 0; #dropped = 0; #quick = new Set();
  /** What is to end before this is stopped: starts, and threads that are terminated. */
  #ends = new Set();

  constructor(host) { this.#host = host; }

  /** Whether it has neither been ready nor failed to start yet. */
  get fresh() { return !this.#proven && this.#failures === 0 && this.#probes === 0; }

  /** Whether it is worth waiting for: not where it is only tried now and then. */
  get able() { return this.state !== 'given up' && this.state !== 'stopped' && this.#probes === 0; }

  start() {
    const generation = ++this.#generation;
    this.state = 'starting';
    const current = () => generation === this.#generation && this.state !== 'stopped';
    const failed = (cause) => current() && this.#notStarted(cause);
    const { workerPath, startTimeout } = this.#host.options;
    const start = async () => {
      try {
        const worker = await startWorker(workerPath, {
          message: (data) => current() && this.#came(data, current),
          gone: (cause) => this.#gone(cause, current),
        });
        if (!current()) return await worker.terminate();
        this.#worker = worker;
        await this.#host.module;
      } catch (cause) {
        return failed(cause);
      }
      // Only now, so that a core that takes long to load is no fault of the worker.
      if (current() && this.state === 'starting') {
        this.#timer = setTimeout(() => failed(new Error(`the worker was not ready within ${startTimeout} ms (startTimeout)`)), startTimeout);
      }
    };
    this.#ending(start());
  }

  #gone(cause, current) {
    if (!current()) return;
    if (this.state === 'ready') this.#died(cause);
    else this.#notStarted(cause);
  }

  #ending(promise) {
    this.#ends.add(promise);
    promise.finally(() => this.#ends.delete(promise));
  }

  #notStarted(cause) {
    this.#stopThread();
    this.cause = cause;
    this.#failures++;
    this.#host.log('a worker did not start', cause);
    // What never came up is most likely set up wrong: engines do not wait for more attempts.
    if (!this.#proven || this.#failures > this.#host.options.maxRestarts || this.#probes > 0) this.#giveUp();
    else this.#later(backoff(this.#failures));
    this.#host.assign();
  }

  async #came(data, current) {
    if (data?.loaded) {
      const module = await this.#host.module.catch(() => null); // without one the host ends this
      if (module && current()) this.#worker.post({ module }, []);
    } else if (data?.ready) {
      clearTimeout(this.#timer);
      this.state = 'ready';
      this.#failures = 0;
      this.#probes = 0;
      this.#host.log('a worker is ready');
      this.#proven = true;
      this.#host.workerReady(this);
    } else if (data?.unreadable) {
      this.#gone(new Error("the worker can not take in what it is sent: allow 'wasm-unsafe-eval' in the Content-Security-Policy with which its script is served, if it has one"), current);
    } else {
      try {
        eachFrame(data, (f) => this.#answered(f));
        this.watch();
      } catch (cause) {
        this.#died(cause);
      }
    }
  }

  #answered(f) {
    const entry = this.pending.get(f.request);
    if (!entry) throw new Error(`an answer to request ${f.request}, which nobody has sent`);
    this.pending.delete(f.request);
    const { op } = entry;
    if (f.flags & flag.quick) this.#quick.add(op.what);
    else if (op.kind === kind.dispatch && !op.suspect) this.#quick.delete(op.what);
    entry.game.answered(this, f.placement, op, f);
  }

  /** Sends a request. All that is sent before this turn of the event loop is over is one message. */
  send(game, placement, op) {
    const number = ++this.#requests, request = number >>> 0;
    this.pending.set(request, { game, placement, op, number, message: this.#messages });
    this.#out.frame(request, placement, op.kind, op.flags | (op.suspect ? flag.suspect : 0), ...op.parts);
    this.#flushSoon();
    if (op.internal && this.pending.size === 1) this.watch();
  }

  /** Tells that a placement is left. */
  close(placement) {
    this.#out.frame(0, placement, kind.close, 0);
    this.#flushSoon();
  }

  #flushSoon() {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#out.length === 0) return;
      const message = this.#out.take();
      this.#messages++;
      if (this.state !== 'ready') return; // what was sent goes elsewhere
      this.#worker.post(message, [message]);
    });
  }

  #oldest() {
    const [oldest] = this.pending.values();
    return oldest;
  }

  /** Takes in that nobody waits any more for something that is sent. */
  drop() {
    this.#dropped = this.#requests;
    this.watch();
  }

  // Whether nobody waits any more for what may be what runs: the oldest, or, where its answer may be held back, one of those behind it.
  #unwanted(oldest) {
    const gone = ({ op, game, placement }) => op.withdrawn || game.place?.placement !== placement;
    if (gone(oldest)) return true;
    if (oldest.number > this.#dropped) return false;
    for (const e of this.pending.values()) {
      if (e.message !== oldest.message || e.op.kind !== kind.dispatch || !this.#quick.has(e.op.what)) return false;
      if (gone(e)) return true;
    }
    return false;
  }

  /**
   * Looks at what runs. Where nobody waits for it any more, it has killGrace to end; where it is the host's own, which has no deadline,
   * it has startTimeout. Then the thread is ended, and another one takes its place.
   */
  watch() {
    const oldest = this.#oldest(), { killGrace, startTimeout } = this.#host.options;
    const ms = oldest && this.#unwanted(oldest) ? killGrace : oldest?.op.internal ? startTimeout : null;
    if (ms === this.#watched.ms && oldest === this.#watched.oldest) return;
    clearTimeout(this.#watchdog);
    this.#watched = { oldest, ms };
    if (ms === null) return;
    const over = () => {
      if (this.state !== 'ready' || this.#watched.oldest !== oldest || this.#oldest() !== oldest) return;
      this.#host.counts.killed++;
      this.#end(new Error(`${oldest.op.what} did not end`), true);
      this.start();
    };
    // Where this thread was busy, an answer that is there already comes first.
    this.#watchdog = setTimeout(() => macrotask(over), ms);
  }

  #died(cause) {
    const now = performance.now(), { maxRestarts, restartWindow } = this.#host.options;
    this.#host.counts.died++;
    this.#deaths = [...this.#deaths.filter((at) => now - at < restartWindow), now];
    this.#end(cause, false);
    if (this.#deaths.length > maxRestarts) this.#giveUp();
    else if (this.#deaths.length === 1) this.start();
    else this.#later(backoff(this.#deaths.length));
    this.#host.assign();
  }

  #end(cause, killed) {
    this.cause = cause;
    this.#host.log('a worker ended', cause);
    this.#stopThread();
    this.state = 'waiting';
    const op = this.#oldest()?.op;
    this.pending = new Map();
    this.#out.take();
    const games = this.games;
    this.games = new Map();
    for (const game of games.values()) game.lost(op, killed);
  }

  #stopThread() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#watched = {};
    this.#quick = new Set();
    this.#generation++;
    if (this.#worker) this.#ending(this.#worker.terminate());
    this.#worker = null;
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

  /** Ends it for good. Once it resolves, no thread of it is left. */
  async stop() {
    this.state = 'stopped';
    this.#stopThread();
    while (this.#ends.size > 0) await Promise.all(this.#ends);
  }

  /** For tests: the thread itself. */
  get thread() { return this.#worker?.thread; }
}
