// Before the first run, after it, with a video that is gone, and without a server.
const { accessible, main, shot } = require("./browser.js");

main(async ({ page, address }) => {
  await page.goto(address);
  await page.getByRole("heading", { name: "Nothing has been indexed yet" }).waitFor();
  await accessible(page, "no tables");
  await shot(page, "no-tables");
  console.log("now index");
  await page.getByText("5 events", { exact: true }).waitFor({ timeout: 120_000 });

  await page.fill("#q", "garlic");
  await page.getByText("2 events", { exact: true }).waitFor();
  console.log("now remove the video");
  await page.locator("#hits a").first().click();
  await page.getByText("This video cannot be played here").waitFor();
  await page.locator(".rows li").first().waitFor();
  await accessible(page, "a video that is gone");
  await shot(page, "gone");
  await page.goto(address + "#/video/nothing/0");
  await page.getByText("there is no such video").waitFor();
  await shot(page, "unknown");

  await page.goto(address + "#/");
  await page.locator("#hits a").first().waitFor();
  console.log("now stop");
  await page.waitForFunction(() => fetch("/app.js").then(() => false, () => true), undefined, { timeout: 120_000 });
  await page.fill("#q", "onions");
  await page.getByText("The server cannot be reached").waitFor();
  await accessible(page, "no server");
  await shot(page, "no-server");
}, { expected: /Failed to load resource/ });
