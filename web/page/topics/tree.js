/** The topics seen so far, as a tree over `/`, with a bound on its size. */

import { Topic } from "../../client.js";
import { preview } from "./preview.js";

/** @typedef {import("../../client/wire.js").Event} Event */

/** Beyond this many, messages are counted at the deepest node there is: a feed of random topics
 * must not fill the browser. By the bound on previews that is about 16 MiB at the most. */
export const NODES_MAX = 2000;
/** What lies deeper stays in the last name. */
const LEVELS_MAX = 12;
/** Of a rate's running mean. */
const RATE_MEAN_S = 3;

const NO_TOPIC = "(no topic)";

const order = new Intl.Collator("en", { numeric: true });

export class TopicNode {
  /** Sorted by name, numbers as numbers.
   * @type {TopicNode[]} */
  children = [];
  /** @type {Map<string, TopicNode>} */
  childByName = new Map();
  /** Set where messages came for this very topic; null within stands for messages without one.
   * @type {{topic: Topic | null} | null} */
  leaf = null;

  /** Messages here, and here or below. */
  own = 0;
  total = 0;
  /** Messages a second, here and here or below. */
  ownRate = 0;
  rate = 0;
  /** Unix ms of the last message here, and here or below; 0 before the first. */
  ownAt = 0;
  at = 0;

  /** The newest event until its preview is made. It may be large, so it does not stay.
   * @type {Event | null} */
  #latest = null;
  /** @type {import("./preview.js").Preview | null} */
  #preview = null;
  #ownBefore = 0;
  /** Of the running mean: how much of it is measured; 1 in the end. */
  #measured = 0;
  /** 0 is the root. */
  level = 0;

  /**
   * @param {string} name
   * @param {TopicNode | null} parent
   */
  constructor(name, parent) {
    this.name = name;
    this.parent = parent;
    if (parent !== null) this.level = parent.level + 1;
  }

  /** The last value of this very topic. */
  get preview() {
    if (this.#latest !== null) {
      this.#preview = preview(this.#latest);
      this.#latest = null;
    }
    return this.#preview;
  }

  /**
   * @param {Event} event
   * @param {number} now
   * @param {number} messages
   */
  take(event, now, messages) {
    this.#latest = event;
    this.ownAt = now;
    this.own += messages;
  }

