// Bundles the package for pages without a bundler: dist/hypertoken.js, an ES module, and dist/hypertoken.worker.js, its worker. Both hold
// all they need but the core, which is copied beside them for who installs the package. With --check nothing is written: it fails where
// what is there is not what the sources give.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = (path) => new URL(path, import.meta.url);

const common = {
  bundle: true, minify: true, format: 'esm', target: 'es2022', legalComments: 'none', write: false, external: ['node:*'],
  absWorkingDir: here('.').pathname,
};

const outputs = [
  ['dist/hypertoken.js', { ...common, entryPoints: ['src/index.js'] }],
  ['dist/hypertoken.worker.js', { ...common, entryPoints: ['src/worker.js'] }],
];

const check = process.argv.includes('--check');
let all = 0;
await mkdir(here('dist'), { recursive: true });
for (const [name, options] of outputs) {
  const [{ text, contents }] = (await build(options)).outputFiles;
  const compressed = gzipSync(contents, { level: 9 }).length;
  all += compressed;
  console.log(`${name}: ${contents.length} bytes, ${compressed} compressed`);
  if (!check) {
    await writeFile(here(name), contents);
  } else if ((await readFile(here(name), 'utf8').catch(() => '')) !== text) {
    console.error(`${name} is not what the sources give: run 'node build.js' and commit it`);
    process.exitCode = 1;
  }
}
console.log(`together ${all} bytes compressed`);
if (!check) await copyFile(here('../wasm/core.wasm'), here('core.wasm'));
