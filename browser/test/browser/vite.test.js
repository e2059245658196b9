// A project that has installed the package and is built by Vite.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import { build } from 'vite';
import { project } from '../support/installed.js';
import { browsers, launch, serve, skip } from './harness.js';

let installed, site;
before(async () => {
  installed = await project();
  await mkdir(join(installed.dir, 'src'));
  await writeFile(join(installed.dir, 'index.html'), '<!doctype html><title>loading</title><script type="module" src="/src/main.js"></script>');
  await writeFile(join(installed.dir, 'src/main.js'), `import { Engine } from 'hypertoken-worker';
import workerPath from 'hypertoken-worker/worker?url';
import wasmPath from 'hypertoken-worker/core.wasm?url';

const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] }, workerOptions: { workerPath, wasmPath } });
const [card] = await engine.dispatchAsync('stack:draw');
document.title = card.id + ' on a ' + engine.place;
await engine.shutdown();
`);
  await build({ root: installed.dir, base: '/built/', logLevel: 'error' });
  site = await serve({ '/built/': pathToFileURL(join(installed.dir, 'dist/')).href });
});
after(async () => {
  await site.close();
  await installed.remove();
});

for (const one of browsers) {
  test(`what Vite builds runs in ${one.name}`, { skip: skip(one) }, async () => {
    const b = await launch(one);
    try {
      const page = await b.open(`${site.url}/built/index.html`);
      await page.waitForFunction(() => document.title !== 'loading', { polling: 50 });
      assert.equal(await page.title(), 'b on a worker');
    } finally {
      await b.close();
    }
  });
}
