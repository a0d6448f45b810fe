/** Bodies that are published, as the wire names them. */

import { Topic } from "./topic.js";

/** A text goes out as UTF-8, bytes as they are, anything else as JSON.
 * @typedef {string | ArrayBuffer | ArrayBufferView | object | number | boolean | null} PublishBody */

/**
 * The members of a `publish` command that are the message.
 *
 * @param {string | Uint8Array} topic
 * @param {PublishBody} body
 * @param {boolean} inParts The body is an array, and each element of it a frame.
 */
export function messageOf(topic, body, inParts) {
  const { text, base64 } = Topic.from(topic);
  const named = text === null ? { topic_base64: base64 } : { topic: text };
  if (!inParts) return { ...named, ...frameOf(body) };
  if (!Array.isArray(body)) throw new TypeError("with `parts` the body is an array of frames");
  return { ...named, parts: body.map(frameOf) };
}

/**
 * @param {PublishBody} body
 * @returns {import("./wire.js").Body}
 */
function frameOf(body) {
  if (typeof body === "string") return { text: body };
  const bytes = bytesOf(body);
  if (bytes !== null) return { bytes };
  if (JSON.stringify(body) === undefined) throw new TypeError(`a body cannot be of the type ${typeof body}`);
  return { data: body };
}

/** A copy, as the message may wait for a connection.
 * @param {PublishBody} body */
function bytesOf(body) {
  if (body instanceof ArrayBuffer) return new Uint8Array(body.slice(0));
  return ArrayBuffer.isView(body) ? new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice() : null;
}
