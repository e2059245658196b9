// If no option says where the worker's script and the core are, they are beside the file that this
// module was bundled into. Bundlers that know `new URL('...', import.meta.url)` find both files by it, and
// copy both into what they build. Other bundlers copy no file, and README.md says what to do.

// A bundle that is no module has no import.meta.url. It is a classic script, or a CommonJS module.
const script = globalThis.document?.currentScript?.src;

function beside(name) {
  if (script || globalThis.document) return new URL(name, script || document.baseURI);
  return typeof __dirname === 'string' ? `${__dirname}/${name}` : name;
}

// If webpack builds for a server, as for Next, the address of a copied file can be one for pages,
// such as /_next/static/media/core.wasm. Then the file in the package's own folder is meant. Its base
// is a variable, so that webpack does not look for a file.
const here = import.meta.url;
const forServer = (url, name) => (globalThis.location || /^[a-z]+:/i.test(url) ? url : new URL(name, here));

const scriptName = 'hypertoken.worker.js', coreName = 'core.wasm';

export const files = () => (import.meta.url ? {
  workerPath: forServer(new URL('./hypertoken.worker.js', import.meta.url), scriptName),
  wasmPath: forServer(new URL('./core.wasm', import.meta.url), coreName),
} : { workerPath: beside(scriptName), wasmPath: beside(coreName) });
