import { Engine } from 'hypertoken-worker';

/** Plays on an engine, and returns where it ran. */
export async function play() {
  const engine = new Engine({ useWorker: true, setup: { stack: [{ id: 'a' }, { id: 'b' }] } });
  let problem = '';
  engine.on('engine:error', (e) => { problem = `: ${e.error.message}`; });
  try {
    const [card] = await engine.dispatchAsync('stack:draw');
    return `${card.id} on a ${engine.place}${problem}`;
  } catch (error) {
    return String(error);
  } finally {
    await engine.shutdown();
  }
}
