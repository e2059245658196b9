// The history of saved games: kept behind bases, gone back and forth in after a reload and in every tab, exported and imported.
// Another seed: HYPERTOKEN_SEED=7 node --test test/saved-history.test.js

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { encodeAction, encodeSetup, Game, Op } from '../src/game.js';
import { kind } from '../src/frames.js';
import { deleteGame, exportGame, HyperTokenError, importGame, savedGames } from '../src/index.js';
import { Rewind } from '../src/past.js';
import { deck, engineFor, folder, hostFor, kill, random, record, testCoreBytes, wasmPath } from './support/cores.js';
import { withLocks } from './support/locks.js';
import { failingStore, HeldStore, rows } from './support/store.js';

// Node has locks since version 24. A test that shares a game gets some of its own.
if (globalThis.navigator?.locks) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });

const seeds = process.env.HYPERTOKEN_SEED ? [Number(process.env.HYPERTOKEN_SEED)] : [1, 2];
const run = promisify(execFile);
const small = { core: testCoreBytes, snapshotBytes: 700 };
let count = 0;
const fresh = () => `history ${++count}`;
const saved = (t, name, more = {}) => engineFor(t, { name, persist: true, history: true, workerOptions: small, ...more });
const code = (expected, message = /./) => (error) => {
  assert.ok(error instanceof HyperTokenError, error);
  assert.equal(error.code, expected, error.message);
  assert.match(error.message, message);
  return true;
};
const idOf = async (name) => (await rows()).games.map(([, g]) => g).find((g) => g.name === name).id;
const ownRows = async (name) => {
  const id = await idOf(name), { bases, groups } = await rows(), own = (list) => list.filter(([[of]]) => of === id).map(([, v]) => v);
  return { bases: own(bases), groups: own(groups) };
};

async function all(lines) {
  const list = [];
  for await (const line of lines) list.push(line);
  return list;
}

const linesOf = async (name, options = { core: testCoreBytes }) => (await (await exportGame(name, options)).text()).trim().split('\n');

for (const useWorker of [true, false]) {
  test(`steps are undone and redone after each reload, ${useWorker ? 'on a worker' : 'on the main thread'}`, async (t) => {
    const name = fresh(), states = [];
    let engine = saved(t, name, { useWorker, setup: deck(20) });
    states[0] = await engine.digest();
    const reload = async () => {
      await engine.shutdown();
      engine = saved(t, name, { useWorker });
      await engine.ready;
    };
    const at = (sequence, of) => ({ sequence, digest: states[of] });
    await engine.dispatchAsync('stack:draw');
    states[1] = await engine.digest();
    await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:peek' }, { type: 'stack:draw' }]);
    states[3] = await engine.digest();
    await reload();
    assert.equal(engine.sequence, 3);
    for (const [what, to, want] of [['undo', undefined, at(4, 1)], ['undo', undefined, at(5, 0)], ['undo', undefined, 'conflict'], ['redo', undefined, at(6, 1)], ['redo', undefined, at(7, 3)], ['redo', undefined, 'conflict'],
      ['revert', 1, at(8, 1)], ['revert', 0, at(9, 0)], ['undo', undefined, at(10, 1)], ['undo', undefined, at(11, 3)], ['undo', undefined, at(12, 1)]]) {
      assert.deepEqual(await engine[what](to).catch((error) => error.code), want, `${what} ${to}`);
      await reload();
      if (want.sequence) assert.deepEqual([engine.sequence, await engine.digest()], [want.sequence, want.digest]);
    }
    await engine.dispatchAsync('stack:draw');
    await assert.rejects(engine.redo(), code('conflict'));
    assert.deepEqual(await engine.undo(), at(14, 1));
    for (const [sequence, of] of [[0, 0], [1, 1], [3, 3], [4, 1], [5, 0], [7, 3], [9, 0], [12, 1], [14, 1]]) assert.equal(await engine.digestAt(sequence), states[of], `at ${sequence}`);
    assert.equal((await engine.stateAt(2)).stack.stack.length, 18);
    assert.deepEqual(await engine.state(), await engine.stateAt(1));
    for (const call of [() => engine.stateAt(15), () => engine.revert(15), () => engine.revert(-1), () => engine.digestAt('1'), () => all(engine.journal({ from: 3, to: 2 })), () => all(engine.journal({ from: 99 }))]) {
      await assert.rejects(call(), code('bad_input'));
    }
    assert.equal(engine.host.stats.inFlight, 0);
  });
}

