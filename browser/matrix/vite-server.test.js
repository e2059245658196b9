// The server of Vite for development.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as vite from 'vite';
import { plays } from './browsers.js';
import { folder, here } from './support.js';

describe('the server of Vite 8 for development', () => {
  const warnings = [];
  let server;
  before(async () => {
    const logger = vite.createLogger('silent');
    for (const level of ['warn', 'warnOnce', 'error']) logger[level] = (message) => warnings.push(message);
    const { path } = await folder('vite-cache');
    server = await vite.createServer({ root: join(here, 'page'), configFile: false, customLogger: logger, cacheDir: path, server: { port: 0, host: '127.0.0.1' } });
    await server.listen();
  });
  after(() => server?.close());
  plays(() => `http://127.0.0.1:${server.httpServer.address().port}/`);
  test('without warnings', () => assert.deepEqual(warnings, []));
});
