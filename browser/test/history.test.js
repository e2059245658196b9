// The history of an engine: states of the past, reverts, undos and redos, and the journal as lines.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { jsonOf as toJSON } from '../src/lines.js';
import { encode } from '../src/values.js';
import { xxh64 } from '../src/xxhash.js';
import { deck, engineFor, folder, hostFor, kill, record, testCore, wasmPath } from './support/cores.js';

const run = promisify(execFile);
const repository = new URL('../../', import.meta.url);
const ids = (tokens) => tokens.map((x) => x.id);
const places = [['a worker', { useWorker: true }], ['the main thread', { useWorker: false }]];

/** With these options no snapshot is taken: the replay of a deck of 20,000 takes much longer than a millisecond. */
const slow = { snapshotBytes: 1e9, replayBudget: 1e9 };
const makeSlow = (engine) => Promise.all(Array.from({ length: 200 }, () => engine.dispatchAsync('stack:shuffle')));

async function all(lines) {
  const list = [];
  for await (const line of lines) list.push(line);
  return list;
}

/** What github.com/cespare/xxhash gives for the bytes 0, 1, 2 and so on, so many of them. */
const sums = [[1, 'e934a84adb052768'], [3, 'e5c7bb4533bc65dd'], [4, 'ffced8604453cc1e'], [5, 'dd0274386e26030c'], [7, '14cc643f630c72d2'], [8, '884a173614b81b8d'], [9, '67d85784a7c78c5b'], [12, '424af23f1f08dca5'],
  [15, 'a948f5f0f6abac2d'], [16, '44b6ef2fb84169f7'], [31, 'c346d2b59b4d8ee1'], [32, 'cbf59c5116ff32b4'], [33, '0c535d1acafb8ead'], [40, 'f5da40f1b11741e9'], [63, 'e26aa9e2a95f8e4f'], [64, 'f7c67301db6713f0'],
  [100, '6ac1e58032166597'], [255, '0f7d97507caad693']];

test('XXH64 is that of its specification', () => {
  const bytes = (n) => Uint8Array.from({ length: n }, (_, k) => k);
  for (const [text, want] of [['', 'ef46db3751d8e999'], ['a', 'd24ec4f1a98c6e5b'], ['abc', '44bc2cf5ad770999']]) {
    assert.equal(xxh64(new TextEncoder().encode(text)), want);
  }
  for (const [n, want] of sums) assert.equal(xxh64(bytes(n)), want, `${n} bytes`);
});

