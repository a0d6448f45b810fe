/** `trestle.v1.proto`: the messages of proto/trestle/v1/client.proto, to and from the shapes that JSON gives them. */

import { BYTES, FIXED64, Reader, VARINT, Writer } from "./protobuf.js";
import { base64Bytes, Topic } from "./topic.js";

/**
 * A field: what it is called, and its kind. `topic` and `topics` are bytes that are named as in JSON, by text or base64; `body` is
 * a view of the message that came; `json` a JSON text; `number` a varint; an array the names of an enum's values from 1 on.
 * @typedef {"string" | "bool" | "number" | "double" | "topic" | "topics" | "body" | "bodies" | "json" | "gauges" | "skip"} Kind
 * @typedef {"repeated" | "always"} Label What is not optional is always there in JSON, and not on this wire where it is 0.
 * @typedef {{[number: number]: [name: string, kind: Kind | readonly string[] | Fields, label?: Label]}} Fields
 */

const POLICIES = ["disconnect", "drop_oldest", "conflate"];
const RECORDED = ["all", "some", "none"];
const UNRECOVERED = ["history_truncated", "epoch_changed", "not_recorded", "unknown_position"];
const ERROR_CODES = [
  "bad_request", "unknown_command", "unknown_field", "invalid_topic", "too_many_subscriptions", "too_large", "rate_limited",
  "unauthorized", "token_expired", "forbidden", "unavailable", "unconfirmed", "internal",
];
const LOST_CAUSES = ["slow_consumer", "link_hole", "epoch_changed", "shard_overrun"];
const GOODBYE_REASONS = ["restarting", "draining", "token_expired", "disconnected"];
const STATES = ["started", "running", "done", "failed"];

/** @type {Fields} */
export const CLIENT_MESSAGE = {
  1: ["id", "number"],
  2: ["subscribe", {
    1: ["topics", "topics"], 2: ["exact", "bool"], 3: ["snapshot", "bool"], 4: ["since", "string"], 5: ["policy", POLICIES],
    6: ["max_hz", "double"],
  }],
  3: ["unsubscribe", { 1: ["topics", "topics"], 2: ["exact", "bool"] }],
  4: ["publish", {
    1: ["topic", "topic"], 2: ["data", "json"], 3: ["text", "string"], 4: ["bytes", "body"], 5: ["parts", "bodies"],
    6: ["key", "string"],
  }],
  5: ["authenticate", { 1: ["token", "string"] }],
};

/** @type {Fields} */
const EVENT = {
  1: ["topic", "topic"], 2: ["position", "string"], 3: ["time_ms", "number", "always"], 4: ["snapshot", "bool"], 5: ["id", "string"],
  6: ["source", "string"], 7: ["data", "json"], 8: ["text", "string"], 9: ["bytes", "body"],
  10: ["progress", {
    1: ["job", "string", "always"], 2: ["done", "number", "always"], 3: ["total", "number", "always"],
    4: ["unit", "string", "always"], 5: ["state", STATES],
  }],
  11: ["status", { 1: ["gauges", "gauges", "always"] }],
  12: ["parts", "bodies"], 15: ["padding", "skip"],
};

/** @type {Fields} */
export const SERVER_MESSAGE = {
  1: ["welcome", {
    1: ["session", "string", "always"], 2: ["position", "string"], 3: ["heartbeat_ms", "number", "always"], 4: ["expires_at", "number"],
    5: ["stale", "bool"],
  }],
  2: ["reply", {
    1: ["id", "number"],
    2: ["subscribed", {
      1: ["topics", "topics", "always"], 2: ["position", "string"], 3: ["recorded", RECORDED], 4: ["recovered", "bool"],
      5: ["reason", UNRECOVERED],
    }],
    3: ["unsubscribed", { 1: ["topics", "topics", "always"] }],
    4: ["error", { 1: ["code", ERROR_CODES], 2: ["reason", "string", "always"], 3: ["retry", "bool", "always"] }],
    5: ["published", { 1: ["position", "string"] }],
    6: ["authenticated", {
      1: ["expires_at", "number"],
      2: ["ended", { 1: ["topics", "topics", "always"], 2: ["exact", "bool", "always"] }, "repeated"],
    }],
  }],
  3: ["caught_up", { 1: ["id", "number", "always"], 2: ["position", "string"], 3: ["replayed", "number", "always"] }],
  4: ["event", EVENT],
  5: ["heartbeat", { 1: ["position", "string"], 2: ["stale", "bool"] }],
  6: ["lost", {
    1: ["topics", "topics", "always"], 2: ["from", "string"], 3: ["position", "string"], 4: ["cause", LOST_CAUSES], 5: ["count", "number"],
    6: ["at_most", "number"],
  }],
  7: ["goodbye", { 1: ["reason", GOODBYE_REASONS], 2: ["reconnect_after_ms", "number"] }],
};

/** What a field's kind is on the wire.
 * @param {Kind | readonly string[] | Fields} kind */
function wireTypeOf(kind) {
  if (kind === "number" || kind === "bool" || Array.isArray(kind)) return VARINT;
  return kind === "double" ? FIXED64 : BYTES;
}

/**
 * @param {ArrayBuffer} frame
 * @returns {import("./wire.js").Message}
 */
