/** docs/recipes/bitcoin.md: what Bitcoin Core publishes, byte for byte, through a forwarder to a page. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { startChromium } from "../browser/support/chromium.js";
import { Document } from "./support/document.js";
import { messagesOf } from "./support/fixture.js";
import { keepFrames, kept } from "./support/frames.js";
import { Kitchen } from "./support/kitchen.js";

const NOTIFICATIONS = messagesOf("bitcoin.txt");
const HEADER_BYTES = 80;

let chromium;
before(async () => (chromium = await startChromium()));
after(() => chromium?.close());

/** A notification as the fixture has it, with another counter. */
function notification(name, counter) {
  const [topic, body] = NOTIFICATIONS.get(name);
  const last = Buffer.alloc(4);
  last.writeUInt32LE(counter);
  return [topic, body, last];
}

/** As people write what bytes hash to. */
function hash(bytes) {
  const once = createHash("sha256").update(bytes).digest();
  return createHash("sha256").update(once).digest().reverse().toString("hex");
}

test("the sample bytes are a block and its transaction", () => {
  const body = (name) => NOTIFICATIONS.get(name)[1];
  assert.equal(hash(body("rawtx")), body("hashtx").toString("hex"));
  assert.equal(hash(body("rawblock").subarray(0, HEADER_BYTES)), body("hashblock").toString("hex"));
  assert.deepEqual(body("rawblock").subarray(HEADER_BYTES + 1), body("rawtx"));
});

/** `bitcoin.conf` is for the node: what it says must be where the forwarder connects. */
function agrees(kitchen) {
  const source = kitchen.text("forwarder").match(/--source (\S+)/)[1];
  const topics = new Set([...NOTIFICATIONS.values()].map(([topic]) => topic.toString()));
  for (const line of kitchen.text("bitcoin.conf").trim().split("\n")) {
    const [option, address] = line.split("=");
    assert.ok(topics.has(option.replace(/^zmqpub/, "")), option);
    assert.equal(address, source);
  }
}

const FORWARDER_GAPS = 'trestle_forwarder_dropped_messages_total{cause="sequence_gap"}';
const EDGE_GAPS = 'trestle_edge_dropped_messages_total{hop="publisher",cause="sequence_gap"}';

/** Each starts what the recipe has, and gives who follows the counters: its log, and how many it misses. */
const ways = {
  "through a forwarder": async (kitchen) => {
    const forwarder = kitchen.start("forwarder");
    await kitchen.ready(9101);
    await kitchen.edge("edge");
    return { log: forwarder, missing: () => kitchen.metric(9101, FORWARDER_GAPS) };
  },
  "to an edge alone": async (kitchen) => {
    const edge = await kitchen.edge("edge-alone");
    return { log: edge, missing: () => kitchen.metric(9100, EDGE_GAPS) };
  },
};
for (const [way, start] of Object.entries(ways)) {
  test(`a block is on the page, and what the node dropped before it, ${way}`, () => served(start));
}

async function served(start) {
  const kitchen = await Kitchen.open("bitcoin");
  try {
    agrees(kitchen);
    const node = kitchen.publisher(28332);
    const { log, missing } = await start(kitchen);
    await kitchen.ready(9100);
    for (const prefix of ["hash", "sequence"]) await node.subscribed(prefix);
    const { page, faults } = await kitchen.page(chromium, "bitcoin.html");
    await kitchen.subscribed(2);
    const news = async () => (await page.locator("#news li").allTextContents()).toReversed();
    const shows = async (expected) => {
      await kitchen.until("the news", async () => (await news()).length >= expected.length).catch(() => {});
      assert.deepEqual(await news(), expected);
    };

    node.send(...notification("sequence-added", 21));
    const added = `${NOTIFICATIONS.get("sequence-added")[1].toString("hex", 0, 32)} in the mempool`;
    await shows([added]);
    node.send(...notification("sequence-connected", 25));
    node.send(...notification("hashblock", 1));
    const told = [added, ...kitchen.text("shown").trim().split("\n")];
    await shows(told);
    // The operator hears of it, too.
    await kitchen.until("the count", async () => (await missing()) === 3);
    await log.logged(/a publisher's (own )?counter lea/);

    // A counter that is four spaces, one that wraps, and one of a node that was restarted.
    const hashtx = `hashtx ${NOTIFICATIONS.get("hashtx")[1].toString("hex")}`;
    for (const counter of [0x20202020, 0x20202021, 0, 0xffff_ffff, 0, 1]) node.send(...notification("hashtx", counter));
    await shows([...told, ...Array(6).fill(hashtx)]);
    assert.equal(await missing(), 3);

    // What is not recorded is fetched when somebody wants it, and comes untouched.
    await keepFrames(page, `ws://127.0.0.1:${kitchen.port(8080)}/ws?topic=raw`);
    await node.subscribed("raw");
    const raw = ["rawtx", "rawblock"].map((name) => notification(name, 9));
    for (const frames of raw) node.send(...frames);
    const events = async () => (await kept(page)).map((text) => JSON.parse(text).event).filter(Boolean);
    await kitchen.until("a transaction and a block", async () => (await events()).length === raw.length);
    const base64 = (bytes) => ({ base64: bytes.toString("base64") });
    for (const [event, [topic, ...parts]] of (await events()).map((event, i) => [event, raw[i]])) {
      assert.deepEqual([event.topic, event.parts, event.position], [topic.toString(), parts.map(base64), undefined]);
    }
    assert.deepEqual(faults, []);
    await page.close();
  } finally {
    await kitchen.close();
  }
}

test("nothing in the recipe is untried", () => {
  assert.deepEqual(Document.of("bitcoin").unused, []);
});
