// Differences between Node and a browser: which of them this is, where the worker's script and the
// core are, and how a thread is started.

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

const inPackage = (path) => new URL(path, import.meta.url);

/** The addresses of the worker's script and of the core, if no option gives them. */
export function defaults() {
  if (getEnvironment() === 'node') {
    return { workerPath: inPackage('./worker.js'), wasmPath: inPackage('../') };
  }
  return { workerPath: '/workers/hypertoken.worker.js', wasmPath: '/wasm/' };
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
  if (/\.wasm([?#]|$)/i.test(given)) return { url: given };
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

/**
 * Starts a worker thread.
 * @param {string | URL} path
 * @param {{message: (data: unknown) => void, exit: (cause: Error) => void}} events exit is called when the thread has ended by itself: once at most, and not after terminate
 */
export async function startWorker(path, events) {
  let over = false;
  const exit = (cause) => {
    if (!over) {
      over = true;
      events.exit(cause);
    }
  };
  if (getEnvironment() === 'node') {
    const folder = currentFolder();
    const [{ Worker }, pathModule] = await Promise.all([import('node:worker_threads'), import('node:path')]);
    const worker = new Worker(scriptFile(String(path), folder, pathModule), { name: 'hypertoken', ...workerArguments() });
    worker.on('message', (data) => over || events.message(data));
    worker.on('error', (cause) => exit(/_NOT_FOUND$/.test(cause.code)
      ? new Error(`the script ${path} could not be loaded: check workerOptions.workerPath`, { cause }) : cause));
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
  const worker = new Worker(path, { type: 'module', name: 'hypertoken' });
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
    exit(new Error(e.message || `the script ${path} could not be loaded: check workerOptions.workerPath, that it is served as text/javascript, and the page's Content-Security-Policy (worker-src)${
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
