import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { Host } from '../src/index.js';
import { project, root, run } from './support/installed.js';

let installed;
before(async () => { installed = await project(); });
after(() => installed.remove());

test('what is built is what is committed', async () => {
  await run('git', ['diff', '--exit-code', '--stat', '--', 'dist'], { cwd: root });
  const { stdout } = await run('git', ['ls-files', 'dist'], { cwd: root });
  assert.deepEqual(stdout.trim().split('\n'), ['dist/hypertoken.js', 'dist/hypertoken.worker.js']);
});

test('it has what it needs, and no tests', () => {
  for (const file of ['README.md', 'core.wasm', 'dist/hypertoken.js', 'dist/hypertoken.worker.js', 'src/index.js', 'src/worker.js', 'LICENSE']) {
    assert.ok(installed.files.includes(file), `${file} is missing`);
  }
  assert.deepEqual(installed.files.filter((f) => /^(test|demo|build)|\.go$/.test(f)), []);
});

// The library that speaks MessagePack is two fifths of what a page loads.
test('it is small', async () => {
  const size = async (path) => gzipSync(await readFile(join(root, path)), { level: 9 }).length;
  const page = await size('dist/hypertoken.js'), worker = await size('dist/hypertoken.worker.js');
  const { outputFiles: [own] } = await build({
    absWorkingDir: root, entryPoints: ['src/index.js'], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false,
    external: ['node:*', '@msgpack/msgpack'],
  });
  const without = gzipSync(own.contents, { level: 9 }).length;
  console.log(`# compressed: the page loads ${page} bytes, ${without} of them without the MessagePack library, and the worker ${worker}`);
  assert.ok(without < 13 << 10, `${without} bytes`);
  assert.ok(page + worker < 22 << 10, `${page} + ${worker} bytes`);
});

test('it works in Node as it is installed, without options', async () => {
  await writeFile(join(installed.dir, 'game.mjs'), `import { Engine } from 'hypertoken-worker';
const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] } });
console.log((await engine.dispatchAsync('stack:draw'))[0].id, engine.place);
await engine.shutdown();
`);
  const { stdout } = await run('node', ['game.mjs'], { cwd: installed.dir });
  assert.equal(stdout, 'b worker\n');
});

test('the options are those of the declarations and of README.md', async (t) => {
  const host = new Host({ workers: 0, wasmPath: new URL('../wasm/', `file://${root}`) });
  t.after(() => host.shutdown());
  const options = Object.keys(host.options).sort();
  const declared = /interface WorkerOptions \{([^]*?)\n\}/.exec(await readFile(join(root, 'src/index.d.ts'), 'utf8'))[1];
  assert.deepEqual([...declared.matchAll(/^ {2}(\w+)\?:/gm)].map((m) => m[1]).sort(), options);
  const table = /### workerOptions\n([^]*?)###/.exec(await readFile(join(root, 'README.md'), 'utf8'))[1];
  assert.deepEqual([...table.matchAll(/^\| ([^|]*)\|/gm)].flatMap((m) => [...m[1].matchAll(/`(\w+)`/g)].map((x) => x[1])).sort(), options);
});
