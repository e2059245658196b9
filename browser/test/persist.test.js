// Games that are kept in a store. In Node, fake-indexeddb takes the place of IndexedDB: what a real browser does is in test/browser/persist.test.js.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { IDBFactory } from 'fake-indexeddb';
import { flag, kind } from '../src/frames.js';
import { encodeAction, encodeSetup, Game, Op } from '../src/game.js';
import { deleteGame, Engine, exportGame, HyperTokenError, importGame, savedGames } from '../src/index.js';
import { jsonOf, readLine } from '../src/lines.js';
import { decode, encode } from '../src/values.js';
import { xxh64 } from '../src/xxhash.js';
import { deck, engineFor, folder, hostFor, kill, random, testCoreBytes, wasmPath } from './support/cores.js';
import { HeldStore, rows } from './support/store.js';

// Node has locks since version 24. With them, engines of one name play one game: tabs.test.js.
if (globalThis.navigator?.locks) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });

const options = { core: testCoreBytes };
let count = 0;
/** A name that no other test has. */
const fresh = () => `game ${++count}`;
const saved = (t, name, more = {}) => engineFor(t, { name, persist: true, workerOptions: options, ...more });
const code = (expected, message = /./) => (error) => {
  assert.ok(error instanceof HyperTokenError, error);
  assert.equal(error.code, expected, error.message);
  assert.match(error.message, message);
  return true;
};

test('a game goes on where it was: on a worker, on the main thread', async (t) => {
  for (const useWorker of [true, false]) {
    const name = fresh(), first = saved(t, name, { useWorker, setup: deck(20) });
    const drawn = await first.dispatchAsync('stack:draw', { count: 3 });
    await assert.rejects(first.dispatchAsync('no:such'), code('unknown_action'));
    await first.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:shuffle' }]);
    const digest = await first.digest();
    assert.equal(first.sequence, 3);
    await first.shutdown();
    const second = saved(t, name, { useWorker, setup: deck(3) }); // the setup is for a new name
    await second.ready;
    assert.equal(second.sequence, 3);
    assert.equal(await second.digest(), digest);
    assert.deepEqual((await second.state()).stack.drawn.slice(0, 3).map((c) => c.id).sort(), drawn.map((c) => c.id).sort());
    const [event] = await Promise.all([new Promise((resolve) => second.on('state:updated', resolve)), second.dispatchAsync('stack:draw')]);
    assert.equal(event.sequence, 4);
    await second.shutdown();
    assert.equal((await savedGames()).find((g) => g.name === name).sequence, 4);
  }
});

test('a result comes once it is stored: what was told is there after a crash', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(30) });
  const told = [];
  first.on('state:updated', ({ sequence }) => told.push(sequence));
  const all = Array.from({ length: 10 }, () => first.dispatchAsync('stack:draw'));
  await all[3];
  const { sequence } = (await savedGames()).find((g) => g.name === name); // as a page after a crash sees it
  assert.ok(sequence >= 4 && sequence >= told.at(-1), `${sequence} are stored, ${told} were told`);
  await Promise.all(all);
});

test('snapshots replace the journal in the store too', async (t) => {
  const name = fresh(), small = { workerOptions: { ...options, snapshotBytes: 600 } }, first = saved(t, name, { setup: deck(8), ...small });
  for (let k = 0; k < 60; k++) await first.dispatchAsync('gameState:set', { key: `k${k % 5}`, value: k }).catch(() => first.dispatchAsync('stack:shuffle'));
  const digest = await first.digest();
  await first.shutdown();
  const { bases, groups, games } = await rows(), { id } = games.map(([, g]) => g).find((g) => g.name === name);
  const own = bases.filter(([[of]]) => of === id);
  assert.equal(own.length, 1);
  assert.ok(own[0][1].sequence > 0 && own[0][1].isSnapshot);
  assert.ok(groups.filter(([[of]]) => of === id).every(([, g]) => g.first > own[0][1].sequence));
  const second = saved(t, name, small);
  assert.equal(await second.digest(), digest);
  assert.equal(second.sequence, 60);
  const { bytes, sequence } = (await savedGames()).find((g) => g.name === name);
  assert.ok(bytes > 100 && bytes < 5000, `${bytes} bytes`);
  assert.equal(sequence, 60);
});

