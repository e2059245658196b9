// The rules of docs/recovery.md, scenario by scenario. The Go host runs the same ones: integration/recovery_linux_test.go.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { hostOptions } from '../src/host.js';
import { readScenarios, runScenario, scenarioNames } from './support/recovery.js';

const scenarios = await readScenarios(), ran = [];
describe('recovery', { concurrency: 4 }, () => {
  for (const scenario of scenarios) {
    test(scenario.name, async (t) => {
      await runScenario(t, scenario);
      ran.push(scenario.name);
    });
  }
});

test('every scenario was run, as the Go host runs them', async () => {
  assert.deepEqual(ran.sort(), (await scenarioNames()).sort());
  assert.ok(ran.length >= 20, `${ran.length} scenarios`);
});

test('the defaults are those of docs/recovery.md', async () => {
  const text = await readFile(new URL('../../docs/recovery.md', import.meta.url), 'utf8'), options = hostOptions();
  const units = { ms: 1, s: 1000, KiB: 1 << 10, MiB: 1 << 20 };
  let checked = 0;
  for (const [, name, number, unit] of text.matchAll(/^\| [A-Z]\w+, `(\w+)` \| [^|]+ \| ([\d,]+)(?: (ms|s|KiB|MiB))? \|/gm)) {
    assert.equal(options[name], Number(number.replaceAll(',', '')) * (units[unit] ?? 1), name);
    checked++;
  }
  assert.ok(checked >= 14, `${checked} defaults`);
});
