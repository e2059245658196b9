// One saved game that several engines play. In Node they are in one thread; tabs that are killed are in test/browser/persist.test.js.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deleteGame, exportGame, HyperTokenError, savedGames } from '../src/index.js';
import { deck, engineFor, hostFor, random, testCoreBytes } from './support/cores.js';
import { withLocks } from './support/locks.js';
import './support/store.js';

let count = 0;
const options = { core: testCoreBytes };
const named = (t) => {
  withLocks(t);
  const name = `shared ${++count}`;
  return [name, (more = {}) => engineFor(t, { name, persist: true, setup: deck(40), workerOptions: options, ...more })];
};
const code = (expected) => (error) => error instanceof HyperTokenError && error.code === expected;
const ids = (cards) => cards.map((card) => card.id);
const lines = async (name) => (await (await exportGame(name, options)).text()).trim().split('\n').slice(1).map((line) => JSON.parse(line));

test('engines of one name play one game, and each has all events', async (t) => {
  const [name, open] = named(t), a = open(), events = { a: [], b: [] };
  await a.ready;
  const b = open({ setup: deck(3) });
  await b.ready;
  assert.deepEqual([a.place, b.place], ['worker', 'another tab']);
  a.on('*', (e) => events.a.push(e.name === 'engine:error' ? [e.name, e.error.code] : [e.name, e.type, e.payload.sequence]));
  b.on('*', (e) => events.b.push(e.name === 'engine:error' ? [e.name, e.error.code] : [e.name, e.type, e.payload.sequence]));
  assert.deepEqual(ids(await b.dispatchAsync('stack:draw', { count: 2 })).sort(), ids((await a.state()).stack.drawn).sort());
  assert.equal(b.sequence, 1);
  await a.dispatchAsync('stack:draw');
  assert.equal(await a.digest(), await b.digest());
  assert.equal(b.sequence, 2);
  await assert.rejects(b.dispatchAsync('no:such'), code('unknown_action'));
  await assert.rejects(b.dispatchBatch([{ type: 'stack:draw' }, { type: 'no:such' }]), (e) => e.code === 'unknown_action' && e.index === 1);
  const [, one] = await b.dispatchBatch([{ type: 'no:such' }, { type: 'stack:draw' }], { mode: 'independent' });
  assert.equal(one.result.length, 1);
  assert.equal((await b.actions()).some((action) => action.name === 'stack:draw'), true);
  const changes = [['engine:action', 'stack:draw', 1], ['state:updated', 'stack:draw', 1], ['engine:action', 'stack:draw', 2], ['state:updated', 'stack:draw', 2], ['engine:action', 'stack:draw', 3],
    ['state:updated', 'stack:draw', 3]];
  assert.deepEqual(events.b.filter(([event]) => event !== 'engine:error'), changes);
  assert.deepEqual(events.a.filter(([event]) => event !== 'engine:error'), changes);
  assert.deepEqual(events.b.filter(([event]) => event === 'engine:error'), [['engine:error', 'unknown_action'], ['engine:error', 'unknown_action']]);
  assert.equal((await savedGames()).find((g) => g.name === name).sequence, 3);
});

test('when the engine that runs the game is shut down, another one goes on', async (t) => {
  const [name, open] = named(t), all = [open(), open(), open()];
  await Promise.all(all.map((e) => e.ready));
  const calls = [], next = (e) => calls.push(e.dispatchAsync('stack:draw'));
  for (let k = 0; k < 3; k++) all.forEach(next);
  const first = all.shift().shutdown();
  for (let k = 0; k < 3; k++) all.forEach(next);
  await first;
  const second = all.shift().shutdown();
  all.forEach(next);
  await second;
  const drawn = (await Promise.all(calls)).flatMap(ids);
  assert.equal(new Set(drawn).size, calls.length);
  assert.deepEqual([...drawn].sort(), ids((await all[0].state()).stack.drawn).sort());
  assert.equal((await lines(name)).length, calls.length);
  assert.equal(all[0].place, 'worker');
});

test('a call of another tab can be withdrawn', async (t) => {
  const [, open] = named(t), a = open();
  await a.ready;
  const b = open();
  await b.ready;
  const stop = new AbortController(), spin = a.dispatchAsync('test:spin', {}, { timeout: 300 }).catch((e) => e);
  const call = b.dispatchAsync('stack:draw', {}, { signal: stop.signal });
  await Promise.resolve();
  stop.abort();
  await assert.rejects(call, code('canceled'));
  const late = b.dispatchAsync('stack:draw', {}, { timeout: 20 });
  await assert.rejects(late, code('timeout'));
  assert.equal((await spin).code, 'timeout');
  assert.equal((await b.dispatchAsync('stack:draw'))[0].id, 't39');
});

