/** Stores of the client module, against a scripted edge. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { WebSocket } from "ws";
import { LAST_VALUES, TOPICS_MAX } from "../../web/client/store.js";
import { connect } from "../../web/client.js";
import { FakeEdge } from "./support/fake.js";
import { until } from "./support/wait.js";

/** @type {FakeEdge} */
let edge;
/** @type {import("../../web/client.js").Client} */
let client;

beforeEach(async () => {
  edge = await FakeEdge.start();
  client = connect(edge.url, { WebSocket, reconnectMinMs: 20, random: () => 0 });
});

afterEach(async () => {
  client.close();
  await edge.close();
});

const texts = (values) => Object.fromEntries([...values].map(([topic, { text }]) => [topic, text]));

test("the value is the last event of each topic, another one for each change, and listeners share one subscription", async () => {
  const store = client.toStore("jobs/", { policy: "conflate" });
  const peer = await edge.welcome();
  const [seen, others] = [[], []];
  const stop = store.subscribe((values) => seen.push(values));
  const stopOther = store.subscribe((values) => others.push(values));
  assert.deepEqual([seen.map(texts), others.length], [[{}], 1]);
  assert.deepEqual((await peer.subscribed()).subscribe, { topics: ["jobs/"], snapshot: true, policy: "conflate" });
  for (const [topic, text] of [["jobs/1", "a"], ["jobs/2", "b"], ["jobs/1", "c"]]) peer.event({ topic, text });
  await until("both", () => store.getSnapshot().size === 2 && texts(store.getSnapshot())["jobs/1"] === "c");
  assert.equal(store.getSnapshot(), store.getSnapshot());
  assert.equal(seen.at(-1), store.getSnapshot());
  assert.deepEqual(texts(seen[0]), {}, "what was given out does not change");
  stop();
  stop();
  const told = seen.length;
  peer.event({ topic: "jobs/1", text: "d" });
  await until("the other's", () => texts(others.at(-1))["jobs/1"] === "d");
  assert.equal(seen.length, told);
  assert.equal(peer.waitingCommands, 0);
  stopOther();
  assert.deepEqual((await peer.command()).unsubscribe, { topics: ["jobs/"] });
  // Who listens again subscribes again, and meanwhile sees what was.
  const again = store.subscribe((values) => seen.push(values));
  assert.equal(texts(seen.at(-1))["jobs/1"], "d");
  await peer.subscribed();
  again();
});

test("a value of one's own, of the events of a frame", async () => {
  const store = client.toStore("n/", { initial: 0, reduce: (sum, events) => events.reduce((sum, { data }) => sum + data[0], sum) });
  const seen = [];
  store.subscribe((sum) => seen.push(sum));
  const peer = await edge.welcome();
  await peer.subscribed();
  const many = 10_000;
  for (let n = 1; n <= many; n += 1) peer.event({ topic: "n/", data: [n] });
  await until("the sum", () => seen.at(-1) === (many * (many + 1)) / 2);
  assert.ok(seen.length < many / 10, `told ${seen.length} times of ${many} events`);
});

test("no more topics are held than the bound, and the quietest leaves", () => {
  const events = Array.from({ length: TOPICS_MAX + 10 }, (_, n) => ({ topic: `t${n}`, text: "x" }));
  const values = LAST_VALUES.reduce(LAST_VALUES.reduce(LAST_VALUES.initial, events.slice(0, TOPICS_MAX)), [events[0], ...events.slice(TOPICS_MAX)]);
  assert.equal(values.size, TOPICS_MAX);
  assert.ok(values.has("t0") && values.has(`t${TOPICS_MAX + 9}`) && !values.has("t10") && values.has("t11"));
});
