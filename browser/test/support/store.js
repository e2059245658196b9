// IndexedDB that fails, for tests in Node. fake-indexeddb takes its place there.

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