test('Node alone has no IndexedDB, and a page may be no secure context', async () => {
  const { indexedDB } = globalThis;
  delete globalThis.indexedDB;
  try {
    assert.throws(() => new Engine({ name: 'a', persist: true }), code('bad_input', /persist: there is no IndexedDB here, as in Node/));
    for (const f of [savedGames, () => deleteGame('a'), () => exportGame('a'), () => importGame('a', new Blob())]) await assert.rejects(f, code('bad_input', /no IndexedDB/));
  } finally {
    globalThis.indexedDB = indexedDB;
  }
});

test('wrong options are refused', async (t) => {
  const refused = (more, message) => assert.throws(() => new Engine(more), code('bad_input', message));
  refused({ persist: true }, /Engine: name is undefined, want a string of 1 to 200 characters/);
  refused({ persist: true, name: '' }, /name is ""/);
  refused({ persist: true, name: 'x'.repeat(201) }, /want a string of 1 to 200/);
  refused({ name: 'a' }, /set persist: true/);
  refused({ name: 'a', persist: 'yes' }, /persist is "yes"/);
  refused({ name: 'a', persist: { durable: true } }, /did you mean durability/);
  refused({ name: 'a', persist: { durability: 'often' } }, /durability is "often", want strict or relaxed/);
  const compiled = saved(t, fresh(), { workerOptions: { core: await WebAssembly.compile(testCoreBytes) } });
  await assert.rejects(compiled.ready, code('bad_input', /give `core` as bytes/));
  const wrong = saved(t, 'wrong', { setup: { stack: [1] } });
  await assert.rejects(wrong.ready, code('bad_payload'));
  assert.ok(!(await savedGames()).some((g) => g.name === 'wrong'), 'a setup that the core refuses takes no name');
});

test('a deleted game is gone, and its name is free', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(5) });
  await first.ready;
  await deleteGame(name);
  await assert.rejects(first.dispatchAsync('stack:draw'), code('moved', /was deleted/));
  await assert.rejects(deleteGame(name), code('engine_not_found'));
  const { games, bases, groups } = await rows();
  const known = new Set(games.map(([, g]) => g.id));
  assert.deepEqual([...bases, ...groups].filter(([[id]]) => !known.has(id)), []);
  const second = saved(t, name, { setup: deck(7) });
  assert.equal((await second.state()).stack.stack.length, 7);
});

test('an engine that another one has taken the game from stores nothing more', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(9) });
  await first.dispatchAsync('stack:draw');
  const second = saved(t, name);
  await second.ready;
  await assert.rejects(first.dispatchAsync('stack:shuffle'), code('moved'));
  await assert.rejects(first.state(), code('moved'));
  await second.dispatchAsync('stack:draw');
  await second.shutdown();
  const third = saved(t, name);
  await third.ready;
  assert.equal(third.sequence, 2);
});

test('a core that is not the one of the game is refused', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(2) });
  await first.ready;
  await first.shutdown();
  const before = JSON.stringify(await rows());
  const other = engineFor(t, { name, persist: true, workerOptions: { core: undefined, wasmPath } });
  await assert.rejects(other.ready, code('core_mismatch', /name that core too \(persist\.formerCores\)/));
  await assert.rejects(exportGame(name, { wasmPath }), code('core_mismatch'));
  assert.equal(JSON.stringify(await rows()), before);
});

test('a game goes on with another core, which gets its state from the former one', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(9) }), file = new URL('core.wasm', wasmPath), present = { workerOptions: { core: undefined, wasmPath } };
  for (let k = 0; k < 3; k++) await first.dispatchAsync('stack:draw');
  const digest = await first.digest();
  await first.shutdown();
  const without = saved(t, name, { ...present, persist: { formerCores: [file] } }); // which is the present one
  await assert.rejects(without.ready, code('core_mismatch'));
  const second = saved(t, name, { ...present, persist: { formerCores: [file, testCoreBytes] } });
  assert.equal(await second.digest(), digest);
  assert.equal(second.sequence, 4);
  await second.dispatchAsync('stack:draw');
  await second.shutdown();
  const third = saved(t, name, present);
  await third.ready;
  assert.equal(third.sequence, 5);
  const [line] = (await (await exportGame(name, { wasmPath })).text()).split('\n'), { marker, sequence, digest_before: before, digest: after } = JSON.parse(line);
  assert.deepEqual({ marker, sequence, before, after }, { marker: 'upgrade', sequence: 4, before: digest, after: digest });
  assert.throws(() => new Engine({ name, persist: { formerCores: 'x' } }), code('bad_input', /formerCores: want an array/));
});

