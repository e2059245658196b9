// The demo, as `hypertoken serve --demo` serves it, clicked through by mouse and by keyboard.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { run } from '../support/installed.js';
import { browsers, launch, skip } from './harness.js';

let server, url, dir;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'demo-'));
  const program = join(dir, 'hypertoken');
  await run('go', ['build', '-o', program, './cmd/hypertoken'], { cwd: new URL('../../../', import.meta.url) });
  server = spawn(program, ['serve', '--demo', '--listen', '127.0.0.1:0', '--workers', '1'], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: server.stdout })) {
    url = line.replace('listening on ', '');
    break;
  }
});
after(async () => {
  server?.kill('SIGKILL');
  await rm(dir, { recursive: true, force: true });
});

for (const one of browsers) {
  describe(one.name, { skip: skip(one) }, () => {
    let b, page;
    const said = [];
    before(async () => {
      b = await launch(one);
      page = await b.open(url);
      page.on('console', (m) => ['error', 'warn'].includes(m.type()) && said.push(m.text()));
      page.on('pageerror', (e) => said.push(e.message));
      await until(() => document.body.dataset.ready === 'true');
    });
    after(() => b?.close());

    const until = (f, ...args) => page.waitForFunction(f, { polling: 20, timeout: 60_000 }, ...args);
    const text = (id) => page.$eval(`#${id}`, (e) => e.textContent);
    const enabled = (id) => page.$eval(`#${id}`, (e) => e.getAttribute('aria-disabled') !== 'true');
    /** Plays until the hand is over, by whatever f does with the buttons. */
    const playOut = async (f) => {
      await until(() => document.getElementById('deal').getAttribute('aria-disabled') === 'false' || document.getElementById('stand').getAttribute('aria-disabled') === 'false');
      if (await enabled('stand')) await f('stand', 's');
      await until(() => document.getElementById('deal').getAttribute('aria-disabled') === 'false');
    };

    test('a hand by mouse, and one by keyboard', async () => {
      const conserved = async () => ['House', 'Pot', 'Player'].reduce(async (sum, who) => await sum + Number((await text(`amount-${who}`)).replace(/\D/g, '')), 0);
      const chips = await conserved();
      for (const act of [(id) => page.click(`#${id}`), (_, key) => page.keyboard.press(key)]) {
        const before = await text('sequence');
        await act('deal', 'd');
        await until((was) => document.getElementById('sequence').textContent !== was, before);
        await playOut(act);
        assert.equal(await conserved(), chips, 'chips were made or lost');
      }
      assert.match(await text('story'), /\S/);
    });

    for (const how of ['kill', 'hang', 'crash']) {
      test(`the game goes on after the button ${how}`, async () => {
        const [replaced, digest] = [Number(await text('replaced')), await text('digest')];
        await page.$eval('#log', (log) => log.replaceChildren());
        await page.click(`#${how}`);
        await until(() => /The game goes on after/.test(document.getElementById('log').textContent));
        assert.match(await text('log'), /The state is the same/);
        assert.match(await text('recovery-time'), /^[\d.,]+ (ms|s)$/);
        await until((was) => Number(document.getElementById('replaced').textContent) === was + 1, replaced);
        assert.ok(digest.length === 16 || how === 'kill', digest);
        await page.click('#deal');
        await playOut((id) => page.click(`#${id}`));
      });
    }

    // It takes what it takes: once is enough.
    test('shuffles on a worker and on the main thread, side by side', { skip: one !== browsers.find((x) => !skip(x)) }, async () => {
      await page.click('#race');
      await until(() => /on the main thread \d+ frames/i.test(document.getElementById('race-result').textContent));
      assert.match(await text('race-result'), /^On a worker \d+ frames a second, the longest \d+ ms; on the main thread \d+ frames/);
    });

    test('it fits a narrow screen, everything has a name, and nothing is amiss', async () => {
      await page.setViewport({ width: 360, height: 740 });
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, 'it is wider than the screen');
      const nameless = await page.$$eval('button, input, [role=img]', (all) => all.filter((e) => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML));
      assert.deepEqual(nameless, []);
      assert.deepEqual(said.filter((s) => !/the page asked for it/.test(s)), []);
    });
  });
}
