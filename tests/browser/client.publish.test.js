/** Publishing by the client module, against a scripted edge. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { WebSocket } from "ws";
import { UNANSWERED_MAX } from "../../web/client/publisher.js";
import { connect, TrestleError } from "../../web/client.js";
import { FakeEdge } from "./support/fake.js";

/** @type {FakeEdge} */
let edge;
/** @type {import("../../web/client.js").Client} */
let client;

beforeEach(async () => {
  edge = await FakeEdge.start();
  client = connect(edge.url, { WebSocket, reconnectMinMs: 20, reconnectMaxMs: 160, random: () => 0 });
});

afterEach(async () => {
  client.close();
  await edge.close();
});

const code = (expected) => (error) => error instanceof TrestleError && error.code === expected;

/** The next command, which must be a `publish`, and what answers it. */
async function published(peer) {
  const { id, publish } = await peer.command();
  assert.ok(publish, "a publish command");
  return {
    publish,
    confirm: (position) => peer.send({ reply: { id, published: { position } } }),
    refuse: (error) => peer.send({ reply: { id, error: { reason: "so it is", retry: false, ...error } } }),
  };
}

test("texts, JSON, bytes and frames go out as what they are, and the reply's position comes back", async () => {
  const peer = await edge.welcome();
  const bytes = Uint8Array.of(0, 1, 0xff);
  const sent = [
    ["chat/1", "héllo", {}, { topic: "chat/1", text: "héllo" }],
    ["chat/1", { any: ["json"] }, {}, { topic: "chat/1", data: { any: ["json"] } }],
    ["chat/1", ["json", 7], {}, { topic: "chat/1", data: ["json", 7] }],
    ["chat/1", null, {}, { topic: "chat/1", data: null }],
    [Uint8Array.of(0xff), bytes, {}, { topic_base64: "/w==", base64: "AAH/" }],
    ["chat/1", new DataView(bytes.buffer, 1), {}, { topic: "chat/1", base64: "Af8=" }],
    ["chat/1", ["head", bytes, { a: 1 }], { parts: true }, { topic: "chat/1", parts: [{ text: "head" }, { base64: "AAH/" }, { data: { a: 1 } }] }],
  ];
  const keys = new Set();
  for (const [n, [topic, body, options, expected]] of sent.entries()) {
    const answer = client.publish(topic, body, options);
    const { publish: { key, ...message }, confirm } = await published(peer);
    assert.deepEqual(message, expected);
    assert.match(key, /^[0-9a-f]{32}$/);
    keys.add(key);
    confirm(`p${n}`);
    assert.deepEqual(await answer, { position: `p${n}` });
  }
  assert.equal(keys.size, sent.length);
  for (const [body, options] of [[undefined, {}], [() => {}, {}], ["no array", { parts: true }]]) {
    assert.throws(() => client.publish("chat/1", body, options), TypeError);
  }
});

test("what no reply came for is sent again with its key on each new connection, in order", async () => {
  const answers = [client.publish("chat/1", "first"), client.publish("chat/1", "second", { key: "mine" })];
  const texts = [];
  for (let n = 0; n < 3; n += 1) {
    const peer = await edge.welcome();
    texts.push([await published(peer), await published(peer)].map(({ publish }) => `${publish.text} ${publish.key}`));
    if (n < 2) peer.cut();
    else peer.close(1012);
  }
  assert.deepEqual(new Set(texts.map(String)).size, 1, `${texts}`);
  assert.match(texts[0][1], /^second mine$/);
  const peer = await edge.welcome();
  for (let n = 0; n < 2; n += 1) (await published(peer)).confirm(`p${n}`);
  assert.deepEqual(await Promise.all(answers), [{ position: "p0" }, { position: "p1" }]);
});

