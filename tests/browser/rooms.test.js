/** The pure rooms of the page, and topics, by properties where there is one. The seed of a failure is in its message. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { rawMember, Topic, topicOf } from "../../web/client/topic.js";
import { bytes, count, gauge, rate } from "../../web/page/format.js";
import { HeldEvents } from "../../web/page/held.js";
import { Meter, SECONDS } from "../../web/page/meter.js";
import { preview } from "../../web/page/topics/preview.js";
import { NODES_MAX, topicText, TopicTree, typedTopic } from "../../web/page/topics/tree.js";

/** A small seeded generator (mulberry32): the same seed gives the same test. */
function seeded(seed) {
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(random() * n);
  return { random, below, pick: (list) => list[below(list.length)] };
}

function property(name, rounds, check) {
  test(name, () => {
    const first = Number(process.env.SEED ?? Date.now() % 1e9);
    for (let seed = first; seed < first + rounds; seed += 1) {
      try {
        check(seeded(seed));
      } catch (error) {
        error.message = `SEED=${seed}: ${error.message}`;
        throw error;
      }
    }
  });
}

/** Bytes that are often prefixes of each other, and often not UTF-8. */
function someBytes({ below, pick }) {
  const pieces = [[0x61], [0x2f], [0xc3, 0xa9], [0xc3], [0xa9], [0xf0, 0x9f, 0x8c, 0x89], [0xff], [0], [0x5c, 0x78]];
  return Uint8Array.from(Array.from({ length: below(5) }, () => pick(pieces)).flat());
}

function someJson({ below, pick }, depth = 0) {
  const space = pick(["", "", " ", "\n\t"]);
  const scalar = () => pick(["1", "-2.5e3", "true", "null", '""', '"}"', '"a\\"]{"', '"\\\\"', '"é🌉"', '"\\u007b"']);
  if (depth > 3 || below(3) === 0) return space + scalar() + space;
  const items = Array.from({ length: below(4) }, () => someJson({ below, pick }, depth + 1));
  if (below(2) === 0) return `${space}[${items.length ? items.join(",") : space}]${space}`;
  const members = items.map((item, at) => `${pick(["", " "])}"k${at}${pick(["", '\\"', "}", ":"])}"${space}:${item}`);
  return `${space}{${members.join(",")}}${space}`;
}

property("topics match as their bytes do", 2000, (random) => {
  const [topic, prefix] = [someBytes(random), someBytes(random)];
  const starts = Buffer.from(topic).subarray(0, prefix.length).equals(Buffer.from(prefix));
  assert.equal(Topic.from(topic).matches(Topic.from(prefix), false), starts);
  assert.equal(Topic.from(topic).matches(Topic.from(prefix), true), starts && topic.length === prefix.length);
  assert.deepEqual(Topic.ofBase64(Topic.from(topic).base64).bytes, topic);
  assert.equal(Topic.from(topic).key === Topic.from(prefix).key, Buffer.from(topic).equals(Buffer.from(prefix)));
});

property("a topic that is shown can be typed", 1000, (random) => {
  const bytes = someBytes(random).filter((byte) => byte !== 0x5c);
  assert.deepEqual(Topic.from(typedTopic(topicText(Topic.from(bytes)))).bytes, Uint8Array.from(bytes));
});

property("the raw text of a member is what stood there", 2000, (random) => {
  const [before, wanted, after] = [someJson(random), someJson(random), someJson(random)];
  const frame = `{"x":${before},"event":{"a":${before},"data":${wanted},"z":${after}},"y":${after}}`;
  assert.equal(rawMember(frame, ["event", "data"]), wanted);
  assert.equal(rawMember(frame, ["event", "none"]), null);
  assert.equal(rawMember(frame, ["none", "data"]), null);
  const event = JSON.parse(`{"data":${wanted}}`);
  assert.equal(topicOf(event, frame).text, wanted);
});

property("the tree's sums agree with a plain list", 100, (random) => {
  const tree = new TopicTree();
  const list = [];
  for (let n = 0; n < 200; n += 1) {
    const topic = Array.from({ length: 1 + random.below(4) }, () => random.pick(["a", "b", "c10", "c9"])).join("/");
    list.push(topic);
    tree.take({ topic, text: String(n) }, n + 1, 1);
  }
  if (random.below(2) === 0) {
    tree.retain((topic) => topic?.text?.startsWith("a") ?? false);
    list.splice(0, list.length, ...list.filter((topic) => topic.startsWith("a")));
  }
  tree.sum();
  const check = (node, path) => {
    const below = list.filter((topic) => path === "" || topic === path || topic.startsWith(`${path}/`));
    assert.equal(node.total, below.length, path);
    assert.equal(node.own, list.filter((topic) => topic === path).length, path);
    assert.deepEqual(node.children.map((child) => child.name), [...node.children.map((child) => child.name)].sort((a, b) => a.localeCompare(b, "en", { numeric: true })));
    for (const child of node.children) check(child, path === "" ? child.name : `${path}/${child.name}`);
  };
  check(tree.root, "");
  assert.equal(tree.topics, new Set(list).size);
});

