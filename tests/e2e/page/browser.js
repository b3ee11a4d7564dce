// A browser for one scenario: Chromium by Playwright, with axe-core in every page, and what went wrong in it kept.
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require(process.env.PLAYWRIGHT);

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-proxy-server",
];
/** Milliseconds that anything may take. */
const LIMIT = 30_000;
/** What axe asks: all of WCAG 2.2 AA, and what its authors recommend. */
const RULES = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };

const [, , address, shots] = process.argv;

/** Fails with what `axe` finds. */
async function accessible(page, where) {
  const { violations } = await page.evaluate((rules) => globalThis.axe.run(document, rules), RULES);
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((node) => node.html).join("\n  ")}`);
  assert.equal(violations.length, 0, `${where}:\n${told.join("\n")}`);
}

/** Keeps a picture of the page. */
async function shot(page, name) {
  await page.screenshot({ path: path.join(shots, name + ".png"), fullPage: true });
}

/** Waits until the player stands at `seconds` and has a picture. */
async function playerAt(page, seconds) {
  const there = (seconds) => {
    const video = document.querySelector("video");
    return video && video.readyState >= 2 && !video.seeking && Math.abs(video.currentTime - seconds) < 0.05;
  };
  await page.waitForFunction(there, seconds);
}

/**
 * Runs a scenario in a fresh browser. It fails with what the page's scripts threw or its policy refused, and with every
 * line of the console that `expected` does not match.
 */
async function scenario(run, { expected = null, ...options } = {}) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
  try {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
    context.setDefaultTimeout(LIMIT);
    await context.addInitScript({ content: fs.readFileSync(process.env.AXE, "utf8") });
    const page = await context.newPage();
    const troubles = [];
    page.on("pageerror", (error) => troubles.push(String(error)));
    page.on("console", (line) => {
      if (line.type() === "error" && !expected?.test(line.text())) troubles.push(line.text());
    });
    try {
      await run({ page, address, context });
    } catch (error) {
      await shot(page, "failed-" + path.basename(process.argv[1], ".js")).catch(() => {});
      throw error;
    }
    assert.deepEqual(troubles, []);
  } finally {
    await browser.close();
  }
}

/** Runs a scenario, and ends the process with what came of it. */
function main(run, options) {
  scenario(run, options).catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}

module.exports = { assert, accessible, main, playerAt, shot };