test('rows of a newer version, and damaged rows, are refused and stay as they are', async (t) => {
  const name = fresh(), first = saved(t, name, { setup: deck(12) });
  for (let k = 0; k < 3; k++) await first.dispatchAsync('stack:draw', { count: k + 1 });
  await first.shutdown();
  const { games, bases, groups } = await rows(), { id } = games.map(([, g]) => g).find((g) => g.name === name);
  const whole = new Map([...games.map(([key, v]) => ['games', key, v]), ...bases.map(([key, v]) => ['bases', key, v]), ...groups.map(([key, v]) => ['groups', key, v])]
    .map(([store, key, v]) => [`${store} ${key}`, v]));
  const restore = () => rows((store, value, key) => whole.get(`${store} ${key}`));
  const flip = (bytes, at) => bytes.map((b, k) => (k === at ? b ^ 1 : b));
  const own = (store, value, key) => store === 'games' ? value.name === name : key[0] === id;
  const cases = [
    ['a newer form', 'store_refused', /newer version.*form 3/, (store, v) => (store === 'games' ? { ...v, form: 3 } : undefined)],
    ['no form', 'broken', /damaged/, (store, v) => (store === 'games' ? { ...v, form: 'x' } : undefined)],
    ['a flipped bit of the base', 'broken', /its base can not be read/, (store, v) => (store === 'bases' ? { ...v, bytes: flip(v.bytes, 3) } : undefined)],
    ['no marker', 'broken', /marker of its base/, (store, v) => (store === 'bases' ? { ...v, marker: 'revert', details: '"redo":5,' } : undefined)],
    ['no limits', 'broken', /base/, (store, v) => (store === 'bases' ? { ...v, limits: 3 } : undefined)],
    ['a flipped bit of a record', 'broken', /records from 2 on/, (store, v) => (v.first === 2 ? { ...v, bytes: flip(v.bytes, 40) } : undefined)],
    ['another checksum', 'broken', /records from 1 on/, (store, v) => (v.first === 1 ? { ...v, sum: 1 } : undefined)],
    ['another count', 'broken', /records from 1 on/, (store, v) => (v.first === 1 ? { ...v, count: 2 } : undefined)],
  ];
  for (const [what, expected, message, change] of cases) {
    await rows((store, value, key) => (own(store, value, key) ? change(store, value) : undefined));
    const before = JSON.stringify(await rows());
    const engine = saved(t, name, { setup: deck(1) });
    await assert.rejects(engine.ready, code(expected, message), what);
    await assert.rejects(engine.dispatchAsync('stack:draw'), code(expected));
    await assert.rejects(exportGame(name, options), code(expected), what);
    assert.equal(JSON.stringify(await rows()), before, what);
    await savedGames();
    await restore();
  }
  // A replay that gives another result is found by the replay itself: here the checksum of the row fits.
  const { hash } = await import('../src/frames.js');
  await rows((store, v, key) => {
    if (store !== 'groups' || key[0] !== id || v.first !== 2) return undefined;
    const bytes = flip(v.bytes, 8);
    return { ...v, bytes, sum: hash(bytes) };
  });
  await assert.rejects(saved(t, name).ready, (error) => code('broken')(error) && error.cause.code === 'diverged');
  await restore();
  await saved(t, name).ready;
  await rows((store, v, key) => (store === 'groups' && key[0] === id && v.first === 2 ? null : undefined));
  await assert.rejects(saved(t, name).ready, code('broken', /the record 2 is missing/));
});

