// IndexedDB that fails, for tests in Node. fake-indexeddb takes its place there.

import assert from 'node:assert/strict';
import 'fake-indexeddb/auto';

/**
 * Has about one write in ten fail, from begin() to end(): the browser has no more room, or the
 * transaction is aborted.
 */
export function failingStore(t, next) {
  const { add, put } = IDBObjectStore.prototype;
  let isFailing = false;
  const failing = (method) => function fail(...args) {
    const chance = isFailing && this.name !== 'games' ? next() : 1;
    if (chance < 0.05) throw new DOMException('no room', 'QuotaExceededError');
    const request = method.apply(this, args);
    if (chance < 0.1) this.transaction.abort();
    return request;
  };
  IDBObjectStore.prototype.add = failing(add);
  IDBObjectStore.prototype.put = failing(put);
  t.after(() => Object.assign(IDBObjectStore.prototype, { add, put }));
  return {
    begin: () => { isFailing = true; },
    end: () => { isFailing = false; },
  };
}

/** The rows of all games, or changes them by f. */
export function rows(f) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('hypertoken');
    opening.onsuccess = () => {
      const db = opening.result, all = {}, tx = db.transaction(['games', 'bases', 'groups'], 'readwrite');
      for (const name of ['games', 'bases', 'groups']) {
        const list = all[name] = [];
        tx.objectStore(name).openCursor().onsuccess = ({ target: { result: cursor } }) => {
          if (!cursor) return;
          const value = f?.(name, cursor.value, cursor.key);
          if (value === null) cursor.delete();
          else if (value !== undefined) cursor.update(value);
          list.push([cursor.key, value ?? cursor.value]);
          cursor.continue();
        };
      }
      tx.oncomplete = () => {
        db.close();
        resolve(all);
      };
      tx.onabort = () => reject(tx.error);
    };
  });
}

/** A store whose calls a test answers. */
export class HeldStore {
  calls = [];
  open() { return Promise.resolve(null); }
  create(base) { return this.#call('create', base); }
  append(group) { return this.#call('append', group); }
  replace(base) { return this.#call('replace', base); }
  history(...argument) { return this.#call('history', argument); }
  #call(what, argument) { return new Promise((resolve, reject) => this.calls.push({ what, argument, resolve, reject })); }

  /** The next call that is not answered; waits for it. */
  async next(what) {
    for (let k = 0; this.calls.length === 0; k++) {
      assert.ok(k < 100_000, `the store got no ${what}`);
      await new Promise(setImmediate);
    }
    const call = this.calls.shift();
    assert.equal(call.what, what);
    return call;
  }
}
