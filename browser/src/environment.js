// Differences between Node and a browser: which of them this is, how Node's own modules are loaded,
// where the core is, and how a thread is started.

/**
 * Returns which environment this is. Deno and Bun have Node's modules, and count as Node. It looks
 * at properties that only the real environment has: tests in Node define `window` and `document`,
 * and bundlers give pages a `process`.
 * @returns {'node' | 'browser'}
 */
export function getEnvironment() {
  const { process, Deno } = globalThis;
  if (typeof Deno?.version?.deno === 'string') return 'node';
  if (typeof process !== 'object' || typeof process?.versions?.node !== 'string') return 'browser';
  if (process.browser && Object.prototype.toString.call(process) !== '[object process]') return 'browser'; // a bundler has defined it
  // A page of Electron may have all of Node's modules, but its worker threads do not run there, and
  // Web Workers do. NW.js is alike.
  const isPage = process.type === 'renderer' || process.type === 'worker'
    || (process.versions.nw !== undefined && typeof globalThis.document === 'object');
  return isPage ? 'browser' : 'node';
}

/** Returns whether workers can be started here: Web Workers, or Node's worker threads. */
export function supportsWorkers() {
  return getEnvironment() === 'node' || typeof Worker === 'function';
}

/**
 * Loads one of Node's own modules. The name is no literal, so a bundler for pages does not look for
 * the module. Node has `getBuiltinModule` since 20.16 and 22.3.
 * @param {string} name without `node:`
 */
export async function nodeModule(name) {
  const address = `node:${name}`;
  return globalThis.process?.getBuiltinModule?.(address)
    ?? import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ address);
}

/** Calls f in a task of its own, after the messages that have arrived already. */
export const macrotask = (() => {
  if (typeof setImmediate === 'function') return setImmediate;
  const channel = new MessageChannel(), waiting = [];
  channel.port1.onmessage = () => waiting.shift()();
  return (f) => {
    waiting.push(f);
    channel.port2.postMessage(0);
  };
})();

// A scheme has more than one letter, and a drive of Windows has one.
const hasScheme = (path) => /^[a-z][a-z0-9+.-]+:/i.test(path);

/** The folder that relative paths begin at in Node: the current one at the moment of the call. */
const currentFolder = () => globalThis.process?.cwd?.() ?? globalThis.Deno?.cwd() ?? '.';

/**
 * The place of the core. wasmPath names a folder, or a file that ends in .wasm: as a URL, and in
 * Node as a path too.
 * @param {string | URL} wasmPath
 * @returns {{url: string} | {path: string, folder: string}} a path may be relative to the folder
 */
