// The rules of docs/recovery.md, scenario by scenario. The Go host runs the same ones: integration/recovery_linux_test.go.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
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
