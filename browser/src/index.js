export { Engine } from './engine.js';
export { getEnvironment, supportsWorkers } from './environment.js';
export { HyperTokenError } from './errors.js';
export { Host } from './host.js';
export { deleteGame, exportGame, importGame, savedGames } from './saved.js';
export { UniversalWorker } from './universal.js';
