// The parts of the tests that run in a page, with the package as a page without a bundler loads it.

import {
  deleteGame, Engine, exportGame, Host, HyperTokenError, getEnvironment, importGame, savedGames, supportsWorkers, UniversalWorker,
} from '/hypertoken/hypertoken.js';
import { deck, event } from '/test/support/games.js';
import { parse, verify } from '/test/support/traces.js';

Object.assign(globalThis, {
  deleteGame, Engine, exportGame, Host, HyperTokenError, getEnvironment, importGame, savedGames, supportsWorkers, UniversalWorker, deck, event,
});

/** An error as a plain object, for the test on the other side of the wire. */
globalThis.told = (promise) => promise.then((result) => ({ result }), (e) => ({ code: e.code, message: e.message, index: e.index, cause: e.cause?.message }));

const counted = () => {
  let n = 0;
  return () => {
    const entropy = new Uint8Array(16);
    new DataView(entropy.buffer).setUint32(0, n++);
    return entropy;
  };
};

const on = (engine, entropy) => ({ dispatch: (type, payload, now) => engine.dispatchAsync(type, payload, { now, entropy: entropy() }), state: () => engine.state() });

/** The number of workers that are alive, of this page and of others: each has a lock. */
globalThis.alive = async () => (await navigator.locks.query()).held.filter((l) => l.name.startsWith('hypertoken-')).length;

const base64 = (bytes) => btoa(Array.from(bytes, (x) => String.fromCharCode(x)).join(''));

/** The digests of snapshots in base64, by name, each opened on a worker. */
globalThis.opened = async (snapshots) => {
  const host = new Host(), digests = {};
  for (const [name, text] of Object.entries(snapshots)) {
    const engine = new Engine({ host, snapshot: Uint8Array.from(atob(text), (c) => c.charCodeAt(0)) });
    digests[name] = await engine.digest();
    await engine.shutdown();
  }
  await host.shutdown();
  return digests;
};

/** Runs the traces: on a 'worker', on the 'main thread', or with workers that are 'terminated' every few steps. */
globalThis.runTraces = async (names, how) => {
  const host = new Host({ worker: {}, 'main thread': { workers: 0 }, terminated: { workers: 2, restartWindow: 1, snapshotBytes: 2000 } }[how]);
  const digests = {}, snapshots = {};
  let killed = 0, steps = 0;
  for (const name of names) {
    const trace = parse(await (await fetch(`/traces/${name}`)).text());
    const engine = new Engine({ host, setup: trace.setup });
    await engine.ready;
    steps += await verify(trace, on(engine, counted()), (n) => {
      const thread = host.threads.find((x) => x.games.size > 0)?.thread;
      if (how === 'terminated' && n % 97 === 50 && thread) {
        killed++;
        thread.terminate(); // nobody tells the host
      }
    });
    digests[name] = await engine.digest();
    if (how === 'worker') snapshots[name] = base64(await engine.snapshot());
    await engine.shutdown();
  }
  const { died } = host.stats;
  await host.shutdown();
  return { digests, snapshots, steps, killed, died };
};
