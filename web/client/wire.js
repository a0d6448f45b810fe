/** The messages of an edge, and the two formats that they come in. */

import { decode, encode } from "./proto.js";
import { base64Of } from "./topic.js";

/**
 * @typedef {object} Format
 * @property {string} subprotocol
 * @property {(command: object) => string | Uint8Array} encode
 * @property {(frame: unknown) => Message | null} decode Null for what is not of this format; of what is damaged it may throw.
 */

/** @type {Readonly<Record<"json" | "binary", Format>>} */
export const FORMATS = Object.freeze({
  json: { subprotocol: "trestle.v1.json", encode: (command) => JSON.stringify(command, asBase64), decode: parse },
  binary: {
    subprotocol: "trestle.v1.proto",
    encode,
    decode: (frame) => (frame instanceof ArrayBuffer ? decode(frame) : null),
  },
});

/** What JSON has no bytes for: `{bytes}` is `{base64}` there.
 * @param {string} _key
 * @param {any} value */
function asBase64(_key, value) {
  if (!(value?.bytes instanceof Uint8Array)) return value;
  const { bytes, ...rest } = value;
  return { ...rest, base64: base64Of(bytes) };
}

/**
 * One frame of a message with several, or the whole body: exactly one of these is present, and `undecoded` may be beside `base64`.
 * @typedef {object} Body
 * @property {unknown} [data] JSON, as parsed.
 * @property {string} [text]
 * @property {string} [base64]
 * @property {string} [undecoded] Why `base64` is what a decoder could not read, for people.
 * @property {Uint8Array} [bytes] In the binary format, for whatever is no typed event's: a view of the message that came, and aligned
 *   so that a `Float64Array` can be laid over it.
 */

/**
 * @typedef {object} Progress
 * @property {string} job
 * @property {number | string} done A string beyond ±(2^53−1).
 * @property {number | string} total
 * @property {string} unit
 * @property {"started" | "running" | "done" | "failed"} state
 */

/**
 * @typedef {object} EventFields
 * @property {string} [topic] Absent where a single ØMQ frame came.
 * @property {string} [topic_base64] Instead of `topic` where it is not UTF-8.
 * @property {string} [position] Absent where the topic is not recorded.
 * @property {number} [time_ms] Unix ms.
 * @property {boolean} [snapshot] A last value, not news.
 * @property {string} [id] Of a typed event.
 * @property {string} [source] Of a typed event.
 * @property {Body[]} [parts] More than one frame after the topic.
 * @property {Progress} [progress]
 * @property {{gauges: Record<string, number>}} [status]
 */

/** @typedef {EventFields & Body} Event */

/**
 * @typedef {object} Welcome
 * @property {string} session
 * @property {string} [position]
 * @property {number} heartbeat_ms Something arrives at least this often.
 * @property {boolean} [stale] The edge hears nothing from upstream; heartbeats say it, too.
 * @property {number} [expires_at] Unix seconds.
 */

/** @typedef {"history_truncated" | "epoch_changed" | "not_recorded" | "unknown_position"} UnrecoveredReason */

/**
 * @typedef {object} Subscribed
 * @property {string[]} [topics]
 * @property {string[]} [topics_base64]
 * @property {string} [position] Where the subscription starts.
 * @property {"all" | "some" | "none"} [recorded]
 * @property {boolean} [recovered] Only where the command had `since`.
 * @property {UnrecoveredReason} [reason] Why it is not.
 */

/**
 * @typedef {object} Reply
 * @property {number} [id]
 * @property {Subscribed} [subscribed]
 * @property {object} [unsubscribed]
 * @property {{position?: string}} [published]
 * @property {import("./tokens.js").Authenticated} [authenticated]
 * @property {{code: string, reason: string, retry: boolean}} [error]
 */

/**
 * @typedef {object} Lost
 * @property {string[]} [topics]
 * @property {string[]} [topics_base64]
 * @property {string} [from]
 * @property {string} [position]
 * @property {string} cause
 * @property {number} [count]
 * @property {number} [at_most]
 */

/**
 * @typedef {object} Message
 * @property {Welcome} [welcome]
 * @property {Reply} [reply]
 * @property {{id: number, position?: string, replayed?: number}} [caught_up]
 * @property {Event} [event]
 * @property {{position?: string, stale?: boolean}} [heartbeat]
 * @property {Lost} [lost]
 * @property {{reason: string, reconnect_after_ms?: number}} [goodbye]
 */

/**
 * @param {unknown} frame The data of a WebSocket message.
 * @returns {Message | null}
 */
function parse(frame) {
  if (typeof frame !== "string") return null;
  try {
    const message = JSON.parse(frame);
    return typeof message === "object" && message !== null ? message : null;
  } catch {
    return null;
  }
}