test('rewinds are ordered with actions, and told once they are stored', async (t) => {
  const name = fresh(), engine = saved(t, name, { setup: deck(9) }), events = record(engine);
  const [past, ...calls] = [engine.stateAt(0), engine.dispatchAsync('stack:draw'), engine.undo(), engine.dispatchAsync('stack:draw'), engine.undo(), engine.undo(), engine.redo(), engine.digest(), engine.revert(4),
    engine.dispatchAsync('stack:draw', { count: 2 })];
  const [first, undone, second, again, failed, redone, digest, back, third] = (await Promise.allSettled(calls)).map((r) => r.value ?? r.reason);
  assert.deepEqual([first[0].id, second[0].id], ['t8', 't8']);
  assert.deepEqual([undone.sequence, again.sequence, failed.code, redone.sequence, back.sequence, third.map((c) => c.id)], [2, 4, 'conflict', 5, 6, ['t8', 't7']]);
  assert.equal(redone.digest, digest);
  assert.equal((await past).stack.stack.length, 9);
  const told = events.filter((e) => e.name !== 'state:updated').map((e) => (e.error ? [e.type, e.error.code] : [e.type, e.sequence, e.result.to]));
  assert.deepEqual(told, [['stack:draw', 1, undefined], ['undo', 2, 0], ['stack:draw', 3, undefined], ['undo', 4, 0], ['undo', 'conflict'], ['redo', 5, 3], ['revert', 6, 4], ['stack:draw', 7, undefined]]);
});

test('a game that is kept without its history goes back to its newest base; with it, from there on to its beginning', async (t) => {
  const name = fresh(), first = saved(t, name, { history: undefined, setup: deck(200), workerOptions: { ...small, snapshotBytes: 2000 } });
  for (let k = 0; k < 61; k++) await first.dispatchAsync('stack:draw');
  await first.digest();
  await assert.rejects(first.stateAt(0), code('history_trimmed', /history: true/));
  await assert.rejects(first.revert(0), code('history_trimmed'));
  const { bases: [base], ...more } = await ownRows(name);
  assert.ok(base.sequence > 0 && more.groups[0].first === base.sequence + 1);
  await first.shutdown();
  const second = saved(t, name, { workerOptions: { ...small, snapshotBytes: 2000 } }); // its history begins here
  for (let k = 0; k < 61; k++) await second.dispatchAsync('stack:draw');
  const digest = await second.digest();
  await second.shutdown();
  assert.ok((await ownRows(name)).bases.length > 1);
  const third = saved(t, name, { history: undefined, workerOptions: { ...small, snapshotBytes: 2000 } }); // as it was kept before
  assert.equal((await third.stateAt(base.sequence)).stack.drawn.length, base.sequence);
  await assert.rejects(third.stateAt(base.sequence - 1), code('history_trimmed', new RegExp(`from ${base.sequence} on`)));
  assert.equal((await third.revert(base.sequence)).sequence, 123);
  assert.deepEqual(await third.undo(), { sequence: 124, digest });
  const { bytes } = (await savedGames()).find((g) => g.name === name), own = await ownRows(name);
  assert.equal(bytes, [...own.bases, ...own.groups].reduce((n, { bytes: b }) => n + b.length, 0));
  await third.shutdown();
  const fourth = saved(t, name, { history: false }); // until the next base
  assert.equal(await fourth.digestAt(122), digest);
  assert.equal((await fourth.undo()).sequence, 125);
  await assert.rejects(fourth.redo(), code('history_trimmed'));
  assert.equal((await ownRows(name)).bases.length, 1);
  assert.equal((await savedGames()).find((g) => g.name === name).bytes, (await ownRows(name)).bases[0].bytes.length);
  await fourth.shutdown();
  assert.equal((await rows()).games.find(([, g]) => g.name === name)[1].form, 1);
});

