// React in StrictMode, and a module that Vite's development server replaces: no worker may be left behind.

import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createServer } from 'vite';
import { project, root } from '../support/installed.js';
import { browsers, launch, skip } from './harness.js';

const react = `import { createElement as h, StrictMode, useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { Engine } from 'hypertoken-worker';
import { useEngine, useEngineState } from 'hypertoken-worker/react';
globalThis.made = [];
globalThis.rendered = 0;
const cards = Array.from({ length: 9 }, (_, k) => ({ id: 'c' + k }));

function Table({ size }) {
  const engine = useEngine(() => {
    const engine = new Engine({ useWorker: true, setup: { stack: cards.slice(0, size) } });
    made.push(engine);
    return engine;
  }, [size]);
  const hand = useEngineState(engine, (state) => state.stack.drawn.map((card) => card.id)); // another function and another array each time
  useEffect(() => { rendered++; });
  return h('button', { onClick: () => engine.dispatchAsync('stack:draw') }, hand ? 'hand: ' + hand.join(' ') : 'loading');
}

const root = createRoot(document.getElementById('root'));
globalThis.show = (size) => root.render(h(StrictMode, null, h(Table, { size })));
globalThis.hide = () => root.unmount();
show(9);
`;

// The module that README.md shows, in a page. It has a module of its own, which is replaced too.
const readme = await readFile(join(root, 'README.md'), 'utf8');
const shown = /```js\n(import [^`]*?hot\.dispose[^`]*?)```/.exec(readme)[1];
const main = `import { version } from './version.js';
${shown}
globalThis.engine = engine;
globalThis.version = version;
`;

let installed, server, url;
before(async () => {
  installed = await project();
  const file = (path, text) => writeFile(join(installed.dir, path), text);
  await mkdir(join(installed.dir, 'src'));
  for (const name of ['react', 'react-dom', 'scheduler']) await symlink(join(root, 'node_modules', name), join(installed.dir, 'node_modules', name));
  for (const name of ['react', 'hot']) {
    await file(`${name}.html`, `<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script type="module" src="/src/${name}.js"></script>`);
  }
  await file('src/react.js', react);
  await file('src/hot.js', main);
  await file('src/version.js', 'export const version = 0;\n');
  // The entries are named, so that the server does not find dependencies late, and load the page again for them.
  // Nothing watches the files: a watcher passes over a change within 50 ms of the last one, and the server would keep the old module.
  server = await createServer({ root: installed.dir, configFile: false, logLevel: 'error', server: { host: '127.0.0.1', port: 0, watch: null },
    optimizeDeps: { entries: ['react.html', 'hot.html'] } });
  await server.listen();
  url = `http://127.0.0.1:${server.httpServer.address().port}`;
});
after(async () => {
  await server?.close();
  await installed?.remove();
});

/** Replaces a module, and tells the server of it, as its watcher would. */
async function replace(name, text) {
  const path = join(installed.dir, `src/${name}.js`);
  await writeFile(path, text);
  server.watcher.emit('change', path);
}

const until = (page, f, ...args) => page.waitForFunction(f, { polling: 20 }, ...args);
/** Waits until so many workers are alive: each has a lock. */
const untilAlive = (page, n) => until(page, async (want) => (await navigator.locks.query()).held.filter((l) => l.name.startsWith('hypertoken-')).length === want, n);

for (const one of browsers) {
  test(`React's hooks show the state in StrictMode, and leave no worker, in ${one.name}`, { skip: skip(one) }, async () => {
    const b = await launch(one);
    try {
      const page = await b.open('about:blank'), errors = [];
      page.on('console', (message) => ['error', 'warn'].includes(message.type()) && errors.push(message.text()));
      page.on('pageerror', (error) => errors.push(error.message));
      await page.goto(`${url}/react.html`);
      const text = (want) => until(page, (t) => document.querySelector('button')?.textContent === t, want);
      await text('hand: ');
      assert.equal(await page.evaluate(() => made.length), 2, 'StrictMode mounts twice');
      await untilAlive(page, 1);
      for (const hand of ['c8', 'c8 c7', 'c8 c7 c6']) {
        await page.evaluate(() => document.querySelector('button').click());
        // The drawn tokens are in the order of the stack's array.
        await until(page, (n) => document.querySelector('button').textContent.split(' ').length - 1 === n, hand.split(' ').length);
      }
      // A change that the selection does not see renders nothing.
      const before = await page.evaluate(() => rendered);
      await page.evaluate(async () => {
        const engine = made.at(-1), seen = new Promise((resolve) => {
          const stop = engine.subscribe(() => {
            if (!engine.current.agents.ada) return;
            stop();
            resolve();
          });
        });
        await engine.dispatchAsync('agent:create', { name: 'ada' });
        await seen;
        await new Promise((frame) => { requestAnimationFrame(() => setTimeout(frame)); });
      });
      assert.equal(await page.evaluate(() => rendered), before);
      // Another dependency is another engine, and the former one ends.
      await page.evaluate(() => show(5));
      await text('hand: ');
      await until(page, () => made.at(-1).current?.stack.stack.length === 5);
      await untilAlive(page, 1);
      await page.evaluate(() => hide());
      await untilAlive(page, 0);
      assert.deepEqual(errors, []);
    } finally {
      await b.close();
    }
  });

  test(`a module that is replaced keeps its game, and leaves no worker, in ${one.name}`, { skip: skip(one) }, async () => {
    const b = await launch(one);
    try {
      const page = await b.open(`${url}/hot.html`);
      const ids = () => page.evaluate(async () => (await engine.state()).stack.stack.map((card) => card.id));
      await until(page, () => globalThis.version === 0);
      await page.evaluate(() => engine.dispatchAsync('stack:draw'));
      for (const [k, name, text] of [[1, 'version', 'export const version = 1;\n'], [2, 'hot', main.replace('= version;', '= 2;')], [3, 'hot', main.replace('= version;', '= 3;')]]) {
        await replace(name, text);
        await until(page, (n) => globalThis.version === n, k);
        assert.deepEqual(await ids(), ['a']);
        await untilAlive(page, 1);
        assert.equal(await page.evaluate(() => engine.place), 'worker');
      }
      await replace('version', 'export const version = 0;\n'); // for the next browser
      await replace('hot', main);
    } finally {
      await b.close();
    }
  });
}