test('MessagePack becomes JSON with the same values, floats with a point, and keys in their order', () => {
  const value = new Map([['b', 1.5], ['2', [1e300, 2 ** 60, -0.0000001, 0, -1, -32, -33, -128, -129, -32769, -2147483649, 127, 128, 255, 256, 65535, 65536, 4294967296, 2 ** 53 - 1, -(2 ** 53 - 1)]],
    ['1', { x: null, y: [true, false], z: 'ä"\\\n\u2028😀' }], ['long', 'x'.repeat(70_000)], ['list', Array.from({ length: 70_000 }, () => 1)], ['', {}]]);
  const text = toJSON(encode(value, 'v').slice());
  assert.match(text, /^\{"b":1\.5,"2":\[1e\+300,1152921504606847000\.0,-1e-7,0,-1,-32,-33,-128,-129,-32769,-2147483649,127,128,255,256,65535,65536,4294967296,9007199254740991,-9007199254740991\],"1":/);
  assert.deepEqual(JSON.parse(text), Object.fromEntries(value));
  assert.equal(toJSON(Uint8Array.of(0xcb, 0x40, 0, 0, 0, 0, 0, 0, 0)), '2.0');
  assert.equal(toJSON(Uint8Array.of(0xca, 0x3f, 0x80, 0, 0)), '1.0');
});

for (const [where, options] of places) {
  test(`on ${where}, steps are undone and redone: actions, batches and reverts`, async (t) => {
    const engine = engineFor(t, { ...options, setup: deck(20), history: true }), states = [await engine.digest()], events = record(engine);
    const note = async () => { states[engine.sequence] = await engine.digest(); };
    await engine.dispatchAsync('stack:draw');
    await note();
    await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:peek' }, { type: 'stack:draw' }]);
    await note();
    assert.equal(engine.sequence, 3);
    assert.deepEqual(events.filter((e) => e.name === 'engine:action').map((e) => [e.type, e.sequence, e.batch]), [['stack:draw', 1, undefined], ['stack:draw', 2, 2], ['stack:peek', 2, undefined], ['stack:draw', 3, 2]]);
    const at = (sequence, of) => ({ sequence, digest: states[of] });
    assert.deepEqual(await engine.undo(), at(4, 1)); // the batch, as a whole
    assert.deepEqual(await engine.undo(), at(5, 0));
    await assert.rejects(engine.undo(), (e) => e.code === 'conflict' && /nothing to undo/.test(e.message));
    assert.deepEqual(await engine.redo(), at(6, 1));
    assert.deepEqual(await engine.redo(), at(7, 3));
    await assert.rejects(engine.redo(), (e) => e.code === 'conflict' && /nothing to redo/.test(e.message));
    assert.deepEqual(await engine.revert(1), at(8, 1));
    assert.deepEqual(await engine.revert(0), at(9, 0));
    assert.deepEqual(await engine.undo(), at(10, 1)); // the revert
    assert.deepEqual(await engine.undo(), at(11, 3)); // the revert before it
    assert.deepEqual(await engine.undo(), at(12, 1)); // the batch
    assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t18']);
    await assert.rejects(engine.redo(), { code: 'conflict' }); // a new step has been made
    assert.deepEqual(await engine.undo(), at(14, 1));
    for (const [sequence, of] of [[0, 0], [1, 1], [3, 3], [4, 1], [5, 0], [7, 3], [9, 0], [12, 1], [14, 1]]) assert.equal(await engine.digestAt(sequence), states[of], `at ${sequence}`);
    assert.equal((await engine.stateAt(2)).stack.stack.length, 18);
    assert.deepEqual(await engine.state(), await engine.stateAt(1));
  });

  test(`on ${where}, they are ordered with actions, and the events tell of them as of actions`, async (t) => {
    const engine = engineFor(t, { ...options, setup: deck(9), history: true });
    const events = record(engine);
    const calls = [engine.dispatchAsync('stack:draw'), engine.undo(), engine.dispatchAsync('stack:draw'), engine.undo(), engine.undo(), engine.redo(), engine.digest(), engine.revert(4), engine.dispatchAsync('stack:draw', { count: 2 })];
    const [first, undone, second, again, failed, redone, digest, back, third] = (await Promise.allSettled(calls)).map((r) => r.value ?? r.reason);
    assert.deepEqual([ids(first), ids(second)], [['t8'], ['t8']]);
    assert.deepEqual([undone.sequence, again.sequence, failed.code, redone.sequence, back.sequence, ids(third)], [2, 4, 'conflict', 5, 6, ['t8', 't7']]);
    assert.equal(redone.digest, digest);
    assert.equal(back.digest, again.digest);
    const told = events.filter((e) => e.name !== 'state:updated').map((e) => (e.error ? [e.type, e.error.code] : [e.type, e.sequence, e.result.to]));
    assert.deepEqual(told, [['stack:draw', 1, undefined], ['undo', 2, 0], ['stack:draw', 3, undefined], ['undo', 4, 0], ['undo', 'conflict'], ['redo', 5, 3], ['revert', 6, 4], ['stack:draw', 7, undefined]]);
    assert.deepEqual(events.filter((e) => e.type === 'redo').map((e) => [e.name, e.result]), ['engine:action', 'state:updated'].map((name) => [name, { to: 3, digest }]));
  });

  test(`on ${where}, what is wrong is refused, with no effect`, async (t) => {
    const engine = engineFor(t, { ...options, setup: deck(3), history: true });
    await engine.dispatchAsync('stack:draw');
    for (const [call, code, message] of [
      [() => engine.revert(2), 'bad_input', /^bad_input: revert: the sequence is 2: the engine has the sequences 0 to 1$/], [() => engine.revert(-1), 'bad_input', /not a whole number/],
      [() => engine.revert('1'), 'bad_input', /not a whole number/], [() => engine.stateAt(2), 'bad_input', /^bad_input: stateAt: the sequence is 2/], [() => engine.digestAt(0.5), 'bad_input', /not a whole number/],
      [() => engine.undo({ at: 5 }), 'bad_input', /undo: there is no option at/], [() => engine.redo({ signal: 5 }), 'bad_input', /redo: signal is 5/], [() => engine.revert(0, { timeout: -1 }), 'bad_input', /revert: timeout is -1/],
      [() => engine.stateAt(0, { signal: AbortSignal.abort() }), 'canceled', /stateAt/], [() => engine.undo({ signal: AbortSignal.abort() }), 'canceled', /undo/],
      [() => all(engine.journal({ from: 2 })), 'bad_input', /journal: from is 2: /], [() => all(engine.journal({ to: 2 })), 'bad_input', /journal: to is 2: /],
      [() => all(engine.journal({ from: 1, to: 0 })), 'bad_input', /from is 1, which is behind 0/], [() => all(engine.journal({ form: 1 })), 'bad_input', /did you mean from\?/],
      [() => all(engine.journal()), 'bad_input', /^bad_input: journal: the hash of the core is not known: .*WebAssembly.Module/],
    ]) {
      await assert.rejects(call(), (e) => {
        assert.equal(e.code, code, String(e));
        assert.match(e.message, message);
        return true;
      });
    }
    assert.equal(engine.sequence, 1);
    assert.equal(engine.host.stats.inFlight, 0);
    await engine.shutdown();
    for (const call of [() => engine.undo(), () => engine.stateAt(0), () => engine.digestAt(0), () => all(engine.journal())]) await assert.rejects(call(), { code: 'shutdown' });
  });

  test(`on ${where}, an engine without history goes back as far as its newest base`, async (t) => {
    const engine = engineFor(t, { ...options, setup: deck(200), workerOptions: { core: testCore, snapshotBytes: 2000, replayBudget: 1e9 } });
    const trimmed = (e) => e.code === 'history_trimmed' && /history: true/.test(e.message);
    for (let k = 0; k < 60; k++) await engine.dispatchAsync('stack:draw'); // a snapshot takes the place of the first ones
    await engine.dispatchAsync('stack:draw');
    await engine.digest();
    await assert.rejects(engine.stateAt(0), trimmed);
    await assert.rejects(engine.revert(0), trimmed);
    const before = await engine.digestAt(60);
    assert.equal(engine.sequence, 61);
    assert.deepEqual(await engine.undo(), { sequence: 62, digest: before });
    await assert.rejects(engine.redo(), trimmed);
    await assert.rejects(engine.undo(), trimmed);
    assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t139']);
    assert.deepEqual(await engine.undo(), { sequence: 64, digest: before });
  });
}

test('without workers, dispatch returns at once though an undo is under way', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(9), workerOptions: { core: testCore, ...slow } });
  await engine.ready;
  assert.deepEqual(ids(engine.dispatch('stack:draw')), ['t8']);
  const undone = [engine.undo(), engine.redo(), engine.undo()];
  assert.deepEqual(ids(engine.dispatch('stack:draw')), ['t8']);
  assert.deepEqual((await Promise.allSettled(undone)).map((r) => r.value?.sequence ?? r.reason.code), [2, 'history_trimmed', 'conflict']);
  assert.equal(engine.sequence, 3);
});

