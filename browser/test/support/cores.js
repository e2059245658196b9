// Cores, workers and engines for tests in Node.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Engine, Host } from '../../src/index.js';

export { deck, event } from './games.js';

export const wasmPath = new URL('../../../wasm/', import.meta.url);

/** The core of the tests, which has test:spin, test:work, test:trap, test:grow, test:huge, test:differ and test:lie beside the usual ones. */
export const testCoreBytes = await readFile(new URL('../../../internal/cores/testcore.wasm', import.meta.url));
export const testCore = await WebAssembly.compile(testCoreBytes);

/** The core of the guide's examples, which has process:item, slow:operation, space:validate and agent:receive beside the usual ones. */
export const exampleCore = await WebAssembly.compile(await readFile(new URL('../../../internal/cores/example.wasm', import.meta.url)));

/** The core of the tests with a limit of so many pages of memory. */
export async function smallCore(pages) {
  const bytes = await readFile(new URL('../../../internal/cores/testcore.wasm', import.meta.url));
  const number = (at) => {
    let value = 0, shift = 0, b;
    do {
      b = bytes[at++];
      value |= (b & 127) << shift;
      shift += 7;
    } while (b & 128);
    return [value >>> 0, at];
  };
  const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
  for (let at = 8; at < bytes.length;) {
    const [size, body] = number(at + 1);
    if (bytes[at] === 5) { // the section of memories: one, with or without a maximum
      const [least] = number(body + 2);
      const section = [1, 1, ...leb(least), ...leb(pages)];
      return WebAssembly.compile(Buffer.concat([bytes.subarray(0, at), Buffer.from([5, ...leb(section.length), ...section]), bytes.subarray(body + size)]));
    }
    at = body + size;
  }
  throw new Error('the core has no memory');
}

/** An engine with the test core, which is shut down when the test ends. */
export function engineFor(t, { workerOptions, ...options } = {}) {
  const engine = new Engine({ useWorker: true, ...options, ...(options.host ? {} : { workerOptions: { core: testCore, ...workerOptions } }) });
  t.after(() => engine.shutdown({ timeout: 1 }));
  return engine;
}

export function hostFor(t, options) {
  const host = new Host({ core: testCore, ...options });
  t.after(() => host.shutdown({ timeout: 1 }));
  return host;
}

/** All events of an engine from now on. */
export function record(engine) {
  const events = [];
  engine.on('*', (e) => events.push(e));
  return events;
}

/** A folder that is removed after the test. */
export async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), 'hypertoken-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

const real = JSON.stringify(String(new URL('../../src/worker.js', import.meta.url)));

/** A worker script that runs some lines first. They have `parentPort`, `path` (of a file to leave a mark in), and `real()`. */
export async function script(t, lines) {
  const dir = await folder(t), path = join(dir, 'worker.mjs');
  await writeFile(path, `
    import { parentPort } from 'node:worker_threads';
    import { existsSync, writeFileSync } from 'node:fs';
    const path = ${JSON.stringify(join(dir, 'mark'))};
    const real = () => import(${real});
    ${lines}
  `);
  return pathToFileURL(path);
}

/** Lines of a worker script that is ready, and answers nothing. */
export const silent = `
  let first = true;
  parentPort.on('message', () => {
    if (first) parentPort.postMessage({ ready: true });
    first = false;
  });
  parentPort.postMessage({ loaded: true });
`;

/** A worker script that dies of every message that has a text in it. */
export const dying = (t, text) => script(t, `
  parentPort.on('message', (m) => {
    if (m instanceof ArrayBuffer && Buffer.from(m).includes(${JSON.stringify(text)})) process.exit(3);
  });
  await real();
`);

/** Terminates a worker of a host from outside, as a browser may, and waits until its thread has ended. */
export const kill = (host, k = 0) => host.threads[k].thread?.terminate();

/** mulberry32: numbers in [0, 1) from a seed. */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
