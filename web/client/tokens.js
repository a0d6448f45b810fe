/** Tokens: one for each connection, and another one before that ends. */

import { Backoff } from "./backoff.js";
import { TrestleError } from "./error.js";
import { TIMES } from "./link.js";

/**
 * Gives a token, or nothing where the edge asks for none. It is called before each attempt to connect and before a token ends, so
 * it should fetch a new one. If it rejects, it is called again later.
 * @typedef {(how: {signal: AbortSignal}) => Promise<string | null | undefined> | string | null | undefined} GetToken
 */

/** @typedef {{expires_at?: number, ended?: Ended[]}} Authenticated */
/** @typedef {{topics?: string[], topics_base64?: string[], exact?: boolean}} Ended */

/** How long before its end a token is replaced; twice that for some, so that not all whose tokens end at once ask at once. */
const LEAD_MAX_MS = 60_000;
/** Of the time that is left. */
const LEAD_SHARE = 1 / 4;
/** The longest time that a timer holds. */
const TIMER_MAX_MS = 2 ** 31 - 1;
/** RFC 9110 §5.6.2 without what would part one subprotocol from the next. */
const AS_SUBPROTOCOL = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

export class Tokens {
  #getToken;
  #authenticate;
  #report;
  #random;
  #controller = new AbortController();
  #backoff;
  #timer = 0;
  /** Counts connections: what one of them began is not for the next. */
  #connection = 0;
  #isRefreshing = false;

  /**
   * @param {GetToken} getToken
   * @param {{authenticate: (token: string) => Promise<Authenticated>, report: (error: TrestleError) => void,
   *   random: () => number}} rest
   */
  constructor(getToken, { authenticate, report, random }) {
    this.#getToken = getToken;
    this.#authenticate = authenticate;
    this.#report = report;
    this.#random = random;
    this.#backoff = new Backoff(TIMES.reconnectMinMs, TIMES.reconnectMaxMs, random);
  }

  /** A token for a new connection, as the subprotocol that carries it.
   * @returns {Promise<string | null>} */
  async subprotocol() {
    const token = await this.#next();
    return token === null ? null : `bearer.${token}`;
  }

  /** The connection's token ends then.
   * @param {number | undefined} expiresAt Unix seconds. */
  endsAt(expiresAt) {
    clearTimeout(this.#timer);
    if (expiresAt === undefined) return;
    const leftMs = expiresAt * 1000 - Date.now();
    // A clock that is ahead of the server's sees it end in the past: the server's goodbye tells when it does.
    if (leftMs <= 0) return;
    const leadMs = Math.min(LEAD_MAX_MS, leftMs * LEAD_SHARE) * (1 + this.#random());
    const inMs = leftMs - leadMs;
    const then = inMs > TIMER_MAX_MS ? () => this.endsAt(expiresAt) : () => void this.refresh();
    this.#timer = Number(setTimeout(then, Math.min(inMs, TIMER_MAX_MS)));
  }

  /** Replaces the connection's token.
   * @returns {Promise<boolean>} Whether it did. */
  async refresh() {
    if (this.#isRefreshing) return false;
    this.#isRefreshing = true;
    clearTimeout(this.#timer);
    const connection = this.#connection;
    try {
      const token = await this.#next();
      if (token === null || connection !== this.#connection) return false;
      const { expires_at } = await this.#authenticate(token);
      if (connection !== this.#connection) return false;
      this.#backoff.reset();
      this.endsAt(expires_at);
      return true;
    } catch (error) {
      if (connection === this.#connection) this.#failed(/** @type {TrestleError} */ (error));
      return false;
    } finally {
      this.#isRefreshing = false;
    }
  }

  /** The connection is gone. */
  forget() {
    this.#connection += 1;
    clearTimeout(this.#timer);
  }

  /** No more are asked for. */
  end() {
    this.forget();
    this.#controller.abort();
  }

  /** @param {TrestleError} error */
  #failed(error) {
    this.#report(error);
    this.#timer = Number(setTimeout(() => void this.refresh(), this.#backoff.next()));
  }

  async #next() {
    try {
      const token = (await this.#getToken({ signal: this.#controller.signal })) ?? null;
      // Said by us, as an engine's own error would show the token.
      if (token !== null && !AS_SUBPROTOCOL.test(token)) throw new TypeError("what getToken gave is none");
      return token;
    } catch (error) {
      throw new TrestleError("unauthorized", `no token: ${error instanceof Error ? error.message : String(error)}`, true);
    }
  }
}
