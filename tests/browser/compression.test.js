/** permessage-deflate between a real edge, a real Chromium, and the WebSocket library of Node programs. */

import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { startChromium } from "./support/chromium.js";
import { BINARY, Demo, skip } from "./support/demo.js";
import { connectPublisher } from "./support/publisher.js";
import { startSite } from "./support/site.js";
import { until } from "./support/wait.js";

/** An edge compresses for four clients of a shard, and no fewer; it has a shard for each core. */
const CLIENTS = 3 * availableParallelism() + 1;
const AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

let chromium, demo, publisher;
before(async () => {
  if (skip) return;
  assert.ok(BINARY, "TRESTLE_BIN does not name a trestle binary");
  chromium = await startChromium();
  demo = await Demo.start();
  publisher = await connectPublisher(await demo.publishers());
});
after(async () => {
  publisher?.close();
  await demo?.kill();
  await chromium?.close();
});

/** Long enough to be compressed, and not one like another. */
const messages = Array.from({ length: 50 }, (_, n) => JSON.stringify({ n, words: Array(20 + 7 * n).fill(`word ${n % 7} ø`) }));

async function publishUntilHeard(topic, heard) {
  await until("a first message", () => {
    publisher.send(topic, "is anybody there?");
    return heard();
  });
  for (const message of messages) publisher.send(topic, message);
  publisher.send(topic, "end");
}

const isWanted = (data) => data !== "is anybody there?" && data !== "end";

test("Chromium agrees to it and reads what was published", { skip }, async () => {
  const site = await startSite({ "/empty.html": "<!doctype html><title>empty</title><link rel=icon href=data:,>" });
  const { page, faults } = await chromium.open();
  try {
    await page.goto(`${site.origin}/empty.html`);
    await page.evaluate(
      ({ url, n }) => {
        globalThis.clients = Array.from({ length: n }, () => {
          const client = { socket: new WebSocket(url, "rust-websocket"), heard: [] };
          client.socket.onmessage = ({ data }) => client.heard.push(data);
          return client;
        });
      },
      { url: `ws://127.0.0.1:${demo.port}/ws?topic=chromium`, n: CLIENTS },
    );
    const all = (condition) => page.evaluate(`clients.every((client) => ${condition})`);
    await publishUntilHeard("chromium", () => all("client.heard.length > 0"));
    await until("the last message", () => all('client.heard.at(-1) === "end"'));
    const extensions = await page.evaluate(() => clients.map(({ socket }) => socket.extensions));
    assert.deepEqual(new Set(extensions), new Set([AGREED]));
    for (const heard of await page.evaluate(() => clients.map((client) => client.heard))) {
      assert.deepEqual(heard.filter(isWanted), messages);
    }
    assert.deepEqual(faults, []);
  } finally {
    await page.close();
    await site.close();
  }
});

for (const [name, perMessageDeflate, answer] of [
  ["as it does by default", true, AGREED],
  ["with a small window", { serverMaxWindowBits: 10 }, `${AGREED}; server_max_window_bits=9`],
]) {
  test(`Node's ws agrees to it ${name} and few bytes come`, { skip }, async () => {
    const topic = `node/${name}`;
    const url = `ws://127.0.0.1:${demo.port}/ws?topic=${encodeURIComponent(topic)}`;
    const clients = Array.from({ length: CLIENTS }, () => {
      const client = { socket: new WebSocket(url, "rust-websocket", { perMessageDeflate }), heard: [] };
      client.socket.on("upgrade", (response) => {
        client.answer = response.headers["sec-websocket-extensions"];
        client.connection = response.socket;
      });
      client.socket.on("message", (data) => client.heard.push(data.toString()));
      return client;
    });
    try {
      await publishUntilHeard(topic, () => clients.every(({ heard }) => heard.length > 0));
      await until("the last message", () => clients.every(({ heard }) => heard.at(-1) === "end"));
      for (const { heard, answer: said } of clients) {
        assert.equal(said, answer);
        assert.deepEqual(heard.filter(isWanted), messages);
      }
      const read = Math.min(...clients.map(({ connection }) => connection.bytesRead));
      const sent = messages.join("").length;
      assert.ok(read < sent / 4, `${read} bytes came of ${sent}`);
    } finally {
      for (const { socket } of clients) socket.terminate();
    }
  });
}
