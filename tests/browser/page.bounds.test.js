/** The live page at its bounds, and for those who use it without a mouse. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AutoEdge } from "./support/auto.js";
import { keep, startChromium } from "./support/chromium.js";
import { feed } from "./support/feed.js";
import { startSite } from "./support/site.js";
import { until } from "./support/wait.js";

let chromium;
before(async () => (chromium = await startChromium()));
after(() => chromium?.close());

/** A test with an edge and a page of its own, which has no fault at its end. */
function pageTest(name, run, { heartbeatMs, path = "/", ...options } = {}) {
  test(name, async () => {
    const site = await startSite();
    const edge = await AutoEdge.start(site.server, { heartbeatMs });
    const { page, faults } = await chromium.open(options);
    try {
      await page.goto(site.origin + path);
      await until("the subscription", () => edge.wanted.flat().length > 0);
      await run(page, edge);
      assert.deepEqual(faults, []);
    } finally {
      await page.close();
      await edge.stop();
      await site.close();
    }
  });
}

const row = (page, name) => page.locator(".row[aria-level]", { has: page.locator(`.name:text-is(${JSON.stringify(name)})`) });
const text = (locator) => locator.textContent();

pageTest("an event that several prefixes match counts once", async (page, edge) => {
  await until("both prefixes", () => edge.wanted[0].length === 2);
  for (let n = 0; n < 10; n += 1) edge.publish({ topic: "jobs/1", text: `${n}` });
  await until("ten", async () => (await text(row(page, "1").locator(".count"))) === "10");
  assert.equal(await text(page.locator("#received")), "10");
}, { path: "/?topic=jobs/&topic=jobs/1" });

pageTest("a snapshot shows a value and counts as no message", async (page, edge) => {
  edge.publish({ topic: "chat/1", text: "hi" });
  await row(page, "chat").waitFor();
  await page.reload();
  await until("the last value", async () => (await row(page, "1").count()) === 1);
  assert.equal(await text(row(page, "1").locator(".last")), "hi");
  assert.equal(await text(row(page, "1").locator(".count")), "0");
  assert.equal(await text(page.locator("#received")), "0");
});

pageTest("a value is read as it stood while the page is paused", async (page, edge) => {
  edge.publish({ topic: "t/1", text: "before" });
  await until("the value", async () => (await text(row(page, "1").locator(".last"))) === "before");
  await page.locator("#pause").click();
  edge.publish({ topic: "t/1", text: "after" });
  await until("that it is held", async () => (await text(page.locator("#pause-text"))) === "Resume · 1 new");
  await row(page, "1").click();
  await until("the frozen value", async () => (await text(page.locator(".detail pre"))) === "before");
});

pageTest("jobs and hosts are bounded, and what runs is never the one that leaves", async (page, edge) => {
  const job = (name, state) => edge.publish({ topic: `jobs/${name}`, progress: { job: name, done: 1, total: 2, unit: "files", state } });
  job("long", "running");
  for (let n = 0; n < 300; n += 1) job(`many-${n}`, "done");
  await until("the bound", async () => (await text(page.locator("#jobs-more"))) === "Show all 200");
  assert.equal(await page.locator(".job").count(), 8);
  await page.locator("#jobs-more").click();
  await until("all of them", async () => (await page.locator(".job").count()) === 200);
  assert.equal(await page.locator('.job[data-state="running"] .job-name').textContent(), "long");
  for (let n = 0; n < 40; n += 1) edge.publish({ topic: `system/h${n}/cpu`, status: { gauges: { "cpu.percent": n } } });
  await until("the hosts' bound", async () => (await text(page.locator("#hosts-summary"))) === "16 hosts");
});

pageTest("a silent edge is given up for another connection", async (page, edge) => {
  await page.locator('#state[data-state="open"]').waitFor();
  // The fake edge sends no heartbeat.
  await page.locator('#state[data-state="waiting"]').waitFor();
  assert.match(await text(page.locator("#notice-text")), /No heartbeat/);
  await page.locator('#state[data-state="open"]').waitFor();
  await until("the subscription again", () => String(edge.wanted.at(-1)) === "" && edge.wanted.at(-1).length === 1);
}, { heartbeatMs: 800 });

pageTest("every control has a name and its place in the order of the Tab key", async (page, edge) => {
  for (let step = 0; step < 8; step += 1) for (const event of feed(step)) edge.publish(event);
  await row(page, "weather").waitFor();
  const stops = [];
  for (let n = 0; n < 8; n += 1) {
    await page.keyboard.press("Tab");
    stops.push(await page.evaluate(() => {
      const { id, className, ariaLabel, textContent } = document.activeElement;
      return id || className || ariaLabel || textContent;
    }));
  }
  assert.deepEqual(stops.slice(0, 6), ["skip", "pause", "theme", "Unsubscribe from Everything", "prefix", "Subscribe"]);
  assert.ok(stops[6] === "row" || stops[7] === "row", `${stops}`);
  assert.equal(await page.locator('.row[tabindex="0"]').count(), 1, "one stop for the whole tree");
  const unnamed = await page.$$eval("button, input, [role=progressbar], [role=meter], [role=treegrid], section", (elements) =>
    elements
      .filter((element) => element.checkVisibility())
      .filter((element) => !(element.ariaLabel || element.getAttribute("aria-labelledby") || element.labels?.length || element.textContent.trim()))
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(unnamed, []);
  assert.deepEqual(await page.$$eval("header, main, footer, h1", (elements) => elements.map((element) => element.localName)), ["header", "h1", "main", "footer"]);
});

pageTest("a tablet is filled, too", async (page, edge) => {
  for (let step = 0; step < 40; step += 1) for (const event of feed(step)) edge.publish(event);
  await page.locator(".host").nth(1).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true);
  await keep(page, "page-tablet");
}, { width: 820, height: 1100 });
