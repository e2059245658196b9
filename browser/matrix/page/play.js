/** Plays on an engine, and says in the page's title where it ran. */
export async function play(makeEngine) {
  try {
    const engine = makeEngine({ stack: [{ id: 'a' }, { id: 'b' }] });
    let problem = '';
    engine.on('engine:error', (e) => { problem = `: ${e.error.message}`; });
    const [card] = await engine.dispatchAsync('stack:draw');
    document.title = `${card.id} on a ${engine.place}${problem}`;
    await engine.shutdown();
  } catch (error) {
    document.title = String(error);
  }
}
