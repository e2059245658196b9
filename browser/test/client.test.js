// The client of a server: nothing that was acknowledged is lost, and nothing runs twice, whatever becomes of its connections.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHTTPServer } from 'node:http';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import WebSocket, { WebSocketServer } from 'ws';
import { RemoteEngine } from '../src/client.js';
import { Server } from './support/server.js';

const token = 'a_token-of~the.test/+==';
const deck = (n) => ({ stack: Array.from({ length: n }, (_, k) => ({ id: `t${k}` })) });
const ids = (tokens) => tokens.map((t) => t.id);

let server;
before(async () => { server = await Server.start({ HYPERTOKEN_TOKEN: token }); });
after(() => server?.remove());

let names = 0;
/** An engine of the server, which is let go at the test's end. */
function engineFor(t, options = {}, servers = server.url) {
  const engine = new RemoteEngine(servers, { engine: `engine-${++names}`, token, WebSocket, setup: deck(9), timeout: 120_000, ...options });
  t.after(() => engine.shutdown({ timeout: 1 }));
  return engine;
}
const again = (t, options) => engineFor(t, { engine: `engine-${names}`, setup: undefined, ...options });

/** Waits until the newest engine has a sequence, by asking the server itself. */
async function untilSequence(n) {
  for (let sequence; sequence !== n;) {
    const response = await fetch(`${server.direct}/v1/engines/engine-${names}/state`, { headers: { authorization: `Bearer ${token}` } });
    ({ sequence } = await response.json());
  }
}

test('actions, batches, questions and rewinds', async (t) => {
  const engine = engineFor(t);
  await engine.ready;
  assert.equal(engine.server, server.url);
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', { count: 2 })), ['t8', 't7']);
  assert.equal(engine.sequence, 1);
  assert.deepEqual((await engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'stack:peek' }])).map(ids), [['t6'], ['t5']]);
  const [first, second] = await engine.dispatchBatch([{ type: 'nope' }, { type: 'stack:draw' }], { mode: 'independent' });
  assert.equal(first.error.code, 'unknown_action');
  assert.deepEqual(ids(second.result), ['t5']);
  await assert.rejects(engine.dispatchBatch([{ type: 'stack:draw' }, { type: 'nope' }]), { code: 'unknown_action', index: 1 });
  assert.deepEqual(ids((await engine.state()).stack.stack), ['t0', 't1', 't2', 't3', 't4']);
  const before = await engine.digest();
  assert.match(before, /^[0-9a-f]{16}$/);
  assert.equal(await engine.dispatchAsync('stack:shuffle', { seed: 7 }), null);
  assert.deepEqual(await engine.undo(), { sequence: engine.sequence, digest: before });
  assert.notEqual((await engine.redo()).digest, before);
  assert.equal((await engine.stateAt(0)).stack.stack.length, 9);
  assert.notEqual(engine.sequence, 0); // that of the past is not taken for the newest
  assert.equal(await engine.digestAt(engine.sequence), await engine.digest());
  await assert.rejects(engine.stateAt(), (e) => e.code === 'bad_input' && /stateAt: the sequence is undefined/.test(e.message));
  await engine.revert(0);
  assert.equal((await engine.state()).stack.stack.length, 9);
  await assert.rejects(engine.dispatchAsync('stack:draw', {}, { ifSequence: 1 }), { code: 'conflict' });
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', {}, { ifSequence: engine.sequence, now: 5, entropy: new Uint8Array(16) })), ['t8']);
  const twice = [await engine.dispatchAsync('stack:draw', {}, { key: 'mine' }), await engine.dispatchAsync('stack:draw', {}, { key: 'mine' })];
  assert.deepEqual(twice[0], twice[1]);
  await assert.rejects(engine.dispatchAsync('stack:draw', { count: -1 }), (e) => e.name === 'HyperTokenError' && /count/.test(e.message));
});

test('a setup is for an engine that is not there, and nothing else makes one', async (t) => {
  const engine = engineFor(t, { setup: deck(3) });
  await engine.dispatchAsync('stack:draw');
  const other = again(t, { setup: deck(5) });
  await other.ready;
  assert.equal((await other.state()).stack.stack.length, 2);
  const none = engineFor(t, { setup: undefined });
  await assert.rejects(none.ready, { code: 'not_found' });
  const bad = engineFor(t, { setup: { stack: 5 } });
  await assert.rejects(bad.ready);
  await assert.rejects(bad.dispatchAsync('stack:draw'));
});