test('rows of the first form are read, and those of a history have a form that older packages refuse', async (t) => {
  const name = fresh(), first = saved(t, name, { history: undefined, setup: deck(9) });
  await first.dispatchAsync('stack:draw');
  await first.shutdown();
  // As the first release has stored them.
  await rows((store, v) => {
    if (store === 'games' && v.name === name) {
      const { kept, ...former } = v;
      return former;
    }
    if (store !== 'bases') return undefined;
    const { digest, ...former } = v;
    return former;
  });
  assert.equal((await rows()).games.find(([, g]) => g.name === name)[1].form, 1);
  const second = saved(t, name);
  assert.equal((await second.undo()).sequence, 2);
  assert.equal((await rows()).games.find(([, g]) => g.name === name)[1].form, 2);
  const { bytes } = (await savedGames()).find((g) => g.name === name), own = await ownRows(name);
  assert.equal(bytes, [...own.bases, ...own.groups].reduce((n, { bytes: b }) => n + b.length, 0));
});

test('a damaged history is refused where it is needed, and nowhere else', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(30) });
  for (let k = 0; k < 40; k++) await first.dispatchAsync('stack:shuffle');
  const digest = await first.digest();
  await first.shutdown();
  const { bases } = await ownRows(name), id = await idOf(name);
  assert.ok(bases.length > 2);
  const [, second] = bases, newest = bases.at(-1);
  const whole = await rows(), restore = () => rows((store, v, key) => whole[store].find(([k]) => `${k}` === `${key}`)?.[1]);
  const flip = (bytes) => bytes.map((b, k) => (k === 40 ? b ^ 1 : b));
  for (const [what, change] of [
    ['a record', (store, v) => (store === 'groups' && v.first === second.sequence + 1 ? { ...v, bytes: flip(v.bytes) } : undefined)],
    ['a base', (store, v) => (store === 'bases' && v.sequence === second.sequence ? { ...v, bytes: flip(v.bytes) } : undefined)],
    ['a marker', (store, v) => (store === 'bases' && v.sequence === second.sequence ? { ...v, marker: 'revert', details: 'x' } : undefined)],
    ['a wrong batch', (store, v) => (store === 'groups' && v.first === second.sequence + 1 ? { ...v, batches: [5] } : undefined)],
  ]) {
    await rows((store, v, key) => (store !== 'games' && key[0] === id ? change(store, v) : undefined));
    const engine = saved(t, name);
    assert.equal(await engine.digest(), digest, what);
    assert.equal(await engine.digestAt(newest.sequence + 1).then(() => 'read'), 'read');
    await assert.rejects(engine.digestAt(second.sequence + 1), code('broken', /damaged/), what);
    await assert.rejects(engine.revert(second.sequence + 1), code('broken'), what);
    await assert.rejects(all(engine.journal({ from: 0 })), code('broken'), what);
    await assert.rejects(exportGame(name, { core: testCoreBytes }), code('broken'), what);
    assert.equal(engine.sequence, 40);
    await engine.shutdown();
    await restore();
  }
  await rows((store, v, key) => (store === 'groups' && key[0] === id && v.first === second.sequence + 1 ? null : undefined));
  await assert.rejects(exportGame(name, { core: testCoreBytes }), code('broken', /the record \d+ is missing/));
});

