/** How long to wait before the next attempt: full jitter over a window that doubles. */

export class Backoff {
  #minMs;
  #maxMs;
  #random;

  /** Attempts since the last reset. */
  attempt = 0;

  /**
   * @param {number} minMs Shortest delay, and half of the first window's end.
   * @param {number} maxMs Longest delay.
   * @param {() => number} random Uniform in [0, 1).
   */
  constructor(minMs, maxMs, random) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /**
   * The next delay in ms, uniform over [min, window]. The spread is what keeps thousands of
   * browsers that lost the same server from coming back in the same instant.
   *
   * @param {boolean} [slowly] Draw from the widest window at once.
   */
  next(slowly = false) {
    const doubled = this.#minMs * 2 ** Math.min(this.attempt + 1, 30);
    const windowMs = slowly ? this.#maxMs : Math.min(this.#maxMs, doubled);
    this.attempt += 1;
    return Math.round(this.#minMs + this.#random() * Math.max(0, windowMs - this.#minMs));
  }

  reset() {
    this.attempt = 0;
  }
}
