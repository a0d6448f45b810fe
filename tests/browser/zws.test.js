/** jszmq as npm has it, bundled for a page, in Chromium: SUB and PUB sockets at an edge. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { startChromium } from "./support/chromium.js";
import { BINARY, Demo, skip } from "./support/demo.js";
import { startSite } from "./support/site.js";
import { until } from "./support/wait.js";

let chromium, bundle;
before(async () => {
  if (skip) return;
  assert.ok(BINARY, "TRESTLE_BIN does not name a trestle binary");
  const { outputFiles } = await build({
    stdin: {
      contents: 'import { Buffer } from "buffer"; import { socket } from "jszmq"; Object.assign(globalThis, { Buffer, zmq: socket });',
      resolveDir: import.meta.dirname,
    },
    bundle: true,
    // It was written for Node.
    define: { global: "globalThis", "process.env.NODE_DEBUG": "undefined" },
    write: false,
  });
  bundle = outputFiles[0].text;
  chromium = await startChromium();
});
after(() => chromium?.close());

/** A page with a SUB of `chat/` and a PUB, both connected to `demo`. */
async function withSockets(check) {
  let demo = await Demo.start();
  const site = await startSite({
    "/zws.html": '<!doctype html><title>ZWS</title><link rel=icon href=data:,><script src="/bundle.js"></script>',
    "/bundle.js": bundle,
  });
  const { page, faults } = await chromium.open();
  try {
    await page.goto(`${site.origin}/zws.html`);
    await page.evaluate((origin) => {
      globalThis.heard = [];
      const sub = zmq("sub");
      sub.subscribe("chat/");
      sub.on("message", (...frames) => heard.push(frames.map((frame) => frame.toString("hex"))));
      sub.connect(`${origin}/ws`);
      globalThis.pub = zmq("pub");
      pub.connect(`${origin}/pub`);
    }, demo.origin.replace("http", "ws"));
    const restart = async () => {
      const { port } = demo;
      await demo.stop();
      demo = await Demo.start(port);
    };
    const send = (...frames) =>
      page.evaluate((hex) => pub.send(hex.map((frame) => Buffer.from(frame, "hex"))), frames.map((frame) => Buffer.from(frame).toString("hex")));
    const heard = () => page.evaluate(() => globalThis.heard);
    /** Sends until the one hears the other. */
    const settle = (word) =>
      until(`"${word}" to come back`, async () => {
        await send("chat/settle", word);
        return (await heard()).some((frames) => Buffer.from(frames.at(-1), "hex").toString() === word);
      });
    await check({ page, demo, send, heard, settle, restart, faults });
  } finally {
    await page.close();
    await site.close();
    await demo.kill();
  }
}

test("what a PUB in a page sends comes to a SUB in a page and to client.js, frame by frame", { skip }, () =>
  withSockets(async ({ demo, send, heard, settle, faults }) => {
    await settle("hello");
    const client = await chromium.open();
    try {
      await client.page.goto(`${demo.origin}/`);
      await client.page.evaluate(async () => {
        const { connect } = await import("/client.js");
        const chat = connect("/ws").subscribe("chat/bytes");
        await chat.ready;
        globalThis.event = (async () => {
          for await (const event of chat) return event;
        })();
      });
      await send("jobs/1", "not allowed here");
      await send("chat/bytes", "one", [], [0, 255]);
      const bytes = ["chat/bytes", "one", [], [0, 255]].map((frame) => Buffer.from(frame).toString("hex"));
      await until("four frames", async () => (await heard()).some((frames) => frames.join() === bytes.join()));
      assert.ok((await heard()).every(([topic]) => Buffer.from(topic, "hex").toString().startsWith("chat/")));
      const { topic, parts } = await client.page.evaluate(() => globalThis.event);
      assert.deepEqual([topic, parts], ["chat/bytes", [{ text: "one" }, { text: "" }, { base64: "AP8=" }]]);
    } finally {
      await client.page.close();
    }
    assert.deepEqual(faults, []);
  }),
);

test("sockets in a page come back when their edge does", { skip }, () =>
  withSockets(async ({ settle, restart }) => {
    await settle("before");
    await restart();
    await settle("after");
  }),
);
