import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deadlines } from '../src/deadlines.js';

const request = (name) => ({ name, settled: false, timeout: 0, deadline: 0, line: null, earlier: null, later: null });

// Deadlines that note which requests they end, and in which map. `end` ends one; `until` waits until a condition holds after one of them.
function noting(end = (op) => { op.settled = true; }) {
  const ended = [], waiting = [];
  const deadlines = new Deadlines(50, (op, shared) => {
    ended.push({ name: op.name, shared, at: performance.now(), deadline: op.deadline });
    end(op, deadlines);
    for (const one of waiting.splice(0)) one();
  });
  const until = async (is) => {
    const alive = setInterval(() => {}, 1000); // the timer of deadlines keeps no process alive
    while (!is()) await new Promise((told) => waiting.push(told));
    clearInterval(alive);
  };
  return { deadlines, ended, until, names: () => ended.map(({ name }) => name).join(' ') };
}

test('requests of one timeout end in their order, none before its time', async () => {
  const { deadlines, ended, until, names } = noting();
  for (const name of ['a', 'b', 'c']) deadlines.add(request(name), 5);
  await until(() => ended.length === 3);
  assert.equal(names(), 'a b c');
  for (const { at, deadline } of ended) assert.ok(at >= deadline);
  deadlines.stop();
});

test('requests that end in one moment share a map, those of another timeout have another', async () => {
  const { deadlines, ended, until } = noting();
  const all = [['a', 5], ['b', 5], ['c', 4]].map(([name, timeout]) => [request(name), timeout]);
  for (const [op, timeout] of all) deadlines.add(op, timeout);
  for (let now = performance.now(); performance.now() < now + 10;); // all are late when the timer comes
  await until(() => ended.length === 3);
  const map = Object.fromEntries(ended.map(({ name, shared }) => [name, shared]));
  assert.equal(map.a, map.b);
  assert.notEqual(map.a, map.c);
  deadlines.stop();
});

test('a request that was removed does not end', async () => {
  const { deadlines, ended, until, names } = noting();
  const ops = ['a', 'b', 'c', 'd'].map(request);
  for (const op of ops) deadlines.add(op, 5);
  deadlines.remove(ops[1]);
  deadlines.remove(ops[1]); // once more has no effect
  deadlines.remove(ops[3]);
  await until(() => ended.length === 2);
  assert.equal(names(), 'a c');
  deadlines.add(request('e'), 5);
  await until(() => ended.length === 3);
  assert.equal(names(), 'a c e');
  deadlines.stop();
});

test('a request that can not be ended holds up no other, and is told again', async () => {
  const { deadlines, ended, until, names } = noting((op) => { op.settled = op.name !== 'stored'; });
  const stored = request('stored');
  deadlines.add(stored, 5);
  deadlines.add(request('a'), 5);
  await until(() => names().endsWith('a'));
  assert.equal(ended[0].name, 'stored');
  deadlines.add(request('b'), 5);
  const before = ended.length;
  await until(() => names().endsWith('b'));
  assert.equal(ended[before].name, 'stored');
  deadlines.remove(stored);
  const after = ended.length;
  deadlines.add(request('c'), 5);
  await until(() => names().endsWith('c'));
  assert.equal(ended.length, after + 1);
  deadlines.stop();
});

test('the end of a request may end others, and begin some with the same timeout', async () => {
  const others = ['b', 'c'].map(request), next = request('next');
  const { deadlines, until, names } = noting((op, d) => {
    op.settled = op.name !== 'a';
    if (op.name !== 'a' || next.line) return;
    for (const other of others) {
      other.settled = true;
      d.remove(other);
    }
    d.add(next, 7); // the list of this timeout has become empty meanwhile
  });
  deadlines.add(request('a'), 7);
  for (const other of others) deadlines.add(other, 7);
  await until(() => names().endsWith('next'));
  assert.match(names(), /^(a )+next$/); // once more for each time that the timer comes
  deadlines.stop();
});
