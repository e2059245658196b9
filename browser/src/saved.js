// The saved games of this origin: listed, deleted, exported and imported. An export has the lines
// that Go's `hypertoken journal export` writes and `hypertoken run` plays. It has checksums that
// the store does not have. So an export, as an import, runs the whole game, on the calling thread,
// in short turns.

import { compile, hashCore, Instance } from './core.js';
import { coreLocation, macrotask } from './environment.js';
import { badInput, HyperTokenError } from './errors.js';
import { actionLine, actionsOf, baseLine } from './exporting.js';
import { hash } from './frames.js';
import { encodeAction, errorOf } from './game.js';
import { hostOptions, isAddress, isBuffer } from './host.js';
import { jsonOf, readLine } from './lines.js';
import { checkOptions } from './options.js';
import { addGame, checkIsFree, checkName, listGames, readJournal, removeGame } from './store.js';
import { checkCanPersist, entriesOf } from './storing.js';
import { decode } from './values.js';
import { xxh64 } from './xxhash.js';

/** How long the game runs before the page's other tasks do, in milliseconds. */
const turn = 8;
/** How many records of an import are stored in one row. */
const groupLength = 1024;
const optionNames = ['core', 'wasmPath', 'formerCores'];
const none = new Uint8Array(0);

/** The games that are saved in this browser for this origin, in the order of their names. */
export async function savedGames() {
  checkCanPersist('savedGames');
  return listGames();
}

/** Deletes a saved game. An engine that runs it fails with `moved`. */
export async function deleteGame(name) {
  checkCanPersist('deleteGame');
  checkName('deleteGame', name);
  return removeGame(name);
}

/** Checks the option formerCores, and returns it. */
export function checkFormerCores(what, cores = []) {
  if (!Array.isArray(cores) || cores.some((core) => !isAddress(core) && !isBuffer(core))) {
    throw badInput(`${what}: formerCores: want an array of addresses of cores, or of their bytes`);
  }
  return cores;
}

/** The former core of a hash: what it is compiled from; null if it is none of these. */
async function findFormer(cores, sha256) {
  for (const core of cores) {
    const from = isAddress(core) ? coreLocation(core) : { module: core };
    if (await hashCore(from) === sha256) return from;
  }
  return null;
}

/** The cores that a call has to run a game: the present one, and former ones. */
class Cores {
  #present; #former; #unknown; #newest = { core: '', game: null };

  /** @param {(core: string, present: string) => HyperTokenError} unknown says that a core is none of these */
  constructor(present, former, unknown) {
    this.#present = present;
    this.#former = former;
    this.#unknown = unknown;
  }

  /** Returns a game on the core of a hash: the same one as before, if that has this core. */
  async rerunOn(core) {
    if (core !== this.#newest.core) this.#newest = { core, game: new Rerun(await this.#moduleOf(core)) };
    return this.#newest.game;
  }

  async #moduleOf(core) {
    const { module, sha256 } = this.#present;
    if (core === sha256) return module;
    const from = await findFormer(this.#former, core);
    if (!from) throw this.#unknown(core, sha256);
    return compile(from);
  }
}

async function coresOf(what, options, unknown) {
  checkCanPersist(what);
  checkOptions(what, options, optionNames);
  const { formerCores, ...own } = options ?? {}, { core, wasmPath } = hostOptions(own, what), former = checkFormerCores(what, formerCores);
  const from = core ? { module: core } : coreLocation(wasmPath);
  const [module, sha256] = await Promise.all([compile(from), hashCore(from)]).catch((cause) => {
    throw cause instanceof HyperTokenError ? cause : badInput(`${what}: the core can not be run: ${cause.message}`, cause);
  });
  return new Cores({ module, sha256 }, former, unknown);
}

/** Lets the page's other tasks run from time to time. */
function pauses() {
  let until = performance.now() + turn;
  return async () => {
    if (performance.now() < until) return;
    await new Promise(macrotask);
    until = performance.now() + turn;
  };
}

/** A game that is run again, to compare its results. */
class Rerun {
  #instance;

