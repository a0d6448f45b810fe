/** The client where no WebSocket gets through: event streams instead. Against the real edge, and its parser alone. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, afterEach, before, test } from "node:test";
import { SseParser } from "../../web/client/sse.js";
import { BINARY, Demo, skip } from "./support/demo.js";
import { HttpOnlyProxy } from "./support/proxy.js";
import { connectPublisher } from "./support/publisher.js";
import { closeClients, logged as loggedAt } from "./support/logged.js";
import { until } from "./support/wait.js";

let demo;
let publisher;
let proxy;

before(async () => {
  if (skip) return;
  assert.ok(BINARY, "TRESTLE_BIN does not name a trestle binary");
  demo = await Demo.start();
  publisher = await connectPublisher(await demo.publishers());
  proxy = await HttpOnlyProxy.start(demo.port);
});
after(async () => {
  publisher?.close();
  await proxy?.close();
  await demo?.stop();
});
afterEach(() => {
  closeClients();
});

const logged = (options = {}) => loggedAt(`${proxy.origin}/ws`, options);

test("the client comes by event streams, and each subscription has its own events, once", { skip }, async () => {
  const { client, seen } = logged();
  const [all, one, binary] = [client.subscribe("sse-a/"), client.subscribe("sse-a/1", { exact: true }), client.subscribe(Uint8Array.of(0x73, 0xff))];
  assert.equal((await seen("open"))[0].transport, "events");
  assert.deepEqual((await Promise.all([all, one, binary].map(({ ready }) => ready))).map(({ recorded }) => recorded), ["all", "all", "all"]);
  publisher.send("sse-a/1", "first");
  publisher.send("sse-a/2", '{"n": [1]}');
  publisher.send(Uint8Array.of(0x73, 0xff, 1), "odd");
  publisher.send("sse-a/1", "last");
  const read = async (subscription, many) => {
    const texts = [];
    const events = subscription[Symbol.asyncIterator]();
    while (texts.length < many) {
      const { value } = await events.next();
      texts.push(value.text ?? value.data);
    }
    return texts;
  };
  assert.deepEqual(await read(all, 3), ["first", { n: [1] }, "last"]);
  assert.deepEqual(await read(one, 2), ["first", "last"]);
  assert.deepEqual(await read(binary, 1), ["odd"]);
});

test("what was missed comes after a cut, once and in order, for each subscription", { skip }, async () => {
  const { client, seen } = logged({ random: () => 0 });
  const seenBy = [[], []];
  const subscriptions = ["sse-b/", "sse-b/x"].map((topic, at) => client.subscribe(topic, { onEvent: ({ text }) => seenBy[at].push(Number(text)) }));
  await Promise.all(subscriptions.map(({ ready }) => ready));
  let n = 0;
  for (let cut = 0; cut < 5; cut += 1) {
    for (let i = 0; i < 20; i += 1) publisher.send(n % 2 === 0 ? "sse-b/x" : "sse-b/y", String(n++));
    if (cut % 2 === 0) await until("some of them", () => seenBy[0].length > cut * 20);
    // Before there is a stream there is nothing to cut.
    await until("both streams", () => subscriptions.every(({ accepted }) => accepted));
    proxy.cut();
    await seen("open", cut + 2);
  }
  await until("all", () => seenBy[0].length >= n && seenBy[1].length >= n / 2);
  assert.deepEqual(seenBy[0], Array.from({ length: n }, (_, n) => n));
  assert.deepEqual(seenBy[1], Array.from({ length: n / 2 }, (_, n) => 2 * n));
});

test("publishing, refusals and leaving go the same way", { skip }, async () => {
  const { client, of } = logged();
  const chat = client.subscribe("chat/sse");
  await chat.ready;
  const { position } = await client.publish("chat/sse", { by: "HTTP" });
  await client.publish("chat/sse", Uint8Array.of(0, 255));
  const events = chat[Symbol.asyncIterator]();
  assert.deepEqual([(await events.next()).value, (await events.next()).value].map(({ data, base64 }) => data ?? base64), [{ by: "HTTP" }, "AP8="]);
  assert.ok(position);
  await assert.rejects(client.publish("jobs/1", "x"), ({ code }) => code === "forbidden");
  await assert.rejects(client.publish("chat/sse", ["a", "b"], { parts: true }), ({ code }) => code === "bad_request");
  await assert.rejects(client.subscribe("x", { max_hz: -1 }).ready, ({ code, reason }) => code === "bad_request" && /max_hz/.test(reason));
  await events.return();
  await until("the end of the stream", async () => {
    const connections = await new Promise((resolve) => proxy.server.getConnections((_, n) => resolve(n)));
    return connections <= 1;
  });
  assert.deepEqual([client.state, of("waiting").length], ["open", 2]);
});

test("a token that allows some topics is enough to come, and shown with each request", async () => {
  const seen = new Set();
  const server = createServer(({ url, headers }, response) => {
    seen.add(headers.authorization);
    if (!url.includes("topic=jobs%2F")) {
      response.writeHead(403).end("topics to subscribe to begin with `jobs/`\n");
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('event: reply\ndata: {"reply":{"id":0,"subscribed":{"topics":["jobs/"],"position":"p0","recorded":"all"}}}\n\n');
  });
  server.on("upgrade", (_, socket) => socket.destroy());
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { client } = loggedAt(`ws://127.0.0.1:${server.address().port}/ws`, { getToken: () => "t.o.k" });
  const [may, mayNot] = [client.subscribe("jobs/"), client.subscribe("secret/")];
  assert.equal((await may.ready).position, "p0");
  await assert.rejects(mayNot.ready, ({ code, reason }) => code === "forbidden" && /jobs/.test(reason));
  assert.deepEqual([client.state, ...seen], ["open", "Bearer t.o.k"]);
  client.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

test("without a fallback it goes on trying WebSockets", { skip }, async () => {
  const before = proxy.requests.length;
  const { seen, of } = logged({ fallback: false });
  await seen("waiting", 6);
  assert.deepEqual([of("open"), proxy.requests.length], [[], before]);
});

test("parser: the same events however the stream is cut, and in any of its line ends", () => {
  const stream = 'retry: 5\n\n: comment\n\nid: p1\nevent: reply\ndata: {"a":1}\n\nid: p2\n\ndata: one\ndata:two\ndata:  three\n\nid\ndata: é👩\n\ndata: not ended';
  const expected = [
    { data: '{"a":1}', lastId: "p1" },
    { data: "", lastId: "p2" },
    { data: "one\ntwo\n three", lastId: "p2" },
    { data: "é👩", lastId: "" },
  ];
  for (const lineEnd of ["\n", "\r\n", "\r"]) {
    const text = stream.replaceAll("\n", lineEnd);
    for (let size = 1; size <= text.length; size += 1) {
      const parser = new SseParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      assert.deepEqual(events, expected, `${JSON.stringify(lineEnd)} by ${size}`);
    }
  }
});
