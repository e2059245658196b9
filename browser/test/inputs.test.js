// Options, paths and signals that callers give, and the environment that the package finds.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { cp, symlink } from 'node:fs/promises';
import { join, posix, win32 } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import vm from 'node:vm';
import { Engine, getEnvironment, Host, UniversalWorker } from '../src/index.js';
import { coreFile, coreLocation, scriptFile } from '../src/environment.js';
import { nearest } from '../src/options.js';
import { deck, engineFor, folder, hostFor, record, testCore, wasmPath } from './support/cores.js';

const run = promisify(execFile);
const core = { core: testCore };
const bad = (message) => (e) => {
  assert.equal(e.code, 'bad_input', String(e));
  assert.match(e.message, message);
  return true;
};

test('options that do not exist are refused, and the nearest one is named', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(3) });
  await engine.ready;
  for (const [make, message] of [
    [() => new Engine({ workerOption: {} }), /Engine: there is no option workerOption; did you mean workerOptions\? There are useWorker, setup, snapshot, history, workerOptions, host, name, persist$/],
    [() => new Engine({ useworker: true }), /did you mean useWorker\?/], [() => new Engine({ nonsense: 1 }), /no option nonsense; there are useWorker/],
    [() => new Engine({ workerOptions: { time_out: 5 } }), /workerOptions: there is no option time_out; did you mean timeout\?/],
    [() => new Host({ wokers: 2 }), /Host: there is no option wokers; did you mean workers\?/], [() => new Host({ toString: 5 }), /no option toString/],
    [() => new Host({ constructor: 5 }), /no option constructor/], [() => new Host(JSON.parse('{"__proto__":{"workers":3}}')), /no option __proto__/],
    [() => new UniversalWorker({ wasmpath: '/' }), /UniversalWorker: .*did you mean wasmPath\?/],
  ]) assert.throws(make, bad(message));
  for (const [call, message] of [
    [() => engine.dispatchAsync('stack:draw', {}, { timeOut: 5 }), /stack:draw: there is no option timeOut; did you mean timeout\? There are signal, timeout, now, entropy/],
    [() => engine.dispatchAsync('stack:draw', {}, AbortSignal.timeout(5)), /stack:draw: there is no option/],
    [async () => engine.dispatch('stack:draw', {}, { signals: null }), /did you mean signal\?/],
    [() => engine.dispatchBatch([{ type: 'stack:draw' }], { modus: 'atomic' }), /batch: there is no option modus; did you mean mode\?/],
    [() => engine.dispatchBatch([{ type: 'stack:draw' }], { now: 5 }), /no option now/],
    [() => engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:draw', pyload: {} }]), /actions\[1\]: action: there is no option pyload; did you mean payload\?/],
    [() => engine.dispatchBatch([{ type: 'stack:draw', timeout: 5 }]), /no option timeout/],
    [() => engine.state({ at: 5 }), /state: there is no option at/], [() => engine.digest({ x: 1 }), /digest: /], [() => engine.snapshot(5), /snapshot: options are 5, want an object/],
    [() => engine.shutdown({ timeouts: 5 }), /did you mean timeout\?/], [() => engine.host.shutdown({ after: 5 }), /no option after/],
    [() => new UniversalWorker(core).init({ setups: {} }), /init: .*did you mean setup\?/],
  ]) await assert.rejects(call(), bad(message));
  assert.equal(engine.sequence, 0);
  assert.equal(engine.host.stats.inFlight, 0);
  assert.equal(nearest('if_sequence', ['ifSequence', 'other']), 'ifSequence');
  assert.equal(nearest('zzz', ['ifSequence', 'other']), undefined);
});

