// The package's command. `npx hypertoken-worker types core.wasm` writes the types of a core.

import { readFile } from 'node:fs/promises';
import { description, typeScript } from './describe.js';

const usage = `Usage: hypertoken-worker types FILE

Writes the types of the core in FILE, as TypeScript, to standard output: its actions with their payloads and results, its state, its setup and
its events. For example:

  npx hypertoken-worker types core.wasm >src/core.ts

  import type { Actions, Events, Setup, State } from './core.js';
  const engine = new Engine<Actions, State, Events, Setup>({ ... });
`;

async function types(file) {
  const bytes = await readFile(file).catch((cause) => { throw new Error(`it can not be read (${cause.code})`); });
  const module = await WebAssembly.compile(bytes).catch((cause) => { throw new Error(`it is no WebAssembly module: ${cause.message}`); });
  const { actions, records } = description(module);
  return typeScript(actions, records);
}

const [command, file, ...more] = process.argv.slice(2);
if (command === '--help' || command === '-h' || command === 'help') {
  process.stdout.write(usage);
} else if (command !== 'types' || file === undefined || more.length > 0) {
  process.stderr.write(usage);
  process.exitCode = 2;
} else {
  try {
    process.stdout.write(await types(file));
  } catch (error) {
    process.stderr.write(`hypertoken-worker: ${file}: ${error.message}\n`);
    process.exitCode = 1;
  }
}
