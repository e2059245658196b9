// A program that gives paths to the worker and to the core, relative to the current folder.

import { Engine, getEnvironment } from 'hypertoken-worker';

const folder = 'node_modules/hypertoken-worker/dist';
const workerOptions = { workerPath: `${folder}/hypertoken.worker.js`, wasmPath: `./${folder}` };
const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] }, workerOptions });
engine.on('engine:error', (e) => console.log(e.error.message));
const [card] = await engine.dispatchAsync('stack:draw');
console.log(`${card.id} on a ${engine.place} of ${getEnvironment()}`);
await engine.shutdown();
