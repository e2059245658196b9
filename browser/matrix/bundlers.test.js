// Bundlers for pages: each builds the same page, mostly with its defaults, and what it built runs in both browsers.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import resolve from '@rollup/plugin-node-resolve';
import { build as esbuild } from 'esbuild';
import { rollup } from 'rollup';
import * as vite from 'vite';
import { browsers, launch, serve, skip } from '../test/browser/harness.js';
import { titleOf } from './browsers.js';
import { beside, copy, folder, here, run, runWebpack, tool } from './support.js';

/** Builds with Vite, and returns its warnings. */
async function runVite(configuration) {
  const warnings = [], logger = vite.createLogger('info');
  logger.info = () => {};
  for (const level of ['warn', 'warnOnce', 'error']) logger[level] = (message) => warnings.push(message);
  await vite.build({ root: join(here, 'page'), configFile: false, customLogger: logger, ...configuration });
  return warnings;
}

// Each build gets the folder to build into, and returns the warnings that the bundler gave.
const setups = {
  'esbuild, whose output is a classic script': async ({ path }) => {
    const { warnings } = await esbuild({ entryPoints: ['page/main.js'], absWorkingDir: here, bundle: true, outfile: join(path, 'main.js'), logLevel: 'silent' });
    await copy(path, 'page/classic.html', ...beside);
    return [warnings, 'classic.html'];
  },
  'esbuild, as a module': async ({ path }) => {
    const { warnings } = await esbuild({ entryPoints: ['page/main.js'], absWorkingDir: here, bundle: true, format: 'esm', minify: true, outdir: path, logLevel: 'silent' });
    await copy(path, 'page/index.html', ...beside);
    return [warnings];
  },
  Rollup: async ({ path }) => {
    const warnings = [];
    const bundle = await rollup({ input: join(here, 'page/main.js'), plugins: [resolve()], onLog: (level, log) => warnings.push(log.message) });
    await bundle.write({ dir: path });
    await copy(path, 'page/index.html', ...beside);
    return [warnings];
  },
  'webpack 5': async ({ path }) => {
    const warnings = await runWebpack({ context: here, entry: './page/main.js', output: { path } });
    await copy(path, 'page/classic.html');
    // It always says that no mode is set, and that a file is large, which is the core.
    return [warnings.filter((text) => !/'mode' option|core\.wasm|\.wasm \(|limit the size of your bundles/.test(text)), 'classic.html'];
  },
  Parcel: async ({ path }) => {
    await run(process.execPath, [tool('parcel/lib/bin.js'), 'build', 'page/index.html', '--dist-dir', path, '--public-url', './', '--cache-dir', (await folder('parcel-cache')).path, '--no-autoinstall']);
    return [[]];
  },
  'Vite 8': async ({ path }) => [await runVite({ base: './', build: { outDir: path, emptyOutDir: true } })],
  'webpack 5, which builds the worker': async ({ path }) => {
    const warnings = await runWebpack({ context: here, mode: 'production', performance: false, entry: { main: './page/factory.js' }, output: { path } });
    await copy(path, 'page/classic.html');
    return [warnings, 'classic.html'];
  },
  'Vite 8, which builds the worker': async ({ path }) => {
    const build = { outDir: path, emptyOutDir: true, rolldownOptions: { input: join(here, 'page/factory.html') } };
    return [await runVite({ base: './', worker: { format: 'es' }, build }), 'factory.html'];
  },
};

let site;
const pages = {};
before(async () => {
  site = await serve(pages);
});
after(() => site?.close());

const built = new Map();
describe('builds', () => {
  for (const [name, build] of Object.entries(setups)) {
    test(name, async () => {
      const key = name.replaceAll(/\W+/g, '-').toLowerCase(), to = await folder(key);
      const [warnings, page = 'index.html'] = await build(to);
      pages[`/a/folder/${key}/`] = to.url;
      built.set(name, `/a/folder/${key}/${page}`);
      assert.deepEqual(warnings, []);
    });
  }
});

for (const one of browsers) {
  describe(`runs in ${one.name}`, { skip: skip(one) }, () => {
    let b;
    before(async () => { b = await launch(one); });
    after(() => b?.close());
    for (const name of Object.keys(setups)) {
      test(name, async () => {
        assert.ok(built.has(name), 'it was not built');
        assert.equal(await titleOf(b, site.url + built.get(name)), 'b on a worker');
      });
    }
  });
}
