/** A real edge: `trestle demo` in a process of its own, its page, and the page of the original blog post. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { keep, startChromium } from "./support/chromium.js";
import { BINARY, Demo, skip } from "./support/demo.js";
import { HttpOnlyProxy } from "./support/proxy.js";
import { POLICY, startSite } from "./support/site.js";
import { until } from "./support/wait.js";

/** From the navigation to the first event; a person is promised two seconds, a machine that also compiles gets more. */
const FIRST_EVENT_MAX_MS = 10_000;

let chromium;
before(async () => {
  if (skip) return;
  assert.ok(BINARY, "TRESTLE_BIN does not name a trestle binary");
  chromium = await startChromium();
});
after(() => chromium?.close());

async function live(page, deadlineMs) {
  await until("the page live", async () => (await page.locator("#state-text").innerText()) === "Live", deadlineMs);
}

async function received(page) {
  return Number((await page.locator("#received").innerText()).replaceAll(",", ""));
}

/** Polls within the page, so that no way to and fro is measured. */
function firstEventMs(page) {
  return page.evaluate(
    (maxMs) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (document.querySelector("#topics .row[aria-level]")) resolve(Math.round(performance.now()));
          else if (performance.now() > maxMs) reject(new Error(`no event on the page within ${maxMs} ms`));
          else requestAnimationFrame(look);
        };
        look();
      }),
    FIRST_EVENT_MAX_MS,
  );
}

test("the demo's page shows its first event soon, then jobs and hosts", { skip }, async (t) => {
  const demo = await Demo.start();
  try {
    const views = { light: {}, dark: { colorScheme: "dark" }, phone: { width: 360, height: 780 } };
    for (const [name, options] of Object.entries(views)) {
      const { page, faults, requests } = await chromium.open(options);
      const response = await page.goto(`${demo.origin}/`);
      t.diagnostic(`${name}: first event ${await firstEventMs(page)} ms after the navigation`);
      const policy = response.headers()["content-security-policy"];
      assert.equal(policy, POLICY, "the other tests' pages have the same");
      assert.doesNotMatch(policy, /unsafe-/);
      await until("a job", async () => (await page.locator(".job").count()) > 0);
      await until("CPU of a host", async () => /\d+%/.test(await page.locator(".dial .ring b").first().innerText()));
      // Seconds of the feed, so that the picture has a curve and bars that have moved.
      if (name === "light") await until("messages to draw", async () => (await received(page)) >= 60);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing scrolls sideways");
      await keep(page, `demo-${name}`);
      assert.deepEqual(faults, []);
      assert.deepEqual(requests.filter((url) => new URL(url).host !== new URL(demo.origin).host), []);
      await page.close();
    }
    assert.equal(await demo.stop(), 0);
  } finally {
    await demo.kill();
  }
});

test("an edge that is killed and comes back is live on the page again by itself", { skip }, async (t) => {
  let demo = await Demo.start();
  const { page, faults } = await chromium.open();
  try {
    await page.goto(`${demo.origin}/`);
    await live(page);
    const { port } = demo;
    await demo.kill();
    const killed = Date.now();
    await until("the page saying that it reconnects", async () => /^Reconnecting/.test(await page.locator("#notice-title").innerText()));
    t.diagnostic(`said ${Date.now() - killed} ms after the kill`);
    assert.equal(await page.locator("#state-text").innerText(), "Reconnecting");
    await keep(page, "demo-reconnecting");
    const before = await received(page);
    demo = await Demo.start(port);
    const up = Date.now();
    await live(page, 25_000);
    await until("new messages", async () => (await received(page)) > before);
    t.diagnostic(`live ${Date.now() - up} ms after the edge was back`);
    assert.equal(await page.locator("#notice").isVisible(), false);
    // What Chromium itself says of each refused attempt, which no page can prevent.
    assert.deepEqual(faults.filter((fault) => !/^WebSocket connection to .* failed/.test(fault)), []);
  } finally {
    await page.close();
    await demo.kill();
  }
});

/** The page of the original post, as its readers have it: any origin, `rust-websocket`, and text. */
const blog = (address) => `<!doctype html>
<title>Rust websocket</title>
<link rel="icon" href="data:,">
<ul id="messages"></ul>
<script>
  const kinds = (globalThis.kinds = new Set());
  const socket = new WebSocket(${JSON.stringify(address)}, "rust-websocket");
  socket.onopen = () => { document.title = "open " + socket.protocol; };
  socket.onmessage = ({ data }) => {
    kinds.add(typeof data);
    const item = document.createElement("li");
    item.textContent = data;
    document.getElementById("messages").append(item);
  };
  socket.onclose = ({ code }) => { document.title = "closed " + code; };
</script>
`;

