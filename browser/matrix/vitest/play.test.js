import { expect, test } from 'vitest';
import { Engine, getEnvironment } from 'hypertoken-worker';

test('an engine plays on a worker', async () => {
  const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] } });
  const problems = [];
  engine.on('engine:error', (e) => problems.push(e.error.message));
  const [card] = await engine.dispatchAsync('stack:draw');
  expect([card.id, engine.place, getEnvironment(), problems]).toEqual(['b', 'worker', 'node', []]);
  await engine.shutdown();
});
