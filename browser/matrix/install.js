// Packs the package as for a release, and installs the archive here. A package without dependencies is installed by unpacking it.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack } from '../test/support/installed.js';
import { run, tool } from './support.js';

const top = await mkdtemp(join(tmpdir(), 'matrix-')), to = tool('hypertoken-worker');
try {
  const { archive } = await pack(top);
  await rm(to, { recursive: true, force: true });
  await mkdir(to);
  await run('tar', ['-xzf', archive, '--strip-components=1', '-C', to]);
} finally {
  await rm(top, { recursive: true, force: true });
}