test('options of another type, or out of their bounds, are refused, and the error has the value', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(3) });
  await engine.ready;
  for (const [make, message] of [
    [() => new Engine(5), /options are 5/], [() => new Engine([]), /options are an array/], [() => new Engine({ useWorker: 'false' }), /useWorker is "false", want a boolean/],
    [() => new Engine({ setup: 5 }), /setup is 5, want an object/], [() => new Engine({ setup: [] }), /setup is an array/], [() => new Engine({ setup: '{}' }), /setup is "\{\}"/],
    [() => new Engine({ snapshot: 'text' }), /snapshot is "text", want a Uint8Array/], [() => new Engine({ snapshot: new ArrayBuffer(4) }), /snapshot is an object \(ArrayBuffer\)/],
    [() => new Engine({ snapshot: null }), /snapshot is null/], [() => new Engine({ setup: {}, snapshot: new Uint8Array(4) }), /give one of them/],
    [() => new Engine({ host: {} }), /host is an object \(Object\), want a Host/], [() => new Engine({ workerOptions: 5 }), /workerOptions: options are 5/],
    [() => new Engine({ useWorker: false, workerOptions: { workers: 2 } }), /useWorker is false, and workerOptions\.workers is 2/],
    [() => new Engine({ workerOptions: { workers: 2 } }), /useWorker is false, and/], [() => new Engine({ useWorker: true, workerOptions: { workers: 0 } }), /useWorker is true, and .* is 0/],
    [() => new Engine({ useWorker: true, host: engine.host }), /useWorker is true, and the host has 0 workers/],
    [() => new Host('x'), /options are "x"/], [() => new Host({ workers: '2' }), /workers is "2", want an integer from 0 to 1024/], [() => new Host({ workers: 1025 }), /is 1025/],
    [() => new Host({ timeout: -1 }), /Host: timeout is -1, want an integer from 0 to 2147483647/], [() => new Host({ debug: 'yes' }), /debug is "yes", want true or false/],
    [() => new Host({ enableBatching: 1 }), /enableBatching is 1/], [() => new Host({ worker: 2 }), /worker is 2, want a function that returns a Worker \(workers is their number\)/], [() => new Host({ workerPath: 5 }), /workerPath is 5, want a path or a URL/], [() => new Host({ wasmPath: '' }), /wasmPath is ""/],
    [() => new Host({ clock: 5 }), /clock is 5, want a function/], [() => new Host({ logger: { warn() {} } }), /logger is an object/], [() => new Host({ core: 'core.wasm' }), /core is "core.wasm"/],
    [() => engine.on('engine:action'), /the listener is undefined, want a function/], [() => engine.on(5, () => {}), /name of an event is 5/],
    [() => engine.dispatch('stack:draw', {}, { timeout: -1 }), /timeout is -1/],
  ]) assert.throws(make, bad(message));
  for (const [options, message] of [[5, /options are 5/], [{ timeout: -1 }, /timeout is -1, want milliseconds/], [{ timeout: '5' }, /timeout is "5"/], [{ timeout: null }, /timeout is null/],
    [{ signal: {} }, /signal is an object \(Object\), want an AbortSignal/], [{ signal: 'x' }, /signal is "x"/], [{ now: 1.5 }, /now is 1\.5/], [{ now: new Date() }, /now is an object \(Date\)/],
    [{ now: 5n }, /now is 5/], [{ entropy: 'x' }, /entropy is "x", want a Uint8Array of 16 bytes/], [{ entropy: new Uint8Array(17) }, /entropy is a Uint8Array of 17 bytes, want a Uint8Array of 16 bytes/]]) {
    await assert.rejects(engine.dispatchAsync('stack:draw', {}, options), bad(message));
  }
  for (const type of ['', 7, null, undefined, {}, '\ud83c']) await assert.rejects(engine.dispatchAsync(type), bad(/an action's type/));
  await assert.rejects(engine.dispatchBatch({ length: 1 }), bad(/actions are an object/));
  await assert.rejects(engine.dispatchBatch([, { type: 'stack:draw' }]), bad(/actions\[0\]: it is undefined, want an object/)); // eslint-disable-line no-sparse-arrays
  await assert.rejects(engine.dispatchBatch([], { timeout: -1 }), bad(/timeout is -1/));
  assert.throws(() => engine.dispatch('stack:draw', {}, { signal: AbortSignal.abort() }), { code: 'canceled' });
  assert.equal(engine.sequence, 0);
  // null is taken as undefined if a value may be left out, and bytes may be of another realm.
  const entropy = vm.runInNewContext('new Uint8Array(16)');
  assert.equal((await engine.dispatchAsync('stack:draw', null, { signal: null, entropy })).length, 1);
  await engineFor(t, { useWorker: false, setup: null }).ready;
});

