// Tests of values: a value comes out as it went in, or is refused by its path. README.md, "Values", has the same table.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import vm from 'node:vm';
import { Encoder } from '@msgpack/msgpack';
import { Engine, HyperTokenError } from '../src/index.js';
import { decode, decodeAll, encode, TooLarge } from '../src/values.js';
import { deck, engineFor, kill, random, record, testCore } from './support/cores.js';

const plain = (text) => JSON.parse(text);
const other = (code) => vm.runInNewContext(code); // a value of another realm, as tests with jsdom and frames have
class Card {
  constructor(id) { this.id = id; }
}
class Hand extends Array {}

/** Values of JavaScript that have an obvious equal among the core's values, and that equal. */
const accepted = [
  ['null', null, null], ['true', true, true], ['an integer', 2 ** 53 - 1, 2 ** 53 - 1], ['a negative integer', -(2 ** 53) + 1, -(2 ** 53) + 1],
  ['a float', 1.5, 1.5], ['a float without a fraction that is no safe integer', 2 ** 60, 2 ** 60], ['-0', -0, 0],
  ['a bigint within the bounds', 5n, 5], ['the largest bigint', 2n ** 53n - 1n, 2 ** 53 - 1],
  ['a string', 'héllo \u{1f0a1}', 'héllo \u{1f0a1}'], ['a byte order mark', '\ufeffx'.padEnd(300, 'y'), '\ufeffx'.padEnd(300, 'y')],
  ['an array', [1, [2]], [1, [2]]], ['an array of a class of its own', Hand.from([1, 2]), [1, 2]],
  ['a Map', new Map([['b', 1], ['a', new Map()]]), { b: 1, a: {} }], ['a Map with __proto__', new Map([['__proto__', 1]]), plain('{"__proto__":1}')],
  ['a Set', new Set(['x', 'y', 'x']), ['x', 'y']],
  ['a member that is undefined', { a: undefined, b: 1 }, { b: 1 }], ['a Map with a value that is undefined', new Map([['a', undefined], ['b', 1]]), { b: 1 }],
  ['an object without a prototype', Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
  ['a Proxy of an object', new Proxy({ a: [1] }, {}), { a: [1] }], ['a getter', { get a() { return 1; } }, { a: 1 }],
  ['an object of another realm', other('({ a: [1] })'), { a: [1] }], ['a Map of another realm', other('new Map([["a", 1]])'), { a: 1 }],
  ['a member that can not be enumerated', Object.defineProperty({ a: 1 }, 'b', { value: 2 }), { a: 1 }],
];

const circular = {};
circular.self = circular;
const symbol = Symbol('mine');
const revoked = Proxy.revocable({}, {});
revoked.revoke();

/** Values that are refused, and the error's message behind the path. */
const refused = [
  ['undefined in an array', [1, undefined], /\[1\] is undefined/], ['a hole in an array', [1, , 3], /\[1\] is undefined/], // eslint-disable-line no-sparse-arrays
  ['undefined in a Set', new Set([undefined]), /\[0\] is undefined/],
  ['NaN', NaN, / is NaN; numbers are finite/], ['Infinity', -Infinity, / is -Infinity/], ['a bigint beyond', 2n ** 53n, / is the bigint 9007199254740992; integers are within/],
  ['a symbol', symbol, / is a symbol/], ['a function', () => {}, / is a function/], ['a class', Card, / is a function/],
  ['a symbol as a key', { [symbol]: 1 }, / has the key Symbol\(mine\)/],
  ['a Map with another key', new Map([[1, 'x']]), / is a Map with the key 1 \(number\)/], ['a Map with an object as a key', new Map([[{}, 'x']]), / \(object\)/],
  ['a Date', new Date(0), /instance of Date.*getTime\(\) or toISOString\(\)/], ['a RegExp', /x/, /instance of RegExp/], ['an Error', new TypeError('x'), /instance of Error.*message/],
  ['a Promise', Promise.resolve(1), /instance of Promise.*await/], ['a URL', new URL('http://a/'), /instance of URL.*href/], ['a WeakMap', new WeakMap(), /instance of WeakMap/],
  ['an ArrayBuffer', new ArrayBuffer(4), /instance of ArrayBuffer.*no bytes/], ['a SharedArrayBuffer', new SharedArrayBuffer(4), /instance of SharedArrayBuffer/],
  ['a DataView', new DataView(new ArrayBuffer(4)), /instance of DataView/], ['a Uint8Array', new Uint8Array(4), /instance of Uint8Array.*Array\.from/],
  ['a Float64Array', new Float64Array(1), /instance of Float64Array/], ['a Buffer', Buffer.from('x'), /instance of Uint8Array/],
  ['a boxed number', Object(1), /instance of Number.*valueOf/], ['a boxed string', Object('x'), /instance of String/], ['a boxed boolean', Object(false), /instance of Boolean/],
  ['a boxed bigint', Object(1n), /instance of BigInt/], ['a boxed symbol', Object(symbol), /instance of Symbol/],
  ['an instance of a class', new Card('x'), /instance of Card.*plain object/], ['an object with a prototype of its own', Object.create({ a: 1 }), /no value/],
  ['an object whose prototype has none', Object.create(Object.assign(Object.create(null), { a: 1 })), /a class without a name/],
  ['a generator', (function* () {})(), /instance of Generator/], ['arguments', (function () { return arguments; })(1), /instance of Arguments/], ['Math', Math, /instance of Math/],
  ['a module', await import('./support/games.js'), /instance of Module/], ['a Date of another realm', other('new Date()'), /instance of Date/],
  ['half of a surrogate pair', '\ud83c', /surrogate/], ['half of one in a long text', `${'x'.repeat(100)}\udca1`, /surrogate/], ['half of one as a key', { '\ud83c': 1 }, /surrogate/],
  ['itself', circular, /deeper than 200 levels, or has itself in it/], ['a getter that throws', { get a() { throw new Error('no'); } }, /\.a can not be read: no/],
  ['a Proxy that is revoked', revoked.proxy, / can not be read/], ['a Proxy that throws', new Proxy({}, { ownKeys() { throw new Error('none'); } }), / can not be read: none/],
];

for (const [name, value, want] of accepted) {
  test(`${name} is encoded`, () => {
    assert.deepEqual(decode(encode(value, 'payload')), want);
    assert.deepEqual(decode(encode({ list: [value] }, 'payload')), { list: [want] });
  });
}

for (const [name, value, message] of refused) {
  test(`${name} is refused`, () => {
    assert.throws(() => encode(value, 'payload'), (e) => e.message.startsWith('payload') && message.test(e.message));
    assert.throws(() => encode({ list: [value] }, 'payload'), /^Error: payload\.list\[0\]/);
  });
}

for (const useWorker of [true, false]) {
  test(`what is refused is refused by its path in payloads, batches and setups ${useWorker ? 'on a worker' : 'on the main thread'}`, async (t) => {
    const engine = engineFor(t, { useWorker, setup: deck(3) });
    for (const [name, value, message] of refused) {
      const payload = { list: [0, { 'a b': value }] };
      const inside = (root) => (e) => {
        assert.ok(e instanceof HyperTokenError && e.code === 'bad_input', String(e));
        assert.ok(e.message.includes(`${root}.list[1]["a b"]`), e.message);
        return name === 'itself' || message.test(e.message);
      };
      await assert.rejects(engine.dispatchAsync('stack:peek', payload), inside('stack:peek: payload'));
      await assert.rejects(engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:peek', payload }]),
        (e) => e.index === 1 && inside('actions[1]: stack:peek: payload')(e));
      assert.throws(() => new Engine({ useWorker, setup: payload, workerOptions: { core: testCore } }), inside('setup'));
    }
    await engine.ready;
    if (!useWorker) assert.throws(() => engine.dispatch('stack:peek', { at: new Date() }), { code: 'bad_input' });
    assert.equal(engine.sequence, 0);
    assert.equal(engine.host.stats.inFlight, 0);
  });
}

test('a cause of a refusal is that of the error, and a path that is long is cut', () => {
  const cause = new Error('no');
  assert.throws(() => encode({ get a() { throw cause; } }, 'payload'), (e) => e.cause === cause);
  assert.throws(() => encode(circular, 'payload'), (e) => e.message.length < 250);
  assert.throws(() => encode({ ['k'.repeat(1000)]: NaN }, 'payload'), (e) => e.message.length < 120);
});

test('a getter is asked once, and may encode', () => {
  let asked = 0;
  const value = { a: 'before', get b() {
    asked++;
    return [...encode({ nested: true }, 'x')].length;
  }, c: 'after' };
  assert.deepEqual(decode(encode(value, 'payload')), { a: 'before', b: 9, c: 'after' });
  assert.equal(asked, 1);
});

test('a value that is far too large is not encoded to its end, and later ones are not the worse for it', () => {
  let asked = 0;
  const endless = new Proxy([], { get: (_, key) => (key === 'length' ? 2 ** 31 : (asked++, 'x'.repeat(100))) });
  for (const value of [endless, { a: [endless] }, new Map([['a', endless]]), 'x'.repeat(1 << 28)]) {
    assert.throws(() => encode(value, 'payload', 1 << 16), (e) => e instanceof TooLarge && e.size > 1 << 16 && e.size < 1 << 20);
  }
  assert.ok(asked < 1e5);
  assert.deepEqual(decode(encode({ a: 1 }, 'payload', 1 << 16)), { a: 1 });
});

test('a payload that is far too large is refused as one that is a little too large', async (t) => {
  const engine = engineFor(t, { useWorker: false, setup: deck(3), workerOptions: { maxPayload: 1000 } });
  for (const n of [1001, 1 << 20, 1 << 27]) {
    await assert.rejects(engine.dispatchAsync('debug:log', { text: 'x'.repeat(n) }), (e) => e.code === 'payload_too_large' && /bytes is above 1000 \(maxPayload\)/.test(e.message));
  }
  assert.equal(engine.host.stats.inFlight, 0);
});

test('long strings are encoded in pieces that divide no character', () => {
  for (const character of ['x', 'é', '中', '\u{1f0a1}']) {
    for (const before of ['', 'a', 'ab']) {
      for (const size of [65_535, 65_536, 65_537, 200_000]) {
        const text = before + character.repeat(size);
        assert.ok(decode(encode(text, 'text')) === text, `${before}${character} ${size}`);
        assert.ok(Buffer.from(encode(text, 'text').subarray(5)).equals(Buffer.from(text)) || size < 65_536);
      }
    }
  }
  for (const at of [65_535, 65_536, 131_071]) assert.throws(() => encode(`${'x'.repeat(at)}\ud83c${'x'.repeat(10)}`, 'text'), /surrogate/);
  for (const text of [`${'x'.repeat(70_000)}\ud83c`, '\ud83c'.repeat(70_000), '\udca1'.repeat(70_000)]) assert.throws(() => encode(text, 'text'), /surrogate/);
});

/** Keys that mean something to JavaScript. */
const special = ['__proto__', 'constructor', 'prototype', 'hasOwnProperty', 'toString', 'valueOf', '__defineGetter__', 'length', 'then', ''];

for (const useWorker of [true, false]) {
  test(`keys that mean something to JavaScript come out as they went in ${useWorker ? 'on a worker' : 'on the main thread'}`, async (t) => {
    const odd = (n) => plain(`{${special.map((k) => `${JSON.stringify(k)}:{"n":${n},${JSON.stringify(k)}:[${n}]}`).join(',')}}`);
    const engine = engineFor(t, { useWorker, setup: { stack: [{ id: 't0', meta: odd(1) }, { id: 't1', meta: odd(2) }] } });
    const events = record(engine);
    const drawn = await engine.dispatchAsync('stack:draw');
    assert.deepEqual(drawn, [{ ...drawn[0], id: 't1', meta: odd(2) }]);
    const names = special.filter((name) => name !== ''); // which is no name
    for (const name of names) {
      await engine.dispatchAsync('agent:create', { name, meta: odd(3) });
      await engine.dispatchAsync('agent:giveResource', { name, resource: name, amount: 5 });
    }
    const state = await engine.state();
    assert.deepEqual(state.stack.stack[0].meta, odd(1));
    assert.deepEqual(Object.keys(state.agents).sort(), [...names].sort());
    for (const name of names) {
      assert.deepEqual(Object.entries(Object.getOwnPropertyDescriptor(state.agents, name).value.resources), [[name, 5]]);
    }
    assert.deepEqual(events.find((e) => e.name === 'state:updated').result, drawn);
    const batch = await engine.dispatchBatch([{ type: 'stack:peek' }], { mode: 'independent' });
    assert.deepEqual(batch[0].result[0].meta, odd(1));

    // A replay, and a snapshot, give the same.
    const digest = await engine.digest();
    if (useWorker) await kill(engine.host);
    assert.equal(await engine.digest(), digest);
    const copy = engineFor(t, { useWorker, snapshot: await engine.snapshot() });
    assert.equal(await copy.digest(), digest);
    assert.deepEqual(await copy.state(), state);

    for (const object of [{}, [], drawn, drawn[0].meta, state, state.agents]) {
      assert.equal(object.n, undefined);
      assert.ok([Object.prototype, Array.prototype].includes(Object.getPrototypeOf(object)));
    }
    assert.deepEqual(Object.keys(Object.prototype), []);
  });
}

// Values of all kinds and sizes, from a seed.
function anyValue(next, depth = 0) {
  const size = () => Math.floor([3, 20, 40, 300][Math.floor(next() * 4)] * next());
  const text = () => Array.from({ length: size() }, () => String.fromCodePoint([97, 233, 0x4e2d, 0x1f0a1][Math.floor(next() * next() * 4)])).join('');
  switch (Math.floor(next() * (depth < 4 ? 8 : 6))) {
    case 0: return null;
    case 1: return next() < 0.5;
    case 2: return Math.round((next() - 0.5) * 2 ** Math.floor(next() * 53)) || 0;
    case 3: return (next() - 0.5) * 2 ** Math.floor(next() * 200 - 100) || 0;
    case 4: case 5: return text();
    case 6: return Array.from({ length: size() / 4 }, () => anyValue(next, depth + 1));
    default: return Object.fromEntries(Array.from({ length: size() / 4 }, () => [text(), anyValue(next, depth + 1)]));
  }
}

test('values are encoded as the MessagePack library encodes them, and read again', () => {
  const next = random(7), library = new Encoder({ maxDepth: 200 });
  for (let round = 0; round < 700; round++) {
    const value = anyValue(next), bytes = encode(value, 'value').slice();
    assert.deepEqual(Buffer.from(bytes), Buffer.from(library.encode(value)));
    assert.deepEqual(decode(bytes), value);
  }
  for (const size of [15, 16, 65_535, 65_536]) {
    for (const value of ['x'.repeat(size), 'é'.repeat(size), Array(size).fill(0), Object.fromEntries(Array.from({ length: size }, (_, k) => [k, k]))]) {
      const bytes = encode(value, 'value').slice();
      assert.ok(Buffer.from(bytes).equals(library.encode(value)));
      assert.deepEqual(decode(bytes), value);
    }
  }
  assert.deepEqual(decodeAll(Uint8Array.of(1, 0xc0, 0x90)), [1, null, []]);
});

test('all widths of a number are read', () => {
  for (const [bytes, want] of [[[0xca, 0x3f, 0, 0, 0], 0.5], [[0xcf, 0, 0, 0, 0, 0, 0, 0, 7], 7], [[0xd3, ...Array(8).fill(255)], -1], [[0xd2, 255, 255, 255, 254], -2],
    [[0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0], -0]]) assert.deepEqual(decode(Uint8Array.from(bytes)), want);
});

test('bytes that are cut or damaged are read or refused, and never read beyond their end', () => {
  const next = random(8);
  for (let round = 0; round < 700; round++) {
    const whole = encode(anyValue(next), 'value').slice();
    if (round % 2) whole[Math.floor(next() * whole.length)] ^= 1 << (next() * 8);
    const around = new Uint8Array(whole.length + 64).fill(0xc0), n = Math.ceil(next() * whole.length);
    around.set(whole, 32);
    try {
      decode(around.subarray(32, 32 + n));
    } catch (e) {
      assert.ok(e instanceof RangeError || e instanceof TypeError, String(e)); // TypeError is TextDecoder's for what is no UTF-8
    }
  }
  for (const bad of [[0xdd, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255], [0xdb, 255, 255, 255, 255], [0xc1], [0xc4, 0], [0xd4, 0, 0], [0xcf, ...Array(8).fill(255)],
    [0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], [0x81, 1, 1], [0x81, 0xa5, 97], [1, 1], Array(2000).fill(0x91)]) {
    assert.throws(() => decode(Uint8Array.from(bad)), RangeError, String(bad.slice(0, 4)));
  }
});
