/** The client module where an edge, a listener or the platform misbehaves; and its back-off by properties. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Backoff } from "../../web/client/backoff.js";
import { CLOSE_CODES, closeCode } from "../../web/client/close.js";
import { BoundedQueue } from "../../web/client/queue.js";
import { TrestleError } from "../../web/client.js";
import { FakeEdge } from "./support/fake.js";
import { closeClients, logged as loggedAt } from "./support/logged.js";
import { until } from "./support/wait.js";

/** @type {FakeEdge} */
let edge;

beforeEach(async () => {
  edge = await FakeEdge.start();
});

afterEach(async () => {
  closeClients();
  await edge.close();
});

const logged = (options = {}) => loggedAt(edge.url, options);

test("messages of the right shape with wrong contents are told, and harm nothing else", async () => {
  const { client, of } = logged();
  const texts = [];
  client.subscribe("", { onEvent: (event) => texts.push(event.text) });
  const peer = await edge.welcome();
  await peer.subscribed();
  const wrong = [
    { event: { topic_base64: "*", text: "x" } },
    { event: { base64: "====" } },
    { lost: { topics: 5, cause: "link_hole" } },
    { lost: { topics_base64: ["*"], cause: "link_hole" } },
  ];
  for (const message of wrong) peer.send(message);
  for (const message of [{ reply: 5 }, { heartbeat: true }, { welcome: { session: "again" } }, { event: null }, []]) peer.send(message);
  peer.event({ topic: "t", text: "after" });
  await until("the event after", () => texts.length > 0);
  assert.deepEqual(texts, ["after"]);
  assert.deepEqual(of("error").map(({ code, retry }) => [code, retry]), wrong.map(() => ["bad_request", false]));
  assert.ok(of("error").every((error) => error instanceof TrestleError && error instanceof Error));
  assert.equal(client.state, "open");
  assert.equal(edge.peers.length, 1);
});

test("closing inside a listener is final in every state", async () => {
  for (const state of ["connecting", "open", "waiting"]) {
    const { client, of, seen } = logged();
    client.addEventListener(state, () => client.close());
    if (state !== "connecting") (await edge.welcome()).cut();
    await seen("closed");
    assert.equal(client.state, "closed");
    // What the client still had open or planned would be here before a second client is.
    const connections = edge.peers.length;
    const second = logged();
    await edge.welcome();
    await second.seen("open");
    assert.equal(edge.peers.length, connections + 1, state);
    assert.equal(of("connecting").length, 1, state);
    assert.equal(of("closed").length, 1, state);
  }
});

test("a closed client neither subscribes nor comes back", async () => {
  const { client, of } = logged();
  client.close();
  client.close();
  client.reconnect();
  assert.throws(() => client.subscribe("jobs/"), (error) => error instanceof TrestleError && error.code === "closed");
  assert.equal(of("closed").length, 1);
  await Promise.resolve();
  assert.deepEqual([of("connecting").length, client.state], [0, "closed"]);
});

test("an address that the platform forbids ends the client instead of leaving it to connect for ever", async () => {
  class Forbidding {
    constructor() {
      throw new DOMException("insecure", "SecurityError");
    }
  }
  const { client, seen } = logged({ WebSocket: Forbidding });
  const subscription = client.subscribe("jobs/");
  assert.equal((await seen("closed"))[0].reason, "insecure");
  await assert.rejects(subscription.ready, (error) => error instanceof TrestleError && error.code === "closed");
});

test("an absurd heartbeat period does not overflow a timer, which would then fire every millisecond", async () => {
  const warnings = [];
  const warn = (warning) => warnings.push(warning.name);
  process.on("warning", warn);
  const { client, of, seen } = logged();
  const peer = await edge.welcome({ heartbeat_ms: 1e13 });
  await seen("open");
  const subscription = client.subscribe("t");
  await peer.subscribed();
  await subscription.ready;
  process.off("warning", warn);
  assert.deepEqual([warnings, of("waiting")], [[], []]);
});

test("the pause of a goodbye outlives a change of the network", async () => {
  const network = Object.assign(new EventTarget(), { onLine: false });
  const { client, of, seen } = logged({ network });
  const peer = await edge.welcome();
  peer.send({ goodbye: { reason: "draining", reconnect_after_ms: 60_000 } });
  peer.close(1012);
  const [{ delayMs }] = await seen("waiting");
  assert.ok(delayMs <= 60_000 && delayMs > 50_000, `${delayMs} ms`);
  network.onLine = true;
  network.dispatchEvent(new Event("online"));
  const second = logged();
  await edge.welcome();
  await second.seen("open");
  assert.deepEqual([client.state, of("connecting").length], ["waiting", 1]);
});

