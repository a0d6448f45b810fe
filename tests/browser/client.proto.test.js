/** The client's own `trestle.v1.proto`, held to the definition and to protobufjs. */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { CLIENT_MESSAGE, decode, encode, SERVER_MESSAGE } from "../../web/client/proto.js";

const proto = fileURLToPath(new URL("../../proto/", import.meta.url));
let ClientMessage, ServerMessage;

before(async () => {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => (target.startsWith("/") ? target : `${proto}${target}`);
  await root.load("trestle/v1/client.proto", { keepCase: true });
  root.resolveAll();
  [ClientMessage, ServerMessage] = ["ClientMessage", "ServerMessage"].map((name) => root.lookupType(`trestle.v1.${name}`));
});

/** What a field of the definition is in the client's table. */
function kindOf(field) {
  if (field.map) return "gauges";
  if (field.resolvedType instanceof protobuf.Enum) return Object.entries(field.resolvedType.values).filter(([, n]) => n > 0).map(([name]) => name);
  if (field.resolvedType) return tableOf(field.resolvedType);
  if (field.type === "bytes" && /^topics?$/.test(field.name)) return field.name;
  if (field.type === "bytes") return { bytes: "body", parts: "bodies", padding: "skip" }[field.name];
  if (field.type === "string" && field.name === "data") return "json";
  return { uint64: "number" }[field.type] ?? field.type;
}

function tableOf(type) {
  return Object.fromEntries(type.fieldsArray.map((field) => [field.id, [field.name, kindOf(field)]]));
}

/** The client's table in the same shape. Values of enums are named without their type. */
function plain(table, definition) {
  return Object.fromEntries(Object.entries(table).map(([number, [name, kind]]) => {
    const defined = definition[number]?.[1];
    if (Array.isArray(kind)) return [number, [name, defined.filter((full, at) => full.toLowerCase().endsWith(kind[at])).length === kind.length ? defined : kind]];
    return [number, [name, typeof kind === "object" ? plain(kind, defined ?? {}) : kind]];
  }));
}

test("the tables are those of the definition", () => {
  for (const [table, type] of [[CLIENT_MESSAGE, ClientMessage], [SERVER_MESSAGE, ServerMessage]]) {
    const definition = tableOf(type);
    assert.deepEqual(plain(table, definition), definition);
  }
});

/** The same numbers every time. */
function seeded(seed) {
  let state = seed;
  const below = (n) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const one = (...choices) => choices[below(choices.length)];
  return { below, one, maybe: (value) => (below(2) === 0 ? undefined : value) };
}

const TEXTS = ["", "jobs/1", "système/é", "👩‍👩‍👧", "\ufeffbom", "\u0000"];
const BYTES = [[], [0xff], [0xc3], [0, 1, 2, 250], [...Buffer.from("text")]].map((bytes) => Uint8Array.from(bytes));
const NUMBERS = [0, 1, 127, 128, 16_384, 2 ** 31, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER];

/** A message of the server as protobufjs takes it, and as the client should give it. */
function serverMessage({ one, maybe, below }) {
  const text = () => one(...TEXTS);
  const number = () => one(...NUMBERS);
  const named = (bytes, name) => {
    try {
      return { [name]: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
    } catch {
      return { [`${name}_base64`]: Buffer.from(bytes).toString("base64") };
    }
  };
  const position = maybe(text());
  const topic = maybe(one(...BYTES, Buffer.from(text())));
  const topics = Array.from({ length: below(4) }, () => Uint8Array.from(Buffer.from(text())));
  const listed = { topics: topics.map((bytes) => Buffer.from(bytes).toString()) };
  const bytes = one(...BYTES);
  const parts = [bytes, one(...BYTES)];
  const gauges = { "cpu.percent": 1.5, __proto__: null, n: -0.25 };
  const progress = { job: text(), done: number(), total: number(), unit: text() };
  const [body, expected] = one(
    [{ bytes }, { bytes }],
    [{ parts }, { parts: parts.map((bytes) => ({ bytes })) }],
    [{ data: '{"a":[1]}' }, { data: { a: [1] } }],
    [{ text: "plain" }, { text: "plain" }],
    [{ progress: { ...progress, state: 2 } }, { progress: { ...progress, state: "running" } }],
    [{ status: { gauges } }, { status: { gauges: { ...gauges } } }],
  );
  const [time_ms, session, cause] = [number(), text(), 1 + below(4)];
  const causes = ["slow_consumer", "link_hole", "epoch_changed", "shard_overrun"];
  return one(
    [{ event: { topic, position, time_ms, padding: new Uint8Array(below(8)), ...body } }, { event: { ...(topic && named(topic, "topic")), position, time_ms, ...expected } }],
    [{ welcome: { session, position, heartbeat_ms: time_ms, stale: maybe(true) } }, { welcome: { session, position, heartbeat_ms: time_ms } }],
    [{ reply: { id: time_ms, subscribed: { topics, position, recorded: 2 } } }, { reply: { id: time_ms, subscribed: { ...listed, position, recorded: "some" } } }],
    [{ reply: { error: { code: 10, reason: session } } }, { reply: { error: { code: "forbidden", reason: session, retry: false } } }],
    [{ reply: { id: 3, authenticated: { ended: [{ topics }, { topics: [], exact: true }] } } }, { reply: { id: 3, authenticated: { ended: [{ ...listed, exact: false }, { topics: [], exact: true }] } } }],
    [{ lost: { topics, position, cause, at_most: time_ms } }, { lost: { ...listed, position, cause: causes[cause - 1], at_most: time_ms } }],
    [{ caught_up: { id: 0, position } }, { caught_up: { id: 0, position, replayed: 0 } }],
    [{ heartbeat: { position } }, { heartbeat: { position } }],
    [{ goodbye: { reason: 3, reconnect_after_ms: time_ms } }, { goodbye: { reason: "token_expired", reconnect_after_ms: time_ms } }],
  );
}

const defined = (value) => {
  if (value instanceof Uint8Array) return { view: [...value] };
  if (Array.isArray(value)) return value.map(defined);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).filter(([, value]) => value !== undefined).map(([key, value]) => [key, defined(value)]));
};

