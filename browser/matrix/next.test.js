// Next with a page and a route handler, built by each of its bundlers.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { plays } from './browsers.js';
import { environment, folder, here, run, tool } from './support.js';

for (const bundler of ['turbopack', 'webpack']) {
  describe(`Next 16 with ${bundler}`, () => {
    const cwd = join(here, 'next'), next = tool('next/dist/bin/next'), built = `../.built/next-${bundler}`;
    let server, url;
    before(async () => {
      await folder(`next-${bundler}`);
      await run(process.execPath, [next, 'build', `--${bundler}`], { cwd, env: { NEXT_BUILT: built } });
      server = spawn(process.execPath, [next, 'start', '-p', '0', '-H', '127.0.0.1'], { cwd, env: environment({ NEXT_BUILT: built }), stdio: ['ignore', 'pipe', 'inherit'] });
      let ready = false;
      for await (const line of createInterface(server.stdout)) {
        url ??= /http:\/\/\S+/.exec(line)?.[0];
        ready = /Ready/.test(line);
        if (ready) break;
      }
      assert.ok(ready && url, 'next start does not say where it listens');
      server.stdout.resume();
    });
    after(async () => {
      if (!server || server.exitCode !== null) return;
      const ended = once(server, 'exit');
      server.kill();
      await ended;
    });
    plays(() => url);
    test('the route handler', async () => assert.equal(await (await fetch(`${url}/route`)).text(), 'b on a worker'));
  });
}
