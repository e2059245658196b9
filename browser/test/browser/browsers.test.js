import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { browsers, launch, serve, skip } from './harness.js';

const repository = new URL('../../../', import.meta.url);
const traces = (await readdir(new URL('integration/testdata/conformance/', repository))).filter((n) => n.endsWith('.jsonl')).sort();

/** Runs a Go program of this repository. */
const go = (args, input) => new Promise((resolve, reject) => {
  const child = execFile('go', ['run', ...args], { cwd: repository, maxBuffer: 64 << 20 }, (error, out, said) => (error ? reject(new Error(said)) : resolve(out)));
  child.stdin.end(input);
});

// The page that README.md shows, and the one of the guide.
const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8').then((text) => /```html\n([^]*?)```/.exec(text)[1]);
const guide = `<!doctype html><title>the guide</title><script type="module">
import { Engine } from '/hypertoken/hypertoken.js';

const engine = new Engine({
  useWorker: true,
  workerOptions: {
    workerPath: '/workers/hypertoken.worker.js',
    wasmPath: '/wasm/'
  },
  setup: { stack: Array.from({ length: 52 }, (_, k) => ({ id: 'c' + k })) }
});
await engine.ready;
await engine.dispatch('stack:shuffle', { seed: 42 });
const cards = await engine.dispatch('stack:draw', { count: 5 });
await engine.shutdown();
document.title = cards.map((c) => c.id).join(' ');
</script>`;

let site;
before(async () => { site = await serve({ '/readme': readme, '/guide': guide }); });
after(() => site.close());