test('rows of any content are refused or opened, and change nothing', async (t) => {
  const next = random(11), name = fresh(), first = saved(t, name, { setup: deck(12) });
  for (let k = 0; k < 4; k++) await first.dispatchAsync('stack:draw');
  await first.shutdown();
  const { games, bases, groups } = await rows(), { id } = games.map(([, g]) => g).find((g) => g.name === name);
  const whole = new Map([['games', games], ['bases', bases], ['groups', groups]].flatMap(([store, list]) => list.map(([key, v]) => [`${store} ${key}`, v])));
  const junk = [null, 0, -1, 1.5, NaN, '', 'x', [], {}, new Uint8Array(3), new Uint8Array(0), new Date(), true, 2 ** 53];
  for (let k = 0; k < 150; k++) {
    await rows((store, v, key) => {
      if (store === 'games' ? v.name !== name : key[0] !== id) return undefined;
      const fields = Object.keys(v).filter((f) => !(store === 'games' && (f === 'name' || f === 'id')));
      if (next() < 0.5) return undefined;
      return { ...v, [fields[Math.floor(next() * fields.length)]]: junk[Math.floor(next() * junk.length)] };
    });
    await savedGames();
    const engine = engineFor(t, { useWorker: false, name, persist: true, workerOptions: options });
    const error = await engine.ready.catch((cause) => cause);
    if (error) assert.ok(error instanceof HyperTokenError && ['broken', 'store_refused', 'core_mismatch'].includes(error.code), String(error.stack));
    await engine.shutdown();
    await rows((store, value, key) => whole.get(`${store} ${key}`));
  }
  await saved(t, name).ready;
});

// The rules of waiting, with a store that a test holds.

async function held(t, hostOptions = {}) {
  const host = hostFor(t, hostOptions), store = new HeldStore(), events = [];
  const game = new Game(host, { bytes: encodeSetup(deck(20)).slice(), isSnapshot: false }, (name, e) => events.push([name, e]), () => true, { saved: store });
  host.add(game);
  let n = 0;
  const ask = (k, parts, what) => {
    const op = new Op(what, k, parts);
    game.push(op);
    op.outcomeOf = op.promise.then((result) => ({ result }), (error) => ({ error: error.code }));
    return op;
  };
  const act = (type, payload) => ask(kind.dispatch, [encodeAction(type, payload, 1_700_000_000_000 + n, new Uint8Array(16).fill(++n), 1 << 20)], type);
  const digest = () => ask(kind.digest, [], 'digest');
  const first = digest();
  (await store.next('create')).resolve();
  await first.promise;
  /** Waits until the worker has answered all that was sent. */
  const answered = async () => {
    while (game.pending > 0) await new Promise(setImmediate);
  };
  return { host, store, game, events, act, digest, answered };
}

const isOver = (op) => Promise.race([op.outcomeOf.then(() => true), new Promise((resolve) => setImmediate(() => resolve(false)))]);

test('answers wait for their group; what comes meanwhile is the next one', async (t) => {
  const { store, game, events, act, digest, answered } = await held(t);
  const one = act('stack:draw'), group = await store.next('append');
  assert.deepEqual([group.argument.first, group.argument.count], [1, 1]);
  const two = act('stack:draw'), three = act('stack:draw'), read = digest(), wrong = act('no:such');
  await answered();
  for (const op of [one, two, three, read, wrong]) assert.equal(await isOver(op), false);
  assert.equal(game.sequence, 0);
  assert.deepEqual(events, []);
  assert.equal(store.calls.length, 0, 'one transaction at a time');
  group.resolve();
  await one.promise;
  assert.equal(game.sequence, 1);
  const second = await store.next('append');
  assert.deepEqual([second.argument.first, second.argument.count], [2, 2]);
  assert.equal(await isOver(read), false, 'a read waits for what it saw');
  assert.equal(await isOver(wrong), false, 'a failure does, too');
  second.resolve();
  await three.promise;
  await read.promise;
  assert.deepEqual(await wrong.outcomeOf, { error: 'unknown_action' });
  assert.deepEqual(events.filter(([name]) => name === 'state:updated').map(([, e]) => e.sequence), [1, 2, 3]);
  const quick = digest();
  await quick.promise; // with nothing to wait for
});

