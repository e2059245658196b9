// Where this runs, and how a worker is started there.

/** @returns {'node' | 'browser'} */
export function getEnvironment() {
  return typeof process === 'object' && process.versions?.node && typeof window === 'undefined' ? 'node' : 'browser';
}

/** Whether workers can be started here: Web Workers, or Node's worker threads. */
export function supportsWorkers() {
  return getEnvironment() === 'node' || typeof Worker === 'function';
}

const inPackage = (path) => new URL(path, import.meta.url);

/** Where the worker's script and the core are, unless options say so. */
export function defaults() {
  if (getEnvironment() === 'node') {
    return { workerPath: inPackage('./worker.js'), wasmPath: inPackage('../') };
  }
  return { workerPath: '/workers/hypertoken.worker.js', wasmPath: '/wasm/' };
}

/** Calls f in a task of its own, behind the messages that are there already. */
export const macrotask = (() => {
  if (typeof setImmediate === 'function') return setImmediate;
  const channel = new MessageChannel(), waiting = [];
  channel.port1.onmessage = () => waiting.shift()();
  return (f) => {
    waiting.push(f);
    channel.port2.postMessage(0);
  };
})();

/** The address of the core: wasmPath names a folder, or a file that ends in .wasm; in Node as a path too. */
export function coreUrl(wasmPath) {
  const path = String(wasmPath);
  const file = /\.wasm([?#]|$)/.test(path) ? path : (path.endsWith('/') ? path : `${path}/`) + 'core.wasm';
  const isPath = getEnvironment() === 'node' && !/^[a-z][a-z0-9+.-]+:/i.test(file); // c:\ is one
  return isPath ? String(process.getBuiltinModule('node:url').pathToFileURL(file)) : file;
}

/**
 * Starts a worker thread.
 * @param {string | URL} path
 * @param {{message: (data: unknown) => void, gone: (cause: Error) => void}} events gone is called once at most, and not after terminate
 */
export async function startWorker(path, events) {
  let over = false;
  const gone = (cause) => {
    if (!over) {
      over = true;
      events.gone(cause);
    }
  };
  if (getEnvironment() === 'node') {
    const { Worker } = await import('node:worker_threads');
    const worker = new Worker(/^file:/.test(String(path)) ? new URL(path) : path, { name: 'hypertoken' });
    worker.on('message', (data) => over || events.message(data));
    worker.on('error', (cause) => gone(/_NOT_FOUND$/.test(cause.code)
      ? new Error(`the script ${path} could not be loaded: check workerOptions.workerPath`, { cause }) : cause));
    worker.on('messageerror', gone);
    worker.on('exit', (code) => gone(new Error(`the worker ended with the exit code ${code}`)));
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
    // The worker has this lock until it ends, however that comes.
    const lock = e.data?.lock;
    if (lock) ended = navigator.locks.request(lock, () => gone(new Error('the worker was terminated'))).catch(() => {});
    events.message(e.data);
  });
  worker.addEventListener('messageerror', () => gone(new Error('a message of the worker can not be read')));
  worker.addEventListener('error', (e) => {
    e.preventDefault?.();
    gone(new Error(e.message || `the script ${path} could not be loaded: check workerOptions.workerPath, that it is served as text/javascript, and the page's Content-Security-Policy (worker-src)${
      globalThis.crossOriginIsolated ? '; in a page that is cross-origin isolated its script needs the Cross-Origin-Embedder-Policy too' : ''}`));
  });
  return {
    post: (data, transfer) => worker.postMessage(data, transfer),
    // One that hangs goes on for a second or two in some browsers.
    terminate: () => {
      over = true;
      worker.terminate();
      return ended;
    },
    thread: worker,
  };
}
