// Real browsers, and a server for their pages: with the package as it is built, right and wrong content types, and headers.

import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { existsSync, rmSync, statSync } from 'node:fs';
import puppeteer from 'puppeteer-core';

const repository = new URL('../../../', import.meta.url);

/** The folders of the files that pages load, by the beginning of the path. */
const folders = {
  '/hypertoken/': 'browser/dist/', '/workers/': 'browser/dist/', '/wasm/': 'wasm/', '/traces/': 'integration/testdata/conformance/',
  '/cores/': 'internal/cores/', '/test/': 'browser/test/', '/demo/': 'browser/demo/',
};

const types = { js: 'text/javascript; charset=utf-8', wasm: 'application/wasm', html: 'text/html; charset=utf-8', css: 'text/css', jsonl: 'text/plain', svg: 'image/svg+xml' };

/**
 * Serves pages. `/page` is an empty one; a query says what is wrong with it: `csp` is its Content-Security-Policy, `isolated` makes it
 * cross-origin isolated; `plain` leaves that out. A path that begins with `/wrong/` is served as text/plain, and one with `/missing/` is not found.
 * @param {Record<string, string>} [pages] pages by path, and extra folders by a path that ends in /
 * @param {Record<string, string>} [always] headers of every response
 */
export async function serve(pages = {}, always = {}) {
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://localhost');
    let path = url.pathname;
    const headers = { ...always };
    if (!url.searchParams.has('plain') && (url.searchParams.has('isolated') || request.headers.referer?.includes('isolated'))) {
      headers['cross-origin-opener-policy'] = 'same-origin';
      headers['cross-origin-embedder-policy'] = 'require-corp';
    }
    if (url.searchParams.has('csp')) headers['content-security-policy'] = url.searchParams.get('csp');
    const answer = (status, type, body) => response.writeHead(status, { ...headers, 'content-type': type }).end(body);
    if (pages[path]) return answer(200, types[path.split('.')[1]] ?? types.html, pages[path]);
    if (path === '/page') return answer(200, types.html, '<!doctype html><title>a page</title>');
    const wrong = path.startsWith('/wrong/');
    if (wrong) path = path.slice('/wrong'.length);
    const all = { ...folders, ...pages };
    const front = Object.keys(all).find((f) => f.endsWith('/') && path.startsWith(f));
    if (!front || path.includes('..')) return answer(404, 'text/html', '<p>There is nothing here.');
    const file = new URL(all[front] + path.slice(front.length), repository);
    const body = await readFile(file).catch(() => null);
    if (!body) return answer(404, 'text/html', '<p>There is nothing here.');
    answer(200, wrong ? 'text/plain' : (types[path.split('.').pop()] ?? 'text/plain'), body);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((closed) => {
      server.close(closed);
      server.closeAllConnections();
    }),
  };
}

/** The browsers of the machine. A browser that is missing is skipped, or with HYPERTOKEN_REQUIRE=all a failure. */
export const browsers = [
  {
    name: 'chromium', path: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--disable-dev-shm-usage'],
  },
  { name: 'firefox', path: '/usr/bin/firefox-esr', args: [] },
];

export function skip({ path }) {
  if (existsSync(path) && statSync(path).isFile()) return false;
  if (process.env.HYPERTOKEN_REQUIRE === 'all') return false; // launching fails, and says what is missing
  return `there is no ${path}`;
}

// Browsers that run, each with a function that ends it. Each is a group of processes: those of Firefox outlive the one that was started.
const running = new Set();
process.on('exit', () => running.forEach((end) => end()));
for (const [signal, number] of [['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]]) process.once(signal, () => process.exit(128 + number));

/** A folder for the profile of a browser that is started again. */
export async function keptProfile() {
  const path = await mkdtemp(join(tmpdir(), 'browser-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }) };
}

/**
 * Starts a browser, without a window. A still one asks pages for less motion. A `kept` profile stays when the browser ends. A call of a page may
 * take `longest` ms.
 */
export async function launch({ name, path, args }, { still = false, kept, longest = 120_000 } = {}) {
  const profile = kept?.path ?? await mkdtemp(join(tmpdir(), 'browser-'));
  if (kept && name === 'firefox') await writeFile(join(profile, 'user.js'), ''); // puppeteer wants one in a profile that is not new
  const browser = await puppeteer.launch({
    browser: name === 'firefox' ? 'firefox' : 'chrome', executablePath: path, headless: true, args: name === 'chromium' && still ? [...args, '--force-prefers-reduced-motion'] : args, userDataDir: profile,
    extraPrefsFirefox: { 'ui.prefersReducedMotion': still ? 1 : 0 }, env: { ...process.env, HOME: profile }, protocolTimeout: longest,
    handleSIGHUP: false, handleSIGINT: false, handleSIGTERM: false,
  });
  const end = () => {
    try {
      process.kill(-browser.process().pid, 'SIGKILL');
    } catch (error) {
      if (error.code !== 'ESRCH') throw error; // all have ended
    }
    if (!kept) rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
  running.add(end);
  return {
    browser,
    version: await browser.version(),
    /** Opens a page; what it logs as an error goes to standard error. */
    async open(url, { width = 1280, height = 800 } = {}) {
      const page = await browser.newPage();
      await page.setViewport({ width, height });
      page.on('pageerror', (e) => console.error(`${name}: ${e.message}`));
      await page.goto(url);
      return page;
    },
    /** Ends all processes of the browser at once, as a crash does. */
    async kill() {
      const over = new Promise((ended) => browser.process().once('exit', ended));
      running.delete(end);
      end();
      await over;
    },
    async close() {
      running.delete(end);
      await Promise.race([browser.close().catch(() => {}), new Promise((over) => setTimeout(over, 5000).unref())]);
      end();
    },
  };
}
