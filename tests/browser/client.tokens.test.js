/** Tokens and signals of the client module, against a scripted edge. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
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

const logged = (options = {}) => loggedAt(edge.url, { random: () => 0, ...options });

/** Tokens t1, t2, … */
function counted() {
  const calls = [];
  return { calls, getToken: async (how) => `t${calls.push(how)}` };
}

const inSeconds = (seconds) => Math.round(Date.now() / 1000) + seconds;

test("each connection brings a token of its own, as a subprotocol that the edge does not choose", async () => {
  const { calls, getToken } = counted();
  const { seen } = logged({ getToken });
  const first = await edge.welcome();
  assert.deepEqual(first.offered, ["trestle.v1.json", "bearer.t1"]);
  assert.equal(first.protocol, "trestle.v1.json");
  await seen("open");
  first.close(4401, "token expired");
  assert.deepEqual((await edge.welcome()).offered, ["trestle.v1.json", "bearer.t2"]);
  await seen("open", 2);
  assert.equal(calls.length, 2);
});

test("without a token it connects without one, and waits for one that takes its time", async () => {
  logged({ getToken: () => null });
  assert.deepEqual((await edge.welcome()).offered, ["trestle.v1.json"]);
  let give;
  logged({ getToken: () => new Promise((resolve) => (give = resolve)) });
  await until("the question", () => give);
  give("late");
  assert.deepEqual((await edge.welcome()).offered, ["trestle.v1.json", "bearer.late"]);
});

test("a getToken that fails, or gives what is none, is asked again later; its value is nowhere told", async () => {
  const answers = [Promise.reject(new Error("the login is down")), "not a token, but secret", "good"];
  answers[0].catch(() => {});
  const { seen } = logged({ getToken: () => answers.shift() });
  const waits = await seen("waiting", 2);
  assert.match(waits[0].reason, /no token: the login is down/);
  assert.match(waits[1].reason, /no token/);
  assert.doesNotMatch(JSON.stringify(waits), /secret/);
  assert.deepEqual((await edge.welcome()).offered, ["trestle.v1.json", "bearer.good"]);
});

test("a token is replaced in band before it ends, and the next one too", async () => {
  const { client, seen, of } = logged({ getToken: counted().getToken });
  const peer = await edge.welcome({ expires_at: inSeconds(2) });
  for (const token of ["t2", "t3"]) {
    const { id, authenticate } = await peer.command();
    assert.deepEqual(authenticate, { token });
    peer.send({ reply: { id, authenticated: { expires_at: inSeconds(2) } } });
  }
  await seen("open");
  assert.deepEqual([client.state, edge.peers.length, of("error")], ["open", 1, []]);
});

test("a refusal of the new token is told, and another one tried", async () => {
  const { seen } = logged({ getToken: counted().getToken });
  const peer = await edge.welcome({ expires_at: inSeconds(2) });
  const { id } = await peer.command();
  peer.send({ reply: { id, error: { code: "unauthorized", reason: "not for this edge", retry: false } } });
  const [error] = await seen("error");
  assert.ok(error instanceof TrestleError && error.code === "unauthorized");
  assert.deepEqual((await peer.command()).authenticate, { token: "t3" });
});

test("told that its token ends, it takes another one and stays, whatever its own clock says", async () => {
  const { client, seen, of } = logged({ getToken: counted().getToken });
  const peer = await edge.welcome({ expires_at: inSeconds(-3600) });
  peer.send({ goodbye: { reason: "token_expired", reconnect_after_ms: 60_000 } });
  const { id, authenticate } = await peer.command();
  assert.deepEqual(authenticate, { token: "t2" });
  peer.send({ reply: { id, authenticated: {} } });
  const subscription = client.subscribe("a/");
  await peer.subscribed();
  await subscription.ready;
  assert.deepEqual([client.state, of("waiting")], ["open", []]);
  // The pause that the goodbye asked for is not of the next close.
  peer.cut();
  assert.equal((await seen("waiting"))[0].delayMs, 20);
});

test("what a new token does not allow has ended, and the rest goes on", async () => {
  const { client, seen } = logged({ getToken: counted().getToken });
  const [gone, part, kept] = [client.subscribe("a/"), client.subscribe(["a/", "b/"]), client.subscribe("a/", { exact: true })];
  const peer = await edge.welcome({ expires_at: inSeconds(2) });
  for (let n = 0; n < 3; n += 1) await peer.subscribed();
  await Promise.all([gone, part, kept].map(({ ready }) => ready));
  const { id } = await peer.command();
  peer.send({ reply: { id, authenticated: { ended: [{ topics: ["a/"] }] } } });
  assert.deepEqual((await seen("error", 2)).map(({ code }) => code), ["forbidden", "forbidden"]);
  assert.deepEqual([gone.ended, part.ended, kept.ended], [true, false, false]);
  peer.cut();
  const next = await edge.welcome();
  const topics = [await next.subscribed(), await next.subscribed()].map(({ subscribe }) => subscribe.topics);
  assert.deepEqual(topics, [["b/"], ["a/"]]);
});

test("a signal closes the client, also before it began, and another one ends a subscription", async () => {
  const [whole, part] = [new AbortController(), new AbortController()];
  const asked = [];
  const { client, seen } = logged({ signal: whole.signal, getToken: (how) => asked.push(how) && "t" });
  const subscription = client.subscribe("a/", { signal: part.signal });
  const peer = await edge.welcome();
  await peer.subscribed();
  await subscription.ready;
  part.abort();
  assert.deepEqual((await peer.command()).unsubscribe, { topics: ["a/"] });
  assert.equal(subscription.ended, true);
  assert.throws(() => client.subscribe("b/", { signal: part.signal }), (error) => error.code === "aborted");
  whole.abort();
  await seen("closed");
  await until("the close", () => peer.closed);
  assert.equal(asked[0].signal.aborted, true);
  const never = logged({ signal: AbortSignal.abort() });
  await never.seen("closed");
  assert.deepEqual([never.of("connecting"), edge.peers.length], [[], 1]);
});
