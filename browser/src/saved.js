// The saved games of this origin: listed, deleted, exported and imported. An export has the lines
// that Go's `hypertoken journal export` writes and `hypertoken run` plays. It has checksums that
// the store does not have. So an export, as an import, runs the whole game, on the calling thread,
// in short turns.

import { compile, hashCore, Instance } from './core.js';
import { coreLocation, macrotask } from './environment.js';
import { badInput, HyperTokenError } from './errors.js';
import { entryHead, hash } from './frames.js';
import { encodeAction, errorOf } from './game.js';
import { hostOptions, isAddress } from './host.js';
import { jsonOf, readLine } from './lines.js';
import { checkOptions } from './options.js';
import { addGame, checkIsFree, checkName, listGames, readGame, removeGame } from './store.js';
import { checkCanPersist, entriesOf } from './storing.js';
import { decode } from './values.js';
import { xxh64 } from './xxhash.js';

/** How long the game runs before the page's other tasks do, in milliseconds. */
const turn = 8;
/** How many records of an import are stored in one row. */
const groupLength = 1024;
const optionNames = ['core', 'wasmPath'];
const none = new Uint8Array(0), utf8 = new TextDecoder();

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

async function coreOf(what, options) {
  checkCanPersist(what);
  checkOptions(what, options, optionNames);
  const { core, wasmPath } = hostOptions(options, what);
  const from = core ? { module: core } : coreLocation(wasmPath);
  const [module, sha256] = await Promise.all([compile(from), hashCore(from)]).catch((cause) => {
    throw cause instanceof HyperTokenError ? cause : badInput(`${what}: the core can not be run: ${cause.message}`, cause);
  });
  return { module, sha256 };
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

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

const hex = (bytes) => Array.from(bytes, (x) => x.toString(16).padStart(2, '0')).join('');

/**
 * Returns a saved game as a Blob of JSON Lines: its newest base, and the actions behind it. A game
 * that an engine plays is exported as it is stored at this moment.
 * @param {string} name
 * @param {{core?: object, wasmPath?: string | URL}} [options] the core that it was played with, as
 *   in workerOptions
 */
export async function exportGame(name, options) {
  const { module, sha256 } = await coreOf('exportGame', options);
  checkName('exportGame', name);
  const { base, groups } = await readGame(name);
  if (base.core !== sha256) {
    throw new HyperTokenError('core_mismatch', `the saved game ${JSON.stringify(name)} was played with the core ${base.core}, and this one is ${sha256}: name its core (wasmPath)`);
  }
  const game = new Rerun(module), lines = [];
  game.begin(base);
  lines.push(baseLine(base, game.digest()));
  await replay(game, base, groups, (action, sequence, batches, result) => {
    lines.push(actionLine(action, sequence, batches.find(([first, length]) => sequence >= first && sequence < first + length)?.[0], xxh64(result)));
  });
  return new Blob(lines.map((line) => `${line}\n`), { type: 'application/x-ndjson' });
}

/**
 * Runs the records behind a base again, and compares their results. Calls f for each. Returns the
 * last sequence.
 */
async function replay(game, base, groups, f) {
  const pause = pauses();
  let { sequence } = base;
  for (const { bytes, batches } of groups) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length;) {
      const end = at + entryHead + view.getUint32(at, true), action = bytes.subarray(at + entryHead, end), result = rerun(game, action, ++sequence);
      if (hash(result) !== view.getFloat64(at + 4, true)) throw diverged(`the action ${sequence} has another result than the one that was acknowledged`);
      f(action, sequence, batches, result);
      at = end;
      await pause();
    }
  }
  return sequence;
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
  for (const core of cores) {
    const from = isAddress(core) ? coreLocation(core) : { module: core };
    if (await hashCore(from) !== sha256) continue;
    return async ({ base, groups }) => {
      const before = new Rerun(await compile(from)), after = new Rerun(await present());
      before.begin(base);
      const sequence = await replay(before, base, groups, () => {}), digest = before.digest();
      after.begin({ ...base, bytes: before.snapshot(), isSnapshot: true });
      return {
        sequence: sequence + 1, bytes: after.snapshot(), isSnapshot: true, limits: base.limits, marker: 'upgrade',
        details: `"from_core":"${sha256}","digest_before":"${digest}","current":0,"redo":[],`,
      };
    };
  }
  return null;
}

function rerun(game, action, sequence) {
  try {
    return game.action(action);
  } catch (cause) {
    throw diverged(`the action ${sequence} succeeded, and now fails: ${cause.message}`, cause);
  }
}