test('actions that are gathered into one batch are one step', async (t) => {
  const engine = engineFor(t, { setup: deck(9), history: true, workerOptions: { core: testCore, enableBatching: true } });
  const before = await engine.digest();
  for (let k = 0; k < 3; k++) engine.dispatchAsync('stack:draw');
  assert.deepEqual(await engine.undo(), { sequence: 4, digest: before });
});

test('current follows, and so does what subscribes to it', async (t) => {
  const engine = engineFor(t, { setup: deck(3), workerOptions: { core: testCore, ...slow } });
  const told = () => new Promise((f) => { const off = engine.subscribe(() => { off(); f(engine.current.stack.stack.length); }); });
  assert.equal(await told(), 3);
  for (const [call, want] of [[() => engine.dispatchAsync('stack:draw'), 2], [() => engine.undo(), 3]]) {
    const next = told();
    await call();
    assert.equal(await next, want);
  }
});

test('the past has a place of its own: the engine goes on, and of few instances one is enough', async (t) => {
  for (const maxInstances of [1, 64]) {
    const host = hostFor(t, { workers: 2, maxInstances });
    const engine = engineFor(t, { host, setup: deck(900), history: true });
    const digests = [await engine.digest()];
    for (let k = 1; k <= 40; k++) {
      await engine.dispatchAsync('stack:draw');
      digests.push(await engine.digest());
    }
    const draws = Array.from({ length: 60 }, () => engine.dispatchAsync('stack:draw'));
    assert.deepEqual(await Promise.all(digests.map((_, k) => engine.digestAt(k))), digests);
    await Promise.all(draws);
    if (maxInstances === 64) assert.equal(engine.place, 'worker'); // it has not left it
    await Promise.all([engine.undo(), engine.undo()]);
    assert.deepEqual({ waiting: host.stats.waiting, inFlight: host.stats.inFlight, engines: host.stats.workers.reduce((n, w) => n + w.engines, 0) <= 1 }, { waiting: 0, inFlight: 0, engines: true });
  }
});

