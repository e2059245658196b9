// The games of this origin in IndexedDB. A game has a row in `games`, a base, and groups of records
// behind it. If its history is kept, there are older bases and groups too. A group is stored in one
// transaction: whole or not at all. A game that is opened gets a new owner; from then on nothing of
// a former one is stored.

import { openDB } from 'idb';
import { badInput, HyperTokenError } from './errors.js';
import { entryHead, hash } from './frames.js';
import { detailsOf, History } from './history.js';
import { isBytes, nameOf } from './options.js';

/** The name of the database, and the version of its object stores. */
const databaseName = 'hypertoken', databaseVersion = 1;
/**
 * The version of the rows of a game, and that of a game whose history is kept: a package that knows
 * of no history would delete it. A game whose rows are newer is refused.
 */
const plainForm = 1, historyForm = 2;
const formOf = (keepsHistory) => (keepsHistory ? historyForm : plainForm);
/** The longest name of a game, in characters. */
const longestName = 200;

let database = null;

// One connection serves all games of a page. If the browser closes it, the next call opens another.
function connect() {
  database ??= openDB(databaseName, databaseVersion, {
    upgrade(db) {
      db.createObjectStore('games', { keyPath: 'name' });
      db.createObjectStore('bases'); // by [id, sequence]
      db.createObjectStore('groups'); // by [id, sequence of the first record]
    },
    // Another tab has a newer version of the package, or deletes the database: it waits for this
    // one.
    blocking: (_current, _blocked, event) => {
      database = null;
      event.target.close();
    },
    terminated: () => { database = null; },
  }).catch((cause) => {
    database = null;
    throw refused(cause);
  });
  return database;
}

/** The error of the package for one of IndexedDB. */
function refused(cause) {
  if (cause instanceof HyperTokenError) return cause;
  const why = cause?.message || cause?.name || String(cause);
  if (cause?.name === 'QuotaExceededError') {
    return new HyperTokenError('store_full', `the browser has no room for more of this site's data: delete games, or see navigator.storage.estimate() (${why})`, { cause });
  }
  if (cause?.name === 'VersionError') {
    return new HyperTokenError('store_refused', 'the games were kept by a newer version of hypertoken-worker; load that version', { cause });
  }
  return new HyperTokenError('store_refused', `the browser's database has failed: ${why}`, { cause });
}

/** Runs f in a transaction. It resolves with what f returns once the transaction is complete. */
async function transact(mode, durability, f) {
  try {
    const db = await connect(), tx = db.transaction(['games', 'bases', 'groups'], mode, { durability });
    let result, thrown;
    tx.done.catch(() => {}); // it is awaited below
    try {
      result = await f(tx.objectStore('games'), tx.objectStore('bases'), tx.objectStore('groups'));
    } catch (cause) {
      thrown = cause;
      try {
        tx.abort();
      } catch {} // it has ended already
    }
    // If f has thrown, the transaction is aborted for that reason, unless it has one of its own.
    await tx.done.catch((cause) => { throw thrown !== undefined && (cause?.name === 'AbortError' || thrown instanceof HyperTokenError) ? thrown : cause; });
    if (thrown !== undefined) throw thrown;
    return result;
  } catch (cause) {
    if (cause?.name === 'InvalidStateError') database = null; // the connection is lost, and the browser did not tell
    throw refused(cause);
  }
}

/**
 * Makes requests at once, and waits for all. If one can't be made, the promises of the others are
 * handled too.
 */
function together(...requests) {
  const made = [];
  try {
    for (const make of requests) made.push(make());
  } catch (cause) {
    made.push(Promise.reject(cause));
  }
  return Promise.all(made);
}

/** The lock that a client holds for its whole life. */
export const clientLock = (client) => `hypertoken client ${client}`;

const rangeOf = (id, from = 0, to = Infinity) => IDBKeyRange.bound([id, from], [id, to]);

export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (x) => x.toString(16).padStart(2, '0')).join('');
}

export const checkName = (what, name) => {
  if (typeof name !== 'string' || name === '' || name.length > longestName) throw badInput(`${what}: name is ${nameOf(name)}, want a string of 1 to ${longestName} characters`);
};