function baseLine({ sequence, bytes, isSnapshot, core, marker, details }, digest) {
  if (!isSnapshot) return `{"setup":${bytes.length > 0 ? jsonOf(bytes) : '{}'},"core":"${core}"}`;
  const state = `"snapshot":"${base64(bytes)}","sequence":${sequence},"core":"${core}","digest":"${digest}","keys":[]}`;
  return marker ? `{"marker":${JSON.stringify(marker)},${details ?? ''}${state}` : `{${state}`;
}

function actionLine(action, sequence, batch, checksum) {
  const view = new DataView(action.buffer, action.byteOffset, action.length), end = 28 + view.getUint32(24, true);
  const type = utf8.decode(action.subarray(28, end));
  return `{"type":${JSON.stringify(type)}${action.length > end ? `,"payload":${jsonOf(action.subarray(end))}` : ''},"now":${view.getBigInt64(0, true)},"entropy":"${hex(action.subarray(8, 24))}"${
    batch === undefined ? '' : `,"batch":${batch}`},"sequence":${sequence},"checksum":"${checksum}"}`;
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
 * @param {{core?: object, wasmPath?: string | URL}} [options] the core that it was played with, as
 *   in workerOptions
 */
export async function importGame(name, file, options) {
  const { module, sha256 } = await coreOf('importGame', options);
  checkName('importGame', name);
  if (typeof file?.text !== 'function') throw badInput('importGame: want a Blob or a File with the lines of an export');
  await checkIsFree(name);
  const game = new Import(module, sha256, limitsOf()), pause = pauses();
  for (const [number, text] of linesOf(await file.text())) {
    try {
      game.add(text);
    } catch (cause) {
      const error = cause instanceof HyperTokenError ? cause : badInput(cause?.message ?? String(cause), cause);
      throw new HyperTokenError(error.code, `line ${number}: ${error.message.slice(error.code.length + 2)}`, { cause: error.cause });
    }
    await pause();
  }
  if (!game.base) throw badInput('importGame: there is no line: the first one of an export is a setup, a snapshot or a marker');
  game.endGroup();
  await addGame(name, sha256, game.base, game.groups);
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
  base = null; groups = []; sequence = 0;
  #game; #sha256; #limits; #records = []; #batches = [];

  constructor(module, sha256, limits) {
    this.#game = new Rerun(module);
    this.#sha256 = sha256;
    this.#limits = limits;
  }

  digest() { return this.#game.digest(); }

  add(text) {
    const line = new Line(text);
    if (line.has('marker') || (!this.base && (line.has('setup') || line.has('snapshot')))) this.#begin(line);
    else if (!this.base) throw wrong('the first line of an export is a setup, a snapshot or a marker');
    else if (line.has('type')) this.#action(line);
    else throw wrong('behind its first line, an export has actions and markers only');
  }

  // A marker sets the state, so the game begins with the last one.
  #begin(line) {
    const core = line.core();
    if (core !== this.#sha256) throw new HyperTokenError('core_mismatch', `the game was played with the core ${core}, and this one is ${this.#sha256}: name its core (wasmPath)`);
    const isSnapshot = !line.has('setup'), sequence = isSnapshot ? line.count('sequence') : 0;
    if (this.base && sequence !== this.sequence + 1) throw wrong(`sequence: the marker has ${sequence}, want ${this.sequence + 1}`);
    const bytes = isSnapshot ? line.bytes('snapshot') : line.members.get('setup');
    const marker = line.has('marker') ? line.text('marker', /^(revert|upgrade|fork)$/, 'revert, upgrade or fork') : null;
    this.base = { sequence, bytes, isSnapshot, limits: this.#limits, marker, details: marker ? detailsOf(line) : null };
    this.#game.begin(this.base);
    if (isSnapshot) {
      const wanted = line.hash('digest'), found = this.#game.digest();
      if (wanted !== found) throw diverged(`the state had the digest ${wanted}, and has ${found}`);
    }
    this.groups = [];
    this.#records = [];
    this.#batches = [];
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
    this.groups.push({ first, count: this.#records.length, bytes: entriesOf(this.#records), batches: this.#batches });
    this.#records = [];
    this.#batches = [];
  }
}

/** The members of a marker that are its own, as JSON that stands before its snapshot. */
function detailsOf(line) {
  const own = ['to', 'from_core', 'digest_before', 'from_engine', 'from_sequence', 'current', 'redo'];
  return own.filter((name) => line.has(name)).map((name) => `"${name}":${jsonOf(line.members.get(name))},`).join('');
}
