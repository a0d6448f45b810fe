/** Topics as ØMQ sees them: bytes, matched by prefix. */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Some bytes, and their text where they are UTF-8. */
export class Topic {
  /** @type {Uint8Array | null} */
  #bytes;

  /**
   * @param {string | null} text
   * @param {Uint8Array | null} bytes
   */
  constructor(text, bytes) {
    /** @readonly */
    this.text = text;
    this.#bytes = bytes;
  }

  /**
   * @param {string | Uint8Array} input Lone surrogates become U+FFFD, as on any wire.
   */
  static from(input) {
    if (typeof input !== "string") return new Topic(decode(input), input.slice());
    const bytes = encoder.encode(input);
    return new Topic(decode(bytes), bytes);
  }

  /** A string that came in a JSON message, whose bytes are only made when somebody asks.
   * @param {string} text */
  static ofText(text) {
    return new Topic(text, null);
  }

  /** @param {string} base64 */
  static ofBase64(base64) {
    const bytes = base64Bytes(base64);
    return new Topic(decode(bytes), bytes);
  }

  get bytes() {
    this.#bytes ??= encoder.encode(this.text ?? "");
    return this.#bytes;
  }

  /** Equal topics have equal keys. */
  get key() {
    return this.text === null ? `bytes ${this.base64}` : `text ${this.text}`;
  }

  get base64() {
    return base64Of(this.bytes);
  }

  /**
   * Whether a subscription to `prefix` covers this topic.
   *
   * @param {Topic} prefix
   * @param {boolean} exact
   */
  matches(prefix, exact) {
    // Between two texts, a prefix in UTF-16 is a prefix in UTF-8, as both consist of whole characters.
    if (this.text !== null && prefix.text !== null) {
      return exact ? this.text === prefix.text : this.text.startsWith(prefix.text);
    }
    const [own, wanted] = [this.bytes, prefix.bytes];
    if (exact ? own.length !== wanted.length : own.length < wanted.length) return false;
    return wanted.every((byte, at) => own[at] === byte);
  }
}

/**
 * What subscriptions match in an event. A single ØMQ frame has no topic of its own: it *is* its
 * topic, so its body is taken, of JSON the very bytes that came.
 *
 * @param {import("./wire.js").Event} event
 * @param {string} [frame] The WebSocket message that brought the event.
 */
export function topicOf(event, frame) {
  if (typeof event.topic === "string") return Topic.ofText(event.topic);
  if (typeof event.topic_base64 === "string") return Topic.ofBase64(event.topic_base64);
  if (typeof event.text === "string") return Topic.ofText(event.text);
  if (event.bytes !== undefined) return Topic.from(event.bytes);
  if (typeof event.base64 === "string") return Topic.ofBase64(event.base64);
  const raw = frame === undefined ? null : rawMember(frame, ["event", "data"]);
  return Topic.ofText(raw ?? JSON.stringify(event.data) ?? "");
}

/** @param {string} base64 */
export function base64Bytes(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

/** @param {Uint8Array} bytes */
export function base64Of(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** @param {Uint8Array} bytes */
function decode(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/**
 * The exact text of a member of nested objects, white space included.
 *
 * @param {string} json Valid JSON.
 * @param {string[]} path
 * @returns {string | null}
 */
export function rawMember(json, path) {
  let at = json.indexOf("{");
  for (let depth = 0; depth < path.length; depth += 1) {
    const start = memberStart(json, at, path[depth]);
    if (start < 0) return null;
    if (depth === path.length - 1) return json.slice(start, valueEnd(json, start));
    at = start + json.slice(start).search(/\S/);
    if (json[at] !== "{") return null;
  }
  return null;
}

/**
 * @param {string} json
 * @param {number} at Index of an object's `{`.
 * @param {string} name
 * @returns {number} Index after the colon, or -1.
 */
function memberStart(json, at, name) {
  for (;;) {
    const open = json.indexOf('"', at + 1);
    if (open < 0 || json.slice(at + 1, open).includes("}")) return -1;
    const close = stringEnd(json, open);
    const start = json.indexOf(":", close) + 1;
    if (JSON.parse(json.slice(open, close)) === name) return start;
    at = valueEnd(json, start);
    if (json[at] !== ",") return -1;
  }
}

/** Index after a string's closing quote.
 * @param {string} json
 * @param {number} open */
function stringEnd(json, open) {
  let at = open + 1;
  while (at < json.length && json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at + 1;
}

/** Index of the comma or bracket that ends a value.
 * @param {string} json
 * @param {number} start */
function valueEnd(json, start) {
  let depth = 0;
  let at = start;
  while (at < json.length) {
    const char = json[at];
    if (char === '"') {
      at = stringEnd(json, at);
      continue;
    }
    if (char === "{" || char === "[") depth += 1;
    else if (char === "}" || char === "]") depth -= 1;
    if (depth < 0 || (depth === 0 && char === ",")) return at;
    at += 1;
  }
  return at;
}
