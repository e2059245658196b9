// Bundles the package for pages without a bundler: dist/hypertoken.js, an ES module, and dist/hypertoken.worker.js, its worker. Both hold
// everything they need but the core, which prepare.js copies into the package. dist/react.js has the hooks, for `require` too, and dist/cli.js
// is the package's command. With --check nothing is written: it fails if the committed files differ from those that the sources give.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = (path) => new URL(path, import.meta.url);

const common = {
  bundle: true, minify: true, format: 'esm', target: 'es2022', legalComments: 'inline', write: false, external: ['node:*'],
  metafile: true, banner: { js: '/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */' },
  absWorkingDir: here('.').pathname,
};

const outputs = [
  ['dist/hypertoken.js', { ...common, entryPoints: ['src/index.js'] }],
  ['dist/hypertoken.worker.js', { ...common, entryPoints: ['src/worker.js'] }],
];

// What is not loaded by a page of its own can be read.
const banner = { js: `#!/usr/bin/env node\n${common.banner.js}` };
const others = [
  ['dist/react.js', { ...common, minify: false, entryPoints: ['src/react.js'], external: ['react'] }],
  ['dist/react.cjs', { ...common, minify: false, format: 'cjs', entryPoints: ['src/react.js'], external: ['react'] }],
  ['dist/cli.js', { ...common, minify: false, platform: 'node', entryPoints: ['src/cli.js'], banner }],
];

async function put(name, text) {
  if (!check) {
    await writeFile(here(name), text);
  } else if ((await readFile(here(name), 'utf8').catch(() => '')) !== text) {
    console.error(`${name} is not what the sources give: run 'node build.js' and commit it`);
    process.exitCode = 1;
  }
}

const check = process.argv.includes('--check');
let all = 0;
await mkdir(here('dist'), { recursive: true });
for (const [name, options] of [...outputs, ...others]) {
  const { outputFiles: [{ text, contents }], metafile } = await build(options);
  // NOTICE says that the package holds no code of others. If a dependency is bundled, NOTICE has to name it, with its licence.
  const foreign = Object.keys(metafile.inputs).filter((input) => !input.startsWith('src/'));
  if (foreign.length > 0) throw new Error(`${name} would bundle ${foreign.join(', ')}: NOTICE has to name it, with its licence`);
  if (options.minify) {
    const compressed = gzipSync(contents, { level: 9 }).length;
    all += compressed;
    console.log(`${name}: ${contents.length} bytes, ${compressed} compressed`);
  }
  await put(name, text);
}
// TypeScript takes the types of a CommonJS module from a file that ends in .d.cts.
await put('dist/react.d.cts', await readFile(here('src/react.d.ts'), 'utf8'));
console.log(`together ${all} bytes compressed`);
if (!check) await import('./prepare.js');
