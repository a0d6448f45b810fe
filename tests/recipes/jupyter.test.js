/** docs/recipes/jupyter.md: the IOPub socket of a real ipykernel, watched by a page. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { startChromium } from "../browser/support/chromium.js";
import { Document } from "./support/document.js";
import { keepFrames, kept } from "./support/frames.js";
import { Kitchen } from "./support/kitchen.js";

/** One transparent pixel. */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PICTURE = `import base64, IPython.display as d; d.Image(base64.b64decode('${PIXEL}'))`;
/** Of an event: signature, header, parent header, metadata and content, byte for byte as they came. */
const SIGNED = /\{"text":"<IDS\|MSG>"\},\{"text":"(\w{64})"\},\{"data":(.*)\},\{"data":(.*)\},\{"data":(.*)\},\{"data":(.*)\}\]\}\}$/s;

let chromium;
before(async () => (chromium = await startChromium()));
after(() => chromium?.close());

const ways = {
  "with the kernel's topics": (command) => command,
  "with an alias for several kernels": (command) => command.replace("tcp://", "train=tcp://"),
};
for (const [way, changed] of Object.entries(ways)) {
  test(`what a kernel runs, prints and finds is on the page, ${way}`, async () => {
    const kitchen = await Kitchen.open("jupyter");
    try {
      kitchen.installs("install");
      kitchen.start("kernel");
      const connection = await kitchen.until("the kernel's file", () => written(kitchen.path("kernel.json")));
      await kitchen.edge("edge", changed(kitchen.text("edge").trim()));
      const { page, faults } = await kitchen.page(chromium, "jupyter.html");
      await keepFrames(page, `ws://127.0.0.1:${kitchen.port(8080)}/ws?topic=`);
      await kitchen.subscribed(2);
      // The kernel's greeting to a subscription, without which nothing that it does comes here.
      const messages = () => kitchen.metric(9100, "trestle_edge_upstream_messages_total");
      await kitchen.until("the kernel's welcome", async () => (await messages()) >= 1);
      await kitchen.start("run").finished();

      const log = page.locator("#log");
      const shown = kitchen.text("shown");
      await kitchen.until("what the recipe says", async () => (await log.textContent()) === shown).catch(async () =>
        assert.equal(await log.textContent(), shown),
      );
      await kitchen.until("an idle kernel", async () => (await page.title()) === "A kernel: idle");

      await kitchen.start("picture", `python3 run.py "${PICTURE}"`).finished();
      const picture = log.locator("img");
      await kitchen.until("the picture", async () => (await picture.count()) === 1);
      await kitchen.until("its pixel", () => picture.evaluate((image) => image.complete && image.naturalWidth === 1));

      // Who has the key finds every signature right: no byte was changed on the way.
      const frames = await kept(page);
      const signed = frames.map((frame) => frame.match(SIGNED)).filter(Boolean);
      assert.ok(signed.length >= 10, `${signed.length} messages`);
      for (const [frame, signature, ...dicts] of signed) {
        assert.equal(createHmac("sha256", connection.key).update(dicts.join("")).digest("hex"), signature, frame);
      }
      assert.ok(!frames.some((frame) => frame.includes(connection.key)), "the key came to the browser");
      assert.deepEqual(faults, []);
      await page.close();
    } finally {
      await kitchen.close();
    }
  });
}

test("nothing in the recipe is untried", () => {
  assert.deepEqual(Document.of("jupyter").unused, []);
});

/** The connection file, once it is there and whole. */
function written(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}
