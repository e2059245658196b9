// The package as who installs it has it: packed, and unpacked among the modules of a project.

import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const run = promisify(execFile);
export const root = new URL('../../', import.meta.url).pathname;

/** Makes an empty project with the package installed. Returns its folder, and what removes it. */
export async function project() {
  const dir = await mkdtemp(join(tmpdir(), 'project-')), modules = join(dir, 'node_modules');
  await run('node', ['build.js'], { cwd: root });
  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', dir], { cwd: root });
  const packed = JSON.parse(stdout), [{ filename, files }] = Array.isArray(packed) ? packed : Object.values(packed);
  await mkdir(join(modules, '@msgpack'), { recursive: true });
  await run('tar', ['-xzf', join(dir, filename), '-C', modules]);
  await run('mv', [join(modules, 'package'), join(modules, 'hypertoken-worker')]);
  await symlink(join(root, 'node_modules/@msgpack/msgpack'), join(modules, '@msgpack/msgpack'));
  return { dir, files: files.map((f) => f.path), remove: () => rm(dir, { recursive: true, force: true }) };
}
