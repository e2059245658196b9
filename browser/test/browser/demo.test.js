// The demo, as `hypertoken serve --demo` serves it, in real browsers: played by keyboard and by mouse, its worker hung, killed and crashed,
// its journal stepped through.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { run } from '../support/installed.js';
import { browsers, launch, skip } from './harness.js';

let server, url, dir, program;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'demo-'));
  program = join(dir, 'hypertoken');
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

const patience = { timeout: 60_000, polling: 20 };

const text = (page, id) => page.$eval(`#${id}`, (e) => e.textContent);
const can = (page, id) => page.$eval(`#${id}`, (e) => e.getAttribute('aria-disabled') === 'false');
const until = (page, id) => page.waitForSelector(`#${id}[aria-disabled=false]`, patience);
const hands = (page) => page.$$eval('.card .turn', (cards) => cards.map((c) => c.getAttribute('aria-label')));
const on = (page, place) => page.waitForFunction((p) => document.getElementById('place').textContent === p, patience, place);
const number = (s) => Number(s.replaceAll(',', ''));

/** Waits until the player has a move. */
async function turn(page) {
  await page.waitForFunction(() => ['deal', 'stand'].some((id) => document.getElementById(id).getAttribute('aria-disabled') === 'false'), patience);
}

/** Plays the hand that is begun to its end. The tab may not have been told of everything: its first move looks. */
async function rest(page) {
  do {
    const moves = await page.$eval('body', (e) => Number(e.dataset.moves ?? 0));
    await page.keyboard.press((await can(page, 'stand')) ? 's' : 'd');
    await page.waitForFunction((n) => Number(document.body.dataset.moves) > n, patience, moves);
  } while (await can(page, 'stand') || (await page.$eval('#deal', (e) => e.firstChild.data)) === 'Go on');
}

/** Deals until a hand is not over with its first two cards. */
async function hand(page) {
  do {
    await until(page, 'deal');
    await page.keyboard.press('d');
    await page.waitForSelector('#deal[aria-disabled=true]', patience);
    await turn(page);
  } while (!(await can(page, 'stand')));
}

async function conserved(page) {
  assert.equal(await text(page, 'conserved'), '52 cards and 11,000 in chips on the table');
}

