// The program as a CommonJS module.

const { Engine, getEnvironment } = require('hypertoken-worker');

const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] } });
engine.on('engine:error', (e) => console.log(e.error.message));
engine.dispatchAsync('stack:draw').then(([card]) => {
  console.log(`${card.id} on a ${engine.place} of ${getEnvironment()}`);
  return engine.shutdown();
});
