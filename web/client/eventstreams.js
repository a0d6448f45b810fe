/**
 * In the place of a WebSocket where none gets through: a subscription is an event stream of its own at `/events`, and a publication a
 * `POST /publish`. Both are fetched, as `EventSource` shows no status and sends no token.
 */

import { SseParser } from "./sse.js";
import { base64Bytes } from "./topic.js";

/** Heartbeats while there is no stream that would bring any. */
const HEARTBEAT_MS = 25_000;
/** What a status says in the terms of close codes. */
const CLOSES = new Map([[401, 4401], [429, 1013], [503, 1013]]);

export class EventStreams {
  #base;
  #fetch;
  #token;
  /** By the id of the command that began it.
   * @type {Map<number, AbortController>} */
  #streams = new Map();
  #probe = new AbortController();
  #timer = 0;
  #saidGoodbye = false;
  readyState = 0;
  binaryType = "";
  /** @type {((message: {data: string, only?: number}) => void) | null} `only` is the command whose subscription it is for. */
  onmessage = null;
  /** @type {((close: {code: number, reason: string}) => void) | null} */
  onclose = null;
  onerror = null;

  /**
   * @param {URL} url Of the WebSocket.
   * @param {string | string[]} subprotocols One may bring a token.
   * @param {typeof fetch} fetcher
   */
  constructor(url, subprotocols, fetcher) {
    this.#base = new URL(url);
    this.#base.protocol = url.protocol === "wss:" ? "https:" : "http:";
    this.#fetch = fetcher;
    this.#token = [subprotocols].flat().find((name) => name.startsWith("bearer."))?.slice("bearer.".length);
    void this.#open();
  }