test("after a sleep, which timers do not count, it looks as soon as somebody looks at the page", async (t) => {
  const network = Object.assign(new EventTarget(), { onLine: true });
  const { client, of, seen } = logged({ network });
  let sleptMs = 0;
  const now = Date.now;
  t.mock.method(Date, "now", () => now() + sleptMs);
  const peer = await edge.welcome();
  await seen("open");
  network.dispatchEvent(new Event("visibilitychange"));
  assert.deepEqual([client.state, of("waiting")], ["open", []]);

  sleptMs = 10 * 60_000;
  network.dispatchEvent(new Event("visibilitychange"));
  assert.equal((await seen("waiting"))[0].reason, "no heartbeat");
  const next = await edge.welcome();
  await seen("open", 2);
  next.send({ goodbye: { reason: "draining", reconnect_after_ms: 60_000 } });
  next.close(1012);
  await seen("waiting", 2);
  network.dispatchEvent(new Event("pageshow"));
  assert.equal(client.state, "waiting");

  sleptMs += 60_000;
  network.dispatchEvent(new Event("pageshow"));
  await edge.welcome();
  await seen("open", 3);
  peer.cut();
});

test("of two that share a topic the later one's options hold, also after a third has left", async () => {
  const { client } = logged();
  client.subscribe(["x/", "y/"], { policy: "drop_oldest", snapshot: true });
  client.subscribe("x/", { policy: "conflate", max_hz: 4 });
  const third = client.subscribe(["y/", "y/", "z/"], {});
  const peer = await edge.welcome();
  for (let n = 0; n < 2; n += 1) await peer.subscribed();
  assert.deepEqual((await peer.subscribed()).subscribe, { topics: ["y/", "z/"] });
  const left = third.unsubscribe();
  // Not x/, where the second one's options hold; and no second snapshot.
  assert.deepEqual((await peer.subscribed()).subscribe, { topics: ["y/"], policy: "drop_oldest" });
  const { id, unsubscribe } = await peer.command();
  assert.deepEqual(unsubscribe, { topics: ["z/"] });
  peer.send({ reply: { id, unsubscribed: unsubscribe } });
  await left;
});

test("an unsubscribe ends even where its reply never comes, and who reads sees the end", async () => {
  const { client, seen } = logged();
  const subscription = client.subscribe("jobs/");
  const reading = (async () => {
    for await (const event of subscription) assert.fail(JSON.stringify(event));
    return "end";
  })();
  const peer = await edge.welcome();
  await peer.subscribed();
  await subscription.ready;
  const left = subscription.unsubscribe();
  await peer.command();
  peer.cut();
  await left;
  assert.equal(await reading, "end");
  await seen("waiting");
  const next = await edge.welcome();
  client.subscribe("other/");
  assert.deepEqual((await next.subscribed()).subscribe, { topics: ["other/"] });
});

test("back-off: every delay lies in its window, and the window doubles from 0.5–1 s to 0.5–20 s", () => {
  const [minMs, maxMs] = [500, 20_000];
  const windows = [1000, 2000, 4000, 8000, 16_000, 20_000, 20_000];
  for (let step = 0; step <= 100; step += 1) {
    const random = Math.min(step / 100, 1 - Number.EPSILON);
    const backoff = new Backoff(minMs, maxMs, () => random);
    const drawn = windows.map(() => backoff.next());
    assert.deepEqual(drawn, windows.map((window) => Math.round(minMs + random * (window - minMs))));
    backoff.reset();
    assert.equal(backoff.next(true), Math.round(minMs + random * (maxMs - minMs)), "slowly");
  }
  const long = new Backoff(minMs, maxMs, () => 0.999_999);
  for (let n = 0; n < 5000; n += 1) assert.ok(long.next() <= maxMs);
});

test("close codes: 4000–4499 come back, 4500–4999 never, and each has a meaning", () => {
  for (let code = 1000; code < 5000; code += 1) {
    const { then, meaning } = closeCode(code);
    assert.notEqual(meaning, "");
    if (code >= 4000) assert.equal(then === "stop", code >= 4500, `${code}`);
  }
  assert.deepEqual([1008, 1009, 1012, 1013, 4008, 4029].map((code) => closeCode(code).then), ["stop", "stop", "reconnect", "slowly", "reconnect", "slowly"]);
  assert.ok(Object.isFrozen(CLOSE_CODES));
});

test("queue: agrees with a plain list under any order of pushes, reads and the end", async () => {
  let seed = 7;
  const random = (below) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  for (let round = 0; round < 200; round += 1) {
    const bound = 1 + random(4);
    const queue = new BoundedQueue(bound);
    const model = [];
    const [read, expected] = [[], []];
    for (let n = 0; n < 40; n += 1) {
      if (random(3) > 0) {
        model.push(n);
        assert.equal(queue.push(n), model.length > bound ? 1 : 0);
        if (model.length > bound) model.shift();
      } else if (model.length > 0) {
        read.push((await queue.next()).value);
        expected.push(model.shift());
      }
    }
    queue.end(new Error("the cause"));
    assert.equal(queue.push(99), 0);
    for (const item of model) assert.deepEqual(await queue.next(), { value: item, done: false });
    await assert.rejects(queue.next(), /the cause/);
    assert.deepEqual(await queue.next(), { value: undefined, done: true });
    assert.deepEqual(read, expected);
  }
});
