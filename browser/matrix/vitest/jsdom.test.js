// @vitest-environment jsdom

import { expect, test } from 'vitest';
import './play.test.js';

test('the environment has a document', () => expect(document.nodeType).toBe(9));