test("the tree stays bounded, and counts what finds no room", () => {
  const tree = new TopicTree();
  for (let n = 0; n < 10_000; n += 1) tree.take({ topic: `random/${n}/x`, text: "x".repeat(10_000) }, 1, 1);
  tree.take({ topic: `${"deep/".repeat(60)}end`, text: "x" }, 1, 1);
  tree.sum();
  assert.ok(tree.nodes <= NODES_MAX && tree.nodes > NODES_MAX - 3, `${tree.nodes}`);
  assert.equal(tree.root.total, 10_001);
  assert.equal(tree.unplaced, 10_001 - tree.topics);
  tree.retain(() => false);
  assert.deepEqual([tree.nodes, tree.topics, tree.unplaced], [0, 0, 0]);
  tree.take({ topic: "jobs/1", text: "there is room again" }, 1, 1);
  assert.equal(tree.topics, 1);
});

test("the rate of a topic is right from its first seconds on, and falls when it falls silent", () => {
  const tree = new TopicTree();
  for (let second = 1; second <= 5; second += 1) {
    for (let n = 0; n < 10; n += 1) tree.take({ topic: "t", text: "x" }, second * 1000, 1);
    tree.tick(second * 1000);
    tree.sum();
    assert.ok(Math.abs(tree.root.rate - 10) < 1e-9, `${tree.root.rate} after ${second} s`);
  }
  for (let second = 6; second <= 30; second += 1) tree.tick(second * 1000);
  tree.sum();
  assert.ok(tree.root.rate < 0.05, `${tree.root.rate}`);
});

test("no number is wider than its place, whatever a gauge may be", () => {
  const extremes = [0, -0, 0.001, 99.95, 123_456, 1e12, 999_999_999_999_999, 1e15, 1e21, 1e308, Number.MIN_VALUE];
  for (const n of extremes.flatMap((n) => [n, -n])) {
    const texts = [count(n), rate(n), bytes(n), ...["n", "cpu.percent", "x.bytes", "x.bytes_per_s"].map((name) => gauge(name, n))];
    for (const text of texts) assert.ok(text.length <= 22 && !/NaN|undefined/.test(text), `${n}: ${text}`);
  }
  assert.deepEqual([gauge("n", 1e308), gauge("cpu.percent", 12.34), count(18_446_744_073_709_551_615)], ["1E308", "12.3 %", "1.84E19"]);
});

test("a preview is bounded and says what it is", () => {
  const large = "<b>é".repeat(500_000);
  for (const event of [{ text: large }, { data: { large } }, { base64: Buffer.from(large).toString("base64") }, { parts: Array(500).fill({ text: large.slice(0, 2000) }) }]) {
    const { line, detail } = preview(event);
    assert.ok(line.length <= 161 && detail.length <= 4097, `${Object.keys(event)}: ${line.length}, ${detail.length}`);
  }
  assert.equal(preview({ base64: "AP8=" }).line, "2 B: 00 ff");
  assert.equal(preview({ base64: "" }).kind, "binary");
  assert.equal(preview({}).kind, "empty");
  assert.equal(preview({ progress: { job: "j", done: 3, total: "9007199254740993", unit: "files", state: "running" } }).line, "j: 3 of 9007199254740993 files, running");
  const gauges = { "memory.percent": 41.26, "memory.used_bytes": 2 * 1024 ** 3 };
  assert.equal(preview({ status: { gauges } }).line, "41.3 % · used 2 GiB");
});

test("the meter counts whole seconds and forgets the oldest", () => {
  const meter = new Meter(10_500);
  const at = (second, messages) => {
    for (let n = 0; n < messages; n += 1) meter.add(second * 1000 + n, 10);
  };
  at(11, 5);
  at(12, 7);
  at(14, 2);
  meter.advance(15_000);
  const [seconds, counts] = meter.history();
  assert.deepEqual(seconds.slice(-4), [11, 12, 13, 14]);
  assert.deepEqual(counts.slice(-5), [null, 5, 7, 0, 2], "the first second was not a whole one");
  assert.deepEqual([meter.received, meter.receivedBytes, meter.peak], [14, 140, 7]);
  meter.advance(15_000 + SECONDS * 1000);
  assert.equal(meter.history()[1].length, SECONDS);
  assert.equal(meter.history()[1].some((count) => count !== 0), false);
  meter.advance(1_000_000_000);
  assert.equal(meter.rate(1_000_000_000), 0);
});

test("what arrives while paused is held by topic, and bounded", () => {
  const held = new HeldEvents();
  for (let n = 0; n < 100; n += 1) held.take({ topic: `t${n % 3}`, text: String(n) }, 100);
  held.take({ topic: "t0", snapshot: true, text: "s" }, 100);
  assert.equal(held.messages, 100);
  assert.deepEqual(held.release().map(({ event, messages }) => [event.topic, event.text, messages]), [["t1", "97", 33], ["t2", "98", 33], ["t0", "s", 34]]);
  assert.deepEqual([held.messages, held.release()], [0, []]);
  for (let n = 0; n < 30; n += 1) held.take({ topic: `large${n}`, text: "" }, 1024 * 1024);
  assert.equal(held.messages, 30);
  assert.equal(held.release().length, 16);
});
