// A server that asks for a token: signing in, and out again.
const { assert, accessible, main, playerAt, shot } = require("./browser.js");

const TOKEN = process.env.TOKEN;

main(async ({ page, address }) => {
  await page.goto(address);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await accessible(page, "sign in");
  await page.locator("input[type=password]:focus").waitFor();
  await page.keyboard.type("not the token");
  await page.keyboard.press("Enter");
  await page.getByText("That is not the token").waitFor();
  await shot(page, "sign-in");
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("77 events", { exact: true }).waitFor();
  await page.fill("#q", "soup");
  await page.locator("#hits a", { hasText: "taste" }).click();
  await playerAt(page, 16);
  // The token is not in the link, which others may see.
  const link = await page.evaluate(() => document.querySelector("video").src);
  assert.ok(link.includes("signature=") && !link.includes(TOKEN), link);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
}, { expected: /status of 401/ });
