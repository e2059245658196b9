// The completions that an editor offers: the test asks TypeScript's language server as an editor does.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { root } from './support/installed.js';

/** A language server, which is ended with the test. */
function server(t) {
  const child = spawn(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '--lsp', '--stdio'], { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const waiting = new Map();
  let read = Buffer.alloc(0), asked = 0;
  const send = (message) => {
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...message }));
    child.stdin.write(`Content-Length: ${body.length}\r\n\r\n`);
    child.stdin.write(body);
  };
  child.stdout.on('data', (bytes) => {
    read = Buffer.concat([read, bytes]);
    for (;;) {
      const end = read.indexOf('\r\n\r\n');
      const length = end < 0 ? Infinity : Number(/Content-Length: (\d+)/i.exec(read.subarray(0, end))[1]);
      if (read.length < end + 4 + length) return;
      const message = JSON.parse(read.subarray(end + 4, end + 4 + length));
      read = read.subarray(end + 4 + length);
      if (message.method === undefined) waiting.get(message.id)(message);
      else if (message.id !== undefined) send({ id: message.id, result: null }); // it asks for settings, which there are none of
    }
  });
  return {
    tell: (method, params) => send({ method, params }),
    ask: (method, params) => new Promise((resolve, reject) => {
      waiting.set(++asked, ({ result, error }) => (error ? reject(new Error(error.message)) : resolve(result)));
      child.once('exit', (code) => reject(new Error(`the language server ended with the exit code ${code}`)));
      send({ id: asked, method, params });
    }),
  };
}

test('an editor completes the names of actions and the members of their payloads, and knows their results', async (t) => {
  const { ask, tell } = server(t);
  await ask('initialize', { processId: process.pid, rootUri: String(pathToFileURL(root)), capabilities: {} });
  tell('initialized', {});
  const lines = [
    "import { Engine } from 'hypertoken-worker';", 'declare const engine: Engine;',
    "engine.dispatchAsync('|');", "engine.dispatch('|');", "engine.dispatchAsync('stack:draw', { | });", "engine.dispatch('agent:create', { name: 'ada', | });",
    "(await engine.dispatchAsync('agent:create', { name: 'ada' })).|;", 'new Engine({ setup: { | } });',
  ];
  const uri = String(pathToFileURL(join(root, 'test/completions.ts'))); // it is nowhere but here
  tell('textDocument/didOpen', { textDocument: { uri, languageId: 'typescript', version: 1, text: lines.map((line) => line.replace('|', '')).join('\n') } });
  const at = async (line) => {
    const result = await ask('textDocument/completion', { textDocument: { uri }, position: { line, character: lines[line].indexOf('|') } });
    return (result?.items ?? result ?? []).map((item) => item.label.replace('?', ''));
  };
  for (const line of [2, 3]) {
    const names = await at(line);
    for (const name of ['stack:draw', 'agent:create', 'space:place']) assert.ok(names.includes(name), `${name} is not among ${names}`);
  }
  assert.deepEqual(await at(4), ['count']);
  assert.deepEqual((await at(5)).sort(), ['id', 'meta']);
  assert.ok((await at(6)).includes('name'));
  assert.ok((await at(7)).includes('stack'));
});