  constructor(module) { this.#instance = new Instance(module); }

  begin({ bytes, isSnapshot, limits }) {
    this.#instance.maxStateBytes = Number(new DataView(limits.buffer, limits.byteOffset, 8).getBigUint64(0, true));
    this.#run(isSnapshot ? 'restore' : 'open', isSnapshot ? none : limits);
    for (let at = 0; at < bytes.length; at += 1 << 20) this.#run('feed', bytes.subarray(at, at + (1 << 20)));
    this.#run('ready');
  }

  #run(what, bytes) {
    let reply;
    try {
      reply = this.#instance.run(what, bytes);
    } catch (cause) {
      throw new HyperTokenError(cause.code ?? 'trap', cause.message, { cause });
    }
    if (reply.failed) throw errorOf(reply.body);
    return reply;
  }

  /** The state as bytes. */
  snapshot() { return this.#instance.stream('snapshot').body.slice(); }

  digest() { return [...this.#run('digest').body].reverse().map((x) => x.toString(16).padStart(2, '0')).join(''); }

  /** Runs an action. Returns its result, which is valid until the next call. */
  action(bytes) { return this.#run('dispatch', bytes).body; }
}

const diverged = (message, cause) => new HyperTokenError('diverged', message, cause === undefined ? {} : { cause });

/**
 * Returns a saved game as a Blob of JSON Lines: the oldest base that is kept, and what follows it. A
 * game that an engine plays is exported as it is stored at this moment.
 * @param {string} name
 * @param {{core?: object, wasmPath?: string | URL, formerCores?: (string | URL | object)[]}} [options]
 *   the core that it was played with, as in workerOptions, and those before it
 */
export async function exportGame(name, options) {
  const cores = await coresOf('exportGame', options, (core, present) => new HyperTokenError('core_mismatch',
    `the saved game ${JSON.stringify(name)} was played with the core ${core}, and this one is ${present}: name its core (wasmPath, formerCores)`));
  checkName('exportGame', name);
  const { segments } = await readJournal(name, 0, Infinity), lines = [];
  let game = null;
  for (const { base, journal } of segments) {
    const known = base.digest ?? (base.marker ? null : game?.digest());
    game = await cores.rerunOn(base.core);
    game.begin(base);
    const digest = game.digest();
    // A snapshot that is no marker needs no line: the actions before it lead to the same state.
    if (lines.length === 0 || base.marker) lines.push(baseLine(base, base.core, digest));
    if (digest !== (known ?? digest)) throw diverged(`the state at ${base.sequence} had the digest ${known}, and has ${digest}`);
    await replay(game, { base, pieces: journal.pieces(), batches: journal.batches }, ({ action, batch, sequence }, result) => {
      lines.push(actionLine(action, batch, sequence, xxh64(result)));
    });
  }
  return new Blob(lines.map((line) => `${line}\n`), { type: 'application/x-ndjson' });
}

/**
 * Runs the actions behind a base again, and compares their results. Calls f for each.
 */
async function replay(game, segment, f) {
  const pause = pauses();
  for (const one of actionsOf(segment)) {
    const result = rerun(game, one.action, one.sequence);
    if (hash(result) !== one.sum) throw diverged(`the action ${one.sequence} has another result than the one that was acknowledged`);
    f(one, result);
    await pause();
  }
}

/**
 * Finds the core of a saved game among former ones.
 * @param {(string | URL | object)[]} cores addresses, or bytes
 * @param {string} sha256 the hash that is looked for
 * @param {() => Promise<WebAssembly.Module>} present compiles the core that the game goes on with
 * @returns a function that gives a base of the present core for a game of that one, with the marker
 *   `upgrade`; null if it is none of them
 */
export async function upgradeFrom(cores, sha256, present) {
  const from = await findFormer(cores, sha256);
  if (!from) return null;
  return async ({ base, groups }) => {
    const before = new Rerun(await compile(from)), after = new Rerun(await present());
    let { sequence } = base;
    before.begin(base);
    await replay(before, { base, pieces: groups.map(({ bytes }) => bytes), batches: [] }, () => { sequence++; });
    const digest = before.digest();
    after.begin({ ...base, bytes: before.snapshot(), isSnapshot: true });
    const details = `"from_core":"${sha256}","digest_before":"${digest}","current":0,"redo":[],`;
    const marker = { kind: 'upgrade', current: 0, redo: [], details };
    return { sequence: sequence + 1, bytes: after.snapshot(), isSnapshot: true, limits: base.limits, marker };
  };
}

function rerun(game, action, sequence) {
  try {
    return game.action(action);
  } catch (cause) {
    throw diverged(`the action ${sequence} succeeded, and now fails: ${cause.message}`, cause);
  }
}

// Import.

const wrong = (message) => badInput(message);

/** The members of a line, with checks. */
class Line {
  constructor(text) { this.members = readLine(text); }

  has(name) { return this.members.has(name); }

  #read(name) { return this.has(name) ? decode(this.members.get(name)) : undefined; }

  text(name, form, wanted) {
    const value = this.#read(name);
    if (typeof value !== 'string' || !form.test(value)) throw wrong(`${name}: want ${wanted}`);
    return value;
  }

  count(name) {
    const value = this.#read(name);
    if (!Number.isSafeInteger(value) || value < 0) throw wrong(`${name}: want an integer that is not negative`);
    return value;
  }

  integer(name) {
    const value = this.#read(name);
    if (!Number.isSafeInteger(value)) throw wrong(`${name}: want an integer`);
    return value;
  }

  bytes(name) {
    const text = this.text(name, /^[A-Za-z0-9+/]*={0,2}$/, 'base64');
    try {
      return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    } catch {
      throw wrong(`${name}: want base64`);
    }
  }

  entropy() { return Uint8Array.from(this.text('entropy', /^[0-9a-f]{32}$/i, '32 hexadecimal digits').match(/../g), (two) => parseInt(two, 16)); }

  hash(name) { return this.text(name, /^[0-9a-f]{16}$/i, '16 hexadecimal digits').toLowerCase(); }

  core() { return this.text('core', /^[0-9a-f]{64}$/i, '64 hexadecimal digits').toLowerCase(); }
}

/** The lines of a file that are not empty, with their numbers from 1. */
function* linesOf(text) {
  for (let at = 0, number = 1; at < text.length; number++) {
    const found = text.indexOf('\n', at), end = found < 0 ? text.length : found, line = text.slice(at, end);
    if (line.trim() !== '') yield [number, line];
    at = end + 1;
  }
}

/**
 * Saves the game of an export under a name that is free. Every checksum and digest is checked. The
 * game is in the store whole, or not at all.
 * @param {string} name
 * @param {Blob} file from exportGame, or from Go
 * @param {{core?: object, wasmPath?: string | URL, formerCores?: (string | URL | object)[]}} [options]
 *   the core that it was played with, as in workerOptions, and those before it
 */
export async function importGame(name, file, options) {
  const cores = await coresOf('importGame', options, (core, present) => new HyperTokenError('core_mismatch',
    `the game was played with the core ${core}, and this one is ${present}: name its core (wasmPath, formerCores)`));
  checkName('importGame', name);
  if (typeof file?.text !== 'function') throw badInput('importGame: want a Blob or a File with the lines of an export');
  await checkIsFree(name);
  const game = new Import(cores, limitsOf()), pause = pauses();
  for (const [number, text] of linesOf(await file.text())) {
    try {
      await game.add(text);
    } catch (cause) {
      const error = cause instanceof HyperTokenError ? cause : badInput(cause?.message ?? String(cause), cause);
      throw new HyperTokenError(error.code, `line ${number}: ${error.message.slice(error.code.length + 2)}`, { cause: error.cause });
    }
    await pause();
  }
  if (game.segments.length === 0) throw badInput('importGame: there is no line: the first one of an export is a setup, a snapshot or a marker');
  game.endGroup();
  await addGame(name, game.segments);
  return { sequence: game.sequence, digest: game.digest() };
}

function limitsOf() {
  const { maxStateBytes, maxResult, maxDepth } = hostOptions(undefined), limits = new Uint8Array(16), v = new DataView(limits.buffer);
  v.setBigUint64(0, BigInt(maxStateBytes), true);
  v.setUint32(8, maxResult, true);
  v.setUint32(12, maxDepth, true);
  return limits;
}

/** A game that is being imported. */
class Import {
  segments = []; sequence = 0;
  #cores; #game = null; #limits; #records = []; #batches = [];

  constructor(cores, limits) {
    this.#cores = cores;
    this.#limits = limits;
  }

  digest() { return this.#game.digest(); }

  /** Takes in a line. Returns a promise if it is the line of a base. */
  add(text) {
    const line = new Line(text), isFirst = this.segments.length === 0;
    if (line.has('marker') || (isFirst && (line.has('setup') || line.has('snapshot')))) return this.#begin(line);
    if (isFirst) throw wrong('the first line of an export is a setup, a snapshot or a marker');
    if (!line.has('type')) throw wrong('behind its first line, an export has actions and markers only');
    return this.#action(line);
  }

  // A marker sets the state. What is before it is the history.
  async #begin(line) {
    const core = line.core(), isSnapshot = !line.has('setup'), sequence = isSnapshot ? line.count('sequence') : 0;
    if (this.segments.length > 0 && sequence !== this.sequence + 1) throw wrong(`sequence: the marker has ${sequence}, want ${this.sequence + 1}`);
    const bytes = isSnapshot ? line.bytes('snapshot') : line.members.get('setup'), digest = isSnapshot ? line.hash('digest') : null;
    const base = { sequence, bytes, isSnapshot, limits: this.#limits, core, digest, marker: line.has('marker') ? markerOf(line, sequence) : null };
    this.endGroup();
    this.#game = await this.#cores.rerunOn(core);
    this.#game.begin(base);
    const found = this.#game.digest();
    if (isSnapshot && digest !== found) throw diverged(`the state had the digest ${digest}, and has ${found}`);
    this.segments.push({ base, groups: [] });
    this.sequence = sequence;
  }

  #action(line) {
    const sequence = line.count('sequence'), checksum = line.hash('checksum');
    if (sequence !== this.sequence + 1) throw wrong(`sequence: it is ${sequence}, want ${this.sequence + 1}`);
    const head = encodeAction(line.text('type', /./s, 'the name of an action'), undefined, line.integer('now'), line.entropy(), 0);
    const payload = line.members.get('payload') ?? none, bytes = new Uint8Array(head.length + payload.length);
    bytes.set(head);
    bytes.set(payload, head.length);
    const result = rerun(this.#game, bytes, sequence), found = xxh64(result);
    if (found !== checksum) throw diverged(`the recorded result has the checksum ${checksum}, and that of now ${found}`);
    this.sequence = sequence;
    this.#records.push({ bytes, sum: hash(result) });
    const batch = line.has('batch') ? line.count('batch') : 0, last = this.#batches.at(-1);
    if (batch > 0 && last?.[0] === batch && batch + last[1] === sequence) last[1]++;
    else if (batch === sequence) this.#batches.push([batch, 1]);
    else if (batch > 0) throw wrong(`batch: it is ${batch}, want the sequence of the first action of its batch`);
    else if (this.#records.length >= groupLength) this.endGroup();
  }

  // A batch is never split between groups.
  endGroup() {
    if (this.#records.length === 0) return;
    const first = this.sequence - this.#records.length + 1;
    this.segments.at(-1).groups.push({ first, count: this.#records.length, bytes: entriesOf(this.#records), batches: this.#batches });
    this.#records = [];
    this.#batches = [];
  }
}

/** The marker of a line. */
function markerOf(line, sequence) {
  const kind = line.text('marker', /^(revert|upgrade|fork)$/, 'revert, upgrade or fork');
  const own = ['to', 'from_core', 'digest_before', 'from_engine', 'from_sequence', 'current', 'redo'].filter((name) => line.has(name));
  const details = own.map((name) => `"${name}":${jsonOf(line.members.get(name))},`).join('');
  const [to = 0, current = 0, redo = []] = ['to', 'current', 'redo'].map((name) => (line.has(name) ? decode(line.members.get(name)) : undefined));
  const isWrong = (n) => !Number.isSafeInteger(n) || n < 0 || n > sequence;
  if (!Array.isArray(redo) || [to, current, ...redo].some(isWrong)) throw wrong(`to, current and redo: want sequences up to ${sequence}`);
  return { kind, to, current, redo, details };
}
