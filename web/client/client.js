/** The client: requests and their replies, and the way of each event to its subscriptions. */

import { Backoff } from "./backoff.js";
import { TrestleError } from "./error.js";
import { Link, TIMES } from "./link.js";
import { Publisher } from "./publisher.js";
import { LAST_VALUES, storeOf } from "./store.js";
import { Subscription } from "./subscription.js";
import { Tokens } from "./tokens.js";
import { Topic, topicOf } from "./topic.js";
import { FORMATS } from "./wire.js";

/**
 * @typedef {object} OwnOptions
 * @property {import("./tokens.js").GetToken} [getToken]
 * @property {AbortSignal} [signal] Closes the client.
 */
/** @typedef {OwnOptions & import("./link.js").LinkOptions & Partial<typeof TIMES>} ClientOptions */
/** @typedef {{done: (reply: import("./wire.js").Reply) => void, fail: (error: TrestleError) => void}} Pending */

/**
 * Events, each a `CustomEvent`:
 * - `connecting`, `open`, `waiting`, `closed`: the states. `waiting` tells `delayMs`, `offline`, `attempt` and the
 *   `code`, `reason` and `meaning` of the close before; `closed` the last three and comes once no attempt will follow.
 * - `gap`: something is missing, as the edge says, or because a subscription could not be sent what it missed while it was away. `stale`: whether it hears nothing
 *   from upstream. `goodbye`: it is about to close. `error`: a `TrestleError` that no call can return.
 */
export class Client extends EventTarget {
  #link;
  #format;
  #random;
  #lastId = 0;
  /** Whether the edge hears nothing from upstream. */
  stale = false;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  #publisher;
  /** @type {Tokens | null} */
  #tokens = null;
  #signal;
  /** In the order of their subscribing: of two with the same topic the later one's options hold.
   * @type {Set<Subscription>} */
  #subscriptions = new Set();

  /**
   * @param {string | URL} url `ws:`, `wss:`, or what is relative to the page.
   * @param {ClientOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#format = FORMATS[options.format ?? "json"];
    this.#random = options.random ?? Math.random;
    this.#publisher = new Publisher((command, pending) => this.state === "open" && this.#request(command, pending) > 0, this.#random);
    const { getToken } = options;
    if (getToken) this.#tokens = this.#tokensOf(getToken);
    const tokens = this.#tokens;
    this.#link = new Link(webSocketUrl(url), options, {
      onFrame: (frame, only) => this.#take(frame, only),
      onState: (state, detail) => this.#enter(state, detail),
      onDown: () => this.#forget(),
      subprotocol: tokens ? () => tokens.subprotocol() : undefined,
    });
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onAbort);
    // A turn later, so that whoever called can listen to the first state too.
    queueMicrotask(() => {
      if (this.#signal?.aborted) this.close();
      if (this.state === "connecting") this.#link.start();
    });
  }

  get state() {
    return this.#link.state;
  }

  /**
   * Stands across reconnects until it is unsubscribed. The empty prefix is everything.
   *
   * @param {string | Uint8Array | readonly (string | Uint8Array)[]} prefixes
   * @param {import("./subscription.js").SubscribeOptions} [options]
   */
  subscribe(prefixes, options = {}) {
    if (this.state === "closed") throw new TrestleError("closed", "the client is closed", false);
    if (options.signal?.aborted) throw new TrestleError("aborted", "the signal has aborted already", false);
    const list = typeof prefixes === "string" || prefixes instanceof Uint8Array ? [prefixes] : [...prefixes];
    const subscription = new Subscription(list, options, (ended) => this.#leave(ended));
    this.#subscriptions.add(subscription);
    if (this.state === "open") this.#ask(subscription);
    return subscription;
  }

  /**
   * A subscription as a store, which stands while somebody listens to it. Without options its value is a `Map` of the last event of
   * each topic, the present ones first.
   *
   * @template [T=ReadonlyMap<string, import("./wire.js").Event>]
   * @param {string | Uint8Array | readonly (string | Uint8Array)[]} prefixes
   * @param {import("./subscription.js").SubscribeOptions & Partial<import("./store.js").StoreOptions<T>>} [options]
   * @returns {import("./store.js").Store<T>}
   */
  toStore(prefixes, { initial, reduce, ...options } = {}) {
    const own = reduce === undefined ? LAST_VALUES : { initial, reduce };
    const start = (/** @type {(event: import("./wire.js").Event) => void} */ onEvent) =>
      this.subscribe(prefixes, { snapshot: true, ...options, onEvent });
    return storeOf(start, /** @type {import("./store.js").StoreOptions<T>} */ (own));
  }

  /**
   * Resolves when the forwarder has the message. Until then it is sent again on each new connection, and after errors that time
   * heals: by its key the forwarder knows a repeat. Rejects with a `TrestleError`: of the code `unconfirmed` where nobody knows
   * whether it was sent, of any other where it was not.
   *
   * @param {string | Uint8Array} topic
   * @param {import("./body.js").PublishBody} body A text, bytes, or what goes out as JSON.
   * @param {import("./publisher.js").PublishOptions} [options]
   */
  publish(topic, body, options = {}) {
    if (this.state === "closed") return Promise.reject(new TrestleError("closed", "the client is closed", false));
    return this.#publisher.publish(topic, body, options);
  }

  /** Ends a wait and tries at once. */
  reconnect() {
    this.#link.reconnect();
  }

  /** Ends everything, the subscriptions too. */
  close() {
    this.#end();
    this.#link.close();
  }

  /** What an edge says wrongly is dropped and told, and ends neither the connection nor the process.
   * @param {unknown} frame
   * @param {number} [only] */
  #take(frame, only) {
    try {
      this.#receive(frame, only);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#report(new TrestleError("bad_request", `a message that cannot be read: ${why}`, false));
    }
  }

