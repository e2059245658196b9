// Calls of a core, as core-rs/ABI.md has them. An instance of a core is one engine.

import { coreFile, getEnvironment, nodeModule } from './environment.js';
import { badInput } from './errors.js';

const op = { open: 1, restore: 2, feed: 3, ready: 4, dispatch: 5, batch: 6, snapshot: 7, state: 8, next: 9, digest: 10, actions: 11, records: 12 };
const kept = 256 << 10; // bytes of room for input that an instance keeps between calls
const none = new Uint8Array(0);
/** How large a chunk of a stream may be, in bytes (core-rs/ABI.md). */
const chunkSize = 1 << 20;
/**
 * A stream may have so many bytes beyond twice maxStateBytes: the framing of a record does not
 * count as logical bytes. Go has the same bound.
 */
const streamSlack = 16 << 20;
const exported = ['ht_abi', 'ht_reply', 'ht_input', 'ht_call'];

/** The error of a call that cost the instance. The state of the instance is gone. */
export class Lost extends Error {
  constructor(code, cause) {
    super(String(cause?.message ?? cause), { cause });
    this.code = code;
  }
}

export class Instance {
  /** The limit that bounds the streams of this instance, in bytes. */
  maxStateBytes = 0;
  #memory; #bytes = none; #view = null; #input; #call; #reply; #room = 0; #capacity = 0; #lost = false;

  /** @param {WebAssembly.Module} module */
  constructor(module) {
    const { exports } = new WebAssembly.Instance(module, {});
    if (!(exports.memory instanceof WebAssembly.Memory) || exported.some((name) => typeof exports[name] !== 'function') || exports.ht_abi() !== 1) {
      throw new Error('the WebAssembly module is no core of this version (ABI 1)');
    }
    this.#memory = exports.memory;
    this.#input = exports.ht_input;
    this.#call = exports.ht_call;
    this.#reply = exports.ht_reply() >>> 0;
  }

  /** Whether a call has cost the instance: it runs no other. */
  get isLost() { return this.#lost; }

  /** How much memory the instance has, in bytes. It never shrinks. */
  get memorySize() { return this.#memory.buffer.byteLength; }

  // Views of the whole memory. They are made again if the memory has grown.
  #look() {
    const { buffer } = this.#memory;
    if (buffer === this.#bytes.buffer) return;
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
  }

  // Makes room for n bytes of input.
  #makeRoom(n) {
    if (n > this.#capacity || (this.#capacity > kept && n <= kept)) {
      this.#capacity = Math.max(n, 4096);
      this.#checkHere();
      try {
        this.#room = this.#input(this.#capacity) >>> 0;
      } catch (cause) {
        this.#lost = true;
        throw cause;
      }
      if (this.#room === 0) {
        this.#capacity = 0;
        throw new Lost('out_of_memory', `the core has no room for ${n} bytes of input`);
      }
    }
  }

  #checkHere() {
    if (this.#lost) throw new Lost('trap', 'the instance is gone');
  }

  /**
   * Runs a call on the first n bytes of the input. The result lies in the instance's memory: it is
   * valid until the next call.
   * @returns {{failed: boolean, changed: boolean, body: Uint8Array, table: Uint8Array, events: Uint8Array}}
   */
  call(what, n = 0) {
    this.#look();
    this.#view.setUint32(this.#reply, 0, true);
    this.#checkHere();
    try {
      this.#call(op[what], n);
    } catch (cause) {
      this.#lost = true;
      this.#look();
      const status = this.#view.getUint32(this.#reply, true);
      throw new Lost(status === 2 ? 'out_of_memory' : 'trap', cause);
    }
    this.#look();
    const v = this.#view, at = this.#reply;
    return {
      failed: v.getUint32(at, true) !== 0, changed: v.getUint32(at + 4, true) === 1,
      body: this.#piece(at + 8), table: this.#piece(at + 16), events: this.#piece(at + 24),
    };
  }

  // The bytes that a reply names. It throws if the memory does not have them.
  #piece(at) {
    const from = this.#view.getUint32(at, true), length = this.#view.getUint32(at + 4, true);
    return length === 0 ? none : new Uint8Array(this.#bytes.buffer, from, length);
  }

  /** Puts bytes into the input and runs a call on them. */
  run(what, bytes = none) {
    this.#makeRoom(bytes.length);
    this.#look();
    this.#bytes.set(bytes, this.#room);
    return this.call(what, bytes.length);
  }

  /**
   * Returns all chunks of a snapshot or of the state as one piece. If there are more bytes than a
   * state of maxStateBytes has, the instance is given up: a stream of a hostile core never ends.
   */
  stream(what) {
    const { maxStateBytes } = this;
    const most = 2 * maxStateBytes + streamSlack;
    let all = none, length = 0, reply = this.run(what);
    while (!reply.failed) {
      reply = this.run('next');
      const size = reply.body.length;
      if (reply.failed || size === 0) break;
      if (size > chunkSize) throw this.#broken(`it streams a chunk of ${size} bytes, ${chunkSize} are allowed`);
      if (length + size > most) throw this.#broken(`its stream has more than ${most} bytes, which no state of ${maxStateBytes} has (maxStateBytes)`);
      if (length + size > all.length) {
        const grown = new Uint8Array(length === 0 ? size : Math.min(most, Math.max(length + size, 2 * all.length)));
        grown.set(all.subarray(0, length));
        all = grown;
      }
      all.set(reply.body, length);
      length += size;
    }
    return reply.failed ? reply : { ...reply, body: all.subarray(0, length) };
  }

  #broken(message) {
    this.#lost = true;
    return new Lost('trap', new Error(`the core is broken: ${message}`));
  }
}

