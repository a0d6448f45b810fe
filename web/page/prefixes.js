/** The subscriptions of the page: chips, a box to add one, and the address that remembers them. */

import { Topic } from "../client.js";
import { arrange, byId, make, setText } from "./dom.js";
import { topicText, typedTopic } from "./topics/tree.js";

/** @typedef {import("../client.js").Client} Client */
/** @typedef {import("../client.js").Subscription} Subscription */

/** More would not fit on a page, and an edge allows 1,000. */
const PREFIXES_MAX = 32;

export class Prefixes {
  #client;
  #onEvent;
  #onChange;
  /** By the text that shows and types a prefix.
   * @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** @type {Map<string, HTMLElement>} */
  #chips = new Map();

  /**
   * @param {Client} client
   * @param {(event: import("../client/wire.js").Event, frame: string | ArrayBuffer) => void} onEvent
   * @param {() => void} onChange Some topics may be wanted no more.
   */
  constructor(client, onEvent, onChange) {
    this.#client = client;
    this.#onEvent = onEvent;
    this.#onChange = onChange;
    const form = byId("subscribe");
    const input = /** @type {HTMLInputElement} */ (byId("prefix"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.add(input.value)) input.value = "";
    });
    byId("everything").addEventListener("click", () => this.add(""));
    const asked = new URLSearchParams(location.search).getAll("topic");
    for (const prefix of asked.length > 0 ? asked : [""]) this.add(prefix);
  }

  /**
   * Everything and a prefix beside it would be everything: each takes the place of the other.
   *
   * @param {string} typed Bytes that are no text as `\xHH`.
   * @returns {boolean} Whether it stands now.
   */
  add(typed) {
    const prefix = typedTopic(typed);
    const text = topicText(Topic.from(prefix));
    this.#say("");
    if (this.#subscriptions.has(text)) return true;
    if (this.#subscriptions.size >= PREFIXES_MAX) {
      this.#say(`A page holds ${PREFIXES_MAX} prefixes: remove one first.`);
      return false;
    }
    const replaced = [...this.#subscriptions.keys()].filter((other) => text === "" || other === "");
    // First the new one, then the old ones: nothing in between is missed.
    // A page that cannot keep up shows what is new, not all that was.
    const subscription = this.#client.subscribe(prefix, {
      snapshot: true,
      policy: "conflate",
      onEvent: this.#onEvent,
    });
    this.#subscriptions.set(text, subscription);
    subscription.ready.catch((error) => {
      if (this.#subscriptions.get(text) !== subscription || error.code === "closed") return;
      this.#say(`“${text}” was refused: ${error.message}`);
      this.#drop(text);
    });
    for (const other of replaced) this.#drop(other);
    this.#changed();
    return true;
  }

  /** Whether a topic is covered; null stands for messages without one.
   * @param {Topic | null} topic */
  wants(topic) {
    const subscriptions = [...this.#subscriptions.values()];
    if (topic === null) return subscriptions.some((subscription) => subscription.matches(Topic.ofText("")));
    return subscriptions.some((subscription) => subscription.matches(topic));
  }

  /** @param {string} text */
  #remove(text) {
    this.#drop(text);
    if (this.#subscriptions.size === 0) this.#say("Subscribed to nothing, so nothing arrives.");
    this.#changed();
    byId("prefix").focus();
  }

  /** @param {string} text */
  #drop(text) {
    void this.#subscriptions.get(text)?.unsubscribe();
    this.#subscriptions.delete(text);
    this.#changed();
  }

  #changed() {
    const texts = [...this.#subscriptions.keys()];
    this.#chips = new Map(texts.map((text) => [text, this.#chips.get(text) ?? this.#chip(text)]));
    arrange(byId("prefixes"), [...this.#chips.values()]);
    byId("everything").hidden = this.#subscriptions.has("");
    const address = new URL(location.href);
    address.searchParams.delete("topic");
    if (texts.length !== 1 || texts[0] !== "") for (const text of texts) address.searchParams.append("topic", text);
    history.replaceState(null, "", address);
    this.#onChange();
  }

  /** @param {string} text */
  #chip(text) {
    const name = text === "" ? "Everything" : text;
    const button = make("button", { type: "button", "aria-label": `Unsubscribe from ${name}`, title: "Unsubscribe" }, "×");
    button.addEventListener("click", () => this.#remove(text));
    return make("li", { class: text === "" ? "chip all" : "chip" }, make("span", {}, name), button);
  }

  /** @param {string} text */
  #say(text) {
    setText(byId("prefix-note"), text);
  }
}
