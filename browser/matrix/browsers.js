// Tests that a page has to pass in each browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browsers, launch, skip } from '../test/browser/harness.js';

/** Opens a page, and returns its title once the page has played. Until then the title is empty, or `loading`. */
export async function titleOf(browser, address) {
  const page = await browser.open(address);
  await page.waitForFunction(() => !['', 'loading'].includes(document.title), { polling: 50 });
  const title = await page.title();
  await page.close();
  return title;
}

/** Tests in each browser that a page plays on a worker. address returns the page's address. */
export function plays(address) {
  for (const one of browsers) {
    test(`the page in ${one.name}`, { skip: skip(one) }, async () => {
      const b = await launch(one);
      try {
        assert.equal(await titleOf(b, address()), 'b on a worker');
      } finally {
        await b.close();
      }
    });
  }
}
