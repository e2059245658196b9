// The demo with a game of the server, in real browsers. On a cluster, 'hypertoken cluster dev', a visitor plays at one node. This node is killed,
// and then each node to which the page goes. The game goes on, and nothing runs twice.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster } from '../support/cluster.js';
import { run } from '../support/installed.js';
import { Server } from '../support/server.js';
import { browsers, launch, skip } from './harness.js';

const all = browsers.filter((one) => !skip(one));
let cluster, dir;
before(async () => {
  if (all.length === 0) return;
  dir = await mkdtemp(join(tmpdir(), 'demo-'));
  const program = Server.program = join(dir, 'hypertoken');
  await run('go', ['build', '-o', program, './cmd/hypertoken'], { cwd: new URL('../../../', import.meta.url) });
  cluster = await Cluster.start(program);
});
after(async () => {
  await cluster?.close();
  if (dir) await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
});

const patience = { timeout: 120_000, polling: 20 };
const text = (page, id) => page.$eval(`#${id}`, (e) => e.textContent);
const number = (s) => Number(s.replaceAll(',', ''));
const ready = (page) => page.waitForSelector('body[data-ready=true]', patience);
/** Waits until a hand is dealt, or over. */
const turn = (page) => page.waitForFunction(() => ['deal', 'stand'].some((id) => document.getElementById(id).getAttribute('aria-disabled') === 'false'), patience);
const recoveries = (page) => page.$$eval('#log li', (all) => all.filter((l) => /^[\d:]+The game goes on/.test(l.textContent)).length);
const connected = (page) => page.waitForSelector('#nodes [aria-current]', patience).then((link) => link.evaluate((e) => new URL(e.href).origin));

/** The sequences of the changes of a game, and what is on its table, as a node has them. */
async function gameOf(node, name) {
  const [journal, answer] = await Promise.all(['journal?from=0', 'state'].map(async (what) => (await fetch(`${node}/v1/engines/${name}/${what}`)).text()));
  const sequences = journal.trim().split('\n').map((line) => JSON.parse(line)).filter((line) => line.type).map((line) => line.sequence);
  const { state, sequence, digest } = JSON.parse(answer);
  const cards = [...state.stack.stack, ...Object.values(state.zones).flat().map((p) => p.tokenSnapshot)].map((card) => card.id);
  return { sequences, sequence, digest, cards: cards.sort(), chips: Object.values(state.agents).reduce((sum, agent) => sum + (agent.resources.chips ?? 0), 0) };
}

