// Calls of a core, as core-rs/ABI.md has them. An instance of a core is one engine.

import { coreFile, getEnvironment } from './environment.js';

const op = { open: 1, restore: 2, feed: 3, ready: 4, dispatch: 5, batch: 6, snapshot: 7, state: 8, next: 9, digest: 10, actions: 11, records: 12 };
const kept = 256 << 10; // bytes of room for input that an instance keeps between calls
const none = new Uint8Array(0);
const exported = ['ht_abi', 'ht_reply', 'ht_input', 'ht_call'];

/** The error of a call that cost the instance. The state of the instance is gone. */
export class Lost extends Error {
  constructor(code, cause) {
    super(String(cause?.message ?? cause), { cause });
    this.code = code;
  }
}

export class Instance {
  #memory; #input; #call; #reply; #room = 0; #capacity = 0; #lost = false;

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

  /** Returns room for n bytes of input, as a view. The next call makes it invalid. */
  room(n) {
    if (n > this.#capacity || (this.#capacity > kept && n <= kept)) {
      this.#capacity = Math.max(n, 4096);
      this.#room = this.#guard(() => this.#input(this.#capacity)) >>> 0;
      if (this.#room === 0) {
        this.#capacity = 0;
        throw new Lost('out_of_memory', `the core has no room for ${n} bytes of input`);
      }
    }
    return new Uint8Array(this.#memory.buffer, this.#room, n);
  }

  #guard(f) {
    if (this.#lost) throw new Lost('trap', 'the instance is gone');
    try {
      return f();
    } catch (cause) {
      this.#lost = true;
      throw cause;
    }
  }

  /**
   * Runs a call on the first n bytes of the input. The result lies in the instance's memory: it is
   * valid until the next call.
   * @returns {{failed: boolean, changed: boolean, body: Uint8Array, table: Uint8Array, events: Uint8Array}}
   */
  call(what, n = 0) {
    new DataView(this.#memory.buffer).setUint32(this.#reply, 0, true);
    try {
      this.#guard(() => this.#call(op[what], n));
    } catch (cause) {
      const status = new DataView(this.#memory.buffer).getUint32(this.#reply, true);
      throw cause instanceof Lost ? cause : new Lost(status === 2 ? 'out_of_memory' : 'trap', cause);
    }
    const memory = this.#memory.buffer;
    const v = new DataView(memory, this.#reply, 48);
    const slice = (at) => new Uint8Array(memory, v.getUint32(at, true), v.getUint32(at + 4, true));
    return { failed: v.getUint32(0, true) !== 0, changed: v.getUint32(4, true) === 1, body: slice(8), table: slice(16), events: slice(24) };
  }

  /** Puts bytes into the input and runs a call on them. */
  run(what, bytes = none) {
    this.room(bytes.length).set(bytes);
    return this.call(what, bytes.length);
  }

  /** Returns all chunks of a snapshot or of the state as one piece. */
  stream(what) {
    let reply = this.run(what);
    const parts = [];
    while (!reply.failed) {
      reply = this.run('next');
      if (reply.failed || reply.body.length === 0) break;
      parts.push(reply.body.slice());
    }
    return reply.failed ? reply : { ...reply, body: join(parts) };
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

/**
 * Fetches and compiles a core.
 * @param {{module: WebAssembly.Module | BufferSource} | {url: string} | {path: string, folder: string}} from see coreLocation
 * @param {(problem: string) => void} [warn] is called for each problem that only costs time
 */
export async function compile({ module, url, path, folder }, warn) {
  if (isModule(module)) return module;
  if (module) return compiled(module);
  if (path !== undefined || (/^file:/i.test(url) && getEnvironment() === 'node')) {
    const [{ readFile }, paths, { fileURLToPath }] = await Promise.all([import('node:fs/promises'), import('node:path'), import('node:url')]);
    const file = path === undefined ? fileURLToPath(url) : coreFile(path, folder, paths);
    const bytes = await readFile(file).catch((cause) => {
      throw new Error(`${file} can not be read (${cause.code ?? cause.message}): copy core.wasm there, or set workerOptions.wasmPath`, { cause });
    });
    return WebAssembly.compile(bytes);
  }
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
