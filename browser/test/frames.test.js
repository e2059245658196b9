// Parsers, fed with damaged bytes and with frames that no host sends.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Instance, join, Lost } from '../src/core.js';
import { Executor } from '../src/executor.js';
import { eachFrame, flag, header, kind, readAnswer, Writer } from '../src/frames.js';
import { errorOf } from '../src/game.js';
import { random, testCore } from './support/cores.js';

const bytesOf = (next, n) => Uint8Array.from({ length: n }, () => next() * 256);
const rounds = 3000;

test('frames that are written are read', () => {
  const next = random(1), out = new Writer();
  for (let round = 0; round < 200; round++) {
    const want = Array.from({ length: next() * 20 }, () => ({ request: Math.floor(next() * 2 ** 32), placement: Math.floor(next() * 2 ** 32), kind: Math.floor(next() * 256), flags: Math.floor(next() * 256),
      parts: Array.from({ length: next() * 4 }, () => bytesOf(next, next() * 3000)) }));
    for (const w of want) out.frame(w.request, w.placement, w.kind, w.flags, w.parts);
    const got = [];
    eachFrame(out.take(), ({ request, placement, kind: k, flags, body }) => got.push({ request, placement, kind: k, flags, body }));
    assert.deepEqual(got, want.map(({ parts, ...w }) => ({ ...w, body: join(parts) })));
    assert.equal(out.length, 0);
  }
});

test('a message that is cut, or damaged, is read or refused, and never read beyond its end', () => {
  const next = random(2), out = new Writer();
  for (let round = 0; round < rounds; round++) {
    for (let k = 0; k < 3; k++) out.frame(k, 1, kind.dispatch, 0, [bytesOf(next, next() * 40)]);
    const whole = new Uint8Array(out.take());
    if (round % 2) whole[Math.floor(next() * whole.length)] ^= 1 << (next() * 8);
    const cut = whole.slice(0, Math.ceil(next() * whole.length)).buffer;
    let read = 0;
    try {
      eachFrame(cut, (f) => { read += header + f.body.length; });
      assert.equal(read, cut.byteLength);
    } catch (e) {
      assert.match(e.message, /beyond its message/);
      assert.ok(read < cut.byteLength);
    }
  }
  for (const bad of [null, 'text', { ready: 1 }, new Uint8Array(4)]) assert.throws(() => eachFrame(bad, () => {}), /no buffer/);
});

test('an answer that is damaged is read or refused', () => {
  const next = random(3);
  let answer;
  const executor = new Executor(testCore);
  const run = (k, body, flags = 0) => {
    executor.run({ placement: 1, kind: k, flags, body }, (f, ...parts) => { answer = { flags: f, body: join(parts) }; });
    return answer;
  };
  run(kind.open, limits());
  assert.equal(run(kind.ready, new Uint8Array(0)).flags & flag.failed, 0);
  const { body } = run(kind.dispatch, action('stack:peek'));
  assert.ok(body.length > 24);
  for (let round = 0; round < rounds; round++) {
    const damaged = body.slice(0, Math.ceil(next() * body.length));
    damaged[Math.floor(next() * damaged.length)] ^= 1 << (next() * 8);
    try {
      // The answer lies among others: bytes behind its end belong to the next one.
      const around = new Uint8Array(damaged.length + 4096);
      around.set(damaged, 2048);
      const r = readAnswer({ bytes: around, view: new DataView(around.buffer), at: 2048, length: damaged.length });
      const result = around.subarray(r.from, r.end);
      for (const part of [result, r.events ?? result, ...(r.members ?? []).map((m) => m.body)]) {
        assert.ok(part.byteOffset >= 2048 && part.byteOffset + part.length <= 2048 + damaged.length, 'it reads what is not its own');
      }
    } catch (e) {
      if (!(e instanceof RangeError)) throw e;
    }
    assert.equal(typeof errorOf(damaged).code, 'string');
  }
});

test('an executor answers every request once, whatever it is, and goes on', () => {
  const next = random(4), executor = new Executor(testCore);
  const good = [[kind.open, limits()], [kind.ready, new Uint8Array(0)], [kind.dispatch, action('stack:peek')], [kind.digest, new Uint8Array(0)], [kind.state, new Uint8Array(0)]];
  for (let round = 0; round < rounds; round++) {
    let [k, body] = good[Math.floor(next() * good.length)];
    if (next() < 0.5) {
      body = body.slice(0, Math.ceil(next() * body.length));
      if (body.length > 0 && k !== kind.open) body[Math.floor(next() * body.length)] ^= 1 << (next() * 8);
    }
    if (next() < 0.1) k = Math.floor(next() * 12); // any kind but `close`, with any body
    if (k === kind.close) k = 0;
    let answers = 0;
    executor.run({ placement: 1, kind: k, flags: Math.floor(next() * 4) === 0 ? flag.restore : 0, body }, () => answers++);
    assert.equal(answers, 1, `kind ${k}`);
  }
  let after;
  executor.run({ placement: 2, kind: kind.open, flags: 0, body: limits() }, (flags) => { after = flags; });
  assert.equal(after, 0);
});

test('an instance has room for input of every size, one after the other', () => {
  const instance = new Instance(testCore), text = (n) => action('stack:peek', Uint8Array.of(0x81, 0xa1, 0x61, 0xc6, n >>> 24, n >>> 16, n >>> 8, n), n);
  assert.equal(instance.run('open', limits()).failed, false);
  assert.equal(instance.run('ready').failed, false);
  for (const n of [0, 5000, (256 << 10) - 100, 256 << 10, 3 << 20, 10, 1 << 20, 256 << 10, 1]) {
    const b = instance.run('dispatch', text(n));
    // bin is no value of the core's: it has read to the payload, and says so.
    assert.match(errorOf(b.body.slice()).code, /^bad_payload$/, `${n} bytes`);
  }
  assert.throws(() => instance.run('dispatch', new Uint8Array(65 << 20)), (e) => e instanceof Lost && e.code === 'out_of_memory');
});

function limits() {
  const v = new DataView(new ArrayBuffer(16));
  v.setUint32(0, 1 << 26, true);
  v.setUint32(8, 1 << 20, true);
  v.setUint32(12, 64, true);
  return new Uint8Array(v.buffer);
}

function action(type, payload = new Uint8Array(0), more = 0) {
  const name = new TextEncoder().encode(type), b = new Uint8Array(28 + name.length + payload.length + more);
  new DataView(b.buffer).setUint32(24, name.length, true);
  b.set(name, 28);
  b.set(payload, 28 + name.length);
  return b;
}
