/** One WebSocket after another: states, back-off, heartbeats and the decision to come back. */

import { Backoff } from "./backoff.js";
import { closeCode } from "./close.js";
import { EventStreams } from "./eventstreams.js";
import { FORMATS } from "./wire.js";

/**
 * Times in ms, each with its reason:
 * - `reconnectMinMs`, `reconnectMaxMs`: short enough for people, long enough for a server that restarts.
 * - `uptimeMinMs`: a server that accepts and fails at once must not see us come back every half second.
 * - `handshakeMaxMs`: from the attempt to the welcome; a silent proxy costs no more than this. After many failures
 *   Chromium itself holds an attempt back by up to 5 s, so it is well above that.
 * - `heartbeatMs`: assumed where a welcome does not say.
 * - `heartbeatMaxMs`: the longest period that a server may name; a timer holds no more than 24 days.
 * - `goodbyeMaxMs`: the longest pause that a server may ask for.
 */
export const TIMES = Object.freeze({
  reconnectMinMs: 500,
  reconnectMaxMs: 20_000,
  uptimeMinMs: 5_000,
  handshakeMaxMs: 10_000,
  heartbeatMs: 25_000,
  heartbeatMaxMs: 600_000,
  goodbyeMaxMs: 600_000,
});

/** So many heartbeat periods without a message mean that the connection is dead. */
const SILENT_PERIODS = 2.5;

/** After these a page looks whether a timer is late: where a machine sleeps or a tab is frozen they stand still. */
const AWAKE = ["visibilitychange", "pageshow", "resume"];

/** After so many attempts without a welcome event streams are tried. */
const WEBSOCKETS_IN_VAIN = 2;

/** @typedef {"connecting" | "open" | "waiting" | "closed"} State */

/**
 * Where `navigator.onLine` comes from, its events, and those by which a page hears that it is looked at again.
 * @typedef {{readonly onLine: boolean, addEventListener: EventTarget["addEventListener"],
 *   removeEventListener: EventTarget["removeEventListener"]}} Network
 */

/**
 * @typedef {object} LinkOptions
 * @property {typeof WebSocket} [WebSocket] Where the global one is missing (Node before 22).
 * @property {"json" | "binary"} [format] What is on the wire, `json` by default. In `binary` each body is a `Uint8Array`, untouched, where JSON
 *   has `data`, `text` or `base64`.
 * @property {boolean} [fallback] Where no WebSocket gets through, event streams by HTTP instead; true by default, and not in `binary`. Over HTTP/1.1 a
 *   browser has room for five subscriptions then.
 * @property {typeof fetch} [fetch] For that.
 * @property {() => number} [random] Uniform in [0, 1).
 * @property {Network} [network]
 */

/**
 * @typedef {object} LinkHandlers
 * @property {(frame: unknown, only?: number) => void} onFrame `only` where it is for the subscription of one command alone.
 * @property {(state: State, detail: object) => void} onState
 * @property {() => void} onDown The connection is gone; what was asked on it has no answer.
 * @property {() => Promise<string | null>} [subprotocol] One more to offer on the next connection, which brings a token.
 */

/**
 * Order of calls: `start` once, then `welcomed` on each welcome and `goodbye` on each goodbye;
 * `close` ends it for good.
 */
export class Link {
  #url;
  #format;
  #times;
  #handlers;
  #backoff;
  #network;
  #WebSocket;
  /** Undefined where there is none to be.
   * @type {typeof fetch | undefined} */
  #fetch;
  /** Attempts since a WebSocket was welcomed last. */
  #inVain = 0;
  /** @type {WebSocket | EventStreams | null} */
  #socket = null;
  /** @type {State} */
  state = "connecting";
  #timer = 0;
  /** What the timer is for, and when.
   * @type {{at: number, then: () => void} | null} */
  #due = null;
  #silenceMaxMs = 0;
  #heardAt = 0;
  #openedAt = 0;
  /** Counts attempts: what was awaited for one of them is not for the next. */
  #attempt = 0;
  /** When the server asked to be asked again.
   * @type {number | null} */
  #pausedUntil = null;