  /**
   * @param {unknown} frame
   * @param {number} [only] The command whose subscription it is for, where not all of them share one sequence.
   */
  #receive(frame, only) {
    const message = this.#format.decode(frame);
    if (message === null) {
      this.#report(new TrestleError("bad_request", `a message that is not ${this.#format.subprotocol}`, false));
    } else if (message.event) this.#route(message.event, /** @type {string | ArrayBuffer} */ (frame), only);
    else if (message.reply) this.#answer(message.reply);
    else if (message.heartbeat) this.#beat(message.heartbeat, only);
    else if (message.caught_up) this.#catchUp(message.caught_up);
    else if (message.lost) this.#lose(message.lost, only);
    else if (message.welcome) this.#welcome(message.welcome);
    else if (message.goodbye) this.#goodbye(message.goodbye);
    // Anything else comes from a newer edge, and is not for us.
  }

  /**
   * @param {import("./wire.js").Event} event
   * @param {string | ArrayBuffer} frame
   * @param {number} [only]
   */
  #route(event, frame, only) {
    const topic = topicOf(event, typeof frame === "string" ? frame : undefined);
    // While one subscription is sent what it missed, the others may see of it what they have already.
    const replays = event.position !== undefined && [...this.#subscriptions].some((other) => !other.caughtUp);
    for (const subscription of this.#concerned(only)) {
      // One that waits for its reply is sent later, in its order, what comes now for another.
      if (!subscription.accepted || !subscription.matches(topic)) continue;
      const has = replays && !event.snapshot && subscription.has(String(event.position));
      if (!has) subscription.deliver(event, frame);
    }
  }

  /** @param {import("./wire.js").Reply} reply */
  #answer(reply) {
    const pending = reply.id === undefined ? undefined : this.#pending.get(reply.id);
    if (reply.id !== undefined) this.#pending.delete(reply.id);
    if (!reply.error) {
      pending?.done(reply);
      return;
    }
    const { code, reason, retry } = reply.error;
    const error = new TrestleError(code, reason, retry === true);
    if (pending) pending.fail(error);
    else this.#report(error);
  }

  /** @param {import("./tokens.js").GetToken} getToken */
  #tokensOf(getToken) {
    /** @param {string} token
     * @returns {Promise<import("./tokens.js").Authenticated>} */
    const authenticate = (token) =>
      new Promise((resolve, reject) => {
        this.#request({ authenticate: { token } }, {
          done: ({ authenticated = {} }) => {
            this.#withdraw(authenticated.ended ?? []);
            resolve(authenticated);
          },
          fail: reject,
        });
      });
    return new Tokens(getToken, { authenticate, report: (error) => this.#report(error), random: this.#random });
  }

  /** A new token allows less: what it does not allow has ended.
   * @param {import("./tokens.js").Ended[]} ended */
  #withdraw(ended) {
    const keys = new Set(ended.flatMap(({ exact, ...names }) => topicsOf(names).map(({ key }) => `${exact === true} ${key}`)));
    for (const subscription of [...this.#subscriptions]) {
      if (!subscription.topics.some((topic) => keys.has(subscription.keyOf(topic)))) continue;
      subscription.withdraw(keys);
      const error = new TrestleError("forbidden", "the new token does not allow this subscription", false);
      this.#report(error);
      if (subscription.topics.length > 0) continue;
      this.#subscriptions.delete(subscription);
      subscription.end(error);
    }
  }

  /** @param {import("./wire.js").Welcome} welcome */
  #welcome(welcome) {
    this.#link.welcomed(welcome);
    this.#tokens?.endsAt(welcome.expires_at);
    this.#setStale(welcome.stale === true);
  }

  /** Those that share a sequence.
   * @param {number | undefined} only */
  #concerned(only) {
    if (only === undefined) return this.#subscriptions;
    return [...this.#subscriptions].filter(({ requestId }) => requestId === only);
  }

  /**
   * @param {{position?: string, stale?: boolean}} heartbeat
   * @param {number} [only]
   */
  #beat({ position, stale }, only) {
    this.#advance(position, only);
    this.#setStale(stale === true);
  }

  /** @param {boolean} stale */
  #setStale(stale) {
    if (this.stale === stale) return;
    this.stale = stale;
    this.#emit("stale", { stale });
  }

  /**
   * @param {string | undefined} position
   * @param {number} [only]
   */
  #advance(position, only) {
    if (position === undefined) return;
    for (const subscription of this.#concerned(only)) {
      if (subscription.caughtUp && !subscription.has(position)) subscription.position = position;
    }
  }

  /** @param {{id: number, position?: string}} caughtUp */
  #catchUp({ id, position }) {
    for (const subscription of this.#subscriptions) {
      if (subscription.requestId !== id) continue;
      subscription.caughtUp = true;
      subscription.position = position ?? subscription.position;
    }
  }

  /**
   * @param {import("./wire.js").Lost} lost
   * @param {number} [only]
   */
  #lose(lost, only) {
    const keys = new Set(topicsOf(lost).map((topic) => topic.key));
    for (const subscription of this.#concerned(only)) {
      if (subscription.topics.some((topic) => keys.has(topic.key))) subscription.miss(lost);
    }
    this.#advance(lost.position, only);
    this.#emit("gap", lost);
  }

  /** @param {{reason: string, reconnect_after_ms?: number}} goodbye */
  #goodbye(goodbye) {
    this.#link.goodbye(goodbye.reconnect_after_ms);
    this.#emit("goodbye", goodbye);
    if (goodbye.reason === "token_expired") void this.#stayWithNewToken();
  }

  async #stayWithNewToken() {
    if (await this.#tokens?.refresh()) this.#link.stay();
  }

  /**
   * @param {import("./link.js").State} state
   * @param {{code?: number, reason?: string, meaning?: string}} detail
   */
  #enter(state, detail) {
    if (state === "open") {
      for (const subscription of this.#subscriptions) this.#ask(subscription);
      this.#publisher.resume();
    }
    if (state === "closed") {
      const reason = `${detail.code} ${detail.reason || detail.meaning}`;
      this.#end(new TrestleError("closed", reason, false));
    }
    this.#emit(state, detail);
  }

  /** Readers see the end, or the error that is the cause of it.
   * @param {TrestleError} [error] */
  #end(error) {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#forget();
    this.#tokens?.end();
    this.#publisher.end(error ?? new TrestleError("closed", "the client is closed", false));
    for (const subscription of this.#subscriptions) subscription.end(error);
    this.#subscriptions.clear();
  }

  /** Sends a subscribe command; its reply may be a refusal that time heals.
   * @param {Subscription} subscription */
  #ask(subscription) {
    const { exact, snapshot, policy, max_hz } = subscription.options;
    const { since } = subscription;
    const options = { exact: exact || undefined, snapshot: snapshot || undefined, since, policy, max_hz };
    subscription.accepted = subscription.caughtUp = false;
    subscription.requestId = this.#request({ subscribe: { ...named(subscription.topics), ...options } }, {
      done: (reply) => {
        const gap = subscription.accept(reply.subscribed ?? {});
        if (gap) this.#emit("gap", { ...named(subscription.topics), ...gap });
      },
      fail: (error) => this.#refused(subscription, error),
    });
  }

  /**
   * @param {Subscription} subscription
   * @param {TrestleError} error
   */
  #refused(subscription, error) {
    // Without a connection the next one asks again.
    if (error.code === "disconnected" || subscription.ended) return;
    this.#report(error);
    if (!error.retry) {
      this.#subscriptions.delete(subscription);
      subscription.end(error);
      return;
    }
    const backoff = new Backoff(TIMES.reconnectMinMs, TIMES.reconnectMaxMs, this.#random);
    backoff.attempt = subscription.refusals;
    subscription.refusals += 1;
    const refused = subscription.requestId;
    setTimeout(() => {
      const current = this.#subscriptions.has(subscription) && subscription.requestId === refused;
      if (current && this.state === "open") this.#ask(subscription);
    }, backoff.next());
  }

  /** Takes from the edge only what no other subscription still holds.
   * @param {Subscription} subscription
   * @returns {Promise<void>} */
  #leave(subscription) {
    if (!this.#subscriptions.delete(subscription)) return Promise.resolve();
    subscription.end();
    if (this.state !== "open" || this.#link.drop(subscription.requestId)) return Promise.resolve();
    const others = [...this.#subscriptions];
    /** @type {Map<Subscription, Topic[]>} */
    const inherited = new Map();
    const free = subscription.topics.filter((topic) => {
      const key = subscription.keyOf(topic);
      const heir = others.findLast((other) => other.topics.some((own) => other.keyOf(own) === key));
      if (heir) inherited.set(heir, [...(inherited.get(heir) ?? []), topic]);
      return !heir;
    });
    for (const [heir, topics] of inherited) this.#restore(heir, topics);
    if (free.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const command = { unsubscribe: { ...named(free), exact: subscription.exact || undefined } };
      this.#request(command, { done: () => resolve(), fail: () => resolve() });
    });
  }

  /** The edge may hold the options of one that left: those of who stays are said again, of the shared topics alone, as
   * of its others a later one may hold, and without a second snapshot.
   * @param {Subscription} subscription
   * @param {Topic[]} topics */
  #restore(subscription, topics) {
    const { exact, policy, max_hz } = subscription.options;
    this.#request({ subscribe: { ...named(topics), exact: exact || undefined, policy, max_hz } }, {
      done: () => {},
      fail: (error) => this.#refused(subscription, error),
    });
  }

  /**
   * @param {object} command
   * @param {Pending} pending
   * @returns {number} The request's id.
   */
  #request(command, pending) {
    this.#lastId += 1;
    this.#pending.set(this.#lastId, pending);
    this.#link.send({ id: this.#lastId, ...command });
    return this.#lastId;
  }

  /** The connection is gone, and its unanswered requests with it. */
  #forget() {
    this.#tokens?.forget();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const subscription of this.#subscriptions) subscription.accepted = subscription.caughtUp = false;
    for (const request of pending) request.fail(new TrestleError("disconnected", "no reply came", true));
  }

  #onAbort = () => this.close();

  /** @param {TrestleError} error */
  #report(error) {
    this.#emit("error", error);
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
function named(topics) {
  const text = topics.flatMap((topic) => (topic.text === null ? [] : [topic.text]));
  const base64 = topics.flatMap((topic) => (topic.text === null ? [topic.base64] : []));
  return { topics: text, ...(base64.length > 0 && { topics_base64: base64 }) };
}

/** @param {{topics?: string[], topics_base64?: string[]}} names */
function topicsOf({ topics = [], topics_base64 = [] }) {
  return [...topics.map(Topic.ofText), ...topics_base64.map(Topic.ofBase64)];
}

/** @param {string | URL} url */
function webSocketUrl(url) {
  const absolute = new URL(url, globalThis.location?.href);
  if (absolute.protocol === "http:") absolute.protocol = "ws:";
  if (absolute.protocol === "https:") absolute.protocol = "wss:";
  if (!/^wss?:$/.test(absolute.protocol)) throw new TypeError(`not a WebSocket address: ${absolute}`);
  return absolute;
}
