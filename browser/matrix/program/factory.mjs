// A program that makes the workers itself: worker threads where there are no Web Workers, as in Node.

import { Worker as Thread } from 'node:worker_threads';
import { Engine, getEnvironment } from 'hypertoken-worker';

const address = new URL('../node_modules/hypertoken-worker/dist/hypertoken.worker.js', import.meta.url);
const worker = () => (globalThis.Worker ? new Worker(address, { type: 'module' }) : new Thread(address));
const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] }, workerOptions: { worker } });
engine.on('engine:error', (e) => console.log(e.error.message));
const [card] = await engine.dispatchAsync('stack:draw');
console.log(`${card.id} on a ${engine.place} of ${getEnvironment()}`);
await engine.shutdown();