test('the server is killed again and again while a game is played', async (t) => {
  const engine = engineFor(t, { setup: deck(600) });
  const drawn = [];
  let lost = 0, next = 0;
  engine.onConnection(({ error }) => { if (error) lost++; });
  const play = async () => { // several at once, so that a death meets lines that are sent, run, stored and answered
    while (next < 600) {
      const k = next++;
      drawn[k] = (await engine.dispatchAsync('stack:draw'))[0].id;
      if (k % 150 !== 149 || k === 599) continue;
      await server.down(k === 299 ? 'SIGTERM' : 'SIGKILL');
      await server.up();
    }
  };
  await Promise.all(Array.from({ length: 20 }, play));
  assert.deepEqual(drawn, Array.from({ length: 600 }, (_, k) => `t${599 - k}`));
  assert.equal((await engine.state()).stack.stack.length, 0);
  assert.equal(engine.sequence, 600);
  assert.ok(lost >= 3, `${lost} connections were lost`);
});

test('an answer that is lost is asked for again: the action runs once', async (t) => {
  const engine = engineFor(t);
  await engine.ready;
  server.mode = 'swallow';
  const draw = engine.dispatchAsync('stack:draw');
  await untilSequence(1);
  server.mode = 'forward';
  server.cut();
  assert.deepEqual(ids(await draw), ['t8']);
  assert.equal(engine.sequence, 1);
});

test('a server that is silent, or not there, is passed over', async (t) => {
  const mute = createServer(() => {});
  await new Promise((listening) => mute.listen(0, '127.0.0.1', listening));
  t.after(() => mute.close());
  const refused = 'http://127.0.0.1:1';
  const events = [];
  const engine = engineFor(t, { silence: 200 }, [`http://127.0.0.1:${mute.address().port}`, refused, server.url]);
  engine.onConnection((event) => events.push(event));
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t8']);
  assert.match(events.map((e) => e.error?.message ?? 'made').join('\n'), /silent for 200 ms[^]*127\.0\.0\.1:1: [^]*made/);
});

test('with discover, a node of a cluster names the others', async (t) => {
  const asked = [], members = [{ client: 'nonsense' }, { address: 'it names none' }, { client: `${server.url}/`, draining: true }, { client: 'http://127.0.0.1:1' }];
  let answer = () => ({ members });
  // A node that names its cluster, and dies.
  const node = createHTTPServer((request, response) => {
    asked.push([request.url, request.headers.authorization]);
    const said = answer();
    response.writeHead(said ? 200 : 404).end(JSON.stringify(said));
  });
  const sockets = new WebSocketServer({ server: node, handleProtocols: () => 'hypertoken' });
  sockets.on('connection', (socket) => socket.on('message', () => socket.send('{"digest":"d","sequence":3}')));
  await new Promise((listening) => node.listen(0, '127.0.0.1', listening));
  t.after(() => node.close());
  const url = `http://127.0.0.1:${node.address().port}`;
  const alone = engineFor(t, { setup: undefined }, url);
  await alone.ready;
  const engine = engineFor(t, { discover: true, setup: undefined }, [url]);
  await engine.ready;
  while (engine.servers.length < 3) await engine.digest(); // the answer is on its way
  assert.deepEqual(engine.servers, [url, 'http://127.0.0.1:1', `${server.url}/`]); // the one that is about to end is the last one
  assert.deepEqual(alone.servers, [url]);
  assert.deepEqual(asked, [['/v1/cluster', `Bearer ${token}`]]);
  const made = again(t, { setup: deck(9), engine: `engine-${names}` });
  await made.ready;
  const elsewhere = new Promise((found) => engine.onConnection((e) => { if (!e.error && e.server !== url) found(e.server); }));
  // A question that a listener asks goes to the next server.
  const asks = new Promise((answered) => engine.onConnection((e) => { if (e.server === url) answered(engine.digest().then(() => engine.server)); }));
  node.close();
  node.closeAllConnections();
  sockets.clients.forEach((socket) => socket.terminate());
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw')), ['t8']);
  assert.equal(await elsewhere, `${server.url}/`);
  assert.equal(await asks, `${server.url}/`);
  assert.equal(engine.sequence, 1);
  await engine.digest(); // this server is no node of a cluster
  assert.equal(engine.servers.length, 3);
});