test('an undo that is aborted, or too late, has no effect', async (t) => {
  const host = hostFor(t, { workers: 1, killGrace: 1, ...slow });
  const engine = engineFor(t, { host, setup: deck(20_000), history: true });
  await makeSlow(engine);
  const stop = new AbortController();
  for (const when of [queueMicrotask, setImmediate, (f) => setTimeout(f, 5)]) {
    const stopped = new AbortController(), call = engine.undo({ signal: stopped.signal });
    when(() => stopped.abort('enough'));
    await assert.rejects(call, (e) => e.code === 'canceled' && e.cause === 'enough');
  }
  await assert.rejects(engine.undo({ timeout: 1 }), { code: 'timeout' });
  await assert.rejects(engine.stateAt(engine.sequence, { timeout: 1 }), { code: 'timeout' });
  const queued = [engine.dispatchAsync('test:work', { rounds: 1e7 }), engine.undo({ signal: stop.signal }), engine.dispatchAsync('stack:draw')];
  queueMicrotask(() => stop.abort());
  const [, aborted, drawn] = await Promise.allSettled(queued);
  assert.equal(aborted.reason.code, 'canceled');
  assert.equal(drawn.value.length, 1);
  assert.equal((await engine.undo()).sequence, engine.sequence);
  assert.equal(host.stats.inFlight, 0);
});

test('shutdown waits for what was asked before, and its timeout ends that', async (t) => {
  for (const shared of [true, false]) {
    const host = shared ? hostFor(t, { workers: 1, ...slow }) : undefined;
    const make = (n) => engineFor(t, { host, setup: deck(n), history: true, workerOptions: { core: testCore, ...slow } });
    const engine = make(5);
    engine.dispatchAsync('stack:draw');
    const calls = [engine.undo(), engine.redo(), engine.undo()], past = await engine.digest().then(() => engine.stateAt(0));
    const asked = engine.digestAt(0), ended = engine.shutdown();
    assert.deepEqual((await Promise.all(calls)).map((p) => p.sequence), [2, 3, 4]);
    assert.equal(typeof await asked, 'string');
    assert.equal(past.stack.stack.length, 5);
    await ended;
    const other = make(20_000);
    await makeSlow(other);
    const hanging = [other.undo(), other.stateAt(other.sequence)].map((p) => assert.rejects(p, { code: 'shutdown' }));
    await other.shutdown({ timeout: 1 });
    await Promise.all(hanging);
    if (shared) assert.deepEqual([host.stats.inFlight, host.stats.waiting, host.stats.workers[0].engines], [0, 0, 0]);
  }
});

