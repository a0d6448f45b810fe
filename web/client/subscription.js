/** One subscription: what it wants, what it delivers, and how far it has come. */

import { TrestleError } from "./error.js";
import { isReached } from "./position.js";
import { BoundedQueue } from "./queue.js";
import { withResolvers } from "./resolvers.js";
import { Topic } from "./topic.js";

/** @typedef {import("./wire.js").Event} Event */
/**
 * The edge's notice; what this page did not read in time; or, after a reconnect, what the edge could not send again:
 * everything since `from`, however much that is.
 * @typedef {import("./wire.js").Lost | {cause: "slow_reader", count: number} | Unrecovered} Gap
 */
/** @typedef {{cause: import("./wire.js").UnrecoveredReason, from: string, position?: string}} Unrecovered */

/**
 * @typedef {object} SubscribeOptions
 * @property {boolean} [exact] Match the whole topic, not a prefix.
 * @property {boolean} [snapshot] First the last value of each matching topic; after a reconnect only if what was
 *   missed cannot be sent again.
 * @property {boolean | string} [resume] After a reconnect first what was missed meanwhile; true by default. A position, that
 *   of an earlier event or reply, is where to begin already the first time.
 * @property {"disconnect" | "drop_oldest" | "conflate"} [policy] When this browser is slow.
 * @property {number} [max_hz] At most so many events a topic and second.
 * @property {(event: Event, frame: string | ArrayBuffer) => void} [onEvent] Takes the place of the iterator. `frame` is
 *   the WebSocket message that brought the event.
 * @property {(gap: Gap) => void} [onGap] Something is missing: the edge could not send it, or the iterator's reader was too slow.
 * @property {AbortSignal} [signal] Unsubscribes.
 * @property {number} [queueMax] Events that wait for the iterator's reader, 1024 by default; then the oldest goes.
 */

const QUEUE_MAX = 1024;

/**
 * Events, each a `CustomEvent`: `event` brings what was published, once somebody listens to it in the place of the iterator; `gap` says
 * that something is missing, a `Gap`; `end` comes once nothing will follow, with the `TrestleError` that is its cause, if there is one.
 *
 * @implements {AsyncIterable<Event>}
 */
export class Subscription extends EventTarget {
  #leave;
  #queue;
  #signal;
  #onAbort = () => void this.unsubscribe();
  /** Whether somebody has listened for `event`. */
  #isHeard = false;
  /** @type {PromiseWithResolvers<import("./wire.js").Subscribed>} */
  #accepted = withResolvers();

  /** The last position that counts for this subscription: everything up to it was delivered or declared lost.
   * @type {string | null} */
  position = null;
  /** Whether it stands on the present connection. */
  accepted = false;
  /** Whether it has caught up with the live feed on the present connection. */
  caughtUp = false;
  /** Events that the iterator's reader was too slow for. */
  dropped = 0;
  ended = false;
  /** Id of the last subscribe command. */
  requestId = 0;
  /** Refusals in a row that may be retried. */
  refusals = 0;

  /**
   * @param {(string | Uint8Array)[]} prefixes
   * @param {SubscribeOptions} options
   * @param {(subscription: Subscription) => Promise<void>} leave
   */
  constructor(prefixes, options, leave) {
    super();
    this.topics = unique(prefixes.map(Topic.from));
    if (typeof options.resume === "string") this.position = options.resume;
    /** @readonly */
    this.options = options;
    this.#leave = leave;
    this.#queue = new BoundedQueue(options.queueMax ?? QUEUE_MAX);
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onAbort);
    // Who does not await `ready` hears of a refusal by the client's `error` event instead.
    this.ready.catch(() => {});
  }

  /** Resolves at the first acceptance, rejects if the subscription is refused for good. */
  get ready() {
    return this.#accepted.promise;
  }

  get exact() {
    return this.options.exact === true;
  }

  /** What two subscriptions share at the edge: (topic, exact).
   * @param {Topic} topic */
  keyOf(topic) {
    return `${this.exact} ${topic.key}`;
  }

  /** @param {Topic} topic */
  matches(topic) {
    return this.topics.some((prefix) => topic.matches(prefix, this.exact));
  }

  /**
   * @param {string} type
   * @param {EventListenerOrEventListenerObject | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @override
   */
  addEventListener(type, listener, options) {
    if (type === "event") this.#isHeard = true;
    super.addEventListener(type, listener, options);
  }

  /** Where a new connection resumes it; nothing on the first one, unless an earlier position was given.
   * @returns {string | undefined} */
  get since() {
    return this.options.resume === false ? undefined : this.position ?? undefined;
  }

  /** Whether it has come as far already.
   * @param {string} position */
  has(position) {
    return this.position !== null && isReached(position, this.position);
  }

  /** What could not be recovered, if so.
   * @param {import("./wire.js").Subscribed} subscribed
   * @returns {Unrecovered | null} */
  accept(subscribed) {
    this.refusals = 0;
    this.accepted = true;
    const from = this.position;
    this.position = subscribed.position ?? this.position;
    this.#accepted.resolve(subscribed);
    if (subscribed.recovered !== false || from === null) return null;
    const gap = { cause: subscribed.reason ?? "unknown_position", from, position: subscribed.position };
    this.miss(gap);
    return gap;
  }

  /**
   * @param {Event} event
   * @param {string | ArrayBuffer} frame
   */
  deliver(event, frame) {
    if (event.snapshot === true) {
      // Another subscription's snapshot is old news to one that did not ask, or has its own already.
      if (this.options.snapshot !== true || this.caughtUp) return;
    } else if (event.position !== undefined) {
      this.position = event.position;
    }
    if (this.options.onEvent) {
      guarded(() => this.options.onEvent?.(event, frame));
      return;
    }
    if (this.#isHeard) {
      this.#emit("event", event);
      return;
    }
    const dropped = this.#queue.push(event);
    this.dropped += dropped;
    if (dropped > 0) this.miss({ cause: "slow_reader", count: dropped });
  }

  /** @param {Gap} gap */
  miss(gap) {
    guarded(() => this.options.onGap?.(gap));
    this.#emit("gap", gap);
  }

  /** Some of its topics are not allowed any more; without one left it has ended.
   * @param {Set<string>} keys */
  withdraw(keys) {
    this.topics = this.topics.filter((topic) => !keys.has(this.keyOf(topic)));
  }

  /** @param {TrestleError} [error] */
  end(error) {
    if (this.ended) return;
    this.ended = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#queue.end(error);
    this.#accepted.reject(error ?? new TrestleError("closed", "the subscription has ended", false));
    this.#emit("end", error);
  }

  /** Resolves when the edge has confirmed it, or the connection that held it is gone. */
  unsubscribe() {
    return this.#leave(this);
  }

  /** Events as they come. All iterators of one subscription share one queue; leaving the loop unsubscribes.
   * @returns {AsyncGenerator<Event, void, undefined>} */
  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        const { value, done } = await this.#queue.next();
        if (done) return;
        yield value;
      }
    } finally {
      void this.unsubscribe();
    }
  }

  /**
   * @param {string} name
   * @param {unknown} detail
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** @param {Topic[]} topics */
function unique(topics) {
  return [...new Map(topics.map((topic) => [topic.key, topic])).values()];
}

/** A caller's mistake is the caller's to see, and no reason to starve the other subscriptions.
 * @param {() => void} call */
function guarded(call) {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