  /**
   * @param {URL} url
   * @param {LinkOptions & Partial<typeof TIMES>} options
   * @param {LinkHandlers} handlers
   */
  constructor(url, options, handlers) {
    this.#url = url;
    this.#format = FORMATS[options.format ?? "json"];
    if (this.#format === undefined) throw new TypeError(`no such format: ${options.format}`);
    this.#times = { ...TIMES, ...defined(options) };
    this.#handlers = handlers;
    const { reconnectMinMs, reconnectMaxMs } = this.#times;
    this.#backoff = new Backoff(reconnectMinMs, reconnectMaxMs, options.random ?? Math.random);
    this.#network = options.network ?? browserNetwork(url);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (options.fallback !== false && this.#format === FORMATS.json) this.#fetch = options.fetch ?? globalThis.fetch?.bind(globalThis);
    if (this.#WebSocket === undefined) throw new TypeError("no WebSocket here: pass one as an option");
  }

  start() {
    this.#network?.addEventListener("online", this.#onOnline);
    for (const name of AWAKE) this.#network?.addEventListener(name, this.#onAwake);
    this.#connect();
  }

  /** @param {object} command */
  send(command) {
    if (this.#socket?.readyState === 1) this.#socket.send(/** @type {string} */ (this.#format.encode(command)));
  }

  /** Whether the subscription of a command has ended by that: those of a WebSocket are ended by their topics.
   * @param {number} id */
  drop(id) {
    if (!(this.#socket instanceof EventStreams)) return false;
    this.#socket.drop(id);
    return true;
  }

  /** @param {import("./wire.js").Welcome} welcome */
  welcomed(welcome) {
    if (this.state !== "connecting") return;
    const transport = this.#socket instanceof EventStreams ? "events" : "websocket";
    if (transport === "websocket") this.#inVain = 0;
    const periodMs = welcome.heartbeat_ms > 0 ? welcome.heartbeat_ms : this.#times.heartbeatMs;
    this.#openedAt = Date.now();
    this.#watch(SILENT_PERIODS * Math.min(periodMs, this.#times.heartbeatMaxMs));
    this.#enter("open", { welcome, transport });
  }

  /** @param {number | undefined} pauseMs Counted from now. Until the close, which is the server's to make, all goes on. */
  goodbye(pauseMs) {
    if (typeof pauseMs === "number" && pauseMs >= 0) {
      this.#pausedUntil = Date.now() + Math.min(pauseMs, this.#times.goodbyeMaxMs);
    }
  }

  /** What the goodbye was for is not so any more. */
  stay() {
    this.#pausedUntil = null;
  }

  /** Ends a wait and tries at once. */
  reconnect() {
    if (this.state === "waiting") this.#connect();
  }

  close() {
    if (this.state === "closed") return;
    this.#release(1000);
    this.#end({ code: 1000, reason: "", meaning: "closed by us" });
  }

  #connect() {
    this.#rest();
    this.#openedAt = 0;
    this.#pausedUntil = null;
    this.#enter("connecting", { attempt: this.#backoff.attempt });
    this.#attempt += 1;
    // Who listened may have closed us.
    if (this.state !== "connecting") return;
    const { subprotocol } = this.#format;
    if (this.#handlers.subprotocol === undefined) this.#dial(subprotocol);
    else void this.#dialWithToken(this.#handlers.subprotocol);
  }

  /** @param {() => Promise<string | null>} subprotocol */
  async #dialWithToken(subprotocol) {
    const [attempt, own] = [this.#attempt, this.#format.subprotocol];
    const isStale = () => attempt !== this.#attempt || this.state !== "connecting";
    try {
      const more = await subprotocol();
      if (!isStale()) this.#dial(more === null ? own : [own, more]);
    } catch (error) {
      if (!isStale()) this.#down(1006, error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {string | string[]} subprotocols */
  #dial(subprotocols) {
    const socket = this.#open(subprotocols);
    if (socket === null) return;
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (/** @type {{data: unknown, only?: number}} */ { data, only }) => {
      if (socket !== this.#socket) return;
      this.#heardAt = Date.now();
      this.#handlers.onFrame(data, only);
    };
    socket.onclose = (/** @type {{code: number, reason: string}} */ { code, reason }) => {
      if (socket === this.#socket) this.#down(code, reason);
    };
    // A close event follows each error event, with all that a page may know.
    socket.onerror = () => {};
    this.#watch(this.#times.handshakeMaxMs);
  }

  /** Null where the address may not be opened at all, as from a page whose policy forbids it: no later attempt could.
   * @param {string | string[]} subprotocols */
  #open(subprotocols) {
    this.#inVain += 1;
    // Every second attempt, since what let no WebSocket through may also have been a server that was away.
    const byEvents = this.#inVain > WEBSOCKETS_IN_VAIN && this.#inVain % 2 === 1;
    try {
      if (byEvents && this.#fetch) return new EventStreams(this.#url, subprotocols, this.#fetch);
      return new this.#WebSocket(this.#url, subprotocols);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#end({ code: 1006, reason, meaning: "this address cannot be opened" });
      return null;
    }
  }

  /** One timer a connection, not one a message: it wakes, looks when it last heard, and sleeps on.
   * @param {number} silenceMaxMs */
  #watch(silenceMaxMs) {
    this.#silenceMaxMs = silenceMaxMs;
    this.#heardAt = Date.now();
    this.#sleep(silenceMaxMs, this.#check);
  }

  #check = () => {
    const restMs = this.#heardAt + this.#silenceMaxMs - Date.now();
    // No more than that, though the clock may have been set back.
    if (restMs > 0) this.#sleep(Math.min(restMs, this.#silenceMaxMs), this.#check);
    else this.#down(1006, this.state === "open" ? "no heartbeat" : "no welcome");
  };

  /**
   * @param {number} code
   * @param {string} reason
   */
  #down(code, reason) {
    this.#release();
    this.#handlers.onDown();
    const { then, meaning } = closeCode(code);
    if (then === "stop") {
      this.#end({ code, reason, meaning });
      return;
    }
    if (this.#openedAt > 0 && Date.now() - this.#openedAt >= this.#times.uptimeMinMs) this.#backoff.reset();
    const offline = this.#network?.onLine === false;
    const drawnMs = this.#backoff.next(then === "slowly");
    // The server closes its clients one after the other, so whoever is closed later than it was told comes at once.
    const pauseMs = this.#pausedUntil === null ? null : Math.max(0, this.#pausedUntil - Date.now());
    const delayMs = pauseMs ?? (offline ? this.#times.reconnectMaxMs : drawnMs);
    this.#sleep(delayMs, () => this.#connect());
    this.#enter("waiting", { delayMs, offline, code, reason, meaning, attempt: this.#backoff.attempt });
  }

  /** @param {{code: number, reason: string, meaning: string}} close */
  #end(close) {
    this.#network?.removeEventListener("online", this.#onOnline);
    for (const name of AWAKE) this.#network?.removeEventListener(name, this.#onAwake);
    this.#enter("closed", close);
  }

  // `offline` is only a hint: it lengthens a wait and never forbids an attempt. A pause that the server asked for
  // is the server's, whatever the network does.
  #onOnline = () => {
    if (this.state !== "waiting" || this.#pausedUntil !== null) return;
    this.#backoff.reset();
    this.#sleep(this.#backoff.next(), () => this.#connect());
  };

  #onAwake = () => {
    const due = this.#due;
    if (due === null || Date.now() < due.at) return;
    this.#rest();
    due.then();
  };

  /** Lets go of the socket without waiting for its closing handshake, which a dead peer never ends.
   * @param {number} [code] */
  #release(code) {
    this.#rest();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
  }

  /**
   * @param {number} delayMs
   * @param {() => void} then
   */
  #sleep(delayMs, then) {
    this.#rest();
    this.#due = { at: Date.now() + delayMs, then };
    this.#timer = Number(setTimeout(then, delayMs));
  }

  #rest() {
    clearTimeout(this.#timer);
    this.#due = null;
  }

  /**
   * @param {State} state
   * @param {object} detail
   */
  #enter(state, detail) {
    this.state = state;
    this.#handlers.onState(state, detail);
  }
}

/** Options that are there but undefined must not hide a default.
 * @template {object} T
 * @param {T} options
 * @returns {T} */
function defined(options) {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return /** @type {T} */ (Object.fromEntries(entries));
}

/** A machine without a network still reaches itself, so its own addresses are always online.
 * @param {URL} url
 * @returns {Network | null} */
function browserNetwork(url) {
  if (typeof globalThis.addEventListener !== "function") return null;
  const loopback = /^(localhost|.*\.localhost|127\..*|\[::1\])$/.test(url.hostname);
  return {
    get onLine() {
      return loopback || globalThis.navigator?.onLine !== false;
    },
    addEventListener: globalThis.addEventListener.bind(globalThis),
    removeEventListener: globalThis.removeEventListener.bind(globalThis),
  };
}