test('a group that is not stored fails; what was answered behind it runs again', async (t) => {
  const { store, game, host, act, digest, answered } = await held(t);
  const before = digest();
  await before.promise;
  const lost = act('stack:draw', { count: 2 });
  const group = await store.next('append');
  const later = act('stack:peek', { count: 1 }), read = digest(), draw = act('stack:draw');
  await answered();
  const { placed } = host.counts;
  group.reject(new HyperTokenError('store_full', 'no room'));
  assert.deepEqual(await lost.outcomeOf, { error: 'store_full' });
  assert.deepEqual(await read.promise, await before.promise, 'the read does not see the action that was not stored');
  assert.equal((await later.promise)[0].id, 't19');
  (await store.next('append')).resolve();
  assert.equal((await draw.promise)[0].id, 't19');
  assert.equal(game.sequence, 1);
  assert.equal(host.counts.placed, placed + 1);
});

test('before it is handed to the store an action can be withdrawn, and not afterwards', async (t) => {
  const { store, game, act, answered } = await held(t);
  const error = new HyperTokenError('canceled', 'the caller has had enough');
  const handed = act('stack:draw');
  const group = await store.next('append');
  const waiting = act('stack:draw', { count: 5 }), behind = act('stack:draw');
  await answered();
  game.withdraw(handed, error);
  game.withdraw(waiting, error);
  assert.equal(await isOver(handed), false);
  assert.deepEqual(await waiting.outcomeOf, { error: 'canceled' });
  group.resolve();
  assert.equal((await handed.promise)[0].id, 't19');
  (await store.next('append')).resolve();
  assert.equal((await behind.promise)[0].id, 't18', 'the action that was withdrawn had no effect');
  assert.equal(game.sequence, 2);
});

test('a worker that dies while a group is being stored runs nothing of it again', async (t) => {
  const { store, game, host, act, answered } = await held(t);
  const handed = act('stack:draw');
  const group = await store.next('append');
  const waiting = act('stack:draw');
  await answered();
  const died = host.counts.died;
  await kill(host);
  while (host.counts.died === died) await new Promise(setImmediate);
  const later = act('stack:draw');
  while (host.threads[0].state !== 'ready') await new Promise(setImmediate);
  assert.equal(game.place, null, 'it is placed once it is known what the journal has');
  group.resolve();
  assert.equal((await handed.promise)[0].id, 't19');
  (await store.next('append')).resolve();
  assert.equal((await waiting.promise)[0].id, 't18');
  (await store.next('append')).resolve();
  assert.equal((await later.promise)[0].id, 't17');
  assert.equal(game.sequence, 3);
});

test('a snapshot is a group of its own, and one that is not stored changes nothing', async (t) => {
  const { store, game, act } = await held(t, { snapshotBytes: 1 });
  let sequence = 0, snapshots = 0;
  for (let k = 0; snapshots < 2; k++) {
    const op = act('stack:shuffle');
    let isDone = false;
    op.promise.then(() => { isDone = true; });
    while (!isDone) {
      const call = store.calls.shift();
      if (call?.what === 'replace') {
        assert.equal(call.argument.sequence, sequence);
        if (++snapshots === 1) call.reject(new HyperTokenError('store_full', 'no room'));
        else call.resolve();
      } else if (call) {
        assert.equal(call.argument.first, sequence + 1);
        sequence += call.argument.count;
        call.resolve();
      }
      await new Promise(setImmediate);
    }
    assert.equal(game.sequence, sequence);
    assert.ok(k < 1000, 'no snapshot was taken');
  }
});

test('a store that does not answer leaves the outcome unknown at the end', async (t) => {
  const { store, game, host, act, answered } = await held(t);
  const handed = act('stack:draw');
  await store.next('append');
  const waiting = act('stack:draw');
  await answered();
  await host.shutdown({ timeout: 5 });
  assert.deepEqual(await handed.outcomeOf, { error: 'outcome_unknown' });
  assert.deepEqual(await waiting.outcomeOf, { error: 'shutdown' });
  assert.equal(game.sequence, 0);
  assert.equal(host.stats.inFlight, 0);
});

