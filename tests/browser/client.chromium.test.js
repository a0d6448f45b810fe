/** The client module in Chromium: the same scripts as in Node, and what only a browser has. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { startChromium } from "./support/chromium.js";
import { FakeEdge } from "./support/fake.js";
import { scenarios } from "./support/scenarios.js";
import { startSite } from "./support/site.js";
import { until } from "./support/wait.js";

let chromium;
let site;

before(async () => {
  const rig = await readFile(new URL("./support/rig.js", import.meta.url), "utf8");
  // Without the policy of the page: these connect to the fake edge at another port.
  site = await startSite({ "/empty.html": "<!doctype html><title>rig</title><link rel=icon href=/favicon.svg>", "/rig.js": rig });
  chromium = await startChromium();
});

after(async () => {
  await chromium?.close();
  await site?.close();
});

async function openRig() {
  const { page, faults } = await chromium.open();
  await page.goto(`${site.origin}/empty.html`);
  await page.evaluate(async () => {
    const [{ makeRig }, client] = await Promise.all([import("/rig.js"), import("/client.js")]);
    globalThis.rig = makeRig(client);
  });
  const call = (method, ...args) => page.evaluate(([method, args]) => globalThis.rig[method](...args), [method, args]);
  return { page, faults, call, end: () => page.close() };
}

// Of the close codes one for each reaction: the table itself is tried in Node.
scenarios("client in Chromium", openRig, { stops: [1008, 4500, 4999], returns: [[1012, 40], [1013, 160], [4401, 40]] });

test("client in Chromium: a callback that throws starves no other subscription", async () => {
  const edge = await FakeEdge.start();
  const { page, faults, call, end } = await openRig();
  await page.evaluate(async (url) => {
    const { connect } = await import("/client.js");
    const client = connect(url);
    client.subscribe("", { onEvent: () => { throw new Error("mine"); } });
    globalThis.seen = [];
    client.subscribe("", { onEvent: (event) => globalThis.seen.push(event.text) });
  }, edge.url);
  // An open server would keep a failed run from its end.
  try {
    const peer = await edge.welcome();
    for (const _ of [1, 2]) await peer.subscribed();
    for (const text of ["1", "2"]) peer.event({ topic: "t", text });
    await until("both events", () => page.evaluate(() => globalThis.seen.length === 2));
    await until("the errors on the console", () => faults.filter((fault) => fault.includes("mine")).length === 2);
    assert.deepEqual(await call("log"), []);
  } finally {
    await end();
    await edge.close();
  }
});

test("client in Chromium: an address relative to the page, and one that is none", async () => {
  const auto = await FakeEdge.start(site.server);
  const { page, end } = await openRig();
  await page.evaluate(async () => {
    const { connect } = await import("/client.js");
    globalThis.client = connect("/ws");
  });
  const peer = await auto.accept();
  assert.equal(peer.origin, site.origin);
  const thrown = await page.evaluate(async () => {
    const { connect } = await import("/client.js");
    try {
      connect("mailto:somebody");
      return "nothing";
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(thrown, "TypeError");
  await end();
  await auto.close();
});
