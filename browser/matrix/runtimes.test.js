// Programs on Node, Deno and Bun, and bundles of a program for Node.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import resolve from '@rollup/plugin-node-resolve';
import { build as esbuild } from 'esbuild';
import { rollup } from 'rollup';
import * as vite from 'vite';
import { beside, copy, folder, here, missing, run, runtimes, runWebpack } from './support.js';

test('the first runtime is the lowest version of Node that the package takes', async () => {
  const { engines } = JSON.parse(await readFile(join(here, '../package.json'), 'utf8'));
  assert.equal(engines.node, '>=20');
  assert.match(JSON.parse(await readFile(join(here, 'package.json'), 'utf8')).optionalDependencies.node20, /@20\.0\.0$/);
});

const programs = await readdir(join(here, 'program')), said = 'b on a worker of node\n';

for (const [name, [runtime, ...first]] of Object.entries(runtimes)) {
  describe(name, { skip: missing([runtime]) }, () => {
    for (const program of programs) {
      test(program, async () => assert.equal((await run(runtime, [...first, `program/${program}`])).stdout, said));
    }
  });
}

// Each build gets the folder to build into, and returns the name of the file.
const bundles = {
  'esbuild, whose output is a CommonJS module': async (path) => {
    const { warnings } = await esbuild({ entryPoints: ['program/main.mjs'], absWorkingDir: here, bundle: true, platform: 'node', outfile: join(path, 'main.cjs'), logLevel: 'silent' });
    assert.deepEqual(warnings, []);
    await copy(path, ...beside);
    return 'main.cjs';
  },
  'esbuild, as a module': async (path) => {
    await esbuild({ entryPoints: ['program/main.mjs'], absWorkingDir: here, bundle: true, platform: 'node', format: 'esm', outfile: join(path, 'main.mjs') });
    await copy(path, ...beside);
    return 'main.mjs';
  },
  Rollup: async (path) => {
    const bundle = await rollup({ input: join(here, 'program/main.mjs'), plugins: [resolve({ exportConditions: ['node'] })] });
    await bundle.write({ file: join(path, 'main.mjs') });
    await copy(path, ...beside);
    return 'main.mjs';
  },
  'webpack 5': async (path) => {
    await runWebpack({ context: here, mode: 'production', target: 'node', entry: './program/main.mjs', output: { path, filename: 'main.cjs' } });
    return 'main.cjs';
  },
  'Vite 8': async (path) => {
    const build = { ssr: join(here, 'program/main.mjs'), outDir: path, emptyOutDir: true };
    await vite.build({ root: here, configFile: false, logLevel: 'error', ssr: { noExternal: true }, build });
    await copy(path, ...beside);
    return 'main.js';
  },
};

describe('bundles for Node', () => {
  for (const [name, build] of Object.entries(bundles)) {
    test(name, async () => {
      const { path } = await folder(`node-${name.replaceAll(/\W+/g, '-').toLowerCase()}`);
      const file = await build(path);
      assert.equal((await run(process.execPath, [join(path, file)])).stdout, said);
    });
  }
});
