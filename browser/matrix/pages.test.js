// Pages without a bundler, under the conditions that pages are under: each loads the package as it is installed.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { browsers, launch, serve, skip } from '../test/browser/harness.js';
import { titleOf } from './browsers.js';
import { here, tool } from './support.js';

// The page's module, together with the module that it imports.
const [main, play] = await Promise.all(['main', 'play'].map((name) => readFile(`${here}page/${name}.js`, 'utf8')));
const whole = main.replace(/import .* from '\.\/play\.js';\n/, '') + play.replace('export ', '');
const html = (body) => `<!doctype html><title>loading</title><body>${body}`;

/** The module of a page with another address of the package, and with options for its worker. */
const module = (address, options = '') => whole.replace("'hypertoken-worker'", `'${address}'`).replace('useWorker: true,', `useWorker: true, ${options}`);

const strict = (more = '') => `?csp=${encodeURIComponent(`default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'${more}`)}`;

let site, cdn;
const files = {}, remote = {};
before(async () => {
  files['/deep/folder/package/'] = remote['/npm/package/'] = pathToFileURL(`${tool('hypertoken-worker')}/`).href;
  site = await serve(files);
  cdn = await serve(remote, { 'access-control-allow-origin': '*' });

  files['/import-map'] = html(`<script type="importmap">{"imports": {"hypertoken-worker": "/deep/folder/package/dist/hypertoken.js"}}</script>
<script type="module">${whole}</script>`);

  files['/games/cards/plain.js'] = module('../../deep/folder/package/dist/hypertoken.js');
  files['/games/cards/plain'] = html('<script type="module" src="plain.js"></script>');

  files['/own.js'] = module('/deep/folder/package/dist/hypertoken.js', `workerOptions: { worker: () => new Worker(
    trustedTypes.createPolicy('own', { createScriptURL: (address) => address }).createScriptURL('/deep/folder/package/dist/hypertoken.worker.js'), { type: 'module' }) },`);
  files['/own'] = html('<script type="module" src="own.js"></script>');

  files['/cdn.js'] = module(`${cdn.url}/npm/package/dist/hypertoken.js`);
  files['/cdn'] = html('<script type="module" src="cdn.js"></script>');

  remote['/frame.js'] = `${module('/npm/package/dist/hypertoken.js')}
new MutationObserver(() => parent.postMessage(document.title, '*')).observe(document.querySelector('title'), { childList: true });`;
  remote['/frame'] = html('<script type="module" src="frame.js"></script>');
  files['/sandbox'] = html(`<script>onmessage = (e) => { document.title = e.data; };</script><iframe sandbox="allow-scripts" src="${cdn.url}/frame"></iframe>`);

  files['/shared.js'] = `const document = { title: '' };
onconnect = ({ ports: [port] }) => { const timer = setInterval(() => { if (document.title) { clearInterval(timer); port.postMessage(document.title); } }, 20); };
${module('/deep/folder/package/dist/hypertoken.js').replace(/import (.*) from ('.*');/, 'const $1 = await import($2);')}`;
  files['/shared'] = html(`<script>new SharedWorker('/shared.js', { type: 'module' }).port.onmessage = (e) => { document.title = e.data; };</script>`);

  files['/nested.js'] = `const document = { set title(said) { postMessage(said); } };\n${module('/deep/folder/package/dist/hypertoken.js')}`;
  files['/nested'] = html(`<script>new Worker('/nested.js', { type: 'module' }).onmessage = (e) => { document.title = e.data; };</script>`);
});
after(() => Promise.all([site?.close(), cdn?.close()]));

const works = /^b on a worker$/;
const setups = [
  ['an import map', () => '/import-map', works],
  ['a subdirectory', () => '/games/cards/plain', works],
  ['a strict Content-Security-Policy', () => `/games/cards/plain${strict()}`, works],
  ['Trusted Types', () => `/games/cards/plain${strict("; require-trusted-types-for 'script'; trusted-types hypertoken-worker")}`, works],
  ['Trusted Types with a policy of the page, and a worker of its own making', () => `/own${strict("; require-trusted-types-for 'script'; trusted-types own")}`, works],
  ['Trusted Types that do not name the policy', () => `/games/cards/plain${strict("; require-trusted-types-for 'script'; trusted-types 'none'")}`,
    /^b on a main thread: .*hypertoken-worker/],
  ['a CDN', () => '/cdn', works],
  ['a CDN and a strict Content-Security-Policy', () => `/cdn?csp=${encodeURIComponent(`default-src 'none'; script-src 'self' ${cdn.url} 'wasm-unsafe-eval'; worker-src blob: ${cdn.url}; connect-src ${cdn.url}`)}`, works],
  ['a sandboxed frame', () => '/sandbox', works],
  ['a worker of the page', () => '/nested', works],
];

for (const one of browsers) {
  describe(one.name, { skip: skip(one) }, () => {
    let b;
    before(async () => { b = await launch(one); });
    after(() => b?.close());

    for (const [name, path, want] of setups) {
      test(name, async () => assert.match(await titleOf(b, site.url + path()), want));
    }

    // Chromium has no Worker in a SharedWorker.
    test('a SharedWorker', async () => {
      assert.match(await titleOf(b, `${site.url}/shared`), one.name === 'firefox' ? works : /^b on a main thread: .*no workers in this environment/i);
    });
  });
}