const frameOf = (message) => Uint8Array.from(ServerMessage.encode(ServerMessage.fromObject(message)).finish()).buffer;

test("what protobufjs encodes is read as JSON would have had it", () => {
  const kinds = new Set();
  for (let seed = 1; seed <= 3000; seed += 1) {
    const [message, expected] = serverMessage(seeded(seed));
    const decoded = defined(decode(frameOf(message)));
    // Those are left to their own test.
    if (decoded.welcome) delete decoded.welcome.stale;
    assert.deepEqual(decoded, defined(expected), `seed ${seed}`);
    kinds.add(Object.keys(message)[0]);
  }
  assert.equal(kinds.size, 7);
});

test("commands are read by protobufjs as they were meant", () => {
  const commands = [
    { id: 2 ** 53 - 1, subscribe: { topics: ["jobs/", "é"], topics_base64: ["/w=="], exact: true, since: "p", policy: "conflate", max_hz: 0.5 } },
    { id: 2, unsubscribe: { topics: [""], exact: undefined } },
    { id: 3, publish: { topic: "chat/é", data: { any: ["json"] }, key: "k" } },
    { id: 4, publish: { topic_base64: "/w==", text: "" } },
    { id: 5, publish: { topic: "chat/", bytes: Uint8Array.of(0, 255) } },
    { id: 6, publish: { topic: "chat/", parts: [{ text: "é" }, { bytes: Uint8Array.of(1) }, { data: [1] }] } },
    { id: 7, authenticate: { token: "t.o.k" } },
  ];
  const utf8 = (text) => [...Buffer.from(text)];
  const expected = [
    { id: 2 ** 53 - 1, subscribe: { topics: [utf8("jobs/"), utf8("é"), [255]], exact: true, since: "p", policy: 3, max_hz: 0.5 } },
    { id: 2, unsubscribe: { topics: [[]] } },
    { id: 3, publish: { topic: utf8("chat/é"), data: '{"any":["json"]}', key: "k" } },
    { id: 4, publish: { topic: [255], text: "" } },
    { id: 5, publish: { topic: utf8("chat/"), bytes: [0, 255] } },
    { id: 6, publish: { topic: utf8("chat/"), parts: [utf8("é"), [1], utf8("[1]")] } },
    { id: 7, authenticate: { token: "t.o.k" } },
  ];
  const read = commands.map((command) => ClientMessage.toObject(ClientMessage.decode(encode(command)), { longs: Number, bytes: Array }));
  assert.deepEqual(read, expected);
});

test("integers that no number holds are strings, as in JSON", () => {
  const { event } = decode(frameOf({ event: { time_ms: 1, progress: { job: "j", done: "18446744073709551615", total: "9007199254740993" } } }));
  assert.deepEqual([event.progress.done, event.progress.total], ["18446744073709551615", "9007199254740993"]);
});

test("fields of a later release are passed over, and damaged messages end in an error", () => {
  const known = [...new Uint8Array(frameOf({ heartbeat: { position: "p" } }))];
  // Fields 900 to 903 in each wire type.
  const unknown = [0xa0, 0x38, 5, 0xaa, 0x38, 2, 1, 2, 0xb1, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0xbd, 0x38, 1, 2, 3, 4];
  assert.deepEqual(decode(Uint8Array.from([...unknown, ...known]).buffer), { heartbeat: { position: "p" } });
  const { below } = seeded(7);
  let errors = 0;
  for (let n = 0; n < 5000; n += 1) {
    const [message] = serverMessage(seeded(n + 1));
    const bytes = new Uint8Array(frameOf(message));
    const damaged = below(2) === 0 ? bytes.slice(0, below(bytes.length + 1)) : bytes.map((byte) => (below(10) === 0 ? below(256) : byte));
    try {
      assert.equal(typeof decode(damaged.buffer), "object");
    } catch (error) {
      assert.ok(error instanceof RangeError || error instanceof SyntaxError, String(error));
      errors += 1;
    }
  }
  assert.ok(errors > 500, `${errors}`);
});