test('what can not be replayed is diverged: the undo fails, and the engine goes on', async (t) => {
  const engine = engineFor(t, { setup: deck(5), history: true, workerOptions: { core: testCore, snapshotBytes: 500, replayBudget: 1e9 } });
  await assert.rejects(engine.dispatchBatch([{ type: 'test:differ' }, { type: 'no:such' }]), { code: 'unknown_action' });
  for (const type of ['stack:draw', 'test:differ', 'stack:draw']) await engine.dispatchAsync(type);
  for (let k = 0; k < 12; k++) await engine.dispatchAsync('stack:shuffle'); // a snapshot is behind the action that differs
  await engine.digest();
  await assert.rejects(engine.digestAt(3), (e) => e.code === 'diverged' && /digestAt: .*action 1 of a replay/.test(e.message));
  await assert.rejects(engine.revert(3), (e) => e.code === 'diverged' && /revert: /.test(e.message));
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')).length, 1);
  assert.equal((await engine.undo()).sequence, 17);
});

test('a past on a worker that dies is placed again', async (t) => {
  const host = hostFor(t, { workers: 1, restartWindow: 1, ...slow });
  const engine = engineFor(t, { host, setup: deck(20_000), history: true });
  await makeSlow(engine);
  const before = engine.sequence - 1, digest = await engine.digestAt(before), call = engine.undo(), { placed } = host.stats;
  await new Promise(setImmediate); // the past is being placed
  kill(host);
  assert.deepEqual(await call, { sequence: before + 2, digest });
  assert.ok(host.stats.died === 1 && host.stats.placed > placed);
  await assert.rejects(engine.redo().then(() => engine.redo()), { code: 'conflict' });
});

test('an engine that goes on from a snapshot goes back to it', async (t) => {
  const first = engineFor(t, { setup: deck(9) });
  await first.dispatchAsync('stack:draw');
  const engine = engineFor(t, { snapshot: await first.snapshot(), history: true });
  await engine.dispatchAsync('stack:draw');
  assert.deepEqual(await engine.undo(), { sequence: 2, digest: await first.digest() });
  await assert.rejects(engine.undo(), { code: 'conflict' });
});