test('members that an action or a setup does not have are refused by the core, which names the nearest', async (t) => {
  const engine = engineFor(t, { setup: deck(3) });
  await assert.rejects(engine.dispatchAsync('stack:draw', { cuont: 3 }), (e) => e.code === 'bad_payload' && /cuont.*count/.test(e.message));
  await assert.rejects(engine.dispatchAsync('stack:draw', new Map([['cuont', 3]])), { code: 'bad_payload' });
  await assert.rejects(engineFor(t, { setup: { stak: [] } }).ready, (e) => e.code === 'bad_payload' && /stak.*stack/.test(e.message));
  assert.equal(engine.sequence, 0);
});

const listeners = (signal) => getEventListeners(signal, 'abort').length;

test('a signal has one listener however many actions and engines wait for it, and none afterwards', async (t) => {
  const warnings = [], warned = (w) => warnings.push(w);
  process.on('warning', warned);
  t.after(() => process.off('warning', warned));
  const stop = new AbortController(), { signal } = stop;
  const engines = [1, 2, 3].map(() => engineFor(t, { setup: deck(200) }));
  for (let round = 0; round < 3; round++) {
    const calls = engines.flatMap((e) => Array.from({ length: 30 }, () => e.dispatchAsync('stack:draw', {}, { signal })));
    calls.push(engines[0].state({ signal }), engines[1].dispatchBatch([{ type: 'stack:draw' }], { signal }));
    assert.equal(listeners(signal), 1);
    await Promise.all(calls);
    assert.equal(listeners(signal), 0);
  }
  await assert.rejects(engines[0].dispatchAsync('no:such', {}, { signal }), { code: 'unknown_action' });
  await assert.rejects(engines[0].dispatchAsync('test:spin', {}, { signal, timeout: 20 }), { code: 'timeout' });
  assert.equal(listeners(signal), 0);
  const last = engines.flatMap((e) => Array.from({ length: 12 }, () => e.dispatchAsync('stack:draw', {}, { signal })));
  stop.abort('enough');
  for (const call of last) await assert.rejects(call, (e) => e.code === 'canceled' && e.cause === 'enough');
  assert.equal(listeners(signal), 0);
  await new Promise(setImmediate); // warnings come later
  assert.deepEqual(warnings, []);
  for (const e of engines) assert.equal(e.host.stats.inFlight, 0);
});

test('a listener of one action may end another one of the same signal, or add one', async (t) => {
  const stop = new AbortController(), { signal } = stop, engine = engineFor(t, { setup: deck(9) });
  await engine.ready;
  const errors = record(engine);
  const late = new Promise((resolve) => {
    const off = engine.on('engine:error', () => {
      off();
      resolve(engine.dispatchAsync('stack:draw', {}, { signal }).catch((e) => e.code));
    });
  });
  const calls = [1, 2].map(() => engine.dispatchAsync('stack:draw', {}, { signal }));
  stop.abort();
  for (const call of calls) await assert.rejects(call, { code: 'canceled' });
  assert.equal(await late, 'canceled');
  assert.ok(errors.length >= 3);
  assert.equal(listeners(signal), 0);
});

/** The result of getEnvironment in a program whose globals a script has changed first. */
function environment(script) {
  const { process } = globalThis; // a script may replace it
  const saved = Object.getOwnPropertyDescriptors(globalThis), versions = Object.getOwnPropertyDescriptor(process, 'versions');
  try {
    script();
    return getEnvironment();
  } finally {
    Object.defineProperty(process, 'versions', versions);
    delete process.type;
    delete process.browser;
    for (const name of ['window', 'document', 'self', 'Deno', 'process']) {
      if (saved[name]) Object.defineProperty(globalThis, name, saved[name]);
      else delete globalThis[name];
    }
  }
}