test('a history goes into an export and out of it as it was', async (t) => {
  const name = fresh(), copy = fresh(), engine = saved(t, name, { setup: deck(20) });
  for (let k = 0; k < 30; k++) {
    await engine.dispatchBatch([{ type: 'stack:shuffle' }, { type: 'stack:draw' }]);
    if (k % 5 === 2) await engine.undo();
    if (k % 5 === 3) await engine.redo().catch(() => engine.revert(k));
    if (k % 9 === 5) await engine.dispatchAsync('stack:reset');
  }
  const digest = await engine.digest(), { sequence } = engine, lines = await linesOf(name);
  assert.deepEqual(lines, await all(engine.journal({ from: 0 })));
  assert.equal(lines.length, sequence + 1);
  assert.ok(lines.filter((line) => line.startsWith('{"marker"')).length > 8);
  assert.deepEqual(await importGame(copy, await exportGame(name, { core: testCoreBytes }), { core: testCoreBytes }), { sequence, digest });
  assert.deepEqual(await linesOf(copy), lines);
  const other = saved(t, copy, { history: undefined }); // an import with markers keeps its history
  const { bytes } = (await savedGames()).find((g) => g.name === copy), own = await ownRows(copy);
  assert.equal(bytes, [...own.bases, ...own.groups].reduce((n, { bytes: b }) => n + b.length, 0));
  for (const at of [0, 3, 17, sequence - 1]) assert.equal(await other.digestAt(at), await engine.digestAt(at), `at ${at}`);
  for (let k = 0; k < 4; k++) assert.deepEqual(await other.undo().catch((e) => e.code), await engine.undo().catch((e) => e.code));
  for (const [wrong, message] of [[/"redo":\[/, /line \d+: to, current and redo: want sequences/], [/"current":/, /to, current and redo/]]) {
    const text = lines.map((line) => line.replace(wrong, (found) => `${found}${found.endsWith('[') ? '1000000,' : '1000000'}`).replace('1000000,]', '1000000]')).join('\n');
    await assert.rejects(importGame('wrong', new Blob([text]), { core: testCoreBytes }), code('bad_input', message));
  }
});

test('a history reaches over an upgrade', async (t) => {
  const name = fresh(), copy = fresh(), present = { core: undefined, wasmPath, snapshotBytes: 700 }, first = saved(t, name, { setup: deck(9) });
  for (let k = 0; k < 30; k++) await first.dispatchAsync('stack:shuffle');
  await first.shutdown();
  const second = saved(t, name, { workerOptions: present, persist: { formerCores: [testCoreBytes] } });
  const digest = await second.digest();
  assert.equal(second.sequence, 31);
  await assert.rejects(second.undo(), code('conflict'));
  await second.dispatchAsync('stack:draw');
  assert.deepEqual(await second.undo(), { sequence: 33, digest });
  await assert.rejects(second.stateAt(30), code('core_mismatch', /exportGame has it all \(formerCores\)/));
  await assert.rejects(second.revert(3), code('core_mismatch'));
  assert.equal(await second.digestAt(31), digest);
  await assert.rejects(exportGame(name, { wasmPath }), code('core_mismatch', /formerCores/));
  const cores = { wasmPath, formerCores: [testCoreBytes] }, lines = await linesOf(name, cores);
  assert.equal(lines.length, 34);
  await assert.rejects(importGame(copy, await exportGame(name, cores), { wasmPath }), code('core_mismatch', /^core_mismatch: line 1: /));
  await assert.rejects(importGame(copy, new Blob(), { wasmPath, formerCores: 'x' }), code('bad_input', /importGame: formerCores: want an array/));
  assert.deepEqual(await importGame(copy, await exportGame(name, cores), cores), { sequence: 33, digest });
  assert.deepEqual(await linesOf(copy, cores), lines);
});

const repository = new URL('../../', import.meta.url).pathname;
const go = existsSync('/usr/local/go/bin/go') || process.env.HYPERTOKEN_REQUIRE === 'all' || process.env.PATH.split(':').some((dir) => existsSync(join(dir, 'go')));

test('Go verifies the history of an export, and what Go exports is gone back in here', { skip: !go && 'there is no go' }, async (t) => {
  const dir = await folder(t), name = fresh(), copy = fresh(), file = join(dir, 'game.jsonl'), program = join(dir, 'hypertoken'), data = join(dir, 'games');
  const builtin = { core: undefined, wasmPath, snapshotBytes: 2500 }, engine = saved(t, name, { setup: deck(52), workerOptions: builtin });
  for (let k = 0; k < 20; k++) {
    await engine.dispatchAsync('stack:shuffle');
    await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'agent:create', payload: { name: `a${k}`, meta: { x: 1.5 } } }]);
    if (k % 6 === 2) await Promise.all([engine.undo(), engine.undo(), engine.redo()]);
    if (k % 6 === 4) await engine.revert(k);
  }
  const digest = await engine.digest(), { sequence } = engine, text = await (await exportGame(name, { wasmPath })).text();
  const program_ = async (...args) => (await run(program, args, { cwd: dir, maxBuffer: 1 << 26 })).stdout;
  await run('go', ['build', '-o', program, './cmd/hypertoken'], { cwd: repository });
  await writeFile(file, `${text}{"digest":true}\n`);
  assert.equal((await program_('run', file)).trim().split('\n').at(-1), JSON.stringify({ digest }));
  await writeFile(file, text);
  assert.equal(await program_('journal', 'import', '--data', data, 'table', file), `table: sequence ${sequence}, digest ${digest}\n`);
  await program_('journal', 'verify', '--data', data, 'table');
  assert.equal(await program_('journal', 'export', '--data', data, '--from', '0', 'table'), text);
  await program_('journal', 'revert', '--data', data, 'table', '--to', '20');
  const theirs = await program_('journal', 'export', '--data', data, '--from', '0', 'table');
  const imported = await importGame(copy, new Blob([theirs]), { wasmPath });
  assert.equal(imported.sequence, sequence + 1);
  const again = saved(t, copy, { history: undefined, workerOptions: builtin });
  assert.equal(await again.digestAt(20), imported.digest);
  assert.deepEqual(await again.undo(), { sequence: sequence + 2, digest });
  assert.deepEqual(await again.redo(), { sequence: sequence + 3, digest: imported.digest });
  await writeFile(file, await (await exportGame(copy, { wasmPath })).text());
  await program_('journal', 'import', '--data', data, 'again', file);
  await program_('journal', 'verify', '--data', data, 'again');
});