// Exports and imports.

async function played(t, name) {
  const setup = { stack: deck(15).stack.map((token) => ({ ...token, half: 0.5, text: 'ä "quoted"\n', big: 2 ** 53 - 1, none: null })) };
  const engine = saved(t, name, { setup });
  await engine.dispatchAsync('stack:shuffle', { seed: 7 });
  await engine.dispatchBatch([{ type: 'stack:draw', payload: { count: 2 } }, { type: 'stack:draw' }]);
  await engine.dispatchAsync('debug:log', { message: 'a', n: 1.25 }).catch(() => {});
  await engine.dispatchAsync('stack:reset');
  const digest = await engine.digest(), { sequence } = engine;
  await engine.shutdown();
  return { digest, sequence };
}

test('a game is exported, and imported under another name', async (t) => {
  const name = fresh(), copy = fresh(), { digest, sequence } = await played(t, name);
  const file = await exportGame(name, options), text = await file.text();
  assert.equal(file.type, 'application/x-ndjson');
  const lines = text.trim().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(Object.keys(lines[0]), ['setup', 'core']);
  assert.equal(lines.length, sequence + 1);
  assert.deepEqual(lines.filter((l) => l.batch).map((l) => [l.batch, l.sequence]), [[2, 2], [2, 3]]);
  assert.deepEqual(await importGame(copy, file, options), { sequence, digest });
  assert.equal(await (await exportGame(copy, options)).text(), text);
  const engine = saved(t, copy);
  assert.equal(await engine.digest(), digest);
  await assert.rejects(importGame(name, file, options), code('engine_exists', /already/));
  await assert.rejects(exportGame('no such game', options), code('engine_not_found'));
});

test('a game with a snapshot is exported with it', async (t) => {
  const name = fresh(), small = { workerOptions: { ...options, snapshotBytes: 500 } }, engine = saved(t, name, { setup: deck(10), ...small });
  for (let k = 0; k < 40; k++) await engine.dispatchAsync('stack:shuffle');
  const digest = await engine.digest();
  await engine.shutdown();
  const file = await exportGame(name, options), [first] = (await file.text()).split('\n').map((line) => line && JSON.parse(line));
  assert.ok(first.snapshot && first.sequence > 0 && /^[0-9a-f]{16}$/.test(first.digest));
  const copy = fresh();
  assert.deepEqual(await importGame(copy, file, options), { sequence: 40, digest });
  const again = saved(t, copy, small);
  await again.dispatchAsync('stack:shuffle');
  assert.equal(again.sequence, 41);
});

