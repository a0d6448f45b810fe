/** Publishing: each message until the forwarder has it, over however many connections that takes. */

import { Backoff } from "./backoff.js";
import { messageOf } from "./body.js";
import { TrestleError } from "./error.js";
import { TIMES } from "./link.js";
import { withResolvers } from "./resolvers.js";

/**
 * @typedef {object} PublishOptions
 * @property {boolean} [parts] The body is an array, and each element of it a frame; else an array is JSON.
 * @property {string} [key] Tells a repeat from a second message, at most 64 bytes; a random one by default.
 * @property {boolean} [once] Send it at most once, and only now: what became of it may then be `unconfirmed`.
 * @property {number} [timeoutMs] How long it may take, reconnects included: 15 s by default, 110 s at most.
 * @property {AbortSignal} [signal] Gives up waiting. What was sent is not taken back.
 */

/** @typedef {{position?: string}} Published No position where the topic is not recorded. */

/** So many an edge reads from a connection before it has answered one. */
export const UNANSWERED_MAX = 256;
const TIMEOUT_MS = 15_000;
/** A key is known for two minutes; a repeat after that would be a second message. */
const TIMEOUT_MAX_MS = 110_000;

/** In the order of publishing, which each connection keeps. */
export class Publisher {
  #send;
  #random;
  /** @type {Set<Publication>} */
  #unanswered = new Set();

  /**
   * @param {(command: object, pending: import("./client.js").Pending) => boolean} send False where there is no connection.
   * @param {() => number} random Uniform in [0, 1).
   */
  constructor(send, random) {
    this.#send = send;
    this.#random = random;
  }

  /**
   * @param {string | Uint8Array} topic
   * @param {import("./body.js").PublishBody} body
   * @param {PublishOptions} options
   * @returns {Promise<Published>}
   */
  publish(topic, body, options) {
    const message = messageOf(topic, body, options.parts === true);
    if (options.signal?.aborted) return Promise.reject(aborted(options.signal));
    if (this.#unanswered.size >= UNANSWERED_MAX) {
      return Promise.reject(new TrestleError("rate_limited", `${UNANSWERED_MAX} publications have no answer yet`, true));
    }
    const key = options.key ?? (options.once ? undefined : randomKey());
    const backoff = new Backoff(TIMES.reconnectMinMs, TIMES.reconnectMaxMs, this.#random);
    const publication = new Publication({ publish: { ...message, key } }, options, backoff);
    this.#unanswered.add(publication);
    void publication.ended.then(() => this.#unanswered.delete(publication));
    this.#attempt(publication);
    return publication.answer;
  }

  /** A connection is there: what has no answer is sent, again where it was sent before. */
  resume() {
    for (const publication of this.#unanswered) this.#attempt(publication);
  }

  /** @param {TrestleError} error */
  end(error) {
    for (const publication of this.#unanswered) {
      publication.fail(publication.mayBeSent ? new TrestleError("unconfirmed", error.message, false) : error);
    }
  }

  /** @param {Publication} publication */
  #attempt(publication) {
    clearTimeout(publication.retry);
    publication.isOnItsWay = this.#send(publication.command, {
      done: (reply) => publication.succeed(reply.published ?? {}),
      fail: (error) => this.#failed(publication, error),
    });
    if (!publication.isOnItsWay && publication.once) publication.fail(new TrestleError("disconnected", "there is no connection", true));
  }

  /**
   * @param {Publication} publication
   * @param {TrestleError} error
   */
  #failed(publication, error) {
    const isCut = error.code === "disconnected";
    const isUnconfirmed = isCut || error.code === "unconfirmed";
    publication.isOnItsWay = false;
    publication.mayBeSent ||= isUnconfirmed;
    publication.error = isCut ? new TrestleError("unconfirmed", "the connection ended before the reply", true) : error;
    if (publication.once || !(error.retry || isUnconfirmed)) publication.fail(publication.error);
    // Without a connection the next one tries again.
    else if (!isCut) publication.retry = setTimeout(() => this.#attempt(publication), publication.backoff.next());
  }
}

/** One message on its way. */
class Publication {
  /** @type {PromiseWithResolvers<Published>} */
  #answer = withResolvers();
  #timer;
  #signal;
  isOnItsWay = false;
  /** An attempt ended without a word whether it was sent. */
  mayBeSent = false;
  /** What the last attempt came to.
   * @type {TrestleError | null} */
  error = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  retry = undefined;

  /**
   * @param {object} command
   * @param {PublishOptions} options
   * @param {Backoff} backoff
   */
  constructor(command, options, backoff) {
    this.command = command;
    this.once = options.once === true;
    this.backoff = backoff;
    const timeoutMs = Math.min(options.timeoutMs ?? TIMEOUT_MS, TIMEOUT_MAX_MS);
    this.#timer = setTimeout(() => this.fail(this.#late(timeoutMs)), timeoutMs);
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onAbort);
    /** @readonly */
    this.ended = this.answer.then(() => {}, () => {});
  }

  get answer() {
    return this.#answer.promise;
  }

  /** @param {Published} published */
  succeed(published) {
    this.#stop();
    this.#answer.resolve(published);
  }

  /** @param {TrestleError} error */
  fail(error) {
    this.#stop();
    this.#answer.reject(error);
  }

  #onAbort = () => this.fail(aborted(/** @type {AbortSignal} */ (this.#signal)));

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.retry);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  /** @param {number} timeoutMs */
  #late(timeoutMs) {
    const last = this.error === null ? "" : `; the last attempt: ${this.error.message}`;
    const code = this.isOnItsWay || this.mayBeSent ? "unconfirmed" : this.error?.code ?? "unavailable";
    return new TrestleError(code, `no reply within ${timeoutMs} ms${last}`, true);
  }
}

/** @param {AbortSignal} signal */
function aborted(signal) {
  const why = signal.reason instanceof Error ? signal.reason.message : String(signal.reason);
  return new TrestleError("aborted", why, false);
}

/** 128 random bits. `crypto.randomUUID` is missing where a page comes without TLS. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