// The rules of waiting, with a store that a test holds.

async function held(t) {
  const host = hostFor(t), store = new HeldStore();
  const game = new Game(host, { sequence: 0, bytes: encodeSetup(deck(20)).slice(), isSnapshot: false, marker: null, digest: null }, () => true, () => true, { saved: store });
  host.add(game);
  let n = 0;
  const ask = (op) => {
    game.push(op);
    op.outcomeOf = op.promise.then((result) => ({ result }), (error) => ({ error: error.code }));
    return op;
  };
  const act = (type) => ask(new Op(type, kind.dispatch, [encodeAction(type, undefined, 1_700_000_000_000 + n, new Uint8Array(16).fill(++n), 1 << 20)]));
  const digest = () => ask(new Op('digest', kind.digest));
  const first = digest();
  (await store.next('create')).resolve();
  await first.promise;
  /** Plays a rewind up to the moment when its base is handed to the store. */
  const rewind = async (op) => {
    const call = await store.next('history'), { History } = await import('../src/history.js');
    call.resolve(new History([{ base: { sequence: 0, bytes: encodeSetup(deck(20)).slice(), isSnapshot: false, marker: null, digest: null }, journal: { pieces: () => store.pieces, batches: null }, end: game.sequence }], op.what));
    return store.next('replace');
  };
  store.pieces = [];
  const draw = async () => {
    const op = act('stack:draw'), call = await store.next('append');
    store.pieces.push(call.argument.bytes);
    call.resolve();
    await op.promise;
  };
  return { host, store, game, ask, act, digest, rewind, draw };
}