test('the environment is recognized by properties that only the real one has', () => {
  const set = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  const { process } = globalThis;
  const versions = (more) => Object.defineProperty(process, 'versions', { value: { ...process.versions, ...more }, configurable: true });
  const page = () => ['window', 'self'].forEach((name) => set(name, globalThis)) ?? set('document', {});
  for (const [name, want, script] of [
    ['Node', 'node', () => {}],
    ['tests in Node with a window', 'node', page],
    ['tests in Node that pretend to be a page', 'node', () => { page(); process.browser = true; }],
    ['Bun', 'node', () => versions({ bun: '1.1.0' })],
    ['Deno', 'node', () => { set('Deno', { version: { deno: '2.1.0' }, cwd: () => '/' }); page(); }],
    ['the main process of Electron', 'node', () => { process.type = 'browser'; versions({ electron: '33.0.0' }); }],
    ['a page of Electron with the modules of Node', 'browser', () => { process.type = 'renderer'; versions({ electron: '33.0.0' }); page(); }],
    ['a Web Worker of Electron', 'browser', () => { process.type = 'worker'; }],
    ['a page of NW.js', 'browser', () => { versions({ nw: '0.90.0' }); page(); }],
    ['a page', 'browser', () => { page(); set('process', undefined); }],
    ['a page with the process of a bundler', 'browser', () => { page(); set('process', { env: {}, versions: {}, browser: true }); }],
    ['a page with a process that only has an environment', 'browser', () => { page(); set('process', { env: {} }); }],
    ['a page with an element called process', 'browser', () => { page(); set('process', { tagName: 'FORM' }); }],
    ['a page with a process that claims a version', 'browser', () => { page(); set('process', { versions: { node: '20.0.0' }, browser: true }); }],
  ]) assert.equal(environment(script), want, name);
});

test('in Node a game is played on a worker while window, document and self are defined', async (t) => {
  for (const name of ['window', 'self', 'document']) Object.defineProperty(globalThis, name, { value: globalThis, configurable: true });
  t.after(() => ['window', 'self', 'document'].forEach((name) => delete globalThis[name]));
  const engine = engineFor(t, { setup: deck(2), workerOptions: { core: undefined, wasmPath } });
  assert.equal((await engine.dispatchAsync('stack:draw'))[0].id, 't1');
  assert.equal(engine.place, 'worker');
});

test('wasmPath is a folder or a file, as a path or a URL, relative or not, with or without a slash at its end', async (t) => {
  const dir = await folder(t), source = fileURLToPath(wasmPath);
  await cp(join(source, 'core.wasm'), join(dir, 'wa sm#?%41', 'core.wasm'));
  await cp(join(source, 'core.wasm'), join(dir, 'other.wasm'));
  await symlink(dir, join(dir, 'link'));
  const index = JSON.stringify(String(new URL('../src/index.js', import.meta.url)));
  const paths = ['./wa sm#?%41', './wa sm#?%41/', 'wa sm#?%41', join(dir, 'wa sm#?%41'), `${join(dir, 'wa sm#?%41')}/`, './other.wasm', 'link/other.wasm', join(dir, 'other.wasm'),
    String(pathToFileURL(join(dir, 'wa sm#?%41'))), `${pathToFileURL(join(dir, 'wa sm#?%41'))}/`, String(pathToFileURL(join(dir, 'other.wasm')))];
  const program = `
    delete process.getBuiltinModule; // Node 20.0 has none
    import { Engine } from ${index};
    const paths = ${JSON.stringify(paths)};
    paths.push(new URL(paths.at(-1)), new URL(paths.at(-2)));
    const engines = paths.map((wasmPath) => new Engine({ setup: { stack: [{ id: 'a' }] }, workerOptions: { wasmPath } }));
    process.chdir('/'); // it is relative to the folder of the call
    for (const engine of engines) {
      await engine.ready;
      engine.dispatch('stack:draw');
      await engine.shutdown();
    }
    console.log(engines.length);`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: dir });
  assert.equal(stdout, '13\n');
  const none = new Engine({ workerOptions: { wasmPath: './no/such' } });
  await assert.rejects(none.ready, bad(/no\/such\/core\.wasm can not be read \(ENOENT\): copy core\.wasm there, or set workerOptions\.wasmPath/));
});