for (const path of ["/", "/ws", "/?topic=jobs/"]) {
  test(`the original page at ${path} reads the demo as text`, { skip }, async () => {
    const demo = await Demo.start();
    const site = await startSite({ "/blog.html": blog(`ws://127.0.0.1:${demo.port}${path}`) });
    const { page, faults } = await chromium.open();
    try {
      await page.goto(`${site.origin}/blog.html`);
      await until("the protocol", async () => (await page.title()) === "open rust-websocket");
      const messages = page.locator("#messages li");
      await until("five messages", async () => (await messages.count()) >= 5);
      assert.deepEqual(await page.evaluate(() => [...kinds]), ["string"]);
      const bodies = (await messages.allTextContents()).map((body) => JSON.parse(body));
      const key = path.includes("jobs/") ? /^job$/ : /^(job|gauges)$/;
      for (const body of bodies) assert.ok(Object.keys(body).some((name) => key.test(name)), JSON.stringify(body));
      await demo.stop();
      await until("the end", async () => /^closed \d+/.test(await page.title()));
      assert.equal(await page.title(), "closed 1012");
      assert.deepEqual(faults, []);
    } finally {
      await page.close();
      await site.close();
      await demo.kill();
    }
  });
}

test("what a page publishes comes to others as an event, and elsewhere it is forbidden", { skip }, async () => {
  const demo = await Demo.start();
  const { page, faults } = await chromium.open();
  try {
    await page.goto(`${demo.origin}/`);
    const heard = await page.evaluate(async () => {
      const { connect } = await import("/client.js");
      const [reader, writer] = [connect("/ws"), connect("/ws")];
      const chat = reader.subscribe("chat/");
      await chat.ready;
      const key = "the same";
      const first = await writer.publish("chat/lobby", { from: "a page" }, { key });
      const repeated = await writer.publish("chat/lobby", { from: "a page" }, { key });
      await writer.publish("chat/lobby", ["head", Uint8Array.of(0, 255)], { parts: true });
      const forbidden = await writer.publish("jobs/1", "x").catch((error) => error.code);
      const events = [];
      for await (const event of chat) if (events.push(event) === 2) break;
      writer.close();
      reader.close();
      return { first, repeated, forbidden, events };
    });
    assert.deepEqual(heard.repeated, heard.first);
    assert.equal(heard.events[0].position, heard.first.position);
    assert.deepEqual(heard.events.map(({ topic }) => topic), ["chat/lobby", "chat/lobby"]);
    assert.deepEqual(heard.events.map(({ data, parts }) => data ?? parts), [{ from: "a page" }, [{ text: "head" }, { base64: "AP8=" }]]);
    assert.equal(heard.forbidden, "forbidden");
    assert.deepEqual(faults, []);
  } finally {
    await page.close();
    await demo.kill();
  }
});

test("in the binary format a page lays numbers over what came, and hears all else as in JSON", { skip }, async () => {
  const demo = await Demo.start();
  const { page, faults } = await chromium.open();
  try {
    await page.goto(`${demo.origin}/`);
    const heard = await page.evaluate(async () => {
      const { connect } = await import("/client.js");
      const clients = { json: connect("/ws"), binary: connect("/ws", { format: "binary" }) };
      const chats = Object.values(clients).map((client) => client.subscribe(["chat/", "jobs/"]));
      const subscribed = await Promise.all(chats.map(({ ready }) => ready));
      for await (const event of clients.json.subscribe("jobs/")) if (event.progress) break;
      const numbers = Float64Array.of(1.5, Math.PI, -2);
      await clients.binary.publish("chat/numbers", numbers);
      await clients.json.publish("chat/numbers", ["é", numbers], { parts: true });
      const [json, binary] = await Promise.all(chats.map(async (chat) => {
        const events = new Map();
        for await (const event of chat) {
          events.set(event.position, event);
          if (event.parts) return events;
        }
      }));
      const over = ({ buffer, byteOffset, byteLength }) => [...new Float64Array(buffer, byteOffset, byteLength / 8)];
      const [single, parts] = [...binary.values()].filter(({ topic }) => topic === "chat/numbers");
      const typed = [...binary].filter(([, { progress }]) => progress);
      const stranger = await clients.binary.subscribe(Uint8Array.of(0xff), { policy: "conflate", max_hz: 2 }).ready;
      for (const client of Object.values(clients)) client.close();
      return {
        views: [over(single.bytes), over(parts.parts[1].bytes)],
        text: new TextDecoder().decode(parts.parts[0].bytes),
        typedEvents: typed.filter(([position]) => json.has(position)).map(([position, event]) => [event, json.get(position)]),
        subscribed: subscribed.map(({ topics, recorded }) => ({ topics, recorded })),
        stranger: stranger.topics_base64,
      };
    });
    assert.deepEqual(heard.views, [[1.5, Math.PI, -2], [1.5, Math.PI, -2]]);
    assert.ok(heard.typedEvents.length > 0);
    for (const [binary, json] of heard.typedEvents) assert.deepEqual(binary, json);
    assert.deepEqual([heard.text, heard.stranger], ["é", ["/w=="]]);
    assert.deepEqual(heard.subscribed[0], heard.subscribed[1]);
    assert.deepEqual(faults, []);
  } finally {
    await page.close();
    await demo.kill();
  }
});

test("the page is live also where no WebSocket gets through", { skip }, async () => {
  const demo = await Demo.start();
  const proxy = await HttpOnlyProxy.start(demo.port);
  const { page, faults } = await chromium.open();
  try {
    await page.goto(`${proxy.origin}/`);
    await live(page);
    await until("messages", async () => (await received(page)) >= 5);
    assert.equal(await page.locator("#notice").isVisible(), false);
    assert.deepEqual(faults.filter((fault) => !/^WebSocket connection to .* failed/.test(fault)), []);
  } finally {
    await page.close();
    await proxy.close();
    await demo.kill();
  }
});
