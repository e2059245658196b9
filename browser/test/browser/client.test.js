// The client of a server in real pages: the server is killed while a page plays.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from '../support/server.js';
import { browsers, launch, serve, skip } from './harness.js';

const token = 'token-of-the-page-0123456789';
let pages, server;
before(async () => {
  pages = await serve();
  server = await Server.start({ HYPERTOKEN_TOKEN: token }, '--allowed-origins', pages.url);
});
after(async () => {
  await server?.remove();
  await pages?.close();
});

for (const one of browsers) {
  test(`a page plays on while its server is killed, in ${one.name}`, { skip: skip(one) }, async () => {
    const b = await launch(one);
    try {
      const page = await b.open(`${pages.url}/page`);
      await page.evaluate(async (url, name, secret) => {
        const { RemoteEngine } = await import('/hypertoken/client.js');
        const stack = Array.from({ length: 90 }, (_, k) => ({ id: `t${k}` }));
        globalThis.lost = 0;
        globalThis.drawn = [];
        globalThis.engine = new RemoteEngine(['http://127.0.0.1:1', url], { engine: name, setup: { stack }, token: secret, timeout: 120_000 });
        engine.onConnection(({ error }) => { if (error) lost++; });
        await engine.ready;
        globalThis.draw = async () => {
          for (let k = 0; k < 30; k++) drawn.push((await engine.dispatchAsync('stack:draw'))[0].id);
        };
        lost = 0;
      }, server.url, `page-${one.name}`, token);
      for (const signal of ['SIGKILL', 'SIGTERM', null]) {
        const playing = page.evaluate(() => draw());
        if (signal) {
          await server.down(signal);
          await server.up();
        }
        await playing;
      }
      const { drawn, sequence, lost, left } = await page.evaluate(async () => ({ drawn, sequence: engine.sequence, lost, left: (await engine.state()).stack.stack.length }));
      assert.deepEqual(drawn, Array.from({ length: 90 }, (_, k) => `t${89 - k}`));
      assert.equal(sequence, 90);
      assert.equal(left, 0);
      assert.ok(lost >= 2, `${lost} connections were lost`);
      await page.evaluate(() => engine.shutdown());
    } finally {
      await b.close();
    }
  });
}
