/** A bounded queue between a pushing producer and one reader that awaits. */

/** @template T */
export class BoundedQueue {
  /** @type {T[]} */
  #items = [];
  #itemsMax;
  #ended = false;
  /** @type {unknown} */
  #error = undefined;
  /** @type {{resolve: (result: IteratorResult<T, undefined>) => void, reject: (error: unknown) => void}[]} */
  #readers = [];

  /** @param {number} itemsMax At this many the oldest leaves. */
  constructor(itemsMax) {
    this.#itemsMax = itemsMax;
  }

  /**
   * @param {T} item
   * @returns {number} How many items were dropped to make room: 0 or 1.
   */
  push(item) {
    if (this.#ended) return 0;
    const reader = this.#readers.shift();
    if (reader) {
      reader.resolve({ value: item, done: false });
      return 0;
    }
    this.#items.push(item);
    if (this.#items.length <= this.#itemsMax) return 0;
    this.#items.shift();
    return 1;
  }

  /**
   * No more items. What is queued is still read; then readers see the end, or the error once.
   *
   * @param {unknown} [error]
   */
  end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    for (const reader of this.#readers.splice(0)) this.#finish(reader);
  }

  /** @returns {Promise<IteratorResult<T, undefined>>} */
  next() {
    return new Promise((resolve, reject) => {
      const item = this.#items.shift();
      if (item !== undefined) resolve({ value: item, done: false });
      else if (this.#ended) this.#finish({ resolve, reject });
      else this.#readers.push({ resolve, reject });
    });
  }

  /** @param {{resolve: (result: IteratorResult<T, undefined>) => void, reject: (error: unknown) => void}} reader */
  #finish(reader) {
    const error = this.#error;
    this.#error = undefined;
    if (error === undefined) reader.resolve({ value: undefined, done: true });
    else reader.reject(error);
  }
}