const damaged = (name, why) => new HyperTokenError('broken', `the saved game ${JSON.stringify(name)} is damaged: ${why}. Nothing of it was changed`);
const moved = (name) => new HyperTokenError('moved', `the saved game ${JSON.stringify(name)} was deleted, or opened by another engine, which has it now`);
const taken = (name) => new HyperTokenError('engine_exists', `there is a saved game ${JSON.stringify(name)} already: delete it first, or take another name`);
const missing = (name) => new HyperTokenError('engine_not_found', `there is no saved game ${JSON.stringify(name)}`);
const isCount = (n) => Number.isSafeInteger(n) && n >= 0;

function checkGame(game) {
  if (isCount(game.form) && game.form > historyForm) {
    throw new HyperTokenError('store_refused', `the saved game ${JSON.stringify(game.name)} was kept by a newer version of hypertoken-worker (form ${game.form}, and this one knows ${historyForm}); load that version`);
  }
  if ((game.form !== plainForm && game.form !== historyForm) || typeof game.id !== 'string') throw damaged(game.name, 'its row can not be read');
}

/** What a row has of a base. It throws if the row is damaged. */
function baseOf(name, row) {
  checkBase(name, row);
  const { sequence, bytes, isSnapshot, limits, core, calls, digest } = row;
  return { sequence, bytes, isSnapshot, limits, core, calls, digest: typeof digest === 'string' ? digest : null, marker: markerOf(name, row) };
}

function markerOf(name, { marker: kind, details }) {
  if (kind === null || kind === undefined) return null;
  try {
    const { to, current = 0, redo = [] } = JSON.parse(`{${(details ?? '').replace(/,$/, '')}}`);
    if (typeof kind === 'string' && isCount(current) && Array.isArray(redo) && redo.every(isCount)) return { kind, to, current, redo, details };
  } catch {} // it is no JSON
  throw damaged(name, 'the marker of its base can not be read');
}

function checkBase(name, base) {
  if (!base || !isCount(base.sequence) || !isBytes(base.bytes) || !isBytes(base.limits) || typeof base.core !== 'string' || base.limits.length !== 16 || !isCalls(base.calls) || hash(base.bytes) !== base.sum) {
    throw damaged(name, 'its base can not be read');
  }
}

/**
 * Throws unless the groups behind a base are whole. Checks what the core does not. Returns the
 * sequence of the last record.
 */
function checkGroups(name, base, groups) {
  let next = base.sequence + 1;
  for (const group of groups) {
    if (group?.first !== next) throw damaged(name, `the record ${next} is missing`);
    if (!isBytes(group.bytes) || hash(group.bytes) !== group.sum || countEntries(group.bytes) !== group.count || group.count === 0 || !isBatches(group.batches) || !isCalls(group.calls)) {
      throw damaged(name, `the records from ${next} on can not be read`);
    }
    next += group.count;
  }
  return next - 1;
}

const isCalls = (calls) => calls === undefined || (Array.isArray(calls) && calls.every((c) => typeof c?.client === 'string' && isCount(c.number) && typeof c.outcome === 'object'));
const isBatches = (batches) => Array.isArray(batches) && batches.every((b) => Array.isArray(b) && isCount(b[0]) && isCount(b[1]));

/** How many entries there are in the bytes of a group, or -1 if they are none. */
function countEntries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let count = 0, at = 0;
  for (; at + entryHead <= bytes.length; count++) at += entryHead + view.getUint32(at, true);
  return at === bytes.length ? count : -1;
}

function baseRow(base, core) {
  const { marker = null } = base;
  return { core, ...base, marker: marker?.kind ?? null, details: marker && detailsOf(marker), sum: hash(base.bytes) };
}
const groupRow = (group, total) => ({ ...group, sum: hash(group.bytes), total, at: Date.now() });

async function readRows(game, bases, groups) {
  const cursor = await bases.openCursor(rangeOf(game.id), 'prev');
  const base = baseOf(game.name, cursor?.value);
  const rows = await groups.getAll(rangeOf(game.id, base.sequence + 1));
  checkGroups(game.name, base, rows);
  return { base, groups: rows };
}

/**
 * One game in the store, as the engine that runs it has it. Its methods fail with `store_full`,
 * `store_refused`, `broken`, or `moved` if another engine has taken the game over; then nothing of
 * the call is stored.
 */
export class SavedGame {
  /** Resolves, or rejects, as the last open() does. */
  opening = null;
  #name; #core; #sha256 = ''; #durability; #upgradeFrom; #history; #owner = randomId(); #id = ''; #total = 0;
  /**
   * The outcomes of calls of other tabs: by client, then by number. A batch may have one for each
   * part.
   */
  #outcomes = new Map();
  /** The outcomes of calls that have changed nothing, and that no group has yet. */
  #deferred = [];

