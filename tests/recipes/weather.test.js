/** docs/recipes/weather.md: the zguide's weather server, topic and body in one frame, read by a page. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startChromium } from "../browser/support/chromium.js";
import { Document } from "./support/document.js";
import { Kitchen } from "./support/kitchen.js";

let chromium;
before(async () => (chromium = await startChromium()));
after(() => chromium?.close());

test("the weather of 10001 is on the page, and at a terminal", async () => {
  const kitchen = await Kitchen.open("weather");
  try {
    kitchen.installs("install");
    kitchen.start("server");
    // The guide's own client, which hears the server as it did before.
    const client = kitchen.start("client");
    await client.logged(/^10001 /m);
    await kitchen.edge("edge");
    const { page, faults } = await kitchen.page(chromium, "weather.html");
    const shown = async () => (await page.locator("#readings li").allTextContents()).toReversed();
    await kitchen.until("three readings", async () => (await shown()).length >= 3);
    const readings = await shown();
    for (const reading of readings) assert.match(reading, /^-?\d+ °F, \d+ % humidity$/);

    const terminal = kitchen.start("terminal");
    await terminal.logged(/"topic":"10001".*"text":"-?\d+ \d+"/);

    // What the page shows is what the client got, in order and without a hole.
    const got = () => client.output.trim().split("\n").map((line) => line.replace(/^10001 (\S+) (\S+)$/, "$1 °F, $2 % humidity"));
    const same = () => got().join("\n").includes(readings.join("\n"));
    await kitchen.until("the client with what the page shows", same).catch(() => assert.fail(`${readings} in ${got()}`));
    // Of a hundred thousand places one is fetched.
    const fetched = await kitchen.metric(9100, "trestle_edge_upstream_messages_total");
    assert.ok(fetched >= readings.length && fetched <= 2 * got().length, `${fetched} fetched`);
    assert.deepEqual(faults, []);
    await page.close();
  } finally {
    await kitchen.close();
  }
});

test("nothing in the recipe is untried", () => {
  assert.deepEqual(Document.of("weather").unused, []);
});
