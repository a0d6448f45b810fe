/** How many messages arrived in each of the last seconds. */

/** Seconds that the chart shows: long enough for a burst's shape, short enough for a phone. */
export const SECONDS = 120;
/** A young chart starts with so many, and grows. */
const SECONDS_MIN = 30;

/** The big number is a mean over this window, in slots of a tenth of a second. */
const SLOTS = 20;
const SLOT_MS = 100;

export class Meter {
  /** Unix seconds of the last full bucket. */
  #second;
  #counts = new Array(SECONDS + 1).fill(0);
  #slots = new Array(SLOTS).fill(0);
  #slot = 0;
  #startedAt;

  received = 0;
  receivedBytes = 0;
  peak = 0;

  /** @param {number} now Unix ms. */
  constructor(now) {
    this.#startedAt = now;
    this.#second = Math.floor(now / 1000);
    this.#slot = Math.floor(now / SLOT_MS);
  }

  /**
   * @param {number} now Unix ms.
   * @param {number} bytes Of the WebSocket message.
   */
  add(now, bytes) {
    this.advance(now);
    this.#counts[SECONDS] += 1;
    this.#slots[SLOTS - 1] += 1;
    this.received += 1;
    this.receivedBytes += bytes;
  }

  /** Lets time pass. The last bucket is the running second, which nobody sees yet.
   * @param {number} now Unix ms. */
  advance(now) {
    const seconds = Math.min(SECONDS + 1, Math.max(0, Math.floor(now / 1000) - this.#second));
    if (seconds > 0) {
      this.peak = Math.max(this.peak, this.#counts[SECONDS]);
      this.#counts.splice(0, seconds);
      while (this.#counts.length <= SECONDS) this.#counts.push(0);
      this.#second = Math.floor(now / 1000);
    }
    const slots = Math.min(SLOTS, Math.max(0, Math.floor(now / SLOT_MS) - this.#slot));
    if (slots > 0) {
      this.#slots.splice(0, slots);
      while (this.#slots.length < SLOTS) this.#slots.push(0);
      this.#slot = Math.floor(now / SLOT_MS);
    }
  }

  /** Messages a second, over the last two seconds or as long as there were any.
   * @param {number} now Unix ms. */
  rate(now) {
    this.advance(now);
    const windowMs = Math.min(SLOTS * SLOT_MS, Math.max(1000, now - this.#startedAt));
    return (this.#slots.reduce((sum, n) => sum + n, 0) * 1000) / windowMs;
  }

  /** Two equal columns: Unix seconds, messages in that second. What was not a whole second of ours is null.
   * @returns {[number[], (number | null)[]]} */
  history() {
    const started = Math.floor(this.#startedAt / 1000);
    const length = Math.min(SECONDS, Math.max(SECONDS_MIN, this.#second - started));
    const seconds = Array.from({ length }, (_, at) => this.#second - length + at);
    const counts = this.#counts.slice(SECONDS - length, SECONDS);
    return [seconds, counts.map((count, at) => (seconds[at] <= started ? null : count))];
  }
}
