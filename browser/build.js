// Builds dist/. Pages and bundlers load dist/hypertoken.js, an ES module. Node loads dist/node.js, or dist/node.cjs by `require`: these two are
// not minified, so that a stack trace can be read. The worker's script of all three is dist/hypertoken.worker.js. Each of the files holds
// everything that it needs but the core, which prepare.js copies beside it. dist/react.js and dist/react.cjs have the hooks, and dist/cli.js is
// the package's command. The types of CommonJS modules are copies of those in src/. With --check nothing is written: it fails if the committed
// files differ from those that the sources give.

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = (path) => new URL(path, import.meta.url);

// In dist/, the worker's script and the core are beside the file that loads them.
const beside = {
  name: 'beside',
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/files\.js$/ }, () => ({ path: here('src/files.dist.js').pathname })),
};

const common = {
  bundle: true, format: 'esm', target: 'es2022', legalComments: 'inline', write: false, metafile: true, plugins: [beside],
  banner: { js: '/*! hypertoken-worker, Apache-2.0: see LICENSE and NOTICE */' }, absWorkingDir: here('.').pathname,
};
const commonJS = {
  format: 'cjs', define: { 'import.meta.url': 'thisFile' },
  banner: { js: `${common.banner.js}\nconst thisFile = require('node:url').pathToFileURL(__filename).href;` },
};

const bundles = [
  ['dist/hypertoken.js', { ...common, minify: true, entryPoints: ['src/index.js'] }],
  ['dist/hypertoken.worker.js', { ...common, minify: true, entryPoints: ['src/worker.js'] }],
  ['dist/node.js', { ...common, entryPoints: ['src/index.js'] }],
  ['dist/node.cjs', { ...common, ...commonJS, entryPoints: ['src/index.js'] }],
  ['dist/react.js', { ...common, entryPoints: ['src/react.js'], external: ['react'] }],
  ['dist/react.cjs', { ...common, format: 'cjs', entryPoints: ['src/react.js'], external: ['react'] }],
  ['dist/cli.js', { ...common, platform: 'node', entryPoints: ['src/cli.js'], banner: { js: `#!/usr/bin/env node\n${common.banner.js}` } }],
];

const check = process.argv.includes('--check');

async function put(name, contents) {
  if (!check) {
    await writeFile(here(name), contents);
  } else if (!(await readFile(here(name)).catch(() => Buffer.alloc(0))).equals(Buffer.from(contents))) {
    console.error(`${name} is not what the sources give: run 'node build.js' and commit it`);
    process.exitCode = 1;
  }
}

// Bundlers are not to look for the module behind an import() whose address is known only when it runs. esbuild drops the comments that say so.
const dynamic = /\bimport\((\w+)\)/g;
const ignored = (text) => text.replaceAll(dynamic, 'import(/*webpackIgnore:true*//*turbopackIgnore:true*//*@vite-ignore*/$1)');

let all = 0;
await mkdir(here('dist'), { recursive: true });
for (const [name, options] of bundles) {
  const { outputFiles: [{ text }], metafile } = await build(options);
  const contents = Buffer.from(options.minify ? ignored(text) : text);
  // NOTICE names the code of others that the package holds. If another dependency is bundled, NOTICE has to name it, and THIRD-PARTY-LICENSES.txt
  // its licence.
  const foreign = Object.keys(metafile.inputs).filter((input) => !/^(src|node_modules\/idb)\//.test(input));
  if (foreign.length > 0) throw new Error(`${name} would bundle ${foreign.join(', ')}: NOTICE has to name it, with its licence`);
  if (options.minify) {
    const compressed = gzipSync(contents, { level: 9 }).length;
    all += compressed;
    console.log(`${name}: ${contents.length} bytes, ${compressed} compressed`);
  }
  await put(name, contents);
}
console.log(`together ${all} bytes compressed`);

// TypeScript takes the types of a CommonJS module from a file that ends in .d.cts. Those of node.cjs are the types of index.js.
const commonTypes = (file) => file.replace(/^index\b/, 'node').replace(/\.d\.ts$/, '.d.cts');
for (const file of (await readdir(here('src'))).filter((name) => name.endsWith('.d.ts') && name !== 'worker.d.ts')) {
  const types = await readFile(here(`src/${file}`), 'utf8');
  await put(`dist/${commonTypes(file)}`, types.replace(/ from '\.\/(\w+)\.js';/g, (_, name) => ` from './${name.replace(/^index$/, 'node')}.cjs';`));
}
if (!check) await import('./prepare.js');
