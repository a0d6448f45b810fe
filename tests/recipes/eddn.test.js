/** docs/recipes/eddn.md: zlib-compressed JSON without a topic, on a page as rows. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { deflateSync, inflateSync } from "node:zlib";
import { startChromium } from "../browser/support/chromium.js";
import { Document } from "./support/document.js";
import { messagesOf } from "./support/fixture.js";
import { keepFrames, kept } from "./support/frames.js";
import { Kitchen } from "./support/kitchen.js";

const [SHIPYARD] = messagesOf("eddn.txt").get("shipyard");
/** Not a double: 2⁵⁴ + 1. */
const ADDRESS = "18014398509481985";

let chromium;
before(async () => (chromium = await startChromium()));
after(() => chromium?.close());

test("what the relay sends is on the page, decompressed and with a topic", async () => {
  const kitchen = await Kitchen.open("eddn");
  try {
    const relay = kitchen.publisher(9500);
    await kitchen.edge("edge");
    await relay.subscribed("");
    const { page, faults } = await kitchen.page(chromium, "eddn.html");
    await kitchen.subscribed(1);
    await keepFrames(page, `ws://127.0.0.1:${kitchen.port(8080)}/ws?topic=eddn`);
    await kitchen.subscribed(2);

    const header = '{"gatewayTimestamp": "now", "softwareName": "b"}';
    const message = `{"SystemAddress": ${ADDRESS}, "StarSystem": "Sol"}`;
    const discovery = `{"$schemaRef": "https://eddn.edcd.io/schemas/fssdiscoveryscan/1", "header": ${header}, "message": ${message}}`;
    const broken = Buffer.concat([SHIPYARD.subarray(0, SHIPYARD.length - 4), Buffer.alloc(4)]);
    for (const frame of [SHIPYARD, broken, Buffer.from("no zlib"), deflateSync(discovery)]) relay.send(frame);

    const rows = page.locator("#messages tr");
    await kitchen.until("two rows", async () => (await rows.count()) === 2);
    const shown = await rows.evaluateAll((rows) => rows.map((row) => Array.from(row.cells, (cell) => cell.textContent).join(" | ")));
    assert.deepEqual(shown.toReversed(), [kitchen.text("shown").trim(), "now | fssdiscoveryscan/1 | Sol | b"]);

    const events = async () => (await kept(page)).filter((text) => text.startsWith('{"event"'));
    await kitchen.until("four events", async () => (await events()).length === 4);
    const frames = await events();
    assert.ok(frames[0].includes(inflateSync(SHIPYARD).toString()), "byte for byte");
    assert.ok(frames[3].includes(`"SystemAddress": ${ADDRESS}`), "all digits");
    const [, wrong, foreign] = frames.map((frame) => JSON.parse(frame).event);
    assert.equal(wrong.base64, broken.toString("base64"));
    assert.equal(foreign.base64, Buffer.from("no zlib").toString("base64"));
    for (const { topic, undecoded } of [wrong, foreign]) assert.ok(topic === "eddn" && undecoded, JSON.stringify(undecoded));
    assert.deepEqual(faults, []);
    await page.close();
  } finally {
    await kitchen.close();
  }
});

test("nothing in the recipe is untried", () => {
  assert.deepEqual(Document.of("eddn").unused, []);
});