test('a rewind that is not stored fails with no effect; one that is handed to the store is not withdrawn', async (t) => {
  const { game, ask, act, digest, rewind, store, draw, host } = await held(t), error = new HyperTokenError('canceled', 'enough');
  const before = await digest().promise;
  await draw();
  const after = await digest().promise;
  const undo = ask(new Rewind('undo')), behind = digest(), call = await rewind(undo);
  assert.equal(call.argument.sequence, 2);
  assert.deepEqual(call.argument.marker, { kind: 'revert', to: 0, current: 0, redo: [1] });
  call.reject(new HyperTokenError('store_full', 'no room'));
  assert.deepEqual(await undo.outcomeOf, { error: 'store_full' });
  assert.deepEqual(await behind.promise, after);
  assert.equal(game.sequence, 1);

  const early = ask(new Rewind('undo')), reading = await store.next('history');
  game.withdraw(early, error);
  assert.deepEqual(await early.outcomeOf, { error: 'canceled' });
  reading.reject(new HyperTokenError('store_refused', 'too late'));
  assert.deepEqual(await digest().promise, after);

  const failing = ask(new Rewind('undo'));
  (await store.next('history')).reject(new HyperTokenError('broken', 'it is damaged'));
  assert.deepEqual(await failing.outcomeOf, { error: 'broken' });

  const second = ask(new Rewind('undo')), late = act('stack:draw'), handed = await rewind(second);
  game.withdraw(second, error);
  assert.equal(game.sequence, 1);
  handed.resolve();
  assert.equal((await second.promise).sequence, 2);
  store.pieces = [];
  (await store.next('append')).resolve();
  assert.equal((await late.promise)[0].id, 't19');
  assert.notDeepEqual(before, after);
  assert.equal(host.stats.inFlight, 0);
});

test('a rewind of which the store says nothing has an unknown outcome at the end', async (t) => {
  const { ask, rewind, draw, host, game } = await held(t);
  await draw();
  const undo = ask(new Rewind('undo'));
  await rewind(undo);
  await host.shutdown({ timeout: 5 });
  assert.deepEqual(await undo.outcomeOf, { error: 'outcome_unknown' });
  assert.equal(game.sequence, 1);
});

// A saved game and one in memory get the same calls. The one in memory is held against a model in history-torture.test.js.
for (const seed of seeds) {
  test(`a saved game goes back and forth as one in memory does, while workers are terminated and writes fail (seed ${seed})`, async (t) => {
    const next = random(seed), name = fresh(), host = hostFor(t, { ...small, workers: 2, restartWindow: 1, maxRestarts: 1000, timeout: 0, startTimeout: 60_000 });
    const memory = engineFor(t, { useWorker: false, history: true, setup: deck(40), workerOptions: { core: testCoreBytes } }), store = failingStore(t, next), counts = {};
    let engine = saved(t, name, { host, workerOptions: undefined, setup: deck(40) });
    await engine.ready;
    store.begin();
    for (let k = 0; k < 150; k++) {
      const what = ['act', 'act', 'act', 'batch', 'batch', 'undo', 'undo', 'redo', 'redo', 'revert', 'at', 'reload'][Math.floor(next() * 12)];
      if (next() < 0.1) kill(host, Math.floor(next() * 2));
      const options = { now: 1_700_000_000_000 + k, entropy: Uint8Array.from({ length: 16 }, () => next() * 256) };
      const type = ['stack:draw', 'stack:shuffle', 'stack:peek', 'stack:reset', 'no:such'][Math.floor(next() * 4.2)], to = Math.floor(next() * (engine.sequence + 1.1));
      if (what === 'reload') {
        store.end();
        await engine.shutdown();
        engine = saved(t, name, { host, workerOptions: undefined });
        await engine.ready;
        store.begin();
        continue;
      }
      const call = {
        act: (e) => e.dispatchAsync(type, undefined, options), batch: (e) => e.dispatchBatch([{ type: 'stack:draw', ...options }, { type, ...options }]),
        undo: (e) => e.undo(), redo: (e) => e.redo(), revert: (e) => e.revert(to), at: (e) => e.digestAt(to),
      }[what];
      const outcome = (e) => call(e).then((result) => ({ result }), (error) => ({ error: error.code }));
      const got = await outcome(engine);
      counts[got.error ?? what] = (counts[got.error ?? what] ?? 0) + 1;
      if (['store_full', 'store_refused', 'poisoned'].includes(got.error)) continue; // it had no effect
      assert.deepEqual(got, await outcome(memory), `call ${k}: ${what} ${type} ${to}`);
      assert.equal(engine.sequence, memory.sequence, `call ${k}`);
    }
    store.end();
    assert.equal(await engine.digest(), await memory.digest());
    const lines = await linesOf(name);
    assert.deepEqual(lines, await all(memory.journal({ from: 0 })));
    assert.deepEqual(await all(engine.journal({ from: 0 })), lines);
    for (let k = 0; k < 10; k++) {
      const from = Math.floor(next() * memory.sequence), to = from + Math.floor(next() * (memory.sequence - from)), part = await all(engine.journal({ from, to }));
      assert.deepEqual(part.slice(1), lines.slice(lines.length - 1 - memory.sequence).slice(to - part.length + 2, to + 1), `from ${from} to ${to}`);
    }
    t.diagnostic(`${host.counts.died} died; ${JSON.stringify(counts)}`);
    assert.ok(host.counts.died > 0 && counts.undo > 5 && counts.redo > 0 && counts.revert > 0 && (counts.store_full ?? 0) + (counts.store_refused ?? 0) > 0, JSON.stringify(counts));
    await engine.shutdown();
    await deleteGame(name);
  });
}

