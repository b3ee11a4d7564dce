// A person says what is right, what is wrong, and what it should be.
const { assert, accessible, main, playerAt, shot } = require("./browser.js");

main(async ({ page, address }) => {
  await page.goto(address + "#/search?q=garlic");
  await page.locator("#hits a", { hasText: "fries" }).click();
  await playerAt(page, 4);
  const event = (words) => page.locator(".rows li", { has: page.locator(".feedback") }).filter({ hasText: words });
  const written = () => page.waitForResponse((response) => response.url().endsWith("/feedback") && response.status() === 201);
  const press = async (words, name) => {
    await Promise.all([written(), event(words).getByRole("button", { name, exact: true }).click()]);
  };
  await press("peels garlic", "Right");
  await press("Two guests", "Right");
  await press("Two guests", "Wrong");
  await event("fries garlic").getByRole("button", { name: "Edit" }).click();
  await page.locator(".edit textarea:focus").waitFor();
  await accessible(page, "a form to edit an event");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".edit").count(), 0);
  await event("fries garlic").getByRole("button", { name: "Edit" }).click();
  await page.locator(".edit textarea").fill("He fries garlic until it is golden.");
  await page.getByLabel("End, seconds").fill("8.5");
  await Promise.all([written(), page.getByRole("button", { name: "Save", exact: true }).click()]);
  await page.getByText("Better: He fries garlic until it is golden.").waitFor();
  await shot(page, "feedback");
  await accessible(page, "feedback");

  // It is in the tables: another browser sees it.
  const pressed = (words, name) =>
    page.locator(".rows li").filter({ hasText: words }).getByRole("button", { name, exact: true, pressed: true }).waitFor();
  await page.reload();
  await pressed("peels garlic", "Right");
  await pressed("Two guests", "Wrong");
  await page.getByText("Better: He fries garlic until it is golden.").waitFor();
});