  /** A subscription of nothing shows whether this way is open. */
  async #open() {
    try {
      const response = await this.#get("events", [["topic", ""], ["exact", "true"]], this.#probe.signal);
      this.#probe.abort();
      // A token that does not allow even this one topic may allow others: each is told for itself.
      if (!response.ok && response.status !== 403) {
        this.#end(CLOSES.get(response.status) ?? 1006, `status ${response.status} of ${this.#base.host}`);
        return;
      }
    } catch (error) {
      this.#end(1006, String(error));
      return;
    }
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.#timer = Number(setInterval(() => {
      if (this.#streams.size === 0) this.#say({ heartbeat: {} });
    }, HEARTBEAT_MS));
    this.#say({ welcome: { session: "", heartbeat_ms: HEARTBEAT_MS } });
  }

  /** @param {string} text A command of `trestle.v1.json`. */
  send(text) {
    const { id, subscribe, unsubscribe, publish, authenticate } = JSON.parse(text);
    if (subscribe) void this.#subscribe(id, subscribe);
    else if (publish) void this.#publish(id, publish);
    else if (unsubscribe) this.#say({ reply: { id, unsubscribed: unsubscribe } });
    else if (authenticate) {
      // For what begins from now on: what stands ends with the token that it began with.
      this.#token = authenticate.token;
      this.#say({ reply: { id, authenticated: {} } });
    }
  }

  /** Ends the subscription of a command.
   * @param {number} id */
  drop(id) {
    this.#streams.get(id)?.abort();
    this.#streams.delete(id);
  }

  close() {
    this.#release();
  }

  /**
   * @param {number} id
   * @param {Record<string, any>} subscribe
   */
  async #subscribe(id, { topics = [], topics_base64 = [], ...options }) {
    const controller = new AbortController();
    this.#streams.set(id, controller);
    const named = [...topics, ...topics_base64.map(base64Bytes)].map((topic) => /** @type {[string, string]} */ (["topic", topic]));
    try {
      const response = await this.#get("events", [...named, ...Object.entries(options)], controller.signal);
      if (response.ok && response.body) await this.#read(id, response.body);
      else await this.#refuse(id, response);
    } catch (error) {
      if (!controller.signal.aborted) this.#end(1006, String(error));
    }
  }

  /**
   * @param {number} id
   * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
   */
  async #read(id, body) {
    const parser = new SseParser();
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      for (const { data, lastId } of parser.push(read.value)) this.#hear(id, data, lastId);
    }
    if (this.#streams.has(id)) this.#end(this.#saidGoodbye ? 1012 : 1006, "the stream has ended");
  }

  /**
   * @param {number} id
   * @param {string} data Empty of a heartbeat.
   * @param {string} lastId
   */
  #hear(id, data, lastId) {
    if (!this.#streams.has(id)) return;
    if (data === "") {
      this.#say({ heartbeat: { position: lastId } }, id);
      return;
    }
    const message = JSON.parse(data);
    const answer = message.reply ?? message.caught_up;
    if (answer) answer.id = id;
    if (message.goodbye) {
      // Each stream says it.
      if (this.#saidGoodbye) return;
      this.#saidGoodbye = true;
    }
    // An event is handed on as it came, of which its JSON can be taken byte for byte.
    this.onmessage?.({ data: message.event ? data : JSON.stringify(message), only: id });
  }

  /** What ends this subscription alone is its command's error; whatever else it is, it is so for all.
   * @param {number} id
   * @param {Response} response */
  async #refuse(id, response) {
    const { status } = response;
    const code = { 400: "bad_request", 403: "forbidden" }[status];
    const reason = (await response.text()).slice(0, 1000);
    if (code === undefined) this.#end(CLOSES.get(status) ?? 1006, reason || `status ${status}`);
    else {
      this.#streams.delete(id);
      this.#say({ reply: { id, error: { code, reason, retry: false } } });
    }
  }

  /**
   * @param {number} id
   * @param {Record<string, any>} publish
   */
  async #publish(id, { topic, topic_base64, key, parts, ...single }) {
    const frames = parts ?? [single];
    if (frames.length !== 1) {
      this.#say({ reply: { id, error: { code: "bad_request", reason: "several frames need a WebSocket", retry: false } } });
      return;
    }
    const named = /** @type {[string, any][]} */ (topic === undefined ? [["topic_base64", topic_base64]] : [["topic", topic]]);
    const [{ base64, text, data }] = frames;
    const body = base64 === undefined ? text ?? JSON.stringify(data) : base64Bytes(base64);
    try {
      const url = this.#url("publish", key === undefined ? named : [...named, ["key", key]]);
      const response = await this.#fetch(url, { method: "POST", body, headers: this.#headers() });
      const { published, error } = await response.json();
      this.#say({ reply: { id, published, error } });
    } catch (error) {
      this.#say({ reply: { id, error: { code: "unconfirmed", reason: String(error), retry: true } } });
    }
  }

  /**
   * @param {string} path
   * @param {[string, any][]} parameters
   * @param {AbortSignal} signal
   */
  #get(path, parameters, signal) {
    return this.#fetch(this.#url(path, parameters), { signal, headers: this.#headers(), cache: "no-store" });
  }

  #headers() {
    return this.#token === undefined ? undefined : { authorization: `Bearer ${this.#token}` };
  }

  /**
   * @param {string} path
   * @param {[string, any][]} parameters Bytes, or what has a text.
   */
  #url(path, parameters) {
    const url = new URL(path, this.#base);
    url.search = parameters.map(([name, value]) => `${name}=${value instanceof Uint8Array ? escaped(value) : encodeURIComponent(value)}`).join("&");
    return url;
  }

  /**
   * @param {object} message
   * @param {number} [only]
   */
  #say(message, only) {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(message), only });
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    if (this.readyState === 3) return;
    this.#release();
    this.onclose?.({ code, reason });
  }

  #release() {
    this.readyState = 3;
    clearInterval(this.#timer);
    this.#probe.abort();
    for (const controller of this.#streams.values()) controller.abort();
    this.#streams.clear();
  }
}

/** @param {Uint8Array} bytes */
function escaped(bytes) {
  return Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
}