// Several tabs.

const opener = (t, name, more) => {
  withLocks(t);
  return (other = {}) => saved(t, name, { setup: deck(40), ...more, ...other });
};

test('each tab goes back and forth, and sees the past', async (t) => {
  const open = opener(t, fresh()), a = open();
  await a.ready;
  const b = open(), events = [record(a), record(b)];
  await b.ready;
  assert.deepEqual([a.place, b.place], ['worker', 'another tab']);
  const digests = [await b.digest()];
  for (let k = 0; k < 3; k++) {
    await b.dispatchAsync('stack:draw');
    digests.push(await b.digest());
  }
  assert.deepEqual(await b.undo(), { sequence: 4, digest: digests[2] });
  assert.deepEqual(await a.undo(), { sequence: 5, digest: digests[1] });
  assert.deepEqual(await b.redo(), { sequence: 6, digest: digests[2] });
  assert.deepEqual(await b.revert(0), { sequence: 7, digest: digests[0] });
  await assert.rejects(b.redo(), code('conflict', /nothing to redo/));
  await assert.rejects(b.revert(9), code('bad_input', /the engine has the sequences 0 to 7/));
  await assert.rejects(b.revert('x'), code('bad_input', /not a whole number/));
  for (const engine of [a, b]) {
    assert.deepEqual([await engine.digestAt(3), await engine.digestAt(5), engine.sequence], [digests[3], digests[1], 7]);
    assert.equal((await all(engine.journal({ from: 0 }))).length, 8);
  }
  const told = (list) => list.filter((e) => e.name === 'state:updated').map((e) => [e.type, e.sequence, e.result.to]);
  assert.deepEqual(told(events[1]), told(events[0]));
  assert.deepEqual(told(events[1]).slice(3), [['undo', 4, 2], ['undo', 5, 1], ['redo', 6, 2], ['revert', 7, 0]]);
  await a.shutdown();
  assert.deepEqual(await b.undo(), { sequence: 8, digest: digests[2] });
  assert.equal(await b.digest(), digests[2]);
  assert.equal(b.place, 'worker');
});

