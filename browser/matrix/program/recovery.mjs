// A program whose worker is terminated while it plays.

import { Engine, getEnvironment } from 'hypertoken-worker';

const engine = new Engine({ useWorker: true, setup: { stack: Array.from({ length: 60 }, (_, k) => ({ id: `c${k}` })) } });
engine.on('engine:error', (e) => console.log(e.error.message));
const drawn = new Set();
for (let round = 0; round < 3; round++) {
  const hands = Array.from({ length: 10 }, () => engine.dispatchAsync('stack:draw', { count: 2 }));
  await hands[0];
  engine.host.threads[0].thread.terminate();
  for (const { id } of (await Promise.all(hands)).flat()) drawn.add(id);
}
if (drawn.size !== 60) console.log(`${drawn.size} cards`);
await engine.digest();
if (engine.host.stats.died === 0) console.log('no worker died');
console.log(`b on a ${engine.place} of ${getEnvironment()}`);
await engine.shutdown();
