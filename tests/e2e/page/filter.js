// Filters offer what the tables hold; there is more than one page of results; nothing found is said.
const { assert, accessible, main, shot } = require("./browser.js");

main(async ({ page, address }) => {
  await page.goto(address);
  await page.fill("#q", "lesson");
  await page.getByText("72 events", { exact: true }).waitFor();
  assert.equal(await page.locator("#hits li").count(), 50);
  await page.getByRole("button", { name: "More results" }).click();
  await page.waitForFunction(() => document.querySelectorAll("#hits li").length === 72);
  assert.equal(await page.getByRole("button", { name: "More results" }).count(), 0);
  const captions = await page.locator("#hits strong").allTextContents();
  assert.equal(new Set(captions).size, 72);

  await page.getByRole("button", { name: "Filters" }).click();
  const source = page.getByLabel("Source");
  await page.locator("option", { hasText: "speech" }).waitFor({ state: "attached" });
  assert.deepEqual(await source.locator("option").allTextContents(), ["any", "speech"]);
  await source.selectOption("speech");
  await page.getByText("72 events", { exact: true }).waitFor();
  await page.fill("#q", "");
  await page.getByLabel("At least, seconds").fill("4.5");
  await page.getByText("2 events", { exact: true }).waitFor();
  await shot(page, "filters");
  await accessible(page, "filters");

  // The address holds all of it.
  await page.reload();
  await page.getByText("2 events", { exact: true }).waitFor();
  assert.equal(await page.inputValue("[name=source]"), "speech");
  await page.getByLabel("Least score").fill("-1");
  await page.getByText("Nothing was found").waitFor();
  await accessible(page, "nothing found");
  await shot(page, "nothing-found");
  await page.getByRole("button", { name: "Clear the filters" }).click();
  await page.getByText("77 events", { exact: true }).waitFor();
});
