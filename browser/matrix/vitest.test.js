// Tests of an application in Vitest, in Node and in jsdom.

import { test } from 'node:test';
import { missing, run, runtimes, tool } from './support.js';

const [node] = runtimes['Node 24'];

test('Vitest', { skip: missing([node]) }, () => run(node, [tool('vitest/vitest.mjs'), 'run', '--root', 'vitest']));