/** @param {Uint8Array[]} parts */
export function join(parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

/**
 * Returns whether a value is a compiled module. It may be from another realm, such as an iframe.
 */
export const isModule = (value) => Object.prototype.toString.call(value) === '[object WebAssembly.Module]';

/** The cores that were fetched and compiled for this page, or are being, by their addresses. */
const cores = new Map();

/**
 * Fetches and compiles a core: once for all hosts of a page that name the same address. An attempt
 * that failed is made again.
 * @param {{module: WebAssembly.Module | BufferSource} | {url: string} | {path: string, folder:
 *   string}} from see coreLocation
 * @param {(problem: string) => void} [warn] is called for each problem that only costs time
 * @returns {Promise<WebAssembly.Module>}
 */
export function compile(from, warn) {
  if (from.module) return isModule(from.module) ? Promise.resolve(from.module) : compiled(from.module);
  const address = addressOf(from);
  let core = cores.get(address);
  if (!core) {
    core = load(from, warn);
    cores.set(address, core);
    core.catch(() => cores.delete(address));
  }
  return core;
}

// The whole address of a core, or what was given if that is none: loading it fails then.
function addressOf({ url, path, folder }) {
  if (path !== undefined) return `${folder}\0${path}`;
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
  } catch {
    return url;
  }
}

const isFile = ({ url, path }) => path !== undefined || (/^file:/i.test(url) && getEnvironment() === 'node');

async function readCore({ url, path, folder }) {
  const [{ readFile }, paths, { fileURLToPath }] = await Promise.all(['fs/promises', 'path', 'url'].map(nodeModule));
  const file = path === undefined ? fileURLToPath(url) : coreFile(path, folder, paths);
  return readFile(file).catch((cause) => {
    throw new Error(`${file} can not be read (${cause.code ?? cause.message}): copy core.wasm there, or set workerOptions.wasmPath`, { cause });
  });
}

/** The hashes of cores, as promises, by their addresses. */
const hashes = new Map();

/**
 * The SHA-256 of a core's bytes in hexadecimal, by which saved games name their core. It throws
 * `bad_input` for a compiled module, whose bytes are not known.
 * @param {{module: WebAssembly.Module | BufferSource} | {url: string} | {path: string, folder:
 *   string}} from see coreLocation
 */
export function hashCore(from) {
  if (from.module) {
    if (isModule(from.module)) throw badInput('the core of a saved game is known by its bytes: give `core` as bytes, or wasmPath, and no WebAssembly.Module');
    return sha256(from.module);
  }
  const address = addressOf(from);
  let found = hashes.get(address);
  if (!found) {
    // The page has fetched the core already: this is the same response, from the browser's cache.
    found = (isFile(from) ? readCore(from) : fetch(from.url, { cache: 'force-cache' }).then((r) => r.arrayBuffer())).then(sha256);
    hashes.set(address, found);
    found.catch(() => hashes.delete(address));
  }
  return found;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (x) => x.toString(16).padStart(2, '0')).join('');
}

async function load(from, warn) {
  const { url } = from;
  if (isFile(from)) return WebAssembly.compile(await readCore(from));
  const response = await fetch(url).catch((cause) => {
    throw new Error(`${url} can not be fetched (${cause.message}): check workerOptions.wasmPath, the network, the page's Content-Security-Policy (connect-src), and its CORS headers if it is of another origin`, { cause });
  });
  if (!response.ok) throw new Error(`${url} is not there: HTTP status ${response.status}; copy core.wasm there, or set workerOptions.wasmPath`);
  const type = response.headers.get('content-type') ?? 'none';
  if (type.split(';')[0].trim() === 'application/wasm') return compiled(response);
  const bytes = await response.arrayBuffer();
  const magic = new Uint8Array(bytes.slice(0, 4));
  if (magic.join() !== '0,97,115,109') {
    throw new Error(`${url} is no WebAssembly (content type ${type}): copy core.wasm there, or set workerOptions.wasmPath`);
  }
  warn?.(`${url} has the content type ${type}: serve it as application/wasm, so that it is compiled while it loads`);
  return compiled(bytes);
}

// If the page's policy forbids compiling, the browser's error names no remedy, or names
// 'unsafe-eval', which allows more than is needed.
async function compiled(from) {
  try {
    return await (from instanceof Response ? WebAssembly.compileStreaming(from) : WebAssembly.compile(from));
  } catch (cause) {
    if (!/CSP|Content.Security.Policy/i.test(cause.message)) throw cause;
    throw new Error(`${cause.message}: allow 'wasm-unsafe-eval' in the script-src of the page's Content-Security-Policy`, { cause });
  }
}
