// Measures in Node and in the browsers of the machine, and writes JSON to standard output: node bench/run.js >browser.json
// Two arguments make a short run: how many milliseconds each figure takes at least (1000), and how many engines there are (10,000).

import { readFile } from 'node:fs/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { Engine, Host } from '../src/index.js';
import { browsers, launch, serve, skip } from '../test/browser/harness.js';
import { measure, measureScale, pinger } from './measure.js';
import { memoryOf } from './memory.js';

const most = Number(process.argv[2] ?? 1000), engines = Number(process.argv[3] ?? 10_000);
const all = [];
const say = (environment, version, r) => {
  all.push({ environment, version, ...r });
  console.error(`${environment} ${version}: bare ping ${r.bare.p50.toFixed(1)} µs, debug:log ${r.log.p50.toFixed(1)}, dispatch ${r.dispatch.p50.toFixed(1)} `
    + `(${(r.dispatch.p50 / r.bare.p50).toFixed(2)}x), five at once ${r.five.p50.toFixed(1)}, main thread ${r.here.p50.toFixed(1)}; `
    + `pipelined ${Math.round(r.rate)} actions/s, ${Math.round(r.bareRate)} bare pings/s (${(r.rate / r.bareRate).toFixed(1)}x); start ${r.start.toFixed(0)} ms, `
    + `${r.startAlone.toFixed(0)} ms with a core to compile; `
    + `${Math.round(r.queued)} actions/s with 100,000 queued, 16,000 aborted in ${r.abort.toFixed(0)} ms; of ${r.engines} engines one starts in ${r.engine.toFixed(0)} µs, `
    + `and an action of one that is out takes ${r.again.toFixed(0)} µs; `
    + `an engine has ${Math.round(r.engineMemory)} bytes of memory, and ${Math.round(r.placedMemory)} with an instance`);
  for (const [durability, s] of Object.entries(r.saved ?? {})) {
    console.error(`  saved, ${durability}: an action ${s.one.p50.toFixed(0)} µs, ${Math.round(s.rate)} actions/s; of another tab ${s.tab.p50.toFixed(0)} µs, ${Math.round(s.tabRate)} actions/s; `
      + `a game of ${s.actions} actions opens in ${s.open.toFixed(0)} ms`);
  }
  for (const [store, s] of Object.entries(r.stores ?? {})) {
    console.error(`  the store alone, ${store}: a record ${s.one.p50.toFixed(0)} µs, ${Math.round(s.rate)} records/s with 64 in flight`);
  }
};

const wasmPath = new URL('../../wasm/', import.meta.url), workerOptions = { wasmPath };
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
say('Node', process.version, {
  ...await measureScale({
    Engine, Host, engines, workerOptions: { ...workerOptions, maxInstances: 64 }, // as in a page
    memory: async () => {
      collect();
      return process.memoryUsage().rss;
    },
  }),
  ...await measure({
    Engine, most, workerOptions, core: await readFile(new URL('core.wasm', wasmPath)),
    bare: async () => pinger(new Worker(new URL('./echo.js', import.meta.url))),
  }),
});

const site = await serve({ '/bench/': new URL('./', import.meta.url).href });
for (const one of browsers) {
  if (skip(one)) continue;
  const b = await launch(one, { longest: 600_000 });
  const page = await b.open(`${site.url}/page?isolated`); // its clock is finer
  await page.exposeFunction('memory', () => memoryOf(b.browser.process().pid));
  const [name, version] = b.version.split('/');
  say(name.replace('firefox', 'Firefox').replace('Chrome', 'Chromium'), version, await page.evaluate(async (ms, many) => {
    const { measure: m, measureSaved: k, measureScale: s, pinger: p } = await import('/bench/measure.js');
    const { measureStores: t } = await import('/bench/stores.js');
    const { deleteGame: d, Engine: E, Host: H } = await import('/hypertoken/hypertoken.js');
    const core = new Uint8Array(await (await fetch('/hypertoken/core.wasm')).arrayBuffer());
    return {
      stores: await t({ most: ms }),
      saved: await k({ Engine: E, deleteGame: d, most: ms }),
      ...await s({ Engine: E, Host: H, engines: many, memory: () => window.memory() }),
      ...await m({ Engine: E, core, most: ms, bare: async () => p(new Worker('/bench/echo.js', { type: 'module' })) }),
    };
  }, most, engines));
  await b.close();
}
await site.close();
console.log(JSON.stringify(all, null, 2));
