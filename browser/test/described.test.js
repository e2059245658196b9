// These tests are of what a core says of itself, and of the types that are made from it.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { description, parseShape, typeScript } from '../src/describe.js';
import { deck, engineFor, exampleCore, wasmPath } from './support/cores.js';

test('an engine lists the actions of its core, on a worker and on the main thread', async (t) => {
  for (const useWorker of [true, false]) {
    const engine = engineFor(t, { useWorker, setup: deck(3), workerOptions: { core: undefined, wasmPath } });
    const actions = await engine.actions(), draw = actions.find((a) => a.name === 'stack:draw');
    assert.deepEqual(draw, {
      name: 'stack:draw', about: 'Moves up to count tokens from the top to drawn; returns them, top first.', result: 'Token[]',
      fields: [{ name: 'count', kind: draw.fields[0].kind, shape: 'int', required: false, default: '1' }],
    });
    assert.deepEqual(actions.map((a) => a.name), actions.map((a) => a.name).sort());
    assert.equal(engine.sequence, 0);
  }
  const own = await engineFor(t, { workerOptions: { core: exampleCore } }).actions();
  assert.ok(own.some((a) => a.name === 'process:item') && own.every((a) => Array.isArray(a.fields)));
});

const text = (path) => readFile(new URL(path, import.meta.url), 'utf8');
const builtIn = async () => description(await WebAssembly.compile(await readFile(new URL('core.wasm', wasmPath))));

test('the types of a core are those that the command writes in Go', async () => {
  const { actions, records } = await builtIn();
  assert.equal(typeScript(actions, records), await text('../src/actions.d.ts'));
  const odd = JSON.parse(await text('testdata/described.json'));
  assert.equal(typeScript(odd.actions, odd.records), await text('testdata/described.d.ts'));
  const { actions: own, records: ownRecords } = description(exampleCore);
  assert.match(typeScript(own, ownRecords), /'process:item': \{ payload: /);
});

test('a description that is no types is refused', () => {
  const record = (...fields) => [{ name: 'Token', about: '', fields }];
  for (const [message, actions, records] of [
    [/no value can be a "Token"/, [], record({ name: 'x', shape: 'Token' })],
    [/no value can be a "A"/, [], [{ name: 'A', fields: [{ name: 'b', shape: 'B' }] }, { name: 'B', fields: [{ name: 'a', shape: 'A' }] }]],
    [/can't be printed/, [], record({ name: 'x', shape: "'\x1b[31m'" })], [/there is no record "Card"/, [], record({ name: 'x', shape: 'Card' })],
    [/begins no shape/, [], record({ name: 'x', shape: 'card' })], [/has the field "x" twice/, [], record({ name: 'x', shape: 'any' }, { name: 'x', shape: 'any' })],
    [/no record can have the name "token"/, [], [{ name: 'token' }]], [/or there are two/, [], [...record(), ...record()]], [/no record can have/, [], [{ name: 'To ken' }]],
    [/a type Value of its own/, [], [{ name: 'Value' }]], [/two actions with the name "a:b"/, [{ name: 'a:b' }, { name: 'a:b' }], []],
    [/"a:b" has the field "n" twice/, [{ name: 'a:b', fields: [{ name: 'n' }, { name: 'n' }] }], []], [/there is no record "Card"/, [{ name: 'a:b', result: 'Card' }], []],
  ]) assert.throws(() => typeScript(actions, records), message);
  for (const [shape, message] of [['', /begins no shape/], ['Token[', /is left over/], ['map<any', /not closed/], ['(any', /not closed/], ["'arc", /not closed/], ['any|', /begins no shape/],
    ['('.repeat(40), /more than 32 deep/], [`any${'[]'.repeat(33)}`, /more than 32 deep/], ['x'.repeat(1025), /more than 1024 bytes/]]) assert.throws(() => parseShape(shape), message);
  // A core that describes nothing of its records, as older ones do.
  assert.match(typeScript([{ name: 'a:b', fields: [{ name: 'n' }] }], []), /'a:b': \{ payload: \{ n\?: any \}; result: any \};/);
});

// Whether a value has a shape: undefined, or where it has not.
function misfit(records, shape, value, at) {
  const { name, literal, items, values, oneOf } = shape, is = (ok) => (ok ? undefined : `${at}: ${JSON.stringify(value)} is no ${JSON.stringify(shape)}`);
  const first = (entries, f) => entries.map(f).find((wrong) => wrong !== undefined);
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (literal !== undefined) return is(value === literal);
  if (items) return is(Array.isArray(value)) ?? first(value, (v, k) => misfit(records, items, v, `${at}[${k}]`));
  if (values) return is(isMap) ?? first(Object.entries(value), ([k, v]) => misfit(records, values, v, `${at}.${k}`));
  if (oneOf) return is(oneOf.some((one) => misfit(records, one, value, at) === undefined));
  const scalar = { any: () => true, null: () => value === null, bool: () => typeof value === 'boolean', number: () => typeof value === 'number', int: () => Number.isInteger(value),
    string: () => typeof value === 'string' }[name];
  if (scalar) return is(scalar());
  const { fields, rest } = records.get(name);
  if (!isMap) return is(false);
  return first(fields, (f) => (f.name in value ? misfit(records, parseShape(f.shape), value[f.name], `${at}.${f.name}`) : is(f.optional)))
    ?? first(Object.keys(value).filter((k) => !fields.some((f) => f.name === k)), (k) => (rest ? misfit(records, parseShape(rest), value[k], `${at}.${k}`) : is(false)));
}

// The Go tests hold every result and state of all traces against the shapes. This is what the package's callers get of them.
test('what an engine returns has the shapes that its core describes', async (t) => {
  const { actions, records } = await builtIn(), byName = new Map(records.map((r) => [r.name, r]));
  const engine = engineFor(t, { setup: { ...deck(20), source: { stacks: [deck(5).stack] } }, workerOptions: { core: undefined, wasmPath } });
  const run = async (type, payload) => {
    const result = await engine.dispatchAsync(type, payload), { result: shape } = actions.find((a) => a.name === type);
    assert.equal(misfit(byName, parseShape(shape), result, type), undefined);
    return result;
  };
  const [card] = await run('stack:draw', { count: 2 });
  await run('agent:create', { name: 'ada' });
  await run('space:place', { zone: 'table', card });
  await run('source:draw');
  await run('source:inspect');
  await run('tokens:find', { tokens: [], predicate: 'kind:x' });
  await run('token:merge', { tokens: [card, { id: 'x' }], keepOriginals: true });
  await run('game:start');
  await run('rule:initRules');
  assert.equal(misfit(byName, parseShape('State'), await engine.state(), 'state'), undefined);
  assert.match(misfit(byName, parseShape('State'), { ...await engine.state(), stack: 5 }, 'state'), /state\.stack/);
});
