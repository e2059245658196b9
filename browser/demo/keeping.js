// The game that this browser keeps, which all tabs with this page play.

import { deleteGame, Engine } from '/hypertoken/hypertoken.js';

const name = 'blackjack';

/**
 * Opens the game that was kept, or begins one. If this browser keeps nothing, the game ends with the page.
 * @param {object} options those of the engine
 * @param {(text: string, kind?: string) => void} say tells the visitor about it
 */
export async function openGame(options, say) {
  if (!globalThis.indexedDB || !globalThis.isSecureContext) return new Engine(options);
  for (const isLast of [false, true]) {
    const engine = new Engine({ ...options, name, persist: { durability: 'relaxed' } });
    try {
      await engine.ready;
      return engine;
    } catch (error) {
      await engine.shutdown({ timeout: 1 });
      if (error.code !== 'core_mismatch' || isLast) {
        say(`This browser does not keep the game: ${error.message}`, 'bad');
        break;
      }
      say('The game that was kept is of another release of this page. A new one begins.');
      await deleteGame(name).catch(() => {}); // another tab has deleted it
    }
  }
  return new Engine(options);
}

/** Begins a new game, in a page that is loaded again. */
export async function beginAnew(engine) {
  await engine.shutdown({ timeout: 1000 });
  await deleteGame(name).catch(() => {}); // there is none
  location.reload();
}

/** Has one tab at a time change the game: a move is several actions. */
export const inTurn = (f) => (globalThis.navigator.locks ? navigator.locks.request(`${name} move`, f) : f());
