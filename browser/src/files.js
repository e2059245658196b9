// This module says where the worker's script and the core are, if no option does. It is for the sources
// as they lie in the repository. In dist/, build.js puts files.dist.js in its place.

export const files = () => ({
  workerPath: new URL('./worker.js', import.meta.url),
  wasmPath: new URL('../dist/core.wasm', import.meta.url),
});
