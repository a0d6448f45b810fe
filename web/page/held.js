/** What arrives while the page is paused: the newest event of each topic, and how many there were. */

/** @typedef {import("../client/wire.js").Event} Event */
/** @typedef {{event: Event, messages: number, bytes: number}} Held */

/** Of WebSocket messages; beyond it the topic that was quiet for longest is forgotten. */
const BYTES_MAX = 16 * 1024 * 1024;

export class HeldEvents {
  /** The topic that spoke last is last.
   * @type {Map<string, Held>} */
  #byTopic = new Map();
  #bytes = 0;
  /** All that came, the forgotten too. */
  messages = 0;

  /**
   * @param {Event} event
   * @param {number} bytes Of the WebSocket message.
   */
  take(event, bytes) {
    const key = JSON.stringify([event.topic, event.topic_base64]);
    const before = this.#forget(key);
    const news = event.snapshot === true ? 0 : 1;
    this.messages += news;
    this.#byTopic.set(key, { event, messages: (before?.messages ?? 0) + news, bytes });
    this.#bytes += bytes;
    while (this.#bytes > BYTES_MAX) this.#forget(this.#byTopic.keys().next().value ?? "");
  }

  /** Gives everything away, the quietest first.
   * @returns {Held[]} */
  release() {
    const held = [...this.#byTopic.values()];
    this.#byTopic.clear();
    this.#bytes = this.messages = 0;
    return held;
  }

  /** @param {string} key */
  #forget(key) {
    const held = this.#byTopic.get(key);
    this.#byTopic.delete(key);
    this.#bytes -= held?.bytes ?? 0;
    return held;
  }
}
