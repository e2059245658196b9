import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Engine, Host } from '../src/index.js';
import { parse, verify } from './support/traces.js';

const traces = new URL('../../integration/testdata/conformance/', import.meta.url);
const wasmPath = new URL('../../wasm/', import.meta.url);

async function each(f) {
  const names = (await readdir(traces)).filter((n) => n.endsWith('.jsonl')).sort();
  assert.ok(names.length > 30, `${names.length} traces`);
  for (const name of names) await f(parse(await readFile(new URL(name, traces), 'utf8')));
}

const on = (engine) => ({
  dispatch: (type, payload, now) => engine.dispatchAsync(type, payload, { now }),
  state: () => engine.state(),
});

test('the traces pass on a worker', async (t) => {
  const host = new Host({ wasmPath });
  t.after(() => host.shutdown());
  await each(async (trace) => {
    const engine = new Engine({ host, setup: trace.setup });
    await verify(trace, on(engine));
    assert.equal(engine.place, 'worker');
    await engine.shutdown();
  });
});

test('the traces pass on the main thread', async () => {
  await each(async (trace) => {
    const engine = new Engine({ setup: trace.setup, workerOptions: { wasmPath } });
    await engine.ready;
    // As the guide has it: without a worker dispatch is synchronous.
    await verify(trace, { ...on(engine), dispatch: (type, payload, now) => engine.dispatch(type, payload, { now }) });
    await engine.shutdown();
  });
});

test('the traces pass though workers are terminated every few steps', async (t) => {
  const host = new Host({ wasmPath, workers: 2, restartWindow: 1, snapshotBytes: 2000 });
  t.after(() => host.shutdown());
  let killed = 0;
  await each(async (trace) => {
    const engine = new Engine({ host, setup: trace.setup });
    await verify(trace, on(engine), async (n) => {
      if (n % 97 === 50) {
        const thread = host.threads.find((x) => x.games.size > 0)?.thread;
        if (thread) {
          killed++;
          await thread.terminate();
        }
      }
    });
    const fresh = new Engine({ workerOptions: { wasmPath }, snapshot: await engine.snapshot() });
    assert.equal(await fresh.digest(), await engine.digest());
    await engine.shutdown();
    await fresh.shutdown();
  });
  assert.ok(killed > 50 && host.stats.died === killed, `${killed} killed, ${host.stats.died} died`);
});
