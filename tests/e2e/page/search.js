// Words become results while they are typed; a result leads to its moment in the video.
const { assert, accessible, main, playerAt, shot } = require("./browser.js");

/** What is typed, and what must be found before it is finished. */
const UNFINISHED = [
  ["fries gar", 1], ['"fries gar', 1], ['"fries', 1], ["(fries", 1], ["(fries garlic", 1], ["fries NOT", 1], ["fries NEAR", 1],
  ["fries NEAR on", 0], ["fries NEAR onions", 1], ["fries AND (", 1], ["fries OR", 1], ["fries -", 1], ["fries (gar* OR", 1], ['"', 77],
];

main(async ({ page, address }) => {
  await page.goto(address);
  await page.locator("#q:focus").waitFor();
  await page.getByText("77 events", { exact: true }).waitFor();
  for (const [typed, found] of UNFINISHED) {
    await page.fill("#q", "");
    await page.getByText("77 events", { exact: true }).waitFor();
    await page.fill("#q", typed);
    const told = { 0: /^Nothing was found/, 1: /^1 event$/, 77: /^77 events$/ }[found];
    await page.getByRole("status").filter({ hasText: told }).waitFor().catch((error) => assert.fail(`${typed}: ${error}`));
    assert.equal(await page.getByRole("alert").count(), 0, typed);
  }

  await page.fill("#q", "");
  await page.locator("#q").pressSequentially("garl", { delay: 30 });
  await page.getByText("2 events", { exact: true }).waitFor();
  assert.deepEqual(await page.locator("#hits mark").allTextContents(), ["garlic", "garlic"]);
  // Their pictures come as they are made.
  await page.waitForFunction(() => [...document.querySelectorAll("#hits img")].filter((image) => image.naturalWidth > 0).length === 2);
  await shot(page, "search");
  await accessible(page, "search");

  await page.locator("#hits a", { hasText: "fries" }).click();
  await playerAt(page, 4);
  await page.evaluate(() => document.querySelector("video").play());
  await page.waitForFunction(() => document.querySelector("video").currentTime > 4.3);
  await page.evaluate(() => document.querySelector("video").pause());
  await page.locator("li.now", { hasText: "fries garlic" }).first().waitFor();
  await shot(page, "video");
  await accessible(page, "video");

  await page.locator(".rows button", { hasText: "sit down" }).first().click();
  await playerAt(page, 12);
  await page.locator(".bars.events button").first().click();
  await playerAt(page, 0);
  // Two events overlap, so that there are two lanes.
  const tops = await page.locator(".bars.events button").evaluateAll((bars) => bars.map((bar) => bar.style.top));
  assert.equal(new Set(tops).size, 2, String(tops));
  await page.getByText("Where it comes from").first().click();
  await page.locator("dt", { hasText: "run_id" }).first().waitFor();

  await page.goBack();
  await page.getByText("2 events", { exact: true }).waitFor();
  assert.equal(await page.inputValue("#q"), "garl");
});
