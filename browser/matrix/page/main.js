// A page that uses the package without any option.

import { Engine } from 'hypertoken-worker';
import { play } from './play.js';

play((setup) => new Engine({ useWorker: true, setup }));
