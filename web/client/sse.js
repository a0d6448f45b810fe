/** The event stream format (html.spec.whatwg.org §9.2), of which the data and ids are wanted. */

/** A line that never ends is no event stream. */
const LINE_CHARS_MAX = 64 << 20;

export class SseParser {
  #rest = "";
  #data = /** @type {string[]} */ ([]);
  #lastId = "";
  #hasId = false;

  /**
   * @param {string} chunk However the text was cut.
   * @returns {{data: string, lastId: string}[]} What ends in it; without data that is a new id alone.
   */
  push(chunk) {
    // A long line comes in many pieces, each looked through once.
    if (!/[\r\n]/.test(chunk) && !this.#rest.endsWith("\r")) {
      this.#rest += chunk;
      return this.#bounded([]);
    }
    const text = this.#rest + chunk;
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    /** @type {{data: string, lastId: string}[]} */
    const events = [];
    for (const line of lines) {
      if (line !== "") this.#take(line);
      else if (this.#data.length > 0 || this.#hasId) {
        events.push({ data: this.#data.join("\n"), lastId: this.#lastId });
        [this.#data, this.#hasId] = [[], false];
      }
    }
    return this.#bounded(events);
  }

  /** @template T
   * @param {T} events */
  #bounded(events) {
    if (this.#rest.length > LINE_CHARS_MAX) throw new RangeError("a line of an event stream that does not end");
    return events;
  }

  /** @param {string} line */
  #take(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "id") [this.#lastId, this.#hasId] = [value, true];
    // The name of an event is that of its JSON's one member, and a comment or a time to wait is nothing here.
  }
}
