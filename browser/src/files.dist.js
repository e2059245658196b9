// Where the worker's script and the core are, if no option says it: beside the file that this module
// was bundled into. Bundlers that know `new URL('...', import.meta.url)` find both files by it, and
// copy both into what they build. Other bundlers copy no file, and README.md says what to do.

// A bundle that is no module has no import.meta.url. It is a classic script, or a CommonJS module.
const script = globalThis.document?.currentScript?.src;

function beside(name) {
  if (script || globalThis.document) return new URL(name, script || document.baseURI);
  return typeof __dirname === 'string' ? `${__dirname}/${name}` : name;
}

export const files = () => (import.meta.url ? {
  workerPath: new URL('./hypertoken.worker.js', import.meta.url),
  wasmPath: new URL('./core.wasm', import.meta.url),
} : { workerPath: beside('hypertoken.worker.js'), wasmPath: beside('core.wasm') });
