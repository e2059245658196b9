// One of a host's workers, over all its threads. If its thread ends, another one is started. If
// that happens too often, the worker is given up, and tried again from time to time. The restart
// rules are those of docs/recovery.md.

import { macrotask, startWorker } from './environment.js';
import { eachFrame, flag, kind, Writer } from './frames.js';
import { List } from './list.js';

/**
 * How long the worker waits before the start after its n-th death in a row, in milliseconds. The
 * first one is replaced at once.
 */
const backoff = (n) => (n < 2 ? 0 : Math.min(50 * 2 ** (n - 2), 5000));
/** How many entries of answered requests a worker's host keeps for the next ones. */
const mostSpares = 1024;
/** What is watched: the number of the oldest request, 0 for none, and for how many milliseconds. */
const nothing = { number: 0, ms: null };
const probeAfter = (n) => Math.min(1000 * 2 ** n, 60_000);

export class Thread {
  /** @type {'starting' | 'ready' | 'waiting' | 'given up' | 'stopped'} */
  state = 'waiting';
  /** The requests that the worker has not answered, the oldest first. */
  pending = new List();
  /** The reason why its last thread ended, or could not be started. */
  cause = null;
  /** The games that are placed here, by placement. */
  games = new Map();
  /**
   * How many instances the worker has. Those without an engine are kept for other engines
   * (executor.js).
   */
  instances = 0;
  #wasReady = false;
  #host; #worker = null; #requests = 0; #out = new Writer(); #flushing = false; #timer = null;
  #failures = 0; #probes = 0; #deaths = []; #generation = 0; #watchdog = null; #watched = nothing; #isToWatch = false;
  /**
   * How many messages were sent, the number of the last request that some caller has dropped or an
   * earlier one, and the names of the actions whose answers the worker may hold back.
   */
  #messages = 0; #dropped = 0; #quick = new Set();
  /**
   * Entries of `pending` that were answered, for the next requests, and their number: each has another
   * one as `next`.
   */
  #spare = null; #spares = 0;
  /** Promises that stop() waits for: starts, and terminations of threads. */
  #ends = new Set();