test('paths of Windows are paths', () => {
  const at = 'D:\\games';
  for (const [given, want] of [['C:\\app\\wasm', 'C:\\app\\wasm\\core.wasm'], ['C:\\app\\wasm\\', 'C:\\app\\wasm\\core.wasm'], ['C:/app/wasm/', 'C:\\app\\wasm\\core.wasm'], ['c:\\own.WASM', 'c:\\own.WASM'],
    ['.\\wasm', 'D:\\games\\wasm\\core.wasm'], ['./wasm/', 'D:\\games\\wasm\\core.wasm'], ['wasm', 'D:\\games\\wasm\\core.wasm'], ['\\\\server\\share\\x', '\\\\server\\share\\x\\core.wasm']]) {
    const { path, url } = coreLocation(given);
    assert.equal(url, undefined, given);
    assert.equal(coreFile(path, at, win32), want);
  }
  for (const [given, want] of [['.\\worker.js', 'D:\\games\\worker.js'], ['worker.js', 'D:\\games\\worker.js'], ['C:\\w\\worker.js', 'C:\\w\\worker.js']]) assert.equal(scriptFile(given, at, win32), want);
  assert.equal(String(scriptFile('file:///C:/w/worker.js', at, win32)), 'file:///C:/w/worker.js');
  assert.equal(scriptFile('worker.mjs', '/srv', posix), '/srv/worker.mjs');
});

test('a URL of a core keeps its query', (t) => {
  for (const [given, want] of [['https://cdn.example/wasm', 'https://cdn.example/wasm/core.wasm'], ['https://cdn.example/wasm/?v=1#x', 'https://cdn.example/wasm/core.wasm?v=1#x'],
    ['https://cdn.example/own.wasm?v=/1', 'https://cdn.example/own.wasm?v=/1'], ['https://cdn.example', 'https://cdn.example/core.wasm'], [new URL('file:///a/b'), 'file:///a/b/core.wasm']]) {
    assert.deepEqual(coreLocation(given), { url: want });
  }
  // In a page what is no whole URL is one below the page's.
  const { process } = globalThis;
  t.after(() => Object.defineProperty(globalThis, 'process', { value: process, configurable: true, writable: true }));
  Object.defineProperty(globalThis, 'process', { value: undefined, configurable: true, writable: true });
  const urls = ['/wasm/', 'wasm?v=1', '/download?core=own.wasm'].map((given) => coreLocation(given).url);
  Object.defineProperty(globalThis, 'process', { value: process, configurable: true, writable: true });
  assert.deepEqual(urls, ['/wasm/core.wasm', 'wasm/core.wasm?v=1', '/download?core=own.wasm']);
});

test('workerPath may be relative in Node', async (t) => {
  const dir = await folder(t), index = JSON.stringify(String(new URL('../src/index.js', import.meta.url)));
  await cp(fileURLToPath(new URL('../src', import.meta.url)), join(dir, 'src'), { recursive: true });
  const program = `
    import { Engine } from ${index};
    for (const workerPath of ['src/worker.js', './src/worker.js']) {
      const engine = new Engine({ useWorker: true, workerOptions: { workerPath, wasmPath: ${JSON.stringify(String(wasmPath))} } });
      await engine.ready;
      console.log(engine.place);
      await engine.shutdown();
    }`;
  await cp(fileURLToPath(new URL('../package.json', import.meta.url)), join(dir, 'package.json'));
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: dir });
  assert.equal(stdout, 'worker\nworker\n');
});

test('a host of its own is not needed for a snapshot of another realm', async (t) => {
  const host = hostFor(t, { workers: 0 }), engine = engineFor(t, { useWorker: false, host, setup: deck(3) });
  const bytes = await engine.snapshot(), copy = vm.runInNewContext('(b) => new Uint8Array(b)')([...bytes]);
  const other = engineFor(t, { useWorker: false, snapshot: copy });
  assert.equal(await other.digest(), await engine.digest());
});
