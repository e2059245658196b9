// The memory of a browser, which is a group of processes.

import { readdir, readFile } from 'node:fs/promises';

// The group of a process is the third of the fields after its name, which stands in parentheses.
const groupOf = (stat) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]);

/**
 * Returns how many bytes of memory a group of processes has, where pages that several processes share count once; undefined if the
 * system does not say so. Only Linux does.
 */
export async function memoryOf(group) {
  const processes = await readdir('/proc').catch(() => []);
  let all;
  for (const process of processes.filter((name) => /^\d+$/.test(name))) {
    const stat = await readFile(`/proc/${process}/stat`, 'utf8').catch(() => null); // the process may have ended
    if (!stat || groupOf(stat) !== group) continue;
    const use = await readFile(`/proc/${process}/smaps_rollup`, 'utf8').catch(() => '');
    const share = /^Pss:\s+(\d+) kB$/m.exec(use);
    if (share) all = (all ?? 0) + Number(share[1]) * 1024;
  }
  return all;
}