export function decode(frame) {
  return read(new Reader(new Uint8Array(frame)), SERVER_MESSAGE);
}

/**
 * What is not known is passed over: it is of a later release.
 *
 * @param {Reader} reader
 * @param {Fields} fields
 */
function read(reader, fields) {
  /** @type {Record<string, any>} */
  const message = {};
  while (!reader.isAtEnd) {
    const { number, wireType } = reader.tag();
    const [name, kind, label] = fields[number] ?? ["", "skip"];
    if (kind === "skip" || wireType !== wireTypeOf(kind)) reader.skip(wireType);
    else if (kind === "topic" || kind === "topics") setTopic(message, name, reader.bytes().slice(), kind === "topics");
    else if (kind === "bodies") (message[name] ??= []).push({ bytes: reader.bytes() });
    else if (kind === "gauges") readGauge((message[name] ??= {}), new Reader(reader.bytes()));
    else if (label === "repeated") (message[name] ??= []).push(value(reader, kind));
    else message[name] = value(reader, kind);
  }
  for (const [name, kind, label] of Object.values(fields)) {
    if (label === "always" && message[name] === undefined) message[name] = zero(kind);
  }
  return message;
}

/** @param {Kind | readonly string[] | Fields} kind */
function zero(kind) {
  if (kind === "string") return "";
  if (kind === "bool") return false;
  if (kind === "topics") return [];
  return kind === "gauges" ? {} : 0;
}

/**
 * @param {Reader} reader
 * @param {Kind | readonly string[] | Fields} kind
 */
function value(reader, kind) {
  if (kind === "string") return reader.text();
  if (kind === "number") return reader.varint();
  if (kind === "bool") return reader.varint() !== 0;
  if (kind === "double") return reader.double();
  if (kind === "body") return reader.bytes();
  if (kind === "json") return JSON.parse(reader.text());
  // An enum's value that a later release has is no value of ours.
  if (Array.isArray(kind)) return kind[Number(reader.varint()) - 1];
  return read(new Reader(reader.bytes()), /** @type {Fields} */ (kind));
}

/** By its text or, under another name, its base64.
 * @param {Record<string, any>} message
 * @param {string} name
 * @param {Uint8Array} bytes
 * @param {boolean} isOneOfMany */
function setTopic(message, name, bytes, isOneOfMany) {
  const { text, base64 } = Topic.from(bytes);
  const [key, as] = text === null ? [`${name}_base64`, base64] : [name, text];
  if (isOneOfMany) (message[key] ??= []).push(as);
  else message[key] = as;
}

/** An entry of a map.
 * @param {Record<string, number | null>} gauges
 * @param {Reader} reader */
function readGauge(gauges, reader) {
  let [name, gauge] = ["", 0];
  while (!reader.isAtEnd) {
    const { number, wireType } = reader.tag();
    if (number === 1 && wireType === BYTES) name = reader.text();
    else if (number === 2 && wireType === FIXED64) gauge = reader.double();
    else reader.skip(wireType);
  }
  // As JSON has it, which knows no other numbers. Defined, as "__proto__" is a name like any other.
  const is = Number.isFinite(gauge) ? gauge : null;
  Object.defineProperty(gauges, name, { value: is, enumerable: true, configurable: true, writable: true });
}

/** A command in the shape that it has in JSON.
 * @param {object} command */
export function encode(command) {
  return write(/** @type {Record<string, any>} */ (command), CLIENT_MESSAGE);
}

/**
 * @param {Record<string, any>} message
 * @param {Fields} fields
 */
function write(message, fields) {
  const writer = new Writer();
  for (const [key, [name, kind]] of Object.entries(fields)) {
    const number = Number(key);
    if (kind === "topic" || kind === "topics") {
      for (const bytes of topicBytes(message, name)) writer.bytes(number, bytes);
    } else if (kind === "bodies") {
      for (const part of message[name] ?? []) writer.bytes(number, partBytes(part));
    } else if (message[name] !== undefined) {
      writeValue(writer, number, message[name], kind);
    }
  }
  return writer.finish();
}

/**
 * @param {Writer} writer
 * @param {number} number
 * @param {any} value
 * @param {Kind | readonly string[] | Fields} kind
 */
function writeValue(writer, number, value, kind) {
  if (kind === "string") writer.text(number, value);
  else if (kind === "body") writer.bytes(number, value);
  else if (kind === "json") writer.text(number, JSON.stringify(value));
  else if (kind === "double") writer.double(number, value);
  else if (kind === "number" || kind === "bool") writer.varint(number, Number(value));
  else if (Array.isArray(kind)) writer.varint(number, kind.indexOf(value) + 1);
  else writer.bytes(number, write(value, /** @type {Fields} */ (kind)));
}

/**
 * @param {Record<string, any>} message
 * @param {string} name
 */
function topicBytes(message, name) {
  const texts = [message[name] ?? []].flat().map((text) => Topic.ofText(text).bytes);
  return [...texts, ...[message[`${name}_base64`] ?? []].flat().map(base64Bytes)];
}

/** @param {import("./wire.js").Body} part */
function partBytes(part) {
  return part.bytes ?? Topic.ofText(part.text ?? JSON.stringify(part.data)).bytes;
}