test("errors that time heals are tried again, others are told", async () => {
  const answer = client.publish("chat/1", "x");
  const peer = await edge.welcome();
  const first = await published(peer);
  first.refuse({ code: "unavailable", retry: true });
  const second = await published(peer);
  second.refuse({ code: "unconfirmed", retry: true });
  const third = await published(peer);
  assert.deepEqual([second.publish, third.publish], [first.publish, first.publish]);
  third.confirm();
  assert.deepEqual(await answer, {});
  const refused = client.publish("secret/1", "x");
  (await published(peer)).refuse({ code: "forbidden" });
  await assert.rejects(refused, code("forbidden"));
});

test("once: sent on the present connection or not at all, and never again", async () => {
  await assert.rejects(client.publish("chat/1", "too early", { once: true }), code("disconnected"));
  const peer = await edge.welcome();
  // The welcome is heard before the reply to this.
  await Promise.all([client.publish("chat/1", "x"), published(peer).then(({ confirm }) => confirm())]);
  const answer = client.publish("chat/1", "x", { once: true });
  const { publish } = await published(peer);
  assert.equal(publish.key, undefined);
  peer.cut();
  await assert.rejects(answer, code("unconfirmed"));
  const next = await edge.welcome();
  const later = client.publish("chat/1", "later");
  const { publish: { text }, confirm } = await published(next);
  assert.equal(text, "later");
  confirm();
  await later;
});

test("too late: `unavailable` where it was never sent, the last error, or `unconfirmed`", async () => {
  await assert.rejects(client.publish("chat/1", "x", { timeoutMs: 30 }), code("unavailable"));
  const peer = await edge.welcome();
  const limited = client.publish("chat/1", "x", { timeoutMs: 300 });
  const refusing = (async () => {
    for (;;) (await published(peer)).refuse({ code: "rate_limited", retry: true });
  })().catch(() => {});
  await assert.rejects(limited, (error) => code("rate_limited")(error) && /within 300 ms/.test(error.message));
  peer.cut();
  await refusing;
  const next = await edge.welcome();
  const silent = client.publish("chat/1", "y", { timeoutMs: 300 });
  const { confirm } = await published(next);
  await assert.rejects(silent, code("unconfirmed"));
  // A reply that comes after all harms nothing.
  confirm();
  const after = client.publish("chat/1", "z");
  (await published(next)).confirm("p9");
  assert.deepEqual(await after, { position: "p9" });
});

test("a signal gives up the waiting, and a message that waits for a connection is not sent then", async () => {
  const controller = new AbortController();
  const given = client.publish("chat/1", "given up", { signal: controller.signal });
  const kept = client.publish("chat/1", "kept");
  controller.abort(new Error("enough"));
  await assert.rejects(given, (error) => code("aborted")(error) && error.reason === "enough");
  await assert.rejects(client.publish("chat/1", "x", { signal: AbortSignal.abort() }), code("aborted"));
  const peer = await edge.welcome();
  const { publish, confirm } = await published(peer);
  assert.equal(publish.text, "kept");
  confirm();
  await kept;
});

test("so many may wait for an answer, and one more is refused at once", async () => {
  const waiting = Array.from({ length: UNANSWERED_MAX }, (_, n) => client.publish("chat/1", `${n}`));
  await assert.rejects(client.publish("chat/1", "one more"), code("rate_limited"));
  const peer = await edge.welcome();
  for (let n = 0; n < UNANSWERED_MAX; n += 1) {
    const { publish, confirm } = await published(peer);
    assert.equal(publish.text, `${n}`);
    confirm();
  }
  await Promise.all(waiting);
  const again = client.publish("chat/1", "again");
  (await published(peer)).confirm();
  await again;
});

test("the end of the client ends what waits: `unconfirmed` if it may have been sent", async () => {
  const unsent = client.publish("chat/1", "x", { once: false });
  client.close();
  await assert.rejects(unsent, code("closed"));
  await assert.rejects(client.publish("chat/1", "x"), code("closed"));
  const other = connect(edge.url, { WebSocket });
  const sent = other.publish("chat/1", "x");
  const peer = await edge.welcome();
  await published(peer);
  peer.close(4501, "no more");
  await assert.rejects(sent, code("unconfirmed"));
});
