// Copies the core into the package, beside the files that load it. npm runs it before it packs the folder, and when the folder is installed
// by its path. The core is committed once, in ../wasm, so browser/dist/core.wasm is ignored by git.

import { copyFile } from 'node:fs/promises';

const source = new URL('../wasm/core.wasm', import.meta.url), copy = new URL('dist/core.wasm', import.meta.url);

try {
  await copyFile(source, copy);
} catch (cause) {
  throw new Error(`${source.pathname} can not be copied to ${copy.pathname} (${cause.code}): the package needs it; run this in a clone of the repository`, { cause });
}