export function coreLocation(wasmPath) {
  const given = String(wasmPath);
  if (getEnvironment() === 'node' && !hasScheme(given)) return { path: given, folder: currentFolder() };
  if (/\.wasm([?#]|$)/i.test(given) || /^(data|blob):/i.test(given)) return { url: given };
  const [, address, query] = /^([^?#]*)(.*)$/s.exec(given);
  return { url: `${address.replace(/\/$/, '')}/core.wasm${query}` };
}

/** The file of the core in Node. `path` is the module node:path. */
export function coreFile(given, folder, path) {
  const whole = path.resolve(folder, given);
  return /\.wasm$/i.test(given) ? whole : path.join(whole, 'core.wasm');
}

/** The worker's script in Node: a URL if it was given as one, and an absolute path otherwise. */
export function scriptFile(given, folder, path) {
  return hasScheme(given) ? new URL(given) : path.resolve(folder, given);
}

// If a program runs with `node --input-type=module -e ...`, its workers inherit that option, and
// refuse it because they run a file.
function workerArguments() {
  const all = globalThis.process?.execArgv ?? [];
  const rest = all.filter((a, k) => !/^--input-type(=|$)/.test(a) && all[k - 1] !== '--input-type');
  return rest.length < all.length ? { execArgv: rest } : {};
}

// A page that requires Trusted Types starts a worker only from an address that a policy has made. So
// the package has a policy, which the page's Content-Security-Policy has to name.
const policyName = 'hypertoken-worker';
let policy;

function newWorker(address) {
  const options = { type: 'module', name: 'hypertoken' }, { trustedTypes } = globalThis;
  if (!trustedTypes) return new Worker(address, options);
  let refusal;
  try {
    policy ??= trustedTypes.createPolicy(policyName, { createScriptURL: (given) => given });
  } catch (cause) {
    refusal = cause;
  }
  try {
    return new Worker(policy ? policy.createScriptURL(String(address)) : address, options);
  } catch (cause) {
    if (!refusal) throw cause;
    throw new Error(`${cause.message}: name the policy ${policyName} in the trusted-types of the page's Content-Security-Policy, or set workerOptions.worker`, { cause });
  }
}

/** Whether a page may start a worker from an address only by a script of its own that imports it. */
function isForeign(address) {
  try {
    const url = new URL(address, globalThis.document?.baseURI ?? globalThis.location?.href);
    return url.origin !== globalThis.origin && url.protocol !== 'data:' && url.protocol !== 'blob:' ? url.href : false;
  } catch {
    return false; // the browser's own error names the address
  }
}

/**
 * Starts the worker of an address in a browser. A browser starts no worker from an address of
 * another origin, such as that of a CDN. Then the worker's script is a blob that imports the
 * address. A page whose own origin is opaque, as that of a sandboxed frame, has every other address
 * as foreign. There Chromium runs no module from a blob, but from a data URL it does.
 */
function startWebWorker(path) {
  const foreign = isForeign(path);
  if (!foreign) return newWorker(path);
  const code = `import ${JSON.stringify(foreign)};`;
  if (globalThis.origin === 'null') return newWorker(`data:text/javascript,${encodeURIComponent(code)}`);
  const blob = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const worker = newWorker(blob);
  for (const event of ['message', 'error']) worker.addEventListener(event, () => URL.revokeObjectURL(blob), { once: true });
  return worker;
}

async function startNodeWorker(path) {
  const folder = currentFolder();
  const [{ Worker }, paths] = await Promise.all([nodeModule('worker_threads'), nodeModule('path')]);
  return new Worker(scriptFile(String(path), folder, paths), { name: 'hypertoken', ...workerArguments() });
}

/**
 * Starts a worker thread.
 * @param {{worker?: () => object, workerPath: string | URL}} options the function that makes the worker, or the address of its script
 * @param {{message: (data: unknown) => void, exit: (cause: Error) => void}} events exit is called when the thread has ended by itself: once at most, and not after terminate
 */
export async function startWorker({ worker: make, workerPath: path }, events) {
  let over = false;
  const exit = (cause) => {
    if (!over) {
      over = true;
      events.exit(cause);
    }
  };
  const worker = await (make ? make() : getEnvironment() === 'node' ? startNodeWorker(path) : startWebWorker(path));
  const thing = make ? 'the worker of workerOptions.worker' : `the script ${path}`, remedy = make ? '' : 'workerOptions.workerPath, ';
  if (typeof worker?.on === 'function') { // a worker thread of Node
    worker.on('message', (data) => over || events.message(data));
    worker.on('error', (cause) => exit(/_NOT_FOUND$/.test(cause.code)
      ? new Error(`${thing} could not be loaded${make ? '' : ': check workerOptions.workerPath'}`, { cause }) : cause));
    worker.on('messageerror', exit);
    worker.on('exit', (code) => exit(new Error(`the Worker ended with the exit code ${code}`)));
    return {
      post: (data, transfer) => worker.postMessage(data, transfer),
      terminate: () => {
        over = true;
        return worker.terminate();
      },
      thread: worker,
    };
  }
  if (typeof worker?.addEventListener !== 'function') throw new Error('workerOptions.worker returned no worker: return new Worker(...)');
  let ended = Promise.resolve();
  worker.addEventListener('message', (e) => {
    if (over) return;
    // The worker holds this lock for its whole life. So the page gets the lock when the worker has
    // ended.
    const lock = e.data?.lock;
    if (lock) ended = navigator.locks.request(lock, () => exit(new Error('the Worker was terminated'))).catch(() => {});
    events.message(e.data);
  });
  worker.addEventListener('messageerror', () => exit(new Error('a message of the Worker can not be read')));
  worker.addEventListener('error', (e) => {
    e.preventDefault?.();
    exit(new Error(e.message || `${thing} could not be loaded: check ${remedy}that its script is served as text/javascript, with CORS headers if it is of another origin, and the page's Content-Security-Policy (worker-src)${
      globalThis.crossOriginIsolated ? '; in a page that is cross-origin isolated its script needs the Cross-Origin-Embedder-Policy too' : ''}`));
  });
  return {
    post: (data, transfer) => worker.postMessage(data, transfer),
    // Some browsers take a second or two to end a worker that hangs.
    terminate: () => {
      over = true;
      worker.terminate();
      return ended;
    },
    thread: worker,
  };
}
