/** Waiting for a condition, with a deadline and a message that says what was missing. */

export const DEADLINE_MS = 15_000;

/**
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} condition Met when truthy.
 * @param {number} [deadlineMs]
 * @returns {Promise<T>}
 */
export async function until(what, condition, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}

/** Things that come one at a time and are awaited one at a time. */
export class Inbox {
  #items = [];
  #what;
  #ended = false;

  /** @param {string} what */
  constructor(what) {
    this.#what = what;
  }

  push(item) {
    this.#items.push(item);
  }

  /** Nothing more will come: who waits hears so at once, and does not keep the process alive. */
  end() {
    this.#ended = true;
  }

  get size() {
    return this.#items.length;
  }

  async next(deadlineMs) {
    await until(this.#what, () => this.#items.length > 0 || this.#ended, deadlineMs);
    if (this.#items.length === 0) throw new Error(`never came: ${this.#what}`);
    return this.#items.shift();
  }
}
