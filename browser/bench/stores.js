// Compares two ways to keep records: in a transaction of IndexedDB, as src/store.js does, and in a file of the origin (OPFS) that a worker
// appends to. There is no engine: this is the cost of the stores alone.

import { median, pinger, rate, times } from './measure.js';

const recordSize = 64; // bytes: an action with a small payload

/** Returns a function that stores one record. Those that come while others are being stored are stored together, as in src/storing.js. */
function grouped(store) {
  let waiting = [], isRunning = false;
  const run = async () => {
    while (waiting.length > 0) {
      const group = waiting;
      waiting = [];
      await store(new Uint8Array(recordSize * group.length).fill(7), group.length);
      for (const done of group) done();
    }
    isRunning = false;
  };
  return () => new Promise((done) => {
    waiting.push(done);
    if (isRunning) return;
    isRunning = true;
    queueMicrotask(run);
  });
}

const opened = (name) => new Promise((resolve, reject) => {
  const request = indexedDB.open(name);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('games', { keyPath: 'name' }).add({ name, owner: 'a' });
    request.result.createObjectStore('groups');
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** A database of its own name: the transaction of a group reads the row of the game and adds the group. */
async function database(durability) {
  const name = `measured ${durability}`, db = await opened(name);
  let next = 1;
  return {
    store: (bytes, count) => new Promise((resolve, reject) => {
      const transaction = db.transaction(['games', 'groups'], 'readwrite', { durability });
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
      transaction.objectStore('games').get(name);
      transaction.objectStore('groups').add({ first: next, count, bytes }, ['a', next]);
      next += count;
    }),
    end: () => new Promise((resolve, reject) => {
      db.close();
      const request = indexedDB.deleteDatabase(name);
      request.onsuccess = resolve;
      request.onerror = () => reject(request.error);
    }),
  };
}

/** A file, which a worker writes. */
async function file(flush) {
  const { ping, end } = pinger(new Worker('/bench/files.js'));
  await ping({ flush });
  return {
    store: (records) => ping({ records, flush }),
    end: async () => {
      await ping({ over: true });
      end();
    },
  };
}

/**
 * Measures each store: an append with one in flight, in µs, and appends in a second with 64 in flight.
 * @returns {Promise<Record<'strict' | 'relaxed' | 'flushed' | 'written', {one: {p50: number, p95: number}, rate: number}>>}
 */
export async function measureStores({ most = 1000 }) {
  const stores = { strict: await database('strict'), flushed: await file(true), relaxed: await database('relaxed'), written: await file(false) };
  const rounds = [];
  // They are measured in turn, so that other work of the machine slows all of them alike.
  for (let k = 0; k < 5; k++) {
    const r = {};
    for (const [kind, { store }] of Object.entries(stores)) {
      const append = grouped(store);
      r[kind] = { one: await times(append, most / 5), rate: await rate(append, most / 5, 64) };
    }
    rounds.push(r);
  }
  for (const { end } of Object.values(stores)) await end();
  const middle = (kind, f) => median(rounds.map((r) => f(r[kind])));
  return Object.fromEntries(Object.keys(stores).map((kind) => [kind, {
    one: { p50: middle(kind, (s) => s.one.p50), p95: middle(kind, (s) => s.one.p95) }, rate: middle(kind, (s) => s.rate),
  }]));
}