test('an import that is wrong says in which line, and takes no name', async (t) => {
  const name = fresh(), target = fresh();
  await played(t, name);
  const lines = (await (await exportGame(name, options)).text()).trim().split('\n');
  const replaced = (k, from, to) => lines.map((line, at) => (at === k ? line.replace(from, to) : line)).join('\n');
  const cases = [
    ['', 'bad_input', /there is no line/],
    ['{"type":"stack:draw"}', 'bad_input', /line 1: the first line of an export is/],
    ['nonsense', 'bad_input', /line 1: it is no JSON: at character 1/],
    [replaced(1, /"checksum":"./, '"checksum":"g'), 'bad_input', /line 2: checksum: want 16/],
    [replaced(2, /"checksum":"[^"]*"/, '"checksum":"0000000000000000"'), 'diverged', /line 3: the recorded result has the checksum 0000000000000000/],
    [replaced(3, '"sequence":3', '"sequence":4'), 'bad_input', /line 4: sequence: it is 4, want 3/],
    [replaced(2, '"batch":2', '"batch":1'), 'bad_input', /line 3: batch/],
    [replaced(0, /"core":"../, '"core":"00'), 'core_mismatch', /line 1: the game was played with the core 00/],
    [replaced(0, '"stack"', '"stock"'), 'bad_payload', /line 1: /],
    [replaced(1, 'stack:shuffle', 'no:such'), 'diverged', /line 2: the action 1 succeeded, and now fails/],
    [replaced(1, /"now":\d+/, '"now":1.5'), 'bad_input', /line 2: now: want an integer/],
    [replaced(1, /"entropy":"../, '"entropy":"'), 'bad_input', /line 2: entropy/],
    [[...lines, '{"digest":true}'].join('\n'), 'bad_input', /behind its first line/],
    [replaced(1, '{', '{"type":"a",'), 'bad_input', /stands twice/],
  ];
  for (const [text, expected, message] of cases) await assert.rejects(importGame(target, new Blob([text]), options), code(expected, message), text.slice(0, 80));
  await assert.rejects(importGame(target, 'text', options), code('bad_input', /want a Blob/));
  assert.ok(!(await savedGames()).some((g) => g.name === target));
});

test('an import of any bytes is refused with a code, or right', async (t) => {
  const name = fresh(), next = random(5);
  await played(t, name);
  const text = await (await exportGame(name, options)).text();
  let right = 0;
  for (let k = 0; k < 200; k++) {
    let bytes = Buffer.from(text);
    for (let n = 1 + Math.floor(next() * 3); n > 0; n--) {
      const at = Math.floor(next() * bytes.length);
      if (next() < 0.3) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + Math.floor(next() * 40))]);
      else bytes[at] = next() < 0.5 ? next() * 256 : '{}[]",:0e.-\n'.charCodeAt(next() * 12);
    }
    const target = `fuzz ${k}`;
    const error = await importGame(target, new Blob([bytes]), options).then(() => null, (cause) => cause);
    if (error) assert.ok(error instanceof HyperTokenError, String(error.stack));
    else right++;
    assert.equal((await savedGames()).some((g) => g.name === target), !error);
    if (!error) await deleteGame(target);
  }
  t.diagnostic(`${right} of 200 were right`);
});

test('values are the same as JSON and as MessagePack, floats too', () => {
  const next = random(3);
  const value = (depth) => {
    const k = Math.floor(next() * (depth > 3 ? 6 : 8));
    if (k === 0) return null;
    if (k === 1) return next() < 0.5;
    if (k === 2) return Math.floor((next() - 0.5) * 2 ** Math.floor(next() * 54));
    if (k === 3) return (next() - 0.5) * 10 ** Math.floor(next() * 40 - 20);
    if (k < 6) return Array.from({ length: next() * 40 }, () => String.fromCodePoint(Math.floor(next() < 0.8 ? 32 + next() * 90 : 0xe000 + next() * 0x1000))).join('');
    if (k === 6) return Array.from({ length: next() * 20 }, () => value(depth + 1));
    return Object.fromEntries(Array.from({ length: next() * 20 }, (_, n) => [`k${n}`, value(depth + 1)]));
  };
  for (let k = 0; k < 500; k++) {
    const v = value(0), bytes = encode(v, 'v').slice(), json = jsonOf(bytes), read = readLine(`{"v": ${json} }`).get('v');
    assert.deepEqual(JSON.parse(json), v === 0 ? 0 : v);
    assert.deepEqual(Buffer.from(read), Buffer.from(bytes), json);
    assert.deepEqual(decode(read), v);
  }
  for (const [json, bytes] of [['1.0', [0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]], ['-0.0', [0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0]], ['1e+21', null], ['1', [1]], ['-1', [0xff]]]) {
    const read = readLine(`{"v":${json}}`).get('v');
    if (bytes) assert.deepEqual([...read], bytes);
    assert.equal(jsonOf(read), json);
  }
  for (const wrong of ['', '{', '{}x', '[]', '1', '{"a":}', '{"a":1,}', '{a:1}', '{"a":01}', '{"a":9007199254740992}', '{"a":1e999}', '{"a":{"b":1,"b":2}}', '{"a":1,"a":2}', '{"a":"\n"}', '{"a":"\\x"}',
    `{"a":${'['.repeat(300)}${']'.repeat(300)}}`]) assert.throws(() => readLine(wrong), SyntaxError, wrong);
  for (const wrong of [[], [0xc1], [0x92, 1], [0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], [0x81, 1, 1], [0xa2, 0xff, 0xff], [1, 1], [0xcf, 0xff, 0, 0, 0, 0, 0, 0, 0]]) assert.throws(() => jsonOf(Uint8Array.from(wrong)));
});

test('checksums are XXH64', () => {
  // Of the specification's own test: https://github.com/Cyan4973/xxHash/blob/dev/tests/sanity_test_vectors.h
  assert.equal(xxh64(new Uint8Array(0)), 'ef46db3751d8e999');
  assert.equal(xxh64(new TextEncoder().encode('a')), 'd24ec4f1a98c6e5b');
  assert.equal(xxh64(new TextEncoder().encode('abc')), '44bc2cf5ad770999');
});

const repository = new URL('../../', import.meta.url).pathname;
const go = existsSync('/usr/local/go/bin/go') || process.env.HYPERTOKEN_REQUIRE === 'all' || process.env.PATH.split(':').some((dir) => existsSync(join(dir, 'go')));

test('Go plays and imports an export, and what Go exports is imported here', { skip: !go && 'there is no go' }, async (t) => {
  const dir = await folder(t), name = fresh(), file = join(dir, 'game.jsonl'), copy = fresh();
  const builtin = { workerOptions: { core: undefined, wasmPath } };
  const engine = saved(t, name, { setup: { stack: deck(15).stack.map((token) => ({ ...token, half: 0.5, text: 'ä "q"' })) }, ...builtin });
  await engine.dispatchAsync('stack:shuffle');
  await engine.dispatchBatch([{ type: 'stack:draw', payload: { count: 2 } }, { type: 'stack:draw' }]);
  for (let k = 0; k < 50; k++) await engine.dispatchAsync('stack:shuffle');
  const digest = await engine.digest();
  await engine.shutdown();
  const text = await (await exportGame(name, { wasmPath })).text(), binary = join(dir, 'hypertoken');
  await writeFile(file, `${text}{"digest":true}\n`);
  const run = async (...args) => (await promisify(execFile)(binary, args, { cwd: dir, maxBuffer: 1 << 24 })).stdout;
  await promisify(execFile)('go', ['build', '-o', binary, './cmd/hypertoken'], { cwd: repository });
  assert.equal((await run('run', file)).trim().split('\n').at(-1), JSON.stringify({ digest }));
  await writeFile(file, text);
  await run('journal', 'import', '--data', join(dir, 'games'), 'table', file);
  assert.equal(await run('journal', 'export', '--data', join(dir, 'games'), '--from', '0', 'table'), text);
  // A revert is a marker, from which an import here goes on.
  await run('journal', 'revert', '--data', join(dir, 'games'), 'table', '--to', '20');
  const theirs = await run('journal', 'export', '--data', join(dir, 'games'), '--from', '0', 'table');
  const imported = await importGame(copy, new Blob([theirs]), { wasmPath });
  assert.equal(imported.sequence, 54);
  const again = saved(t, copy, builtin);
  assert.equal(await again.digest(), imported.digest);
  await again.dispatchAsync('stack:draw');
  await again.shutdown();
  await writeFile(file, `${await (await exportGame(copy, { wasmPath })).text()}{"digest":true}\n`);
  assert.equal(JSON.parse((await run('run', file)).trim().split('\n').at(-1)).digest.length, 16);
  // So is an upgrade.
  const moved = fresh(), former = saved(t, moved, { setup: deck(9) });
  await former.dispatchAsync('stack:draw');
  await former.shutdown();
  const upgraded = saved(t, moved, { ...builtin, persist: { formerCores: [testCoreBytes] } });
  await upgraded.dispatchAsync('stack:shuffle', { seed: 3 });
  const end = await upgraded.digest();
  await upgraded.shutdown();
  const exported = await (await exportGame(moved, { wasmPath })).text();
  await writeFile(file, `${exported}{"digest":true}\n`);
  assert.equal((await run('run', file)).trim().split('\n').at(-1), JSON.stringify({ digest: end }));
  await writeFile(file, exported);
  await run('journal', 'import', '--data', join(dir, 'games'), 'upgraded', file);
  assert.equal(await run('journal', 'export', '--data', join(dir, 'games'), '--from', '0', 'upgraded'), exported);
});
