// Games that a browser keeps: over a reload, the death of a tab and of the browser, and without room.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { browsers, keptProfile, launch, serve, skip } from './harness.js';

let site;
before(async () => { site = await serve(); });
after(() => site.close());

for (const one of browsers) {
  describe(`saved games, ${one.name}`, { skip: skip(one) }, () => {
    let profile, b;
    before(async () => {
      profile = await keptProfile();
      b = await launch(one, { kept: profile });
    });
    after(async () => {
      await b?.close();
      profile?.remove();
    });

    const load = (page) => page.evaluate(() => import('/test/browser/page.js').then(() => {}));
    async function open() {
      const page = await b.open(`${site.url}/page`);
      await load(page);
      return page;
    }

    /** Has a page draw cards for ever. What was told is in `games[name]`. */
    const drawOn = (page, name, durability) => page.evaluate(async (game, how) => {
      const told = (globalThis.games ??= {})[game] = [];
      globalThis.failed = null;
      const engine = new Engine({ useWorker: true, name: game, persist: { durability: how }, setup: deck(20_000) });
      await engine.ready;
      (async () => {
        for (;;) for (const card of await engine.dispatchAsync('stack:draw')) told.push(card.id);
      })().catch((error) => { failed = `${error}`; });
    }, name, durability);

    /** Waits until so many cards were told, and returns all of them. */
    async function waitFor(page, name, n) {
      for (;;) {
        const [told, failed] = await page.evaluate((game) => [globalThis.games[game], globalThis.failed], name);
        assert.equal(failed, null);
        if (told.length >= n) return told;
      }
    }

    /** What a game has that is opened again in a page. */
    const opened = (page, name) => page.evaluate(async (game) => {
      const engine = new Engine({ useWorker: true, name: game, persist: true });
      const { stack } = await engine.state(), digest = await engine.digest(), { sequence } = engine;
      await engine.shutdown();
      return { drawn: stack.drawn.map((c) => c.id), digest, sequence };
    }, name);

    const checkHas = ({ drawn, sequence }, told) => {
      assert.deepEqual(drawn.slice(0, told.length), told);
      assert.equal(drawn.length, sequence);
    };

    test('a reload goes on with the game', async () => {
      const page = await open();
      await drawOn(page, 'reloaded', 'strict');
      const told = await waitFor(page, 'reloaded', 20);
      await page.reload();
      await load(page);
      checkHas(await opened(page, 'reloaded'), told);
      const [first, again] = [await opened(page, 'reloaded'), await opened(page, 'reloaded')];
      assert.deepEqual(first, again);
      const [game] = await page.evaluate(async () => (await savedGames()).map((g) => ({ ...g, isDate: g.created instanceof Date })));
      assert.deepEqual([game.name, game.sequence, game.isDate], ['reloaded', first.sequence, true]);
      const imported = await page.evaluate(async () => importGame('copy', await exportGame('reloaded')));
      assert.deepEqual(imported, { sequence: first.sequence, digest: first.digest });
      await page.evaluate(() => Promise.all([deleteGame('reloaded'), deleteGame('copy')]));
      assert.deepEqual(await page.evaluate(() => savedGames()), []);
      await page.close();
    });

    test('nothing that was told is lost when the browser is killed', async () => {
      const page = await open(), told = {};
      for (const durability of ['strict', 'relaxed']) await drawOn(page, durability, durability);
      for (const durability of ['strict', 'relaxed']) told[durability] = await waitFor(page, durability, 60);
      await b.kill();
      b = await launch(one, { kept: profile });
      const next = await open();
      for (const durability of ['strict', 'relaxed']) checkHas(await opened(next, durability), told[durability]);
      await next.close();
    });

    test('nothing that was told is lost when the tab is killed', { skip: one.name !== 'chromium' && 'only Chromium has a command that crashes a tab' }, async () => {
      const page = await open();
      await drawOn(page, 'crashed', 'strict');
      const told = await waitFor(page, 'crashed', 60), client = await page.createCDPSession();
      const crashed = new Promise((resolve) => page.once('error', resolve));
      client.send('Page.crash').catch(() => {}); // it never answers
      await crashed;
      page.close().catch(() => {});
      const next = await open();
      checkHas(await opened(next, 'crashed'), told);
      await next.close();
    });

    test('several tabs play one game, while any of them is killed', async () => {
      const counts = new Map(), pages = [];
      let last = 0;
      /** Opens a tab whose calls are known by how many cards they draw. */
      const join = async () => {
        const page = await open(), mark = ++last;
        await page.evaluate(async (count) => {
          globalThis.done = 0;
          globalThis.failed = null;
          globalThis.isOver = false;
          globalThis.engine = new Engine({ useWorker: true, name: 'shared', persist: { durability: 'relaxed' }, setup: deck(1000) });
          const call = async () => {
            while (!isOver) {
              const cards = await engine.dispatchAsync('stack:peek', { count }).then(() => engine.dispatchAsync('agent:create', { name: `${count} ${crypto.randomUUID()}` }));
              if (cards) done++;
            }
          };
          await engine.ready;
          globalThis.playing = Promise.all([call(), call(), call()]).catch((error) => { failed = `${error}`; });
        }, mark);
        pages.push({ page, mark });
      };
      const told = async ({ page, mark }) => {
        const [done, failed] = await page.evaluate(() => [globalThis.done, globalThis.failed]);
        assert.equal(failed, null);
        counts.set(mark, done);
        return done;
      };
      const more = async (one, n) => {
        const from = await told(one);
        while (await told(one) < from + n) await new Promise(setImmediate);
      };
      await join();
      await join();
      const killed = new Set();
      for (const first of [true, false, true]) { // the one that runs the game, another one, the one that runs it
        for (const one of pages) await more(one, 10);
        await join();
        const [victim] = pages.splice(first ? 0 : 1, 1);
        await told(victim);
        killed.add(victim.mark);
        if (one.name === 'chromium') {
          const client = await victim.page.createCDPSession(), crashed = new Promise((resolve) => victim.page.once('error', resolve));
          client.send('Page.crash').catch(() => {});
          await crashed;
          victim.page.close().catch(() => {});
        } else {
          await victim.page.close();
        }
      }
      for (const one of pages) await more(one, 10);
      for (const { page } of pages) await page.evaluate(() => { isOver = true; return playing; });
      for (const one of pages) await told(one);
      const digests = await Promise.all(pages.map(({ page }) => page.evaluate(() => engine.digest())));
      assert.equal(new Set(digests).size, 1);
      const [{ page }] = pages, names = await page.evaluate(async () => Object.keys((await engine.state()).agents ?? {}));
      const found = new Map();
      for (const name of names) found.set(Number(name.split(' ')[0]), (found.get(Number(name.split(' ')[0])) ?? 0) + 1);
      for (const [mark, n] of counts) {
        if (killed.has(mark)) assert.ok(found.get(mark) >= n, `tab ${mark} was told of ${n}, and ${found.get(mark)} are there`);
        else assert.equal(found.get(mark), n, `tab ${mark}`);
      }
      for (const other of pages) await other.page.close();
    });

    test('without room an action fails with store_full, and has no effect', { skip: one.name !== 'chromium' && 'only Chromium has a command that sets the quota' }, async () => {
      await b.close(); // Chromium remembers for a while how much room there was
      b = await launch(one, { kept: profile });
      const page = await open(), client = await page.createCDPSession(), { origin } = new URL(site.url);
      await client.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 30e6 });
      const result = await page.evaluate(async () => {
        const engine = new Engine({ useWorker: true, name: 'large', persist: true, setup: deck(5), workerOptions: { snapshotBytes: 1e9, replayBudget: 1e9 } });
        await engine.ready;
        const text = Array.from({ length: 4e6 }, () => String.fromCharCode(33 + Math.random() * 90)).join('');
        let before, error = null;
        for (let k = 0; k < 20 && !error; k++) {
          before = await engine.digest();
          error = await engine.dispatchAsync('agent:create', { name: `a${k}`, meta: { text } }).then(() => null, (cause) => cause);
        }
        globalThis.engine = engine;
        return { code: error?.code, message: error?.message, before, after: await engine.digest(), sequence: engine.sequence };
      });
      assert.equal(result.code, 'store_full', JSON.stringify(result));
      assert.match(result.message, /no room for more of this site's data/);
      assert.equal(result.after, result.before);
      await client.send('Storage.overrideQuotaForOrigin', { origin });
      const after = await page.evaluate(async () => {
        await engine.dispatchAsync('stack:draw');
        return { sequence: engine.sequence, digest: await engine.digest() };
      });
      assert.equal(after.sequence, result.sequence + 1);
      await page.reload();
      await load(page);
      assert.equal((await opened(page, 'large')).digest, after.digest);
      await page.close();
    });
  });
}