for (const one of browsers) {
  const chromium = one.name === 'chromium';
  describe(one.name, { skip: skip(one) }, () => {
    let b;
    /** What the browser keeps is that of a context. */
    let context = null;
    before(async () => { b = await launch(one, { still: true }); });
    after(() => b?.close());

    /** A page with the demo, and the errors that it has logged. With isKept, it goes on with the game of the page before. */
    async function open(t, { width = 1280, height = 800, features = [], isKept = false } = {}) {
      if (!isKept) {
        await context?.close();
        context = await b.browser.createBrowserContext();
      }
      const page = await context.newPage(), complaints = [];
      t.after(() => page.close());
      page.on('console', (m) => ['error', 'warn'].includes(m.type()) && !/the page asked for it/.test(m.text()) && complaints.push(m.text()));
      page.on('pageerror', (e) => /the page asked for it/.test(e.message) || complaints.push(e.message));
      page.on('response', (r) => r.status() >= 400 && complaints.push(`${r.url()} has the status ${r.status()}`));
      page.on('request', (r) => [new URL(url).origin, 'null'].includes(new URL(r.url()).origin) || complaints.push(`${r.url()} is asked for`));
      await page.setViewport({ width, height });
      if (features.length > 0) await page.emulateMediaFeatures(features);
      await page.goto(url);
      await page.waitForSelector('body[data-ready=true]', patience);
      return { page, complaints };
    }

    test('a hand is played by keyboard alone, and the focus stays where it was', async (t) => {
      const { page, complaints } = await open(t);
      assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      await on(page, 'worker');
      for (let k = 0; k < 20 && (await page.evaluate(() => document.activeElement.id)) !== 'deal'; k++) await page.keyboard.press('Tab');
      do {
        await until(page, 'deal');
        await page.keyboard.press('Enter');
        await page.waitForSelector('#deal[aria-disabled=true]', patience);
        await turn(page);
      } while (!(await can(page, 'stand')));
      assert.equal(await page.evaluate(() => document.activeElement.id), 'deal');
      const dealt = await hands(page);
      assert.equal(dealt.length, 4);
      assert.equal(dealt.filter((c) => c === 'a card, face down').length, 1);
      assert.equal(await text(page, 'amount-Pot'), '50');
      await page.keyboard.press('s');
      await until(page, 'deal');
      assert.match(await text(page, 'story'), /\d+ against .*\d+: you (win|lose) 50\.$|^The dealer is over with \d+\. You win 50\.$|\d+ each: your bet comes back\.$/);
      assert.ok((await hands(page)).every((c) => c !== 'a card, face down'));
      assert.equal(await text(page, 'amount-Pot'), '0');
      await conserved(page);
      assert.deepEqual(complaints, []);
    });

    test('hands are played by mouse until the shoe is new, and no card or chip is lost', async (t) => {
      const { page, complaints } = await open(t);
      await page.click('#more');
      assert.equal(await page.$eval('#bet', (e) => e.value), '60');
      await page.click('#auto');
      await page.waitForFunction(() => Number(document.getElementById('discards-count').textContent) > 20, patience);
      await page.waitForFunction(() => Number(document.getElementById('discards-count').textContent) < 15, patience); // a new shoe
      await page.click('#auto');
      await turn(page);
      while (!(await can(page, 'deal'))) {
        const held = await page.$$eval('#player-hand .card', (c) => c.length);
        await page.click('#hit');
        await page.waitForFunction((n) => document.querySelectorAll('#player-hand .card').length > n, patience, held);
        await turn(page);
      }
      await conserved(page);
      assert.ok(number(await text(page, 'latency-calls')) > 50);
      assert.deepEqual(complaints, []);
    });

    test('the game goes on where it was after a hang, a kill and a crash', async (t) => {
      const { page, complaints } = await open(t);
      for (const [k, deed] of ['hang', 'kill', 'crash'].entries()) {
        await hand(page);
        const before = await hands(page);
        await page.click(`#${deed}`);
        await page.waitForFunction((n) => document.querySelectorAll('#log li').length > 0 && [...document.querySelectorAll('#log li')].filter((l) => /goes on after/.test(l.textContent)).length === n, patience, k + 1);
        assert.match(await text(page, 'log'), /Nothing is lost: the checksum of the game is still [0-9a-f]{16}\.$/);
        await page.waitForFunction((n) => document.getElementById('replaced').textContent === String(n), patience, k + 1);
        assert.deepEqual(await hands(page), before);
        await on(page, 'worker');
        assert.notEqual(await text(page, 'recovery-time'), '–');
        await page.keyboard.press('s');
        await until(page, 'deal');
        await conserved(page);
      }
      assert.ok(await page.$$eval('.count.missed', (bars) => bars.some((b) => Number(b.getAttribute('height')) > 0)));
      assert.deepEqual(complaints, []);
    });

    test('the journal is stepped through while the worker is killed, and the game goes on from a step, and undoes it', async (t) => {
      const { page, complaints } = await open(t);
      const place = (wanted) => page.waitForFunction((p) => document.getElementById('journal-at').textContent === p, patience, wanted);
      const steps = () => page.$eval('#step', (e) => Number(e.max));
      const value = () => page.$eval('#step', (e) => Number(e.value));
      const handsAre = (cards) => page.waitForFunction((want) => JSON.stringify([...document.querySelectorAll('.card .turn')].map((c) => c.getAttribute('aria-label'))) === want, patience, JSON.stringify(cards));
      await hand(page);
      await place('now');
      await page.waitForFunction(() => document.querySelector('#steps [aria-current]').textContent.includes('game:mergeState'), patience);
      const dealt = await hands(page), newest = await steps();
      assert.ok(!(await can(page, 'forward')) && !(await can(page, 'go-on')) && (await can(page, 'back')) && (await can(page, 'undo')));

      // By the keyboard: the slider, and the keys of moves, which do nothing meanwhile.
      await page.focus('#step');
      await page.keyboard.press('Home');
      await place(`step 0 of ${newest}`);
      await handsAre([]);
      await page.waitForFunction(() => document.getElementById('story').textContent === 'The table is being set.', patience);
      assert.match(await page.$eval('#step', (e) => e.getAttribute('aria-valuetext')), /^step 0 of \d+: the beginning/);
      await page.keyboard.press('s');
      await page.keyboard.press('End');
      await place('now');
      await handsAre(dealt);
      assert.equal(await steps(), newest);

      // By the mouse: back over the note that the cards are dealt, and over the last card.
      await page.click('#back');
      await page.click('#back');
      await place(`step ${newest - 2} of ${newest}`);
      await handsAre([...dealt.slice(0, 1), ...dealt.slice(2)]); // drawn, and not on the table yet
      assert.equal(await page.$$eval('#deal, #hit, #stand', (all) => all.filter((e) => e.getAttribute('aria-disabled') === 'false').length), 0);
      await page.click('#kill');
      await page.waitForFunction(() => /^Back after/.test(document.getElementById('outcome').textContent), patience);
      await page.click('#back');
      await handsAre([...dealt.slice(0, 1), ...dealt.slice(2)]);
      await page.click('#now');
      await place('now');
      await handsAre(dealt);

      // From the middle of the deal the game goes on, which is one more step; "Go on" deals the rest.
      for (let k = 0; k < 2; k++) await page.click('#back');
      await page.click('#go-on');
      await place('now');
      await page.waitForFunction((n) => Number(document.getElementById('step').max) === n, patience, newest + 1);
      await handsAre([...dealt.slice(0, 1), ...dealt.slice(2)]);
      await page.waitForFunction(() => document.getElementById('deal').firstChild.data === 'Go on', patience);
      await until(page, 'deal');
      await page.keyboard.press('d');
      await handsAre(dealt); // the same card: it was drawn before
      await until(page, 'stand');

      // Undone step by step, and done again.
      for (const [key, cards] of [['z', dealt], ['z', [...dealt.slice(0, 1), ...dealt.slice(2)]], ['y', dealt], ['y', dealt]]) {
        const before = await value();
        await until(page, 'undo');
        await page.keyboard.press(key);
        await page.waitForFunction((n) => Number(document.getElementById('step').value) === n, patience, before + 1);
        await handsAre(cards);
      }
      await until(page, 'stand');
      await page.click('#redo'); // there is none
      await page.waitForFunction(() => /nothing to redo/.test(document.getElementById('log').textContent), patience);
      await until(page, 'stand');
      await page.keyboard.press('s');
      await until(page, 'deal');
      await conserved(page);

      // The file is a game that the program plays.
      await page.click('#kill');
      await page.waitForFunction(() => [...document.querySelectorAll('#log li')].filter((l) => /goes on after/.test(l.textContent)).length === 2, patience);
      await page.evaluate(() => {
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
          blob.text().then((saved) => { window.saved = saved; });
          return make.call(URL, blob);
        };
      });
      await page.click('#save');
      const saved = await page.waitForFunction(() => window.saved, patience).then((handle) => handle.jsonValue());
      const file = join(dir, `${one.name}.jsonl`);
      await writeFile(file, `${saved}{"digest":true}\n`);
      const { stdout } = await run(program, ['run', file]);
      assert.equal(JSON.parse(stdout.trim().split('\n').at(-1)).digest, await text(page, 'digest'));
      assert.deepEqual(complaints.filter((c) => !/nothing to redo/.test(c)), []);
    });

    const steps = (page) => page.$eval('#step', (e) => Number(e.max));
    const stepsAre = (page, n) => page.waitForFunction((want) => Number(document.getElementById('step').max) === want, patience, n);
    const stepsAreAbove = (page, n) => page.waitForFunction((least) => Number(document.getElementById('step').max) > least, patience, n);
    const handsAre = (page, cards) => page.waitForFunction((want) => JSON.stringify([...document.querySelectorAll('.card .turn')].map((c) => c.getAttribute('aria-label'))) === want, patience, JSON.stringify(cards));

    test('the game goes on after a reload, and what was before is undone', async (t) => {
      const { page, complaints } = await open(t);
      await hand(page);
      const dealt = await hands(page), newest = await steps(page), list = await text(page, 'steps');
      await page.reload();
      await page.waitForSelector('body[data-ready=true]', patience);
      await handsAre(page, dealt);
      await stepsAre(page, newest);
      assert.equal(await text(page, 'steps'), list);
      assert.match(await text(page, 'log'), /The game goes on where it was\.$/);
      await until(page, 'stand');
      await page.click('#first');
      await handsAre(page, []);
      await page.click('#now');
      await handsAre(page, dealt);
      for (let k = 1; k <= 2; k++) { // the note that the cards are dealt, and the last card
        await until(page, 'undo');
        await page.keyboard.press('z');
        await stepsAre(page, newest + k);
      }
      await handsAre(page, [...dealt.slice(0, 1), ...dealt.slice(2)]);
      const undone = await text(page, 'steps');
      await page.reload();
      await page.waitForSelector('body[data-ready=true]', patience);
      await stepsAre(page, newest + 2);
      assert.equal(await text(page, 'steps'), undone);
      await until(page, 'redo');
      await page.keyboard.press('y');
      await handsAre(page, dealt);
      await stepsAre(page, newest + 3);
      await page.click('#kill');
      await page.waitForFunction(() => /^Back after/.test(document.getElementById('outcome').textContent), patience);
      await handsAre(page, dealt);
      await conserved(page);
      await Promise.all([page.waitForNavigation(), page.click('#anew')]);
      await page.waitForSelector('body[data-ready=true]', patience);
      await handsAre(page, []);
      await stepsAre(page, 1);
      assert.match(await text(page, 'log'), /The table is open\.$/);
      assert.deepEqual(complaints, []);
    });

    test('two tabs play one game, while either is killed', async (t) => {
      const { page: first, complaints } = await open(t);
      await hand(first);
      const dealt = await hands(first), newest = await steps(first), { page: second } = await open(t, { isKept: true });
      await on(second, 'another tab');
      await handsAre(second, dealt);
      await stepsAre(second, newest);
      await second.click('#kill');
      await second.waitForFunction(() => /in another tab/.test(document.getElementById('outcome').textContent), patience);
      await until(second, 'undo');
      await second.click('#undo');
      await stepsAre(second, newest + 1);
      await until(second, 'redo');
      await second.click('#redo');
      await until(second, 'stand');
      await handsAre(second, dealt);
      await second.keyboard.press('s');
      await until(second, 'deal');
      const end = await hands(second), all = await steps(second);
      await first.bringToFront(); // a tab that is not seen draws nothing
      await handsAre(first, end);
      await stepsAre(first, all);
      assert.deepEqual(complaints, []);

      /** Ends a tab: Chromium has a command that crashes it. */
      const kill = async (page) => {
        if (!chromium) return page.close();
        const client = await page.createCDPSession(), crashed = new Promise((resolve) => page.once('error', resolve));
        client.send('Page.crash').catch(() => {}); // it never answers
        await crashed;
      };
      await first.click('#auto'); // it is killed in the middle of a move
      await stepsAreAbove(first, all + 8);
      await kill(first);
      await second.bringToFront();
      await second.waitForFunction(() => document.getElementById('place').textContent !== 'another tab', patience);
      await rest(second);
      await on(second, 'worker');
      await conserved(second);

      // A tab that does not run the game ends, in the middle of a move too.
      const { page: third } = await open(t, { isKept: true });
      await on(third, 'another tab');
      const before = await steps(second);
      await stepsAre(third, before);
      await third.click('#auto');
      await stepsAreAbove(third, before + 8);
      await kill(third);
      await second.bringToFront();
      await rest(second);
      await conserved(second);
      await second.reload();
      await second.waitForSelector('body[data-ready=true]', patience);
      await conserved(second);
    });

    test('a worker that crashes again and again is given up, and the game goes on on the main thread, then back on a worker', async (t) => {
      const { page } = await open(t);
      await hand(page);
      const before = await hands(page);
      for (let k = 0; k < 6; k++) {
        await page.click('#crash');
        await page.waitForFunction((n) => document.getElementById('replaced').textContent === String(n), patience, k + 1);
        await page.waitForSelector('#crash[aria-disabled=false]', patience);
      }
      await page.waitForFunction(() => /goes on on the main thread/.test(document.getElementById('log').textContent), patience);
      assert.deepEqual(await hands(page), before);
      await page.waitForFunction(() => document.getElementById('worker').textContent === 'ready', patience); // a worker is tried again after a second
      await page.keyboard.press('s');
      await until(page, 'deal');
      await on(page, 'worker');
      await conserved(page);
    });

    test('frames are counted while a worker shuffles, and while the main thread does', { skip: !chromium && 'it takes what it takes: once is enough' }, async (t) => {
      const { page, complaints } = await open(t);
      await page.click('#race');
      await page.waitForFunction(() => /main thread \d+ frames/.test(document.getElementById('race-result').textContent), patience);
      t.diagnostic(await text(page, 'race-result'));
      for (const lane of ['worker', 'main']) assert.ok(number(await text(page, `${lane}-rate`)) > 0);
      assert.deepEqual(complaints, []);
    });

    for (const [width, height] of [[390, 844], [390, 664], [360, 740], [768, 1024], [1280, 800]]) {
      test(`at ${width} by ${height} pixels a visitor sees the table and what breaks the worker at once, and what came of it`, async (t) => {
        const { page, complaints } = await open(t, { width, height });
        /** Those of these elements that are cut off by the window, or covered by another element. */
        const hidden = (...ids) => page.evaluate((all) => all.filter((id) => {
          const e = document.getElementById(id), r = e.getBoundingClientRect();
          const seen = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
          return r.width === 0 || r.left < 0 || r.top < 0 || r.right > innerWidth || r.bottom > innerHeight || !(e === seen || e.contains(seen) || seen?.contains(e));
        }), ids);
        const breakers = ['hang', 'kill', 'crash', 'outcome'], hand = ['dealer-hand', 'story', 'player-hand'];
        assert.deepEqual(await hidden(...breakers, ...hand), []);
        if (height > 700) assert.deepEqual(await hidden('deal', 'stand', 'auto'), []);
        // Nothing of the table is cut off at its sides.
        assert.deepEqual(await page.$$eval('#table :is(button, .plate, .piles):not([hidden] *)', (all) => {
          const felt = document.getElementById('table').getBoundingClientRect();
          return all.filter((e) => e.getBoundingClientRect().left < felt.left || e.getBoundingClientRect().right > felt.right).map((e) => e.id || e.className);
        }), []);
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
        await page.$eval('#deal', (e) => e.scrollIntoView({ block: 'end' }));
        assert.deepEqual(await hidden(...breakers, 'deal', 'player-hand'), []);
        await page.click('#kill');
        await page.waitForFunction(() => /^Back after/.test(document.getElementById('outcome').textContent), patience);
        assert.deepEqual(await hidden(...breakers, 'deal', 'player-hand'), []);
        // While a step of the past is on the table, the slider is in sight too.
        await page.$eval('#step', (e) => {
          e.value = 0;
          e.dispatchEvent(new Event('input'));
        });
        await page.waitForFunction(() => document.getElementById('journal-at').textContent.startsWith('step 0 of'), patience);
        for (const id of ['story', 'now']) {
          await page.$eval(`#${id}`, (e) => e.scrollIntoView({ block: 'center' }));
          assert.deepEqual(await hidden(id, 'first', 'step', 'last', 'undo', 'go-on'), []);
        }
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
        assert.deepEqual(complaints, []);
      });
    }

    test('it fits a screen of 360 pixels, and is dark if the visitor prefers that', { skip: !chromium && 'nothing tells Firefox what is preferred' }, async (t) => {
      const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const { page, complaints } = await open(t, { width: 360, height: 740, features: [{ name: 'prefers-color-scheme', value: 'light' }] });
      const light = await background(page);
      await hand(page);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
      assert.notEqual(await background(page), light);
      assert.deepEqual(complaints, []);
    });
  });
}