  /** A rate, and the preview that nobody asked for.
   * @param {number} seconds Since the last tick. */
  tick(seconds) {
    const keep = Math.exp(-seconds / RATE_MEAN_S);
    const fresh = (this.own - this.#ownBefore) / seconds;
    // Divided by what is measured, a young mean does not start from nothing.
    const measured = this.#measured * keep + (1 - keep);
    this.ownRate = (this.ownRate * this.#measured * keep + fresh * (1 - keep)) / measured;
    this.#measured = measured;
    this.#ownBefore = this.own;
    void this.preview;
  }
}

export class TopicTree {
  root = new TopicNode("", null);
  /** @type {Map<string, TopicNode>} */
  #byTopic = new Map();
  nodes = 0;
  /** Messages whose topic found no room. */
  unplaced = 0;
  /** Rises whenever nodes come or go. */
  shape = 0;
  #tickedAt = 0;

  get topics() {
    return this.#byTopic.size;
  }

  /**
   * @param {Event} event
   * @param {number} now Unix ms.
   * @param {number} messages For how many messages the event stands; a snapshot is none.
   */
  take(event, now, messages) {
    const key = event.topic ?? event.topic_base64 ?? "";
    const kind = event.topic !== undefined ? "text " : event.topic_base64 !== undefined ? "bytes " : "none";
    const node = this.#byTopic.get(kind + key) ?? this.#place(kind + key, topicOf(event));
    if (node) {
      node.take(event, now, messages);
    } else {
      this.unplaced += messages;
      this.root.own += messages;
    }
  }

  /** Once a second.
   * @param {number} now Unix ms. */
  tick(now) {
    const seconds = this.#tickedAt === 0 ? 1 : Math.max(0.1, (now - this.#tickedAt) / 1000);
    this.#tickedAt = now;
    for (const node of this.#byTopic.values()) node.tick(seconds);
  }

  /** Brings the sums of the branches up to date: on drawing, so that a message costs one node. */
  sum() {
    sum(this.root);
  }

  /** Keeps only topics that somebody still wants.
   * @param {(topic: Topic | null) => boolean} wanted */
  retain(wanted) {
    for (const [key, node] of this.#byTopic) {
      if (node.leaf === null || wanted(node.leaf.topic)) continue;
      this.#byTopic.delete(key);
      node.leaf = null;
      node.own = node.ownRate = node.ownAt = 0;
      this.#prune(node);
    }
    this.unplaced = this.root.own = 0;
    this.shape += 1;
  }

  /** @param {TopicNode} node */
  #prune(node) {
    for (let at = node; at.parent !== null && at.leaf === null && at.children.length === 0; at = at.parent) {
      at.parent.childByName.delete(at.name);
      at.parent.children.splice(at.parent.children.indexOf(at), 1);
      this.nodes -= 1;
    }
  }

  /**
   * @param {string} key
   * @param {Topic | null} topic
   * @returns {TopicNode | null} Null when the bound is reached.
   */
  #place(key, topic) {
    const missing = namesOf(topic);
    let node = this.root;
    for (let child = node.childByName.get(missing[0]); child; child = child.childByName.get(missing[0])) {
      missing.shift();
      node = child;
    }
    // All of its nodes or none: a branch without a topic would never leave.
    if (this.nodes + missing.length > NODES_MAX) return null;
    for (const name of missing) {
      const child = new TopicNode(name, node);
      insert(node, child);
      this.nodes += 1;
      node = child;
    }
    node.leaf = { topic };
    this.#byTopic.set(key, node);
    this.shape += 1;
    return node;
  }
}

/** @param {TopicNode} node */
function sum(node) {
  node.total = node.own;
  node.rate = node.ownRate;
  node.at = node.ownAt;
  for (const child of node.children) {
    sum(child);
    node.total += child.total;
    node.rate += child.rate;
    node.at = Math.max(node.at, child.at);
  }
}

/**
 * @param {TopicNode} parent
 * @param {TopicNode} child
 */
function insert(parent, child) {
  parent.childByName.set(child.name, child);
  let [low, high] = [0, parent.children.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order.compare(parent.children[middle].name, child.name) <= 0) low = middle + 1;
    else high = middle;
  }
  parent.children.splice(low, 0, child);
}

/** @param {Event} event */
function topicOf(event) {
  if (event.topic !== undefined) return Topic.ofText(event.topic);
  return event.topic_base64 === undefined ? null : Topic.ofBase64(event.topic_base64);
}

/** @param {Topic | null} topic */
function namesOf(topic) {
  if (topic === null) return [NO_TOPIC];
  const names = topicText(topic).split("/");
  if (names.length > LEVELS_MAX) names.push(names.splice(LEVELS_MAX - 1).join("/"));
  return names.map((name) => name || "(empty)");
}

/** A topic to show and to type: bytes that are no text, and controls, as `\xHH`.
 * @param {Topic} topic */
export function topicText(topic) {
  const hex = (/** @type {number} */ byte) => `\\x${byte.toString(16).padStart(2, "0")}`;
  if (topic.text !== null) {
    return topic.text.replace(/[\u0000-\u001f\u007f]/g, (char) => hex(char.charCodeAt(0)));
  }
  return Array.from(topic.bytes, (byte) => (byte > 0x1f && byte < 0x7f ? String.fromCharCode(byte) : hex(byte))).join("");
}

/** The reverse of `topicText`.
 * @param {string} text
 * @returns {string | Uint8Array} */
export function typedTopic(text) {
  if (!/\\x[0-9a-f]{2}/i.test(text)) return text;
  const bytes = [];
  for (const part of text.split(/(\\x[0-9a-f]{2})/i)) {
    if (/^\\x[0-9a-f]{2}$/i.test(part)) bytes.push(Number.parseInt(part.slice(2), 16));
    else bytes.push(...new TextEncoder().encode(part));
  }
  return Uint8Array.from(bytes);
}
