// The package as it is in a project that has installed it: packed in a fresh clone, and installed without a network.

import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

export const run = promisify(execFile);
export const root = new URL('../../', import.meta.url).pathname;

/** Copies the package and the core without the files that git ignores, as a clone has them. Returns the package's folder. */
export async function clone(dir) {
  const repository = join(root, '..');
  const { stdout } = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', 'browser', 'wasm'], { cwd: repository, maxBuffer: 1 << 24 });
  for (const file of new Set(stdout.split('\0').filter((name) => name !== ''))) {
    const to = join(dir, file);
    await mkdir(dirname(to), { recursive: true });
    await copyFile(join(repository, file), to).catch((error) => {
      if (error.code !== 'ENOENT') throw error; // it is deleted, and that is not committed
    });
  }
  return join(dir, 'browser');
}

const npm = (cwd, ...args) => run('npm', [...args, '--offline', '--no-audit', '--no-fund', '--loglevel', 'error'], { cwd });

/** Packs the package in a fresh clone. Returns the folder of the clone's package, the archive, and the names of the packed files. */
export async function pack(top) {
  const source = await clone(join(top, 'clone'));
  const { stdout } = await npm(source, 'pack', '--json', '--pack-destination', top);
  const packed = JSON.parse(stdout.slice(stdout.search(/^[[{]/m))), [{ filename, files }] = Array.isArray(packed) ? packed : Object.values(packed);
  return { source, archive: join(top, filename), files: files.map((f) => f.path) };
}

/** Makes an empty project with the package installed. Returns its folder, what pack returns, and a function that removes all of it. */
export async function project() {
  const top = await mkdtemp(join(tmpdir(), 'project-')), dir = join(top, 'project');
  const packed = await pack(top);
  await mkdir(dir);
  await writeFile(join(dir, 'package.json'), '{"private": true}');
  await npm(dir, 'install', packed.archive);
  return { dir, ...packed, remove: () => rm(top, { recursive: true, force: true }) };
}