  constructor(host) { this.#host = host; }

  /** Whether the worker's first start is under way. */
  get isNew() { return !this.#wasReady && this.#failures === 0 && this.#probes === 0; }

  /**
   * Whether engines wait for the worker. They do not if it was given up, and is only tried from
   * time to time.
   */
  get isExpected() { return this.state !== 'given up' && this.state !== 'stopped' && this.#probes === 0; }

  start() {
    const generation = ++this.#generation;
    this.state = 'starting';
    const current = () => generation === this.#generation && this.state !== 'stopped';
    const failed = (cause) => current() && this.#notStarted(cause);
    const { worker: make, workerPath, startTimeout } = this.#host.options;
    const start = async () => {
      try {
        const worker = await startWorker({ worker: make, workerPath }, {
          message: (data) => current() && this.#handleMessage(data, current),
          exit: (cause) => this.#handleThreadExit(cause, current),
        });
        if (!current()) return await worker.terminate();
        this.#worker = worker;
        await this.#host.module;
      } catch (cause) {
        return failed(cause);
      }
      // The limit begins once the core is loaded: a core that takes long to load is no fault of the
      // worker.
      if (current() && this.state === 'starting') {
        this.#timer = setTimeout(() => failed(new Error(`the Worker was not ready within ${startTimeout} ms (startTimeout)`)), startTimeout);
      }
    };
    this.#waitFor(start());
  }

  #handleThreadExit(cause, current) {
    if (!current()) return;
    if (this.state === 'ready') this.#handleDeath(cause);
    else this.#notStarted(cause);
  }

  #waitFor(promise) {
    this.#ends.add(promise);
    promise.finally(() => this.#ends.delete(promise));
  }

  #notStarted(cause) {
    this.#stopThread();
    this.cause = cause;
    this.#failures++;
    this.#host.log('a worker did not start', cause);
    // A worker that was never ready is most likely set up wrong: engines do not wait for more
    // attempts.
    if (!this.#wasReady || this.#failures > this.#host.options.maxRestarts || this.#probes > 0) this.#giveUp();
    else this.#startAfter(backoff(this.#failures));
    this.#host.assign();
  }

  async #handleMessage(data, current) {
    if (data?.loaded) {
      const module = await this.#host.module.catch(() => null); // without a core the host stops this worker
      if (module && current()) this.#worker.post({ module }, []);
    } else if (data?.ready) {
      clearTimeout(this.#timer);
      this.state = 'ready';
      this.#failures = 0;
      this.#probes = 0;
      this.#host.log('a worker is ready');
      this.#wasReady = true;
      this.#host.workerReady(this);
    } else if (data?.unreadable) {
      this.#handleThreadExit(new Error("the Worker can not read its messages: allow 'wasm-unsafe-eval' in the Content-Security-Policy with which its script is served, if it has one"), current);
    } else {
      try {
        eachFrame(data, (f) => this.#handleAnswer(f));
        this.watchOldest();
      } catch (cause) {
        this.#handleDeath(cause);
      }
    }
  }

  #handleAnswer(f) {
    const entry = this.pending.first;
    if (entry?.request !== f.request) throw new Error(`an answer to request ${f.request}, which is not the next`);
    this.pending.remove(entry);
    const { op, game } = entry;
    entry.game = entry.op = null;
    if (this.#spares < mostSpares) {
      entry.next = this.#spare;
      this.#spare = entry;
      this.#spares++;
    }
    if (f.flags & flag.quick) this.#quick.add(op.what);
    else if (op.kind === kind.dispatch && !op.suspect) this.#quick.delete(op.what);
    game.handleAnswer(this, f.placement, op, f);
  }

  /**
   * Sends a request. All requests that are sent within one turn of the event loop are one message.
   */
  send(game, placement, op) {
    const number = ++this.#requests, request = number >>> 0;
    this.pending.push(this.#entry(game, placement, op, request, number));
    this.#out.frame(request, placement, op.kind, op.flags | (op.suspect ? flag.suspect : 0), op.parts);
    this.#flushSoon();
    if (op.internal && this.pending.length === 1) this.watchOldest();
  }

  #entry(game, placement, op, request, number) {
    const entry = this.#spare;
    if (entry === null) return { game, placement, op, request, number, message: this.#messages, list: null, prev: null, next: null };
    this.#spares--;
    this.#spare = entry.next;
    entry.next = null;
    entry.game = game;
    entry.placement = placement;
    entry.op = op;
    entry.request = request;
    entry.number = number;
    entry.message = this.#messages;
    return entry;
  }

  /** Takes note of an engine that is being placed here. */
  add(placement, game) {
    this.games.set(placement, game);
    this.instances = Math.max(this.instances, this.games.size);
  }

  /**
   * Tells the worker that an engine has left a placement.
   * @param {boolean} isKept whether the worker keeps the instance for another engine
   */
  close(placement, isKept) {
    this.games.delete(placement);
    if (!isKept) this.instances = Math.max(this.games.size, this.instances - 1);
    this.#out.frame(0, placement, kind.close, isKept ? flag.keep : 0);
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
      if (this.state !== 'ready') return; // the requests in the message run elsewhere
      this.#worker.post(message, [message]);
    });
  }

  #oldest() { return this.pending.first ?? undefined; }

  /**
   * Notes that a caller no longer waits for a request that was sent, or that an engine has left its
   * place.
   */
  noteDropped() {
    this.#dropped = this.#requests;
    // A signal may end thousands of requests at once: they are looked at together.
    if (this.#isToWatch) return;
    this.#isToWatch = true;
    queueMicrotask(() => {
      this.#isToWatch = false;
      if (this.state === 'ready') this.watchOldest();
    });
  }

  // Whether the worker may run a request that no caller waits for: the oldest one, or one behind it
  // if the answers of those in between may be held back.
  #mayRunDropped(oldest) {
    const isDropped = ({ op, game, placement }) => op.withdrawn || game.place?.placement !== placement;
    if (isDropped(oldest)) return true;
    if (oldest.number > this.#dropped) return false;
    for (let e = this.pending.first; e; e = e.next) {
      if (e.message !== oldest.message || e.op.kind !== kind.dispatch || !this.#quick.has(e.op.what)) return false;
      if (isDropped(e)) return true;
    }
    return false;
  }

  /**
   * Bounds how long the oldest request may run. If no caller waits for it any more, the bound is
   * killGrace. If it is the host's own request, which has no deadline, the bound is startTimeout. A
   * worker that takes longer is killed, and another thread takes its place.
   */
  watchOldest() {
    const oldest = this.#oldest(), { killGrace, startTimeout } = this.#host.options;
    const ms = oldest && this.#mayRunDropped(oldest) ? killGrace : oldest?.op.internal ? startTimeout : null;
    const number = ms === null ? 0 : oldest.number; // entries are used again, and numbers are not
    if (number === this.#watched.number && ms === this.#watched.ms) return;
    clearTimeout(this.#watchdog);
    this.#watched = { number, ms };
    if (ms === null) return;
    const { what } = oldest.op;
    const kill = () => {
      if (this.state !== 'ready' || this.#watched.number !== number || this.#oldest()?.number !== number) return;
      this.#host.counts.killed++;
      this.#end(new Error(`${what} did not end`), null);
      this.start();
    };
    // If this thread was busy meanwhile, an answer that has arrived is read first.
    this.#watchdog = setTimeout(() => macrotask(kill), ms);
  }

  // If a worker dies while it runs a suspect alone, the death counts for the suspect, and not
  // against the worker, as in Go.
  #handleDeath(cause) {
    const now = performance.now(), { maxRestarts, restartWindow } = this.#host.options;
    const counts = !this.#oldest()?.op.suspect;
    this.#host.counts.died++;
    if (counts) this.#deaths = [...this.#deaths.filter((at) => now - at < restartWindow), now];
    this.#end(cause, { cleared: false });
    if (counts && this.#deaths.length > maxRestarts) this.#giveUp();
    else this.#startAfter(counts ? backoff(this.#deaths.length) : 0);
    this.#host.assign();
  }

  // death is null if the host kills the worker. Otherwise it is the death of which all requests of
  // the worker are suspects.
  #end(cause, death) {
    this.cause = cause;
    this.#host.log('a worker ended', cause);
    this.#stopThread();
    this.state = 'waiting';
    const ran = this.#oldest()?.op;
    this.pending = new List();
    this.#out.take();
    const games = this.games;
    this.games = new Map();
    for (const game of games.values()) game.handleWorkerEnd(ran, death);
  }

  #stopThread() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#watched = nothing;
    this.instances = 0;
    this.#quick = new Set();
    this.#generation++;
    if (this.#worker) this.#waitFor(this.#worker.terminate());
    this.#worker = null;
  }

  #startAfter(ms) {
    if (ms === 0) {
      this.start();
      return;
    }
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

  /** Ends the worker for good. Once the promise resolves, no thread of it is left. */
  async stop() {
    this.state = 'stopped';
    this.#stopThread();
    while (this.#ends.size > 0) await Promise.all(this.#ends);
  }

  /** For tests: the thread itself. */
  get thread() { return this.#worker?.thread; }
}