for (const one of browsers) {
  describe(one.name, { skip: skip(one) }, () => {
    let b;
    before(async () => { b = await launch(one, { still: true }); });
    after(() => b?.close());

    test('the game goes on while the nodes that it is played at are killed, one after the other', async (t) => {
      const page = await b.browser.newPage(), complaints = [];
      t.after(() => page.close());
      page.on('pageerror', (e) => /^(The connection to|Cross-Origin Request Blocked)/.test(e.message) || complaints.push(e.message)); // Firefox's words on a node that is gone
      await page.goto(cluster.address.a);
      await ready(page);
      const name = new URL(page.url()).searchParams.get('game');
      assert.match(name, /^blackjack-[0-9a-f]{16}$/);
      assert.equal(await connected(page), cluster.address.a);
      await page.waitForFunction(() => document.querySelectorAll('#nodes a').length === 3, patience);
      await page.keyboard.press('d');
      await page.waitForSelector('#deal[aria-disabled=true]', patience);
      await turn(page);
      await page.click('#auto');
      const sequence = async () => number(await text(page, 'sequence'));
      const playedOn = async (more) => {
        const least = (await sequence()) + more;
        await page.waitForFunction((n) => Number(document.getElementById('sequence').textContent.replaceAll(',', '')) >= n, patience, least);
      };
      // One of these two has the game, or the third, which the page comes to.
      for (let k = 1; k <= 3; k++) {
        await playedOn(20);
        const node = await connected(page), killed = cluster.nameOf(node);
        await cluster.kill(killed);
        await page.waitForFunction((n) => [...document.querySelectorAll('#log li')].filter((l) => /^[\d:]+The game goes on/.test(l.textContent)).length >= n, patience, k);
        assert.match(await text(page, 'outcome'), /^Back after .*, at .*Nothing is lost\.$/);
        assert.notEqual(await connected(page), node);
        if (k === 1) await page.waitForSelector(`#nodes a[href^="${node}/"][data-gone=true]`, patience);
        await playedOn(20);
        await cluster.restart(killed);
      }
      await page.click('#auto');
      await page.waitForFunction(() => document.getElementById('auto').getAttribute('aria-pressed') === 'false', patience);
      await turn(page);
      assert.ok((await recoveries(page)) >= 3);
      t.diagnostic(await text(page, 'log'));

      // All nodes have what the page shows. Nothing ran twice, and nothing is missing: the same cards and chips are there.
      const [game, ...others] = await Promise.all(['a', 'b', 'c'].map((n) => gameOf(cluster.address[n], name)));
      for (const other of others) assert.deepEqual(other, game);
      const { sequence: last, digest, cards } = game;
      assert.deepEqual(game.sequences, Array.from({ length: last }, (_, k) => k + 1));
      assert.deepEqual([cards.length, new Set(cards).size, game.chips], [52, 52, 11_000]);
      const shows = (n, d) => page.waitForFunction((want) => want === JSON.stringify(['sequence', 'digest'].map((id) => document.getElementById(id).textContent.replaceAll(',', ''))),
        patience, JSON.stringify([`${n}`, d]));
      await shows(last, digest);

      // The same game at another node, from the link; a step of the past, and back.
      const hands = () => page.$$eval('.card .turn', (cards) => cards.map((c) => c.getAttribute('aria-label')));
      const before = await hands();
      const other = await page.$eval('#nodes a:not([aria-current])', (e) => e.href);
      await page.goto(other);
      await ready(page);
      assert.deepEqual(await hands(), before);
      await shows(last, digest);
      await page.click('#first');
      await page.waitForFunction(() => document.querySelectorAll('.card').length === 0, patience);
      await page.click('#now');
      await page.waitForFunction((n) => document.querySelectorAll('.card').length === n, patience, before.length);
      await page.waitForSelector('#undo[aria-disabled=false]', patience);
      await page.click('#undo');
      await page.waitForFunction((n) => Number(document.getElementById('sequence').textContent.replaceAll(',', '')) === n, patience, last + 1);
      assert.deepEqual(complaints, []);
    });

    test('at a server that is no node, with a token: it is asked for, and the game outlives the server', { skip: one.name === 'firefox' && 'once is enough' }, async (t) => {
      const token = 'token-of-the-table-0123456789', server = await Server.start({ HYPERTOKEN_TOKEN: token }, '--demo');
      t.after(() => server.remove());
      const page = await b.browser.newPage();
      t.after(() => page.close());
      await page.goto(server.url);
      await ready(page);
      assert.equal(await page.$eval('body', (e) => e.dataset.on), 'page'); // without a word it needs no token
      await Promise.all([page.waitForNavigation(), page.click('#on-server')]);
      await page.waitForSelector('#ask:not([hidden])', patience);
      for (const typed of ['another token, which is wrong', token]) {
        await page.$eval('#token', (e) => { e.value = ''; });
        await page.type('#token', typed);
        await page.keyboard.press('Enter');
        if (typed !== token) await page.waitForFunction(() => /does not take/.test(document.getElementById('refused').textContent), patience);
      }
      await ready(page);
      const name = new URL(page.url()).searchParams.get('game');
      await page.keyboard.press('d');
      await page.waitForSelector('#deal[aria-disabled=true]', patience);
      await turn(page);
      await server.down();
      await page.waitForFunction(() => /is gone/.test(document.getElementById('outcome').textContent), patience);
      await server.up();
      await page.waitForFunction(() => /^Back after/.test(document.getElementById('outcome').textContent), patience);
      const hands = await page.$$eval('.card .turn', (cards) => cards.map((c) => c.getAttribute('aria-label')));
      await page.reload(); // the tab has kept the token
      await ready(page);
      assert.equal(new URL(page.url()).searchParams.get('game'), name);
      assert.deepEqual(await page.$$eval('.card .turn', (cards) => cards.map((c) => c.getAttribute('aria-label'))), hands);
      await Promise.all([page.waitForNavigation(), page.click('#anew')]);
      await ready(page);
      assert.notEqual(new URL(page.url()).searchParams.get('game'), name);
      assert.equal((await fetch(`${server.direct}/v1/engines/${name}`, { headers: { authorization: `Bearer ${token}` } })).status, 404);
    });
  });
}
