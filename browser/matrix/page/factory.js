// A page that makes the workers itself.

import { Engine } from 'hypertoken-worker';
import { play } from './play.js';

const worker = () => new Worker(new URL('hypertoken-worker/worker', import.meta.url), { type: 'module' });
play((setup) => new Engine({ useWorker: true, setup, workerOptions: { worker } }));
