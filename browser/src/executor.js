// Runs the requests of placed engines. A worker and the main thread run them with the same code,
// from the same bytes to the same bytes.

import { Instance, Lost } from './core.js';
import { answerHead, entryHead, failure, flag, hash, kind } from './frames.js';

const now = () => performance.now();

export class Executor {
  #module; #engines = new Map();

  constructor(module) { this.#module = module; }

  /**
   * Runs a request.
   * @param {{placement: number, kind: number, flags: number, body: Uint8Array}} f
   * @param {(flags: number, ...parts: Uint8Array[]) => void} answer its parts are to be copied before the next request
   */
  run(f, answer) {
    if (f.kind === kind.close) {
      this.#engines.delete(f.placement);
      return;
    }
    try {
      if (f.kind === kind.open) this.#engines.set(f.placement, new Instance(this.#module));
      const instance = this.#engines.get(f.placement);
      if (!instance) {
        answer(flag.failed | flag.lost, failure('not_placed', `the placement ${f.placement} is not open`));
        return;
      }
      this.#on(instance, f, answer);
    } catch (cause) {
      this.#engines.delete(f.placement);
      answer(flag.failed | flag.lost, failure(cause instanceof Lost ? cause.code : 'trap', String(cause?.message ?? cause)));
    }
  }

  #on(instance, f, answer) {
    const reply = (r) => answer((r.failed ? flag.failed : 0) | (r.changed ? flag.changed : 0), r.body);
    switch (f.kind) {
      case kind.open:
        return reply(f.flags & flag.restore ? instance.run('restore') : instance.run('open', f.body));
      case kind.feed: return reply(instance.run('feed', f.body));
      case kind.ready: return reply(instance.run('ready'));
      case kind.replay: return this.#replay(instance, f.body, answer);
      case kind.dispatch:
      case kind.batch: return this.#action(instance, f, answer);
      case kind.snapshot: return reply(instance.stream('snapshot'));
      case kind.state: return reply(instance.stream('state'));
      case kind.digest: return reply(instance.run('digest'));
      case kind.actions: return reply(instance.run('actions'));
      default: throw new Error(`a frame of the kind ${f.kind}`);
    }
  }

  #action(instance, f, answer) {
    const began = now();
    const r = instance.run(f.kind === kind.batch ? 'batch' : 'dispatch', f.body);
    if (r.failed) {
      answer(flag.failed, r.body);
      return;
    }
    const count = r.table.length / 8, rows = new DataView(r.table.buffer, r.table.byteOffset, r.table.length);
    const head = new Uint8Array(answerHead + 16 * count), v = new DataView(head.buffer);
    v.setFloat64(0, now() - began, true);
    v.setFloat64(8, hash(r.body), true);
    v.setUint32(16, r.events.length, true);
    v.setUint32(20, count, true);
    for (let k = 0, at = 0; k < count; k++) {
      const end = rows.getUint32(8 * k, true);
      head.set(r.table.subarray(8 * k, 8 * k + 8), answerHead + 16 * k);
      v.setFloat64(answerHead + 16 * k + 8, hash(r.body.subarray(at, end)), true);
      at = end;
    }
    answer(r.changed ? flag.changed : 0, head, r.events, r.body);
  }

  #replay(instance, body, answer) {
    const v = new DataView(body.buffer, body.byteOffset, body.length);
    for (let at = 0, n = 0; at < body.length; n++) {
      const length = v.getUint32(at, true), want = v.getFloat64(at + 4, true);
      const r = instance.run('dispatch', body.subarray(at + entryHead, at + entryHead + length));
      if (r.failed || hash(r.body) !== want) {
        throw new Lost('diverged', `action ${n} of a replay has another result than the one that was acknowledged`);
      }
      at += entryHead + length;
    }
    answer(0);
  }
}