test('the time of a request: nothing was sent, or nobody knows', async (t) => {
  const nowhere = engineFor(t, { timeout: 1500 }, 'http://127.0.0.1:1');
  await assert.rejects(nowhere.dispatchAsync('stack:draw'), (e) => e.code === 'timeout' && /not done after 1500 ms; the last connection was lost/.test(e.message));
  const gone = new AbortController();
  const canceled = assert.rejects(nowhere.dispatchAsync('stack:draw', {}, { signal: gone.signal }), { code: 'canceled' });
  gone.abort();
  await canceled;

  const engine = engineFor(t, { silence: 60_000 });
  await engine.ready;
  server.mode = 'swallow';
  const stop = new AbortController(), draw = engine.dispatchAsync('stack:draw', {}, { key: 'draw', signal: stop.signal });
  await untilSequence(1);
  stop.abort();
  await assert.rejects(draw, (e) => e.code === 'outcome_unknown' && /with the key draw/.test(e.message) && e.cause.code === 'canceled');
  const question = engine.digest({ timeout: 50 });
  await assert.rejects(question, { code: 'timeout' }); // it changes nothing
  server.mode = 'forward';
  server.cut();
  assert.deepEqual(ids(await engine.dispatchAsync('stack:draw', {}, { key: 'draw' })), ['t8']);
  assert.equal((await engine.state()).stack.stack.length, 8);
});

test('bad input, too much, and the end', async (t) => {
  for (const [servers, options, message] of [
    [[], { engine: 'e' }, /no servers/], ['nonsense', { engine: 'e' }, /want a URL/], ['ftp://x', { engine: 'e' }, /begins with https/], [server.url, {}, /engine is undefined/],
    [server.url, { engine: 'e', silent: 5 }, /did you mean silence/], [server.url, { engine: 'e', timeout: -1 }, /timeout is -1/], [server.url, { engine: 'e', maxQueue: 0 }, /maxQueue is 0/], [server.url, { engine: 'e', discover: 1 }, /discover is 1/],
    [server.url, { engine: 'e', WebSocket: undefined }, /WebSocket/],
  ]) {
    assert.throws(() => new RemoteEngine(servers, { WebSocket, ...options }), (e) => e.code === 'bad_input' && message.test(e.message), String(message));
  }
  const engine = engineFor(t, { maxQueue: 2 });
  await engine.ready;
  for (const [payload, message] of [[{ count: NaN }, /count is NaN/], [{ x: 1n }, /x is 1/], [{ x: new Uint8Array(1) }, /x is an object/], [{ x: [undefined] }, /0 is undefined/]]) {
    await assert.rejects(engine.dispatchAsync('stack:draw', payload), (e) => e.code === 'bad_input' && message.test(e.message), String(message));
  }
  for (const bad of [engine.dispatchAsync(''), engine.dispatchAsync('stack:draw', {}, { nonsense: 1 }), engine.dispatchBatch(5), engine.dispatchBatch([5]), engine.dispatchBatch([{ type: 'x', y: 1 }]),
    engine.dispatchBatch([], { mode: 'some' }), engine.dispatchAsync('x', {}, { now: 0.5 }), engine.dispatchAsync('x', {}, { entropy: 'ab' }), engine.state({ key: 'k' })]) {
    await assert.rejects(bad, { code: 'bad_input' });
  }
  const two = [engine.dispatchAsync('stack:draw'), engine.dispatchAsync('stack:draw')];
  await assert.rejects(engine.dispatchAsync('stack:draw'), { code: 'overloaded' });
  const ended = engine.shutdown();
  await assert.rejects(engine.dispatchAsync('stack:draw'), { code: 'shutdown' });
  assert.deepEqual((await Promise.all(two)).map(ids), [['t8'], ['t7']]);
  await ended;
  await engine.shutdown();
  const wrong = engineFor(t, { token: 'another token, which is wrong', timeout: 300 });
  await assert.rejects(wrong.ready, { code: 'timeout' });
  const long = engineFor(t);
  await assert.rejects(long.dispatchAsync('x', { text: 'x'.repeat(2 << 20) }), (e) => e.code === 'bad_input' && /--max-line/.test(e.message));
  assert.deepEqual(ids(await long.dispatchAsync('stack:draw')), ['t8']);
});

test('a line for which the server closes the connection fails, and the others go on', async (t) => {
  const strict = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'hypertoken' });
  t.after(() => strict.close());
  await once(strict, 'listening');
  strict.on('connection', (socket) => socket.on('message', (line) => {
    if (`${line}`.includes('large')) socket.close(1009, 'it is above --max-body');
    else socket.send(`${line}`.includes('broken') ? '{' : '{"result":5,"digest":"d"}');
  }));
  const engine = engineFor(t, {}, `ws://127.0.0.1:${strict.address().port}`);
  const large = engine.dispatchAsync('large'), next = engine.dispatchAsync('next');
  await assert.rejects(large, (e) => e.code === 'payload_too_large' && /it is above --max-body/.test(e.message));
  assert.equal(await next, 5);
  await assert.rejects(engine.dispatchAsync('broken'), { code: 'trap' });
  await assert.rejects(engine.dispatchBatch([{ type: 'no results' }]), { code: 'trap' });
  assert.equal(await engine.digest(), 'd');
});