  /**
   * @param {string} name
   * @param {() => Promise<string>} core returns the SHA-256 of the core, in hexadecimal
   * @param {'strict' | 'relaxed'} durability
   * @param {(core: string) => Promise<((found: object) => Promise<object>) | null>} upgradeFrom for
   *   the hash of a former core: returns a function
   *   that gives a base of the present core for a game of the former one; null if there is no such core
   * @param {boolean} [history] whether what is behind a snapshot is kept; without it, as the game was
   *   kept before
   */
  constructor(name, core, durability, upgradeFrom, history) {
    this.#name = name;
    this.#core = core;
    this.#durability = durability;
    this.#upgradeFrom = upgradeFrom;
    this.#history = history;
  }

  /** Names this life of the game: a game that is deleted and made again has another one. */
  get id() { return this.#id; }

  /**
   * Takes the game over. Returns its base and the groups behind it; null if there is no such game.
   * @param {string} [id] fails with `moved` unless the game has this id
   */
  open(id) {
    this.opening = this.#open(id);
    return this.opening;
  }

  async #open(id) {
    const core = this.#sha256 = await this.#core();
    const found = await this.#takeOver(id, core);
    if (found === null || found.base.core === core) return found;
    const upgrade = await this.#upgradeFrom(found.base.core);
    if (!upgrade) {
      throw new HyperTokenError('core_mismatch', `the saved game ${JSON.stringify(this.#name)} was played with the core ${found.base.core}, and this one is ${core}: name that core too (persist.formerCores)`);
    }
    await this.#takeOver(id, found.base.core);
    const base = await upgrade(found);
    await this.replace(base);
    return { base, groups: [] };
  }