for (const one of browsers) {
  describe(one.name, { skip: skip(one) }, () => {
    let b, worker;
    before(async () => {
      b = await launch(one);
      console.log(`# ${one.name}: ${b.version}`);
    });
    after(() => b?.close());

    /** Runs f in a fresh page that has the package; query says what is wrong with the page. Afterwards no worker may be left. */
    async function within(f, { query = '', args = [] } = {}) {
      const page = await b.open(`${site.url}/page${query}`);
      try {
        await page.evaluate(() => import('/test/browser/page.js').then(() => {}));
        const result = await page.evaluate(f, ...args);
        assert.equal(await page.evaluate(() => alive()), 0, 'workers are left');
        return result;
      } finally {
        await page.close();
      }
    }

    test('the traces pass: on a worker, on the main thread, and though workers are terminated', async () => {
      const run = (how) => within((names, way) => runTraces(names, way), { args: [traces, how] });
      worker = await run('worker');
      assert.ok(worker.steps > 5000, `${worker.steps} steps`);
      assert.deepEqual((await run('main thread')).digests, worker.digests);
      const terminated = await run('terminated');
      assert.deepEqual(terminated.digests, worker.digests);
      assert.ok(terminated.killed > 50 && terminated.died === terminated.killed, `${terminated.killed} killed, ${terminated.died} died`);
    });

    test('a game has the digest that Go computes for it', async () => {
      const lines = (await readFile(new URL('examples/blackjack.jsonl', repository), 'utf8')).trim().split('\n').map((l) => JSON.parse(l));
      const digest = await within(async ([{ setup }, ...actions]) => {
        const engine = new Engine({ useWorker: true, setup });
        for (const { type, payload, now, entropy } of actions) {
          if (!type) continue;
          await told(engine.dispatchAsync(type, payload, { now, entropy: Uint8Array.from(entropy.match(/../g), (x) => parseInt(x, 16)) }));
        }
        const found = await engine.digest();
        await engine.shutdown();
        return found;
      }, { args: [lines] });
      const want = JSON.parse((await go(['./cmd/hypertoken', 'run', 'examples/blackjack.jsonl'])).trim().split('\n').pop());
      assert.deepEqual({ digest }, want);
    });

    test('a snapshot made here opens in Go, and one of Go opens here: of every trace', async () => {
      const theirs = Object.entries(JSON.parse(await go(['./browser/test/agree'], JSON.stringify(worker.snapshots))));
      const each = (of) => Object.fromEntries(theirs.map(([name, found]) => [name, found[of]]));
      assert.equal(theirs.length, traces.length);
      assert.deepEqual(each('before'), worker.digests);
      assert.notDeepEqual(each('after'), worker.digests);
      assert.deepEqual(await within((snapshots) => opened(snapshots), { args: [each('snapshot')] }), each('after'));
    });

    test('the pages of README.md and of the guide work as they are written', async () => {
      const drawn = {};
      for (const path of ['/readme', '/guide']) {
        const page = await b.open(site.url + path);
        await page.waitForFunction(() => /^\S+( \S+){4}$/.test(document.title), { polling: 50 });
        drawn[path] = await page.title();
        await page.close();
      }
      assert.deepEqual(new Set(drawn['/guide'].split(' ')).size, 5);
      assert.equal(drawn['/readme'].split(' ').length, 5);
    });

    test('getEnvironment and supportsWorkers', async () => {
      assert.deepEqual(await within(() => [getEnvironment(), supportsWorkers()]), ['browser', true]);
    });

    test('UniversalWorker', async () => {
      assert.deepEqual(await within(async () => {
        const worker = new UniversalWorker();
        await worker.init({ setup: deck(3) });
        const drawn = await worker.dispatch('stack:draw', { count: 2 });
        const before = await alive();
        await worker.terminate();
        return [worker.environment, drawn.length, before];
      }), ['browser', 2, 1]);
    });

    test('an action that hangs ends at its deadline, its worker is replaced, and another engine goes on', async () => {
      const got = await within(async () => {
        const core = await (await fetch('/cores/testcore.wasm')).arrayBuffer();
        const host = new Host({ core, killGrace: 50 });
        const a = new Engine({ host, setup: deck(5) }), b = new Engine({ host, setup: deck(5) });
        await Promise.all([a.ready, b.ready]);
        const drawn = await a.dispatchAsync('stack:draw');
        const before = await a.digest();
        const hung = told(a.dispatchAsync('test:spin', undefined, { timeout: 100 }));
        const behind = told(b.dispatchAsync('stack:draw'));
        const found = [drawn.length, await hung, await behind, (await a.digest()) === before, host.stats.killed];
        const abort = new AbortController();
        const aborted = told(a.dispatchAsync('test:spin', undefined, { signal: abort.signal }));
        setTimeout(() => abort.abort(), 50);
        found.push(await aborted, (await a.digest()) === before, host.stats.killed);
        await host.shutdown();
        return found;
      });
      assert.equal(got[0], 1);
      assert.equal(got[1].code, 'timeout');
      assert.equal(got[2].result.length, 1);
      assert.deepEqual(got.slice(3, 5), [true, 1]);
      assert.equal(got[5].code, 'canceled');
      assert.deepEqual(got.slice(6), [true, 2]);
    });

    test('a worker that is terminated behind the back of its host is replaced, and nothing is lost', async () => {
      const got = await within(async () => {
        const engine = new Engine({ useWorker: true, setup: deck(1000), workerOptions: { restartWindow: 1 } });
        await engine.ready;
        let drawn = 0;
        for (let n = 0; n < 20; n++) {
          const all = Array.from({ length: 10 }, () => engine.dispatchAsync('stack:draw'));
          engine.host.threads[0].thread.terminate();
          drawn += (await Promise.all(all)).flat().length;
        }
        const { stack } = await engine.state();
        const found = [drawn, engine.sequence, stack.stack.length, engine.host.stats.died];
        await engine.shutdown();
        return found;
      });
      assert.deepEqual(got, [200, 200, 800, 20]);
    });

    // Mistakes in the setup of a page. The engine goes on on the main thread, and an event says what to repair.
    for (const [what, how, want] of [
      ['the worker script has the wrong content type', { workerPath: '/wrong/workers/hypertoken.worker.js' }, /text\/javascript/],
      ['the worker script is missing', { workerPath: '/missing/hypertoken.worker.js' }, /workerPath/],
      ['the Content-Security-Policy forbids workers', { query: `?csp=${encodeURIComponent("worker-src 'none'")}` }, /Content-Security-Policy|security policy|insecure|denied/i],
      ['there is no Worker', { without: true }, /no Workers in this environment/],
      ['the worker script is of another origin', { workerPath: 'http://localhost:9/hypertoken.worker.js' }, /workerPath|origin/],
      ['the page is cross-origin isolated, and the worker script is not', { query: '?isolated', workerPath: '/workers/hypertoken.worker.js?plain' }, /Cross-Origin-Embedder-Policy/],
      ['the worker script is another one', { workerPath: '/test/support/traces.js', startTimeout: 300 }, /not ready within 300 ms \(startTimeout\)/],
    ]) {
      test(`${what}: it falls back to the main thread, and says so`, async () => {
        const got = await within(async (workerPath, without, startTimeout) => {
          if (without) delete globalThis.Worker;
          const engine = new Engine({ useWorker: true, setup: deck(5), workerOptions: { workerPath, startTimeout } });
          const problem = event(engine, 'engine:error');
          await engine.ready;
          const { error } = await problem;
          const found = [engine.place, (await engine.dispatchAsync('stack:draw', { count: 2 })).length, error.code, error.message];
          await engine.shutdown();
          return found;
        }, { query: how.query, args: [how.workerPath, how.without, how.startTimeout ?? 60_000] }); // a busy machine takes its time
        assert.deepEqual(got.slice(0, 3), ['main thread', 2, 'worker_unavailable']);
        assert.match(got[3], want);
      });
    }

    for (const [what, wasmPath, csp, want] of [
      ['is missing', '/missing/', '', /core\.wasm is not there: HTTP status 404; copy core\.wasm there, or set workerOptions\.wasmPath/],
      ['is a page', '/guide?.wasm', '', /is no WebAssembly \(content type text\/html/],
      ['may not be compiled', '/wasm/', "script-src 'self'", /: allow 'wasm-unsafe-eval' in the script-src of the page's Content-Security-Policy$/],
      ['may not be compiled, with the wrong content type', '/wrong/wasm/', "script-src 'self'", /: allow 'wasm-unsafe-eval' in the script-src/],
      ['may not be fetched', '/wasm/', "connect-src 'none'", /: check workerOptions\.wasmPath, .*Content-Security-Policy \(connect-src\)/],
    ]) {
      test(`a core that ${what} is an error that says what to do`, async () => {
        const got = await within(async (path) => {
          const engine = new Engine({ useWorker: true, workerOptions: { wasmPath: path } });
          const found = await told(engine.ready);
          const later = await told(engine.dispatchAsync('stack:draw'));
          await engine.shutdown();
          return [found, later];
        }, { query: csp && `?csp=${encodeURIComponent(csp)}`, args: [wasmPath] });
        assert.equal(got[0].code, 'bad_input');
        assert.match(got[0].message, want);
        assert.equal(got[1].code, 'bad_input');
      });
    }

    test('a core with the wrong content type works, with a warning', async () => {
      const got = await within(async () => {
        const said = [];
        const engine = new Engine({ useWorker: true, setup: deck(2), workerOptions: { wasmPath: '/wrong/wasm/', logger: { warn: (m) => said.push(m), debug() {} } } });
        await engine.ready;
        const found = (await engine.dispatchAsync('stack:draw')).length;
        await engine.shutdown();
        return [found, said];
      });
      assert.equal(got[0], 1);
      assert.match(got[1].join(), /content type text\/plain: serve it as application\/wasm/);
    });

    test('it works under a strict policy, and in a page that is cross-origin isolated', async () => {
      const csp = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";
      for (const query of [`?csp=${encodeURIComponent(csp)}`, '?isolated']) {
        const got = await within(async () => {
          const engine = new Engine({ useWorker: true, setup: deck(2) });
          await engine.ready;
          const found = [engine.place, (await engine.dispatchAsync('stack:draw')).length, crossOriginIsolated];
          await engine.shutdown();
          return found;
        }, { query });
        assert.deepEqual(got, ['worker', 1, query === '?isolated']);
      }
    });

    test('a worker whose script has a policy of its own that forbids WebAssembly: a browser that heeds the policy says so', async () => {
      const workerPath = `/workers/hypertoken.worker.js?csp=${encodeURIComponent("script-src 'self'")}`;
      const [place, drawn, said] = await within(async (path) => {
        const problems = [], engine = new Engine({ useWorker: true, setup: deck(2), workerOptions: { workerPath: path } });
        engine.on('engine:error', (e) => problems.push(e.error.message));
        await engine.ready;
        const found = [engine.place, (await engine.dispatchAsync('stack:draw')).length, problems.join()];
        await engine.shutdown();
        return found;
      }, { args: [workerPath] });
      assert.equal(drawn, 1);
      assert.equal(place, one.name === 'firefox' ? 'main thread' : 'worker');
      assert.match(said, one.name === 'firefox' ? /'wasm-unsafe-eval' in the Content-Security-Policy with which its script is served/ : /^$/);
    });

    test('a page has more engines than its browser has room for instances, and fetches the core once', async () => {
      const many = process.env.HYPERTOKEN_DEEP ? 10_000 : 1200;
      const got = await within(async (n) => {
        const host = new Host({ maxQueue: 100_000, timeout: 0 });
        const engines = Array.from({ length: n }, () => new Engine({ host, setup: deck(5) }));
        const own = Array.from({ length: 4 }, (_, k) => new Engine({ useWorker: k % 2 === 0, setup: deck(5) }));
        const placed = () => [...engines, ...own].filter((e) => e.place !== 'nowhere').length;
        await Promise.all([...engines, ...own].map((e) => e.ready));
        let most = placed();
        engines[0].on('engine:action', () => { most = Math.max(most, placed()); });
        const drawn = [];
        for (let round = 0; round < 2; round++) drawn.push(await Promise.all([...engines, ...own].map((e) => e.dispatchAsync('stack:draw'))));
        const found = {
          drawn: drawn.map((all) => [...new Set(all.map((cards) => cards.map((c) => c.id).join()))]), most: Math.max(most, placed()), more: host.stats.placed > n,
          left: [host.stats.waiting, host.stats.inFlight, host.stats.died], fetched: performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/core.wasm')).length,
        };
        await Promise.all([host.shutdown(), ...own.map((e) => e.shutdown())]);
        return found;
      }, { args: [many] });
      assert.ok(got.most > 1 && got.most <= 64, `${got.most} engines had an instance`);
      assert.deepEqual({ ...got, most: 64 }, { drawn: [['t4'], ['t3']], most: 64, more: true, left: [0, 0, 0], fetched: 1 });
    });

    test('if a browser has no room for another instance, engines wait for one, and none fails', async () => {
      const more = one.name === 'firefox' ? 1050 : 150; // than it has room for
      const got = await within(async (n) => {
        const host = new Host({ workers: 2, maxInstances: n, timeout: 0 });
        const engines = Array.from({ length: n }, () => new Engine({ host, setup: deck(5) }));
        const drawn = await Promise.all(engines.map((e) => e.dispatchAsync('stack:draw')));
        const found = [new Set(drawn.map((cards) => cards[0].id)).size, engines.filter((e) => e.place !== 'nowhere').length < n, host.stats.died];
        await host.shutdown();
        return found;
      }, { args: [more] });
      assert.deepEqual(got, [1, true, 0]);
    });

    test('several engines over several workers', async () => {
      const got = await within(async () => {
        const host = new Host({ workers: 3 });
        const engines = Array.from({ length: 6 }, () => new Engine({ host, setup: deck(10) }));
        await Promise.all(engines.map((e) => e.ready));
        const drawn = await Promise.all(engines.map((e) => e.dispatchAsync('stack:draw', { count: 3 })));
        const found = [drawn.flat().length, host.stats.workers.map((w) => w.engines), await alive()];
        await host.shutdown();
        return found;
      });
      assert.deepEqual(got, [18, [2, 2, 2], 3]);
    });
  });
}