test('a call that hangs ends at its deadline, also if the tab that made it has ended', async (t) => {
  const [, open] = named(t), a = open(), { postMessage } = BroadcastChannel.prototype;
  await a.ready;
  const b = open();
  await b.ready;
  let hasCalled;
  const called = new Promise((resolve) => { hasCalled = resolve; });
  BroadcastChannel.prototype.postMessage = function post(message) {
    if (message.calls?.some((call) => call.isWithdrawn)) return; // b has ended by then
    postMessage.call(this, message);
    if (message.calls) hasCalled();
  };
  t.after(() => { BroadcastChannel.prototype.postMessage = postMessage; });
  const spin = b.dispatchAsync('test:spin', {}, { timeout: 100 }).catch((error) => error);
  await called;
  assert.equal((await a.dispatchAsync('stack:draw'))[0].id, 't39');
  assert.equal((await spin).code, 'timeout');
});

test('current follows the game in each tab', async (t) => {
  const [, open] = named(t), a = open();
  await a.ready;
  const b = open();
  await b.ready;
  const seen = new Promise((resolve) => {
    b.subscribe(() => b.current.stack.drawn.length === 2 && resolve());
    void b.current;
  });
  await a.dispatchAsync('stack:draw', { count: 2 });
  await seen;
});

test('a game that is deleted breaks all its engines, and is not made again by one', async (t) => {
  const [name, open] = named(t), a = open(), b = open(), c = open();
  await Promise.all([a.ready, b.ready, c.ready]);
  await deleteGame(name);
  for (const e of [a, b, c, b]) await assert.rejects(e.dispatchAsync('stack:draw'), code('moved'));
  assert.ok(!(await savedGames()).some((g) => g.name === name));
  const d = open();
  await d.ready;
  assert.equal(d.sequence, 0);
});

test('a payload that a message can not have is told as the core has it', async (t) => {
  const [, open] = named(t), a = open();
  await a.ready;
  const b = open();
  await b.ready;
  const told = new Promise((resolve) => b.on('engine:action', resolve));
  await a.dispatchAsync('stack:draw', new Proxy({ count: 2 }, {}));
  assert.deepEqual((await told).payload.payload, { count: 2 });
});

test('gathered actions of another tab succeed or fail together', async (t) => {
  const [, open] = named(t), gathering = { workerOptions: { ...options, enableBatching: true, batchWindow: 1 } }, a = open(gathering);
  await a.ready;
  const b = open(gathering);
  await b.ready;
  assert.equal((await Promise.all([b.dispatchAsync('stack:draw'), b.dispatchAsync('stack:draw')])).length, 2);
  const outcomes = await Promise.allSettled([b.dispatchAsync('stack:draw'), b.dispatchAsync('no:such')]);
  assert.deepEqual(outcomes.map((o) => o.reason.code), ['batch_aborted', 'unknown_action']);
  assert.equal(b.sequence, 2);
});

// The tab that runs the game ends after it has stored calls, and before it has answered. Here the engine of that tab goes on, without
// its lock and its channel: then it may store nothing more.
for (const snapshotBytes of [1 << 20, 1]) {
  test(`calls that were stored and not answered run once (snapshots of ${snapshotBytes} bytes)`, async (t) => {
    const [name, open] = named(t), { postMessage } = BroadcastChannel.prototype, more = { workerOptions: { ...options, snapshotBytes } }, a = open(more);
    await a.ready;
    const b = open(more);
    await b.ready;
    const muted = [];
    BroadcastChannel.prototype.postMessage = function post(message) {
      if (message.news) muted.push(message);
      else postMessage.call(this, message);
    };
    t.after(() => { BroadcastChannel.prototype.postMessage = postMessage; });
    const draw = (n) => b.dispatchAsync('stack:draw', { count: n });
    const refused = b.dispatchAsync('no:such').catch((error) => error);
    const looked = b.dispatchAsync('stack:peek', { count: 1 });
    const stored = [draw(1), draw(2), b.dispatchBatch([{ type: 'no:such' }, { type: 'stack:draw' }], { mode: 'independent' }), draw(1)];
    while (muted.flatMap(({ answers }) => answers).length < 6) await new Promise(setImmediate);
    BroadcastChannel.prototype.postMessage = postMessage;
    const before = await lines(name).catch(() => []);
    navigator.locks.take(`hypertoken game ${name}`);
    const [one, two, batch, four] = await Promise.all(stored);
    assert.equal((await refused).code, 'unknown_action');
    assert.deepEqual([one.length, two.length, four.length, batch[0].error.code, batch[1].result.length], [1, 2, 1, 'unknown_action', 1]);
    assert.equal((await looked)[0].id, 't39'); // as it was told then
    assert.equal(b.sequence, 4);
    assert.equal((await b.state()).stack.drawn.length, 5);
    assert.equal((await draw(1)).length, 1);
    await assert.rejects(a.dispatchAsync('stack:draw'), code('moved'));
    assert.equal(b.sequence, 5);
    if (snapshotBytes > 1) assert.deepEqual((await lines(name)).slice(0, before.length), before);
    assert.ok((await savedGames()).some((g) => g.name === name && g.sequence === 5));
  });
}