  // Returns what the store has of the game. Takes it over if its core is this one.
  #takeOver(id, core) {
    return transact('readwrite', 'relaxed', async (games, bases, groups) => {
      const game = await games.get(this.#name);
      if (id !== undefined && game?.id !== id) throw moved(this.#name);
      if (!game) {
        this.#id = randomId();
        return null;
      }
      checkGame(game);
      const found = await readRows(game, bases, groups);
      if (found.base.core !== core) return found;
      this.#history ??= game.form === historyForm;
      this.#id = game.id;
      this.#total = found.groups.reduce((n, g) => n + g.bytes.length, 0);
      for (const { calls } of [found.base, ...found.groups]) this.#remember(calls);
      await games.put({ ...game, owner: this.#owner, form: formOf(this.#history) });
      return found;
    });
  }

  /** Stores a new game with its base. */
  create(base) {
    const now = Date.now(), form = formOf(this.#history), size = base.bytes.length;
    const game = { name: this.#name, id: this.#id, form, owner: this.#owner, created: now, updated: now, base: base.sequence, size };
    return transact('readwrite', this.#durability, async (games, bases) => {
      if (await games.getKey(this.#name) !== undefined) throw moved(this.#name);
      await together(() => games.add(game), () => bases.add(baseRow(base, this.#sha256), [this.#id, base.sequence]));
    });
  }

  /**
   * Stores a group of records.
   * @param {{first: number, count: number, bytes: Uint8Array, batches: number[][], calls:
   *   object[]}} group `batches` has the first sequence and
   *   the length of each batch, `calls` the outcomes of calls of other tabs
   */
  async append(group) {
    const total = this.#total + group.bytes.length, deferred = this.#deferred, calls = [...deferred, ...group.calls];
    this.#deferred = [];
    await transact('readwrite', this.#durability, async (games, _, groups) => {
      // Both requests are made at once: if the owner is another, the transaction has no effect.
      await together(() => this.#checkOwner(games), () => groups.add(groupRow({ ...group, calls }, total), [this.#id, group.first]));
    }).catch((error) => {
      this.#deferred = [...deferred, ...this.#deferred];
      throw error;
    });
    this.#total = total;
    this.#remember(calls);
  }

  /**
   * Stores a snapshot or a marker, from which the game goes on. Unless the history is kept, it replaces
   * the base and all records up to it.
   * @param {object[]} [own] the outcome of the call that it is for
   */
  async replace(base, own = []) {
    const calls = await this.#callsOfLiving(), deferred = this.#deferred, total = this.#total, keepsHistory = this.#history;
    const added = [...deferred, ...own];
    this.#deferred = [];
    await transact('readwrite', this.#durability, async (games, bases, groups) => {
      const game = await this.#checkOwner(games), { limits } = await bases.get([this.#id, game.base]);
      const former = [
        () => bases.delete(IDBKeyRange.bound([this.#id, 0], [this.#id, base.sequence], false, true)),
        () => groups.delete(rangeOf(this.#id, 0, base.sequence)),
      ];
      const kept = keepsHistory ? (game.kept ?? 0) + game.size + total : 0;
      await together(
        () => bases.put(baseRow({ limits, calls: [...calls, ...added], ...base }, this.#sha256), [this.#id, base.sequence]),
        ...(keepsHistory ? [] : former),
        () => games.put({ ...game, updated: Date.now(), base: base.sequence, size: base.bytes.length, kept }),
      );
    }).catch((error) => {
      this.#deferred = [...deferred, ...this.#deferred];
      throw error;
    });
    this.#total = 0;
    this.#remember(added);
  }

  /**
   * Reads a part of the journal: from the state of one sequence to that of another. It has no need to
   * be the owner.
   * @param {string} what names the request in errors
   * @param {string} [id] fails with `moved` unless the game has this id
   */
  async history(what, from, to, id = this.#id) {
    const core = this.#sha256 ||= await this.#core(), { segments, newest } = await readJournal(this.#name, from, to, id);
    const former = segments.find(({ base }) => base.core !== core)?.base;
    if (former) {
      const name = JSON.stringify(this.#name);
      throw new HyperTokenError('core_mismatch', `${what}: at ${former.sequence} the saved game ${name} was played with the core ${former.core}, and this one is ${core}; exportGame has it all (formerCores)`);
    }
    return new History(segments, what, newest);
  }

  // Outcomes. Another tab asks again for calls that had no answer when the tab that ran them ended.
  // Calls of a tab run in their order. So if the journal has a call, it has the outcomes of all
  // calls before it, those that have changed nothing too.

  /** Has the next group store the outcome of a call that has changed nothing. */
  defer(call) { this.#deferred.push(call); }

  #remember(calls = []) {
    for (const { client, number, part, outcome } of calls) {
      let own = this.#outcomes.get(client);
      if (!own) this.#outcomes.set(client, (own = new Map()));
      if (part === undefined) own.set(number, outcome);
      else own.set(number, { parts: [...own.get(number)?.parts ?? [], [part, outcome]] });
    }
  }

  /**
   * Returns what the journal has of a call: {result}, {error}, {parts} of an independent batch, or
   * undefined if it has nothing.
   */
  recall(client, number) { return this.#outcomes.get(client)?.get(number); }

  /** Whether the journal has a later call of a client. Calls of a client run in their order. */
  hasLater(client, number) {
    for (const n of this.#outcomes.get(client)?.keys() ?? []) if (n > number) return true;
    return false;
  }

  /** Forgets the outcomes of calls up to a number, which the client has. */
  forget(client, number) {
    if (this.#deferred.length > 0) this.#deferred = this.#deferred.filter((call) => call.client !== client || call.number > number);
    const own = this.#outcomes.get(client);
    for (const n of own?.keys() ?? []) {
      if (n > number) break;
      own.delete(n);
    }
    if (own?.size === 0) this.#outcomes.delete(client);
  }

  async #callsOfLiving() {
    if (this.#outcomes.size === 0) return [];
    const { held } = await navigator.locks.query(), living = new Set(held.map((lock) => lock.name)), calls = [];
    for (const [client, own] of this.#outcomes) {
      if (!living.has(clientLock(client))) {
        this.#outcomes.delete(client);
        continue;
      }
      for (const [number, outcome] of own) {
        if (outcome.parts) for (const [part, one] of outcome.parts) calls.push({ client, number, part, outcome: one });
        else calls.push({ client, number, outcome });
      }
    }
    return calls;
  }

  async #checkOwner(games) {
    const game = await games.get(this.#name);
    if (game?.owner !== this.#owner) throw moved(this.#name);
    return game;
  }
}

/**
 * Reads a part of a saved game: the newest base at the first sequence or before it, and what follows
 * up to the last one. If there is no such base, it begins with the oldest base.
 * @param {string} [id] fails with `moved` unless the game has this id
 * @returns {Promise<{segments: import('./history.js').Segment[], newest: number}>} `newest` is the
 *   sequence of the newest record or marker of the game
 */
export function readJournal(name, from, to, id) {
  return transact('readonly', 'default', async (games, bases, groups) => {
    const game = await games.get(name);
    if (id && game?.id !== id) throw moved(name);
    if (!game) throw missing(name);
    checkGame(game);
    const first = await bases.openKeyCursor(rangeOf(game.id, 0, from), 'prev') ?? await bases.openKeyCursor(rangeOf(game.id));
    const last = await bases.openKeyCursor(rangeOf(game.id), 'prev');
    if (!first) throw damaged(name, 'it has no base');
    const [, begin] = first.key, [, newestBase] = last.key, group = (await groups.openCursor(rangeOf(game.id, newestBase + 1), 'prev'))?.value;
    const newest = group ? group.first + group.count - 1 : newestBase, end = Math.max(begin, Math.min(to, newest));
    if (!isCount(newest)) throw damaged(name, 'its last records can not be read');
    const rows = await bases.getAll(rangeOf(game.id, begin, end)), records = await groups.getAll(rangeOf(game.id, begin + 1, end + 1));
    return { segments: segmentsOf(name, rows.map((row) => baseOf(name, row)), records, end), newest };
  });
}

// Returns bases with the groups behind them. It throws unless they have all records up to a sequence.
function segmentsOf(name, bases, groups, last) {
  return bases.map((base, k) => {
    const next = bases[k + 1], behind = groups.filter((group) => group?.first > base.sequence && !(group.first > next?.sequence));
    const end = checkGroups(name, base, behind), wanted = next ? next.sequence - (next.marker ? 1 : 0) : last;
    if (end < wanted || (next && end > wanted)) throw damaged(name, `the record ${end + 1} is missing`);
    const batches = behind.flatMap((group) => group.batches.flatMap(([first, length]) => [first, first + length - 1]));
    return { base, journal: { pieces: () => behind.map(({ bytes }) => bytes), batches }, end };
  });
}

/**
 * Stores a whole game under a name that is free. If it has several bases, its history is kept.
 * @param {{base: object, groups: object[]}[]} segments each base has its core
 */
export function addGame(name, segments) {
  const id = randomId(), now = Date.now(), { base } = segments.at(-1), requests = [];
  return transact('readwrite', 'strict', async (games, bases, rows) => {
    if (await games.getKey(name) !== undefined) throw taken(name);
    let kept = 0, size = 0;
    for (const segment of segments) {
      let total = 0;
      kept += size;
      requests.push(() => bases.add(baseRow(segment.base), [id, segment.base.sequence]));
      for (const group of segment.groups) {
        const upTo = total += group.bytes.length;
        requests.push(() => rows.add(groupRow(group, upTo), [id, group.first]));
      }
      size = segment.base.bytes.length + total;
    }
    const game = { name, id, form: formOf(segments.length > 1), owner: '', created: now, updated: now, base: base.sequence, size: base.bytes.length, kept };
    await together(() => games.add(game), ...requests);
  });
}

/** Throws unless a name is free for a new game. */
export function checkIsFree(name) {
  return transact('readonly', 'default', async (games) => {
    if (await games.getKey(name) !== undefined) throw taken(name);
  });
}

export function removeGame(name) {
  return transact('readwrite', 'strict', async (games, bases, groups) => {
    const game = await games.get(name);
    if (!game) throw missing(name);
    const { id } = game;
    await together(() => games.delete(name), ...(typeof id === 'string' ? [() => bases.delete(rangeOf(id)), () => groups.delete(rangeOf(id))] : []));
  });
}

/**
 * All saved games in the order of their names. A game whose rows are damaged is one of them: it can
 * be deleted.
 */
export function listGames() {
  return transact('readonly', 'default', async (games, _, groups) => {
    const list = [];
    for (const { name, id, created, updated, base, size, kept = 0 } of await games.getAll()) {
      const last = typeof id === 'string' && isCount(base) ? (await groups.openCursor(rangeOf(id, base + 1), 'prev'))?.value : undefined;
      const sequence = last ? last.first + last.count - 1 : base, bytes = kept + size + (last ? last.total : 0);
      list.push({
        name, sequence: isCount(sequence) ? sequence : 0, bytes: isCount(bytes) ? bytes : 0, created: new Date(created), updated: new Date(last ? last.at : updated),
      });
    }
    return list;
  });
}
