import assert from 'node:assert/strict';
import { access, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { publint } from 'publint';
import { Host } from '../src/index.js';
import { project, root, run } from './support/installed.js';

let installed;
before(async () => { installed = await project(); });
after(() => installed?.remove());

const text = (path) => readFile(join(root, path), 'utf8');

const built = ['actions.d.cts', 'cli.js', 'client.cjs', 'client.d.cts', 'client.js', 'hypertoken.js', 'hypertoken.worker.js', 'node.cjs', 'node.d.cts', 'node.js', 'react.cjs', 'react.d.cts', 'react.js']
  .map((name) => `dist/${name}`);

test('the committed build is the one of the sources', async () => {
  await run('node', ['build.js', '--check'], { cwd: root });
  await run('git', ['diff', '--exit-code', '--stat', '--', 'dist'], { cwd: root });
  const { stdout } = await run('git', ['ls-files', 'dist'], { cwd: root });
  assert.deepEqual(stdout.trim().split('\n').sort(), built);
});

test('packed in a fresh clone, it has what it needs, and no tests', async () => {
  const { exports: exported, files, main, module, types } = JSON.parse(await text('package.json'));
  const all = (paths) => (typeof paths === 'string' ? [paths] : Object.values(paths).flatMap(all));
  const declared = [...files, main, module, types, ...all(exported)].map((path) => path.replace(/^\.\//, '')).filter((path) => !['client', 'dist', 'react'].includes(path) && !path.includes('*'));
  for (const file of [...declared, ...built, 'dist/core.wasm', 'client/package.json', 'react/package.json', 'src/actions.d.ts']) assert.ok(installed.files.includes(file), `${file} is missing`);
  assert.deepEqual(installed.files.filter((f) => /^(test|demo|bench|matrix|build|prepare)|^src\/.*(?<!\.d\.ts)$|\.go$/.test(f)), []);
});

test('the core that is packed is the one of the repository', async () => {
  const [packed, own] = await Promise.all([join(installed.dir, 'node_modules/hypertoken-worker/dist/core.wasm'), join(root, '../wasm/core.wasm')].map((path) => readFile(path)));
  assert.ok(packed.equals(own));
});

test('publint finds nothing', async () => {
  const { messages } = await publint({ pkgDir: join(installed.dir, 'node_modules/hypertoken-worker'), pack: false, strict: true });
  assert.deepEqual(messages, []);
});

// A worker's script and a core are files whose addresses a program passes on. They are not imported as modules, and have no types.
test('@arethetypeswrong/cli finds nothing', async () => {
  const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
  const args = [attw, installed.archive, '--exclude-entrypoints', 'worker', 'core.wasm', '--no-color', '--no-emoji'];
  await run('node', args, { cwd: installed.dir }).catch(({ stdout }) => assert.fail(stdout));
});

// A test of cmd/hypertoken/internal/licenses holds the crates that THIRD-PARTY-LICENSES.txt names against those that
// core.wasm is linked from.
test('its licence is that of the project', async () => {
  const { license, dependencies: own = {} } = JSON.parse(await text('package.json'));
  assert.equal(license, 'Apache-2.0');
  assert.equal(await text('LICENSE'), await text('../LICENSE'));
  assert.deepEqual(own, {}); // NOTICE says so
  const { version } = JSON.parse(await text('node_modules/idb/package.json'));
  assert.ok((await text('THIRD-PARTY-LICENSES.txt')).includes(`the npm package idb, version ${version}\n`), `idb ${version} is bundled`);
  for (const name of built.filter((file) => !file.includes('.d.'))) assert.match(await text(name), /^(#!.*\n)?\/\*! hypertoken-worker, Apache-2\.0/);
});

// Next copies the worker's script into a folder of CommonJS modules.
test("the worker's script is a module and a CommonJS module alike", async () => {
  const dir = join(installed.dir, 'common');
  await mkdir(dir);
  await writeFile(join(dir, 'package.json'), '{"type": "commonjs"}');
  await copyFile(join(root, 'dist/hypertoken.worker.js'), join(dir, 'hypertoken.worker.js'));
  await writeFile(join(installed.dir, 'common.mjs'), game.replace('useWorker: true,', "useWorker: true, workerOptions: { workerPath: 'common/hypertoken.worker.js' },"));
  assert.equal((await run('node', ['common.mjs'], { cwd: installed.dir })).stdout, 'b worker\n');
});

// build.js fails if anything but its own code is in it.
test('it is small', async () => {
  const size = async (path) => gzipSync(await readFile(join(root, path)), { level: 9 }).length;
  const page = await size('dist/hypertoken.js'), worker = await size('dist/hypertoken.worker.js'), core = await size('dist/core.wasm');
  console.log(`# compressed: the page loads ${page} bytes, the worker ${worker}, and the core ${core}`);
  assert.ok(page < 39 << 10, `${page} bytes`);
  assert.ok(worker < 9 << 9, `${worker} bytes`);
  assert.ok(core < 200 << 10, `${core} bytes`);
  const stated = /page loads (\d+) KB, its worker (\d+) KB, and the core (\d+) KB/.exec(await readFile(join(root, 'README.md'), 'utf8'));
  [page, worker, core].forEach((bytes, k) => assert.ok(Math.abs(bytes / 1024 - stated[k + 1]) <= 1, `README.md says ${stated[k + 1]} KB, it is ${bytes} bytes`));
});

const game = `import { Engine } from 'hypertoken-worker';
const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] } });
console.log((await engine.dispatchAsync('stack:draw'))[0].id, engine.place);
await engine.shutdown();
`;

test('it works in Node as it is installed, without options', async () => {
  await writeFile(join(installed.dir, 'game.mjs'), game);
  const { stdout } = await run('node', ['game.mjs'], { cwd: installed.dir });
  assert.equal(stdout, 'b worker\n');
  const { stdout: piped } = await run('node', ['--input-type=module', '-e', game], { cwd: installed.dir });
  assert.equal(piped, 'b worker\n');
});

test('its types are found as it is installed, and know the actions', async () => {
  // With the package's own declarations checked.
  const compilerOptions = { strict: true, noEmit: true, module: 'nodenext', target: 'es2022', types: [], skipLibCheck: false };
  await writeFile(join(installed.dir, 'game.mts'), `import { Engine, type Token } from 'hypertoken-worker';
const engine = new Engine({ setup: { stack: [{ id: 'a' }] } });
export const drawn: Token[] = await engine.dispatchAsync('stack:draw', { count: 1 });
// @ts-expect-error it is called count
await engine.dispatchAsync('stack:draw', { cuont: 1 });
`);
  // Without lib, which is what a target has by default, and without the DOM library.
  for (const lib of [undefined, ['es2022']]) {
    await writeFile(join(installed.dir, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...compilerOptions, lib }, files: ['game.mts'] }));
    await run('node', [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'], { cwd: installed.dir }).catch(({ stdout }) => assert.fail(stdout));
  }
});

test('its command writes the types of a core, with which a game of that core compiles', async () => {
  const core = join(root, '../internal/cores/example.wasm'), command = (...args) => run('npx', ['--offline', 'hypertoken-worker', ...args], { cwd: installed.dir });
  await writeFile(join(installed.dir, 'core.mts'), (await command('types', core)).stdout);
  await writeFile(join(installed.dir, 'own.mts'), `import { Engine } from 'hypertoken-worker';
import type { Actions, Events, Setup, State } from './core.mjs';
const engine = new Engine<Actions, State, Events, Setup>({ setup: { stack: [{ id: 'a' }] } });
await engine.dispatchAsync('process:item', { item: 1 });
engine.on('item:processed', ({ payload }) => payload);
// @ts-expect-error there is no such action
await engine.dispatchAsync('process:itme', { item: 1 });
`);
  const compilerOptions = { strict: true, noEmit: true, module: 'nodenext', target: 'es2022', lib: ['es2022'], types: [], skipLibCheck: false };
  await writeFile(join(installed.dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['own.mts'] }));
  await run('node', [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'], { cwd: installed.dir }).catch(({ stdout }) => assert.fail(stdout));
  assert.match((await command('--help')).stdout, /^Usage: hypertoken-worker types FILE\n/);
  for (const [args, code, message] of [[[], 2, /^Usage/], [['type', core], 2, /^Usage/], [['types', 'no.wasm'], 1, /^hypertoken-worker: no\.wasm: it can not be read \(ENOENT\)/],
    [['types', 'package.json'], 1, /^hypertoken-worker: package\.json: it is no WebAssembly module/]]) {
    await assert.rejects(command(...args), (e) => e.code === code && message.test(e.stderr));
  }
});

test('its folder may be installed by its path', async () => {
  const dir = join(installed.dir, '../linked');
  await mkdir(dir);
  await writeFile(join(dir, 'package.json'), '{"private": true}');
  await run('rm', ['-f', join(installed.source, 'dist/core.wasm')]); // which packing has put there
  await run('npm', ['install', '../clone/browser', '--offline', '--omit=dev', '--no-audit', '--no-fund'], { cwd: dir });
  await access(join(dir, 'node_modules/hypertoken-worker/dist/core.wasm'));
  await writeFile(join(dir, 'game.mjs'), game);
  assert.equal((await run('node', ['game.mjs'], { cwd: dir })).stdout, 'b worker\n');
});

test('the options are those of the declarations and of README.md', async (t) => {
  const host = new Host({ workers: 0, wasmPath: new URL('../wasm/', `file://${root}`) });
  t.after(() => host.shutdown());
  const options = Object.keys(host.options).sort();
  const declared = /interface WorkerOptions \{([^]*?)\n\}/.exec(await text('src/index.d.ts'))[1];
  assert.deepEqual([...declared.matchAll(/^ {2}(\w+)\?:/gm)].map((m) => m[1]).sort(), options);
  const table = /### workerOptions\n([^]*?)###/.exec(await text('README.md'))[1];
  assert.deepEqual([...table.matchAll(/^\| ([^|]*)\|/gm)].flatMap((m) => [...m[1].matchAll(/`(\w+)`/g)].map((x) => x[1])).sort(), options);
});