test('an engine does not play with another version of the package', async (t) => {
  const [name, open] = named(t), other = new BroadcastChannel(`hypertoken game ${name}`);
  t.after(() => other.close());
  let answered;
  const answer = new Promise((resolve) => { answered = resolve; });
  other.onmessage = ({ data }) => data.leader && answered(data);
  await navigator.locks.request(`hypertoken game ${name}`, async () => {
    const a = open();
    other.postMessage({ protocol: 3, leader: 'x', from: 'x' });
    await assert.rejects(a.ready, code('moved'));
  });
  const b = open();
  await b.ready;
  other.postMessage({ protocol: 3, who: true, from: 'x' });
  assert.equal((await answer).protocol, 2);
  await b.dispatchAsync('stack:draw');
});

// Tabs end at any moment: their locks go to others, and what they sent is lost. Here their engines go on, unheard: they may store nothing.
for (const seed of process.env.HYPERTOKEN_SEED ? [Number(process.env.HYPERTOKEN_SEED)] : [1, 2]) {
  test(`each call has its effect once or not at all, as its caller is told, whatever tabs end (seed ${seed})`, async (t) => {
    const next = random(seed), [name, open] = named(t), host = hostFor(t, { core: testCoreBytes, workers: 2, snapshotBytes: 2000, maxRestarts: 1000 });
    const { postMessage } = BroadcastChannel.prototype, dead = new Set();
    let leader = null;
    BroadcastChannel.prototype.postMessage = function post(message) {
      if (dead.has(message.from)) return;
      if (message.leader) ({ leader } = message);
      postMessage.call(this, message);
    };
    t.after(() => { BroadcastChannel.prototype.postMessage = postMessage; });
    const told = [], joined = [];
    let left = 20, deaths = 0;
    const end = () => {
      if (--left > 0 || leader === null || dead.has(leader)) return;
      left = 20 + Math.floor(next() * 40);
      deaths++;
      dead.add(leader);
      navigator.locks.take(`hypertoken client ${leader}`);
      navigator.locks.take(`hypertoken game ${name}`);
      if (deaths < 7) join();
    };
    const join = () => {
      const engine = open({ host, workerOptions: undefined }), own = joined.length;
      joined.push((async () => {
        const call = async (k) => {
          for (let n = 0, moved = 0; n < 25 && moved < 2; n++) { // an engine that has lost the game has nothing but `moved`
            const id = `${own}-${k}-${n}`, r = next(), options = r < 0.1 ? { timeout: 1 + next() * 20 } : {};
            const outcome = await (r < 0.8 ? engine.dispatchAsync('agent:create', { name: id }, options)
              : engine.dispatchBatch([{ type: 'agent:create', payload: { name: id } }, { type: r < 0.9 ? 'no:such' : 'stack:peek' }], { mode: r < 0.85 ? 'atomic' : 'independent' }))
              .then((result) => ({ result }), (error) => ({ error: error.code }));
            told.push([id, Array.isArray(outcome.result) && outcome.result[0].error ? { error: outcome.result[0].error.code } : outcome]);
            moved = outcome.error === 'moved' ? moved + 1 : 0;
            if (!moved) end();
          }
        };
        await engine.ready.catch(() => {});
        await Promise.all([0, 1, 2].map(call));
      })());
    };
    for (let k = 0; k < 3; k++) join();
    for (let k = 0; k < joined.length; k++) await joined[k];
    const last = open({ host, workerOptions: undefined }), { agents } = await last.state(), codes = {};
    for (const [id, { error }] of told) {
      assert.equal(id in agents, !error, `${id}: ${error ?? 'done'}`);
      codes[error ?? 'done'] = (codes[error ?? 'done'] ?? 0) + 1;
    }
    assert.equal(Object.keys(agents).length, codes.done);
    t.diagnostic(`${deaths} tabs ended; ${JSON.stringify(codes)}`);
    assert.ok(deaths >= 3 && codes.done > 100, JSON.stringify(codes));
    assert.equal(codes.exists, undefined);
  });
}
