// Light and dark, wide and narrow: every view is whole, and axe has nothing to say.
const { assert, accessible, main, shot } = require("./browser.js");

const SIZES = [["wide", { width: 1280, height: 800 }], ["narrow", { width: 390, height: 844 }]];

/** How light the page is, from 0 to 255. */
const lightness = (page) => page.evaluate(() => Number(getComputedStyle(document.body).backgroundColor.match(/\d+/)[0]));

async function views(page, address, name) {
  await page.goto(address + "#/search?q=garlic");
  await page.getByText("2 events", { exact: true }).waitFor();
  await whole(page, name + "-search");
  await page.locator("#hits a").first().click();
  await page.getByRole("heading", { name: "Transcript" }).waitFor();
  await page.locator(".rows").nth(1).waitFor();
  await page.waitForFunction(() => document.querySelector("video").readyState >= 2);
  await whole(page, name + "-video");
  await page.goto(address + "#/runs");
  await page.locator(".chart").first().waitFor();
  await page.getByRole("heading", { name: "Failures by reason" }).waitFor();
  await page.getByRole("region", { name: "Failures by reason" }).getByRole("link").first().waitFor();
  await whole(page, name + "-runs");
  await page.getByRole("region", { name: "Failures by reason" }).getByRole("link").first().click();
  await page.getByRole("region", { name: "Videos" }).getByRole("link").first().waitFor();
  await whole(page, name + "-failed");
  await page.getByRole("region", { name: "Videos" }).getByRole("link").first().click();
  await page.getByText("This video has no events.").waitFor();
  await page.getByText("cannot be played here").waitFor();
  await whole(page, name + "-failed-video");
}

async function whole(page, name) {
  const over = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
  assert.ok(over <= 0, `${name} is ${over} pixels too wide`);
  await shot(page, name);
  await accessible(page, name);
}

main(async ({ page, address }) => {
  for (const [size, viewport] of SIZES) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme: "light" });
    await views(page, address, "light-" + size);
    assert.ok((await lightness(page)) > 200);
    await page.emulateMedia({ colorScheme: "dark" });
    await views(page, address, "dark-" + size);
    assert.ok((await lightness(page)) < 50);
  }
  // Whoever chooses has what was chosen, whatever the system says, and tomorrow too.
  await page.getByLabel("Colours").selectOption("light");
  assert.ok((await lightness(page)) > 200);
  await page.reload();
  await page.getByLabel("Colours").waitFor();
  assert.ok((await lightness(page)) > 200);
}, { expected: /Failed to load resource/ });
