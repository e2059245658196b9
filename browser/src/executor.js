// Runs the requests of placed engines. A worker and the main thread run them with the same code,
// from the same bytes to the same bytes.

import { Instance, Lost } from './core.js';
import { answerHead, entryHead, failure, flag, hash, kind } from './frames.js';
import { xxh64 } from './xxhash.js';

const now = () => performance.now();
const none = new Uint8Array(0);

// The head of an answer to an action, which is written to the same place again and again.
const headBytes = new Uint8Array(answerHead), headView = new DataView(headBytes.buffer);

/**
 * The instances without an engine, for each module. All executors of this thread share them. One
 * with more memory than maxSpareMemory, in bytes, is not kept.
 * @type {WeakMap<WebAssembly.Module, Instance[]>}
 */
const spares = new WeakMap(), maxSpareMemory = 4 << 20;

export class Executor {
  #module; #engines = new Map(); #spares;

  constructor(module) {
    this.#module = module;
    if (!spares.has(module)) spares.set(module, []);
    this.#spares = spares.get(module);
  }

  /**
   * Runs a request.
   * @param {{placement: number, kind: number, flags: number, body: Uint8Array}} f
   * @param {(flags: number, ...parts: Uint8Array[]) => void} answer its parts are to be copied before the next request
   * @param {number} [began] a moment just before, as performance.now()
   */
  run(f, answer, began = now()) {
    if (f.kind === kind.close) {
      if (f.flags & flag.keep) this.#keep(this.#engines.get(f.placement));
      this.#engines.delete(f.placement);
      return;
    }
    try {
      if (f.kind === kind.open) this.#engines.set(f.placement, this.#make(f.body));
      const instance = this.#engines.get(f.placement);
      if (!instance) {
        answer(flag.failed | flag.lost, failure('not_placed', `the placement ${f.placement} is not open`));
        return;
      }
      this.#on(instance, f, answer, began);
    } catch (cause) {
      this.#engines.delete(f.placement);
      answer(flag.failed | flag.lost, failure(cause instanceof Lost ? cause.code : 'trap', String(cause?.message ?? cause)));
    }
  }

  // An instance may be opened again: that drops the engine which it held (core-rs/ABI.md). So it is
  // kept for the next engine. The memory of one that is dropped stays reserved until the garbage
  // collector of this thread finds it, and other threads of the page have no room meanwhile.
  #keep(instance) {
    if (instance && !instance.isLost && instance.memorySize <= maxSpareMemory) this.#spares.push(instance);
  }

  // limits is the body of an open: core-rs/ABI.md.
  #make(limits) {
    let instance = this.#spares.pop();
    try {
      instance ??= new Instance(this.#module);
    } catch (cause) {
      // Browsers have room for some hundred memories: instances.js. Chromium throws a RangeError then,
      // and Firefox may throw a string.
      throw cause instanceof RangeError || /out of memory/i.test(cause?.message ?? cause) ? new Lost('out_of_memory', cause) : cause;
    }
    // The core refuses an open without limits.
    if (limits.length >= 8) instance.maxStateBytes = Number(new DataView(limits.buffer, limits.byteOffset, 8).getBigUint64(0, true));
    return instance;
  }

  #on(instance, f, answer, began) {
    if (f.kind === kind.dispatch || f.kind === kind.batch) return this.#action(instance, f, answer, began);
    const reply = (r) => answer((r.failed ? flag.failed : 0) | (r.changed ? flag.changed : 0), r.body);
    switch (f.kind) {
      case kind.open:
        return reply(f.flags & flag.restore ? instance.run('restore') : instance.run('open', f.body));
      case kind.feed: return reply(instance.run('feed', f.body));
      case kind.ready: return reply(instance.run('ready'));
      case kind.replay: return this.#replay(instance, f.body, answer);
      case kind.checksums: return this.#replay(instance, f.body, answer, true);
      case kind.snapshot: return reply(instance.stream('snapshot'));
      case kind.state: return reply(instance.stream('state'));
      case kind.digest: return reply(instance.run('digest'));
      case kind.actions: return reply(instance.run('actions'));
      default: throw new Error(`a frame of the kind ${f.kind}`);
    }
  }

  #action(instance, f, answer, began) {
    const r = instance.run(f.kind === kind.batch ? 'batch' : 'dispatch', f.body);
    if (r.failed) {
      answer(flag.failed, r.body);
      return;
    }
    const count = r.table.length / 8;
    headView.setFloat64(0, now() - began, true);
    headView.setFloat64(8, hash(r.body), true);
    headView.setUint32(16, r.events.length, true);
    headView.setUint32(20, count, true);
    answer(r.changed ? flag.changed : 0, headBytes, count > 0 ? this.#rows(r, count) : none, r.events, r.body);
  }

  // The rows of a batch: what the core says of each member, and the hash of the member's result.
  #rows({ table, body }, count) {
    const rows = new Uint8Array(16 * count), v = new DataView(rows.buffer);
    for (let k = 0, at = 0; k < count; k++) {
      rows.set(table.subarray(8 * k, 8 * k + 8), 16 * k);
      const end = v.getUint32(16 * k, true);
      v.setFloat64(16 * k + 8, hash(body, at, Math.min(end, body.length)), true);
      at = end;
    }
    return rows;
  }

  // The answer has the checksums of the results if they are wanted, 8 bytes each.
  #replay(instance, body, answer, areSumsWanted = false) {
    const sums = [];
    const v = new DataView(body.buffer, body.byteOffset, body.length);
    for (let at = 0, n = 0; at < body.length; n++) {
      const length = v.getUint32(at, true), want = v.getFloat64(at + 4, true);
      const r = instance.run('dispatch', body.subarray(at + entryHead, at + entryHead + length));
      if (r.failed || hash(r.body) !== want) {
        throw new Lost('diverged', `action ${n} of a replay has another result than the one that was acknowledged`);
      }
      if (areSumsWanted) sums.push(BigInt(`0x${xxh64(r.body)}`));
      at += entryHead + length;
    }
    answer(0, new Uint8Array(BigUint64Array.from(sums).buffer));
  }
}