// The tab that runs the game ends after it has stored a rewind, and before it has answered.
test('a rewind that was stored and not answered runs once', async (t) => {
  const name = fresh(), open = opener(t, name), { postMessage } = BroadcastChannel.prototype, a = open();
  await a.ready;
  const b = open();
  await b.ready;
  for (let k = 0; k < 3; k++) await b.dispatchAsync('stack:draw');
  const muted = [];
  BroadcastChannel.prototype.postMessage = function post(message) {
    if (message.news) muted.push(message);
    else postMessage.call(this, message);
  };
  t.after(() => { BroadcastChannel.prototype.postMessage = postMessage; });
  const calls = [b.redo(), b.undo(), b.undo(), b.dispatchAsync('stack:draw'), b.undo(), b.redo()].map((call) => call.then((r) => r.sequence ?? r[0].id, (e) => e.code));
  while (muted.flatMap(({ answers }) => answers).length < calls.length) await new Promise(setImmediate);
  BroadcastChannel.prototype.postMessage = postMessage;
  const before = await linesOf(name);
  navigator.locks.take(`hypertoken game ${name}`);
  assert.deepEqual(await Promise.all(calls), ['conflict', 4, 5, 't38', 7, 8]);
  assert.equal(b.sequence, 8);
  assert.deepEqual(await linesOf(name), before);
  assert.equal((await b.undo()).sequence, 9);
  await assert.rejects(a.undo(), code('moved'));
});

for (const seed of seeds) {
  test(`each rewind has its effect once or not at all, as its caller is told, whatever tabs end (seed ${seed})`, async (t) => {
    const next = random(seed), name = fresh(), host = hostFor(t, { ...small, workers: 2, maxRestarts: 1000 }), open = opener(t, name, { host, workerOptions: undefined });
    const { postMessage } = BroadcastChannel.prototype, dead = new Set(), told = [], joined = [];
    let leader = null, left = 15, deaths = 0;
    BroadcastChannel.prototype.postMessage = function post(message) {
      if (dead.has(message.from)) return;
      if (message.leader) ({ leader } = message);
      postMessage.call(this, message);
    };
    t.after(() => { BroadcastChannel.prototype.postMessage = postMessage; });
    const end = () => {
      if (--left > 0 || leader === null || dead.has(leader)) return;
      left = 10 + Math.floor(next() * 30);
      deaths++;
      dead.add(leader);
      navigator.locks.take(`hypertoken client ${leader}`);
      navigator.locks.take(`hypertoken game ${name}`);
      if (deaths < 6) join();
    };
    const join = () => {
      const engine = open(), own = joined.length;
      joined.push((async () => {
        const call = async (k) => {
          for (let n = 0, moved = 0; n < 20 && moved < 2; n++) { // an engine that has lost the game has nothing but `moved`
            const id = `${own}-${k}-${n}`, r = next(), options = r < 0.1 ? { timeout: 1 + next() * 20 } : {}, what = r < 0.5 ? 'act' : r < 0.75 ? 'undo' : r < 0.9 ? 'redo' : 'revert';
            const one = await (what === 'act' ? engine.dispatchAsync('agent:create', { name: id }, options) : what === 'revert' ? engine.revert(Math.floor(next() * (engine.sequence + 1)), options) : engine[what](options))
              .then((result) => ({ result }), (error) => ({ error: error.code }));
            told.push({ what, id, ...one });
            moved = one.error === 'moved' ? moved + 1 : 0;
            if (!moved) end();
          }
        };
        await engine.ready.catch(() => {});
        await Promise.all([0, 1, 2].map(call));
      })());
    };
    for (let k = 0; k < 3; k++) join();
    for (let k = 0; k < joined.length; k++) await joined[k];
    const last = open();
    await last.ready;
    const lines = (await linesOf(name)).slice(1).map((line) => JSON.parse(line)), codes = {};
    for (const { error } of told) codes[error ?? 'done'] = (codes[error ?? 'done'] ?? 0) + 1;
    assert.deepEqual(lines.filter((l) => l.type).map((l) => l.payload.name).sort(), told.filter((o) => o.what === 'act' && !o.error).map((o) => o.id).sort());
    const order = (a, b) => a.sequence - b.sequence;
    assert.deepEqual(lines.filter((l) => l.marker).map(({ sequence, digest }) => ({ sequence, digest })), told.filter((o) => o.what !== 'act' && !o.error).map((o) => o.result).sort(order));
    assert.equal(last.sequence, lines.length);
    t.diagnostic(`${deaths} tabs ended; ${JSON.stringify(codes)}`);
    assert.ok(deaths >= 3 && codes.done > 60 && lines.some((l) => l.marker), JSON.stringify(codes));
  });
}
