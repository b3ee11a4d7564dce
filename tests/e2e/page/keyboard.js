// All of it without a mouse: find, open, go along the timeline, save.
const fs = require("node:fs");
const { assert, main, playerAt } = require("./browser.js");

/** Presses Tab until what is wanted has the focus. */
async function tabTo(page, selector) {
  for (let presses = 0; presses < 60; presses += 1) {
    if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab never leads to ${selector}`);
}

main(async ({ page, address }) => {
  await page.goto(address + "#/runs");
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  await page.keyboard.press("/");
  await page.locator("#q:focus").waitFor();
  await page.keyboard.type("garlic");
  await page.getByText("2 events", { exact: true }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  const start = await page.evaluate(() => Number(document.activeElement.hash.split("/").pop()));
  await page.keyboard.press("Enter");
  await playerAt(page, start / 1000);

  await tabTo(page, ".bars.events button");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  assert.match(await page.evaluate(() => document.activeElement.ariaLabel), /^00:07 Steam/);
  await page.keyboard.press("Enter");
  await playerAt(page, 7);
  await page.keyboard.press("End");
  await page.keyboard.press("Space");
  await playerAt(page, 16);
  // The next stop is not the next bar: the timeline is one stop.
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.matches(".bars.events button")), false);

  await page.keyboard.press("Shift+Tab");
  await tabTo(page, ".rows summary");
  await page.keyboard.press("Enter");
  await page.locator("details[open]").waitFor();

  await page.evaluate(() => document.getElementById("content").focus());
  await tabTo(page, ".title button");
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  assert.equal(download.suggestedFilename(), "kitchen.events.vtt");
  const text = fs.readFileSync(await download.path(), "utf8");
  assert.match(text, /^WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nA cook peels garlic/);
});
