// What annotators say lies beside what was found.
const { assert, accessible, main, playerAt, shot } = require("./browser.js");

main(async ({ page, address }) => {
  await page.goto(address + "#/search?q=garlic");
  await page.locator("#hits a").first().click();
  await page.getByRole("heading", { name: "References 2" }).waitFor();
  const bars = page.locator(".bars.reference button");
  assert.deepEqual(await bars.evaluateAll((bars) => bars.map((bar) => bar.ariaLabel)), [
    "00:00 Garlic is prepared and fried.", "00:11 Guests come to eat.",
  ]);
  await page.waitForFunction(() => document.querySelector("video").readyState >= 2);
  await bars.last().click();
  await playerAt(page, 11.5);
  await shot(page, "references");
  await accessible(page, "references");
  await page.goto(address + "#/search?q=seventy");
  await page.locator("#hits a").first().click();
  await page.getByText("Nobody has annotated this video.").waitFor();
});
