// The package as the set-ups have it, the folders that they build into, and the programs that they run.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import webpack from 'webpack';

export const here = new URL('.', import.meta.url).pathname;
const modules = join(here, 'node_modules');

/** A file of one of the tools that are installed here. */
export const tool = (path) => join(modules, path);

// The packages of the runtimes for this machine. npm installs only those that run on it.
const machine = `${process.platform}-${process.arch}`;

/** JavaScript runtimes, by name: the program, and the arguments before the name of a script. */
export const runtimes = {
  'Node 20.0': [tool('node20/bin/node')],
  'Node 24': [tool('node24/bin/node')],
  Deno: [tool(`@deno/${machine}${process.platform === 'linux' ? '-glibc' : ''}/deno`), 'run', '--allow-read', '--no-prompt'],
  Bun: [tool(`@oven/bun-${machine.replace('arm64', 'aarch64')}/bin/bun`)],
};

/** Why the tests of a runtime are skipped, or false. With HYPERTOKEN_REQUIRE=all they run, and fail if the runtime is not there. */
export const missing = ([program]) => (existsSync(program) || process.env.HYPERTOKEN_REQUIRE === 'all' ? false : `there is no ${program}`);

/** The environment of a program that a test starts. */
export function environment(more = {}) {
  const all = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', DENO_NO_UPDATE_CHECK: '1', CI: '1', NO_COLOR: '1', ...more };
  delete all.NODE_TEST_CONTEXT; // node --test sets it for its own children
  if (!more.NODE_ENV) delete all.NODE_ENV; // Vite sets it
  return all;
}

/** Runs a program in this folder, or in another one. If it fails, the error has what the program wrote. */
export async function run(program, args, { cwd = here, env } = {}) {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args, { cwd, env: environment(env), maxBuffer: 1 << 24 });
    return { stdout, stderr };
  } catch (error) {
    throw new Error(`${program} ${args.join(' ')}: ${error.message}\n${error.stdout}\n${error.stderr}`, { cause: error });
  }
}

/** Empties the folder that a set-up builds into. Returns its path and its address. */
export async function folder(name) {
  const path = join(here, '.built', name);
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true });
  return { path, url: pathToFileURL(`${path}/`).href };
}

/** Copies files of the installed package, or of this folder, into a folder. */
export async function copy(to, ...files) {
  for (const file of files) await copyFile(join(here, file), join(to, file.split('/').pop()));
}

/** The two files that a program with a bundle of its own has to copy beside it. */
export const beside = ['node_modules/hypertoken-worker/dist/hypertoken.worker.js', 'node_modules/hypertoken-worker/dist/core.wasm'];

/** Runs webpack, and returns its warnings. */
export const runWebpack = (configuration) => new Promise((built, failed) => {
  webpack(configuration, (error, stats) => {
    if (error || stats.hasErrors()) failed(error ?? new Error(stats.toString('errors-only')));
    else built(stats.toJson({ all: false, warnings: true }).warnings.map((w) => w.message));
  });
});
