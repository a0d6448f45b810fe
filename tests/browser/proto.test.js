/** `trestle.v1.proto` in JavaScript, by protobufjs and the definition: numbers are read where they lie. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { WebSocket } from "ws";
import { BINARY, Demo, skip } from "./support/demo.js";
import { connectPublisher } from "./support/publisher.js";
import { until } from "./support/wait.js";

const proto = fileURLToPath(new URL("../../proto/", import.meta.url));

let demo, publisher, ClientMessage, ServerMessage;

before(async () => {
  if (skip) return;
  assert.ok(BINARY, "TRESTLE_BIN does not name a trestle binary");
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => (target.startsWith("/") ? target : `${proto}${target}`);
  await root.load("trestle/v1/client.proto", { keepCase: true });
  [ClientMessage, ServerMessage] = ["ClientMessage", "ServerMessage"].map((name) => root.lookupType(`trestle.v1.${name}`));
  demo = await Demo.start();
  publisher = await connectPublisher(await demo.publishers());
});
after(async () => {
  publisher?.close();
  await demo?.stop();
});

/** A connection that subscribes to `prefix`, and what it hears: each message with the buffer that it came in. */
async function subscribe(prefix) {
  const socket = new WebSocket(`${demo.origin.replace("http", "ws")}/ws`, "trestle.v1.proto");
  socket.binaryType = "arraybuffer";
  const heard = [];
  socket.on("message", (buffer, isBinary) => {
    assert.ok(isBinary);
    heard.push({ buffer, message: ServerMessage.decode(new Uint8Array(buffer)) });
  });
  const command = { id: 1, subscribe: { topics: [Buffer.from(prefix)] } };
  socket.on("open", () => socket.send(ClientMessage.encode(command).finish()));
  await until("the subscription", () => heard.some(({ message }) => message.caught_up));
  return { socket, heard, events: () => heard.filter(({ message }) => message.event) };
}

test("a body of numbers is a view of the message that came", { skip }, async () => {
  const { socket, events } = await subscribe("adc/");
  const sent = Float64Array.from({ length: 1000 }, (_, i) => Math.sqrt(i));
  // Topics of each length, so that each needs another padding.
  for (let length = 0; length < 8; length++) publisher.send(`adc/${"x".repeat(length)}`, new Uint8Array(sent.buffer));
  await until("the numbers", () => events().length === 8);
  for (const { buffer, message } of events()) {
    const { bytes } = message.event;
    assert.equal(bytes.buffer, buffer, "no copy");
    assert.deepEqual(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8), sent);
  }
  socket.close();
});

test("each of several frames is a view, too", { skip }, async () => {
  const { socket, events } = await subscribe("pair/");
  const [left, right] = [Float64Array.of(1.5, -2), Float64Array.of(Math.PI)];
  publisher.send("pair/1", new Uint8Array(left.buffer), "µ", new Uint8Array(right.buffer));
  await until("the pair", () => events().length === 1);
  const [{ buffer, message }] = events();
  const [first, middle, last] = message.event.parts;
  assert.equal(Buffer.from(middle).toString(), "µ");
  for (const [part, numbers] of [[first, left], [last, right]]) {
    assert.equal(part.buffer, buffer, "no copy");
    assert.deepEqual(new Float64Array(part.buffer, part.byteOffset, part.byteLength / 8), numbers);
  }
  socket.close();
});