test('hypertoken run and journal import take the lines of a journal, and find each checksum and the digest', async (t) => {
  const dir = await folder(t), program = join(dir, 'hypertoken');
  await run('go', ['build', '-o', program, './cmd/hypertoken'], { cwd: repository });
  const play = async (lines) => {
    const file = join(dir, 'journal.jsonl');
    await writeFile(file, [...lines, '{"digest":true}'].join('\n'));
    const { stdout } = await run(program, ['run', file]);
    const answers = stdout.trim().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual(answers.filter((a) => a.error), []);
    return answers.at(-1).digest;
  };
  for (const [where, options] of places) {
    const engine = engineFor(t, { ...options, history: true, setup: { stack: Array.from({ length: 52 }, (_, k) => ({ id: `c${k}`, meta: new Map([['b', k / 2], ['1', 'ä"\\']]) })) }, workerOptions: { core: undefined, wasmPath, snapshotBytes: 2500 } });
    for (let k = 0; k < 30; k++) {
      await engine.dispatchAsync('stack:shuffle');
      await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:draw' }]);
      await engine.dispatchAsync('agent:create', { name: `a${k}`, meta: new Map([['z', [1.5, 1e300, 2 ** 60, -1, null]], ['10', { y: true }], ['9', '\u2028']]) });
      if (k % 7 === 3) await engine.undo();
      if (k % 7 === 4) await Promise.all([engine.undo(), engine.undo(), engine.redo()]);
      if (k % 7 === 5) await engine.revert(k);
      if (k % 7 === 6) await engine.dispatchAsync('stack:reset');
    }
    // Until a snapshot is the newest base.
    for (let k = 0; k < 10 || !(await all(engine.journal()))[0].startsWith('{"snapshot"'); k++) await Promise.all(Array.from({ length: 10 }, (_, n) => engine.dispatchAsync('agent:create', { name: `b${10 * k + n}` })));
    const newest = engine.sequence, digest = await engine.digest();
    const whole = await all(engine.journal({ from: 0 }));
    assert.equal(whole.length, 1 + newest);
    const parsed = whole.map((line) => JSON.parse(line));
    assert.deepEqual(parsed.slice(1).map((l) => l.sequence), Array.from({ length: newest }, (_, k) => k + 1));
    assert.deepEqual(parsed.slice(1, 5).map((l) => [l.type, l.batch]), [['stack:shuffle', undefined], ['stack:draw', 2], ['stack:draw', 2], ['agent:create', undefined]]);
    assert.equal(await play(whole), digest);
    assert.equal(await play(await all(engine.journal())), digest);
    const file = join(dir, 'whole.jsonl');
    await writeFile(file, whole.join('\n'));
    const { stdout } = await run(program, ['journal', 'import', '--data', join(dir, where), 'table', file]);
    assert.equal(stdout, `table: sequence ${newest}, digest ${digest}\n`);
    if (!options.useWorker) continue; // playing takes a second each time
    const marked = parsed.find((line) => line.marker).sequence;
    let snapshots = 0, markers = 0;
    for (const [from, to] of [[5, 20], [marked, marked + 3], [newest - 40, newest - 3], [newest, newest]]) {
      const lines = await all(engine.journal({ from, to }));
      if (lines[0].startsWith('{"snapshot"')) snapshots++;
      if (lines[0].startsWith('{"marker"')) markers++;
      assert.equal(await play(lines), await engine.digestAt(to), `from ${from} to ${to}`);
    }
    assert.ok(snapshots > 0 && markers > 0, `${snapshots} spans begin with a snapshot, ${markers} with a marker`);
    // The core's bytes may be given, too.
    const own = engineFor(t, { ...options, setup: deck(3), workerOptions: { core: await readFile(new URL('wasm/core.wasm', repository)) } });
    await own.dispatchAsync('stack:draw');
    assert.equal(await play(await all(own.journal())), await own.digest());
  }
});

test('a journal is written though workers die, and ends with its signal', async (t) => {
  const host = hostFor(t, { workers: 1, restartWindow: 1, core: await readFile(new URL('internal/cores/testcore.wasm', repository)) });
  const engine = engineFor(t, { host, setup: deck(900), history: true });
  await Promise.all(Array.from({ length: 2000 }, (_, k) => engine.dispatchAsync('agent:create', { name: `a${k}`, meta: { x: 'x'.repeat(200) } }))); // three pieces of a replay
  const want = await all(engine.journal({ from: 0 }));
  const lines = all(engine.journal({ from: 0 }));
  await engine.dispatchAsync('stack:peek');
  kill(host);
  assert.deepEqual((await lines).slice(0, want.length), want);
  const stop = new AbortController(), stopped = engine.journal({ from: 0, signal: stop.signal });
  const first = stopped.next();
  queueMicrotask(() => stop.abort());
  await assert.rejects(first, { code: 'canceled' });
  for await (const line of engine.journal({ from: 0 })) if (line) break; // nothing is left of it
  assert.deepEqual([host.stats.inFlight, host.stats.waiting, host.stats.workers[0].engines <= 1], [0, 0, true]);
});
