/** The tree on the page: a grid of rows that the keyboard walks. */

import { arrange, byId, make, setAttribute, setText } from "../dom.js";
import { age, count, rate } from "../format.js";
import { NODES_MAX, TopicTree } from "./tree.js";

/** @typedef {import("./tree.js").TopicNode} TopicNode */
/** @typedef {{row: HTMLElement, dot: Element, value: Element, rate: Element, count: Element, age: Element, node: TopicNode}} Row */

/** Of one branch, before "more". */
const CHILDREN_STEP = 50;
/** A row's dot is lit while its last message is younger. */
const LIT_MS = 1000;

export class TopicsView {
  #tree;
  #redraw;
  #grid = byId("topics");
  /** @type {Map<TopicNode, Row>} */
  #rows = new Map();
  /** @type {Set<TopicNode>} */
  #folded = new Set();
  /** The topic whose last value is open.
   * @type {TopicNode | null} */
  #open = null;
  #detail = make("div", { class: "detail", role: "row" });
  #detailText = make("pre", { tabindex: "0", "aria-label": "Last value" });
  /** @type {Map<TopicNode, number>} */
  #shown = new Map();
  #shape = -1;
  #changed = true;

  /**
   * @param {TopicTree} tree
   * @param {() => void} redraw
   */
  constructor(tree, redraw) {
    this.#tree = tree;
    this.#redraw = redraw;
    this.#detail.append(make("div", { role: "gridcell" }, this.#detailText));
    this.#grid.addEventListener("click", (event) => this.#onClick(event));
    this.#grid.addEventListener("keydown", (event) => this.#onKey(event));
    this.#grid.addEventListener("focusin", (event) => this.#onFocus(event));
  }

  /** @param {number} now Unix ms. */
  draw(now) {
    this.#tree.sum();
    if (this.#changed || this.#shape !== this.#tree.shape) this.#layOut();
    for (const row of this.#rows.values()) fill(row, now);
    if (this.#open) setText(this.#detailText, this.#open.preview?.detail ?? "");
    byId("topics-empty").hidden = this.#tree.topics > 0;
    this.#grid.hidden = this.#tree.topics === 0;
    setText(byId("topics-summary"), this.#tree.topics === 1 ? "1 topic" : `${count(this.#tree.topics)} topics`);
    setText(byId("topics-capped"), this.#tree.unplaced === 0 ? "" : cappedText(this.#tree.unplaced));
  }

  #layOut() {
    this.#shape = this.#tree.shape;
    this.#changed = false;
    /** @type {Map<TopicNode, Row>} */
    const rows = new Map();
    /** @type {Element[]} */
    const elements = [];
    this.#walk(this.#tree.root, rows, elements);
    this.#rows = rows;
    if (this.#open && !rows.has(this.#open)) this.#open = null;
    const focused = document.activeElement;
    arrange(this.#grid, elements, 1);
    // Moving an element in the document takes the focus from it.
    if (focused instanceof HTMLElement && this.#grid.contains(focused)) focused.focus({ preventScroll: true });
    const stop = this.#walkable().find((row) => row.tabIndex === 0);
    if (!stop) this.#walkable()[0]?.setAttribute("tabindex", "0");
  }

  /**
   * @param {TopicNode} parent
   * @param {Map<TopicNode, Row>} rows
   * @param {Element[]} elements
   */
  #walk(parent, rows, elements) {
    const shown = this.#shown.get(parent) ?? CHILDREN_STEP;
    for (const node of parent.children.slice(0, shown)) {
      const row = this.#rows.get(node) ?? build(node);
      const folds = node.children.length > 0;
      const expanded = folds ? !this.#folded.has(node) : this.#open === node;
      setAttribute(row.row, "aria-expanded", String(expanded));
      setAttribute(row.row, "data-kind", folds ? "branch" : "leaf");
      rows.set(node, row);
      elements.push(row.row);
      if (this.#open === node) elements.push(this.#detail);
      if (folds && expanded) this.#walk(node, rows, elements);
    }
    const rest = parent.children.length - shown;
    if (rest > 0) elements.push(this.#more(parent, rest));
  }

  /**
   * @param {TopicNode} parent
   * @param {number} rest
   */
  #more(parent, rest) {
    const button = make("button", { type: "button", class: "more" }, `Show more (${count(rest)} hidden)`);
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      this.#shown.set(parent, (this.#shown.get(parent) ?? CHILDREN_STEP) + CHILDREN_STEP);
      this.#change();
    });
    const row = make("div", { class: "rest", role: "row" }, make("div", { role: "gridcell" }, button));
    row.style.setProperty("--level", String(parent.level));
    return row;
  }

  /** @param {TopicNode} node */
  #toggle(node) {
    if (node.children.length === 0) this.#open = this.#open === node ? null : node;
    else if (!this.#folded.delete(node)) this.#folded.add(node);
    this.#change();
  }

  #change() {
    this.#changed = true;
    this.#redraw();
  }

  /** @returns {HTMLElement[]} */
  #walkable() {
    return Array.from(this.#grid.querySelectorAll(".row[aria-level]")).filter((row) => row instanceof HTMLElement);
  }

  /** @param {EventTarget | null} target */
  #rowAt(target) {
    if (!(target instanceof Element)) return undefined;
    const element = target.closest(".row[aria-level]");
    return [...this.#rows.values()].find((row) => row.row === element);
  }

  /** @param {MouseEvent} event */
  #onClick(event) {
    const row = this.#rowAt(event.target);
    if (!row) return;
    row.row.focus({ preventScroll: true });
    this.#toggle(row.node);
  }

  /** One stop for the Tab key in the whole tree: the row that last had the focus.
   * @param {FocusEvent} event */
  #onFocus(event) {
    const row = this.#rowAt(event.target);
    if (!row) return;
    for (const other of this.#walkable()) other.tabIndex = other === row.row ? 0 : -1;
  }

  /** The keys of the ARIA treegrid pattern.
   * @param {KeyboardEvent} event */
  #onKey(event) {
    const row = this.#rowAt(event.target);
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    const rows = this.#walkable();
    const at = rows.indexOf(row.row);
    const expanded = row.row.getAttribute("aria-expanded") === "true";
    const parent = row.node.parent && this.#rows.get(row.node.parent)?.row;
    const go = (/** @type {HTMLElement | null | undefined} */ to) => to?.focus();
    if (event.key === "ArrowDown") go(rows[at + 1]);
    else if (event.key === "ArrowUp") go(rows[at - 1]);
    else if (event.key === "Home") go(rows[0]);
    else if (event.key === "End") go(rows.at(-1));
    else if (event.key === "Enter" || event.key === " ") this.#toggle(row.node);
    else if (event.key === "ArrowRight" && !expanded) this.#toggle(row.node);
    else if (event.key === "ArrowRight" && row.node.children.length > 0) go(rows[at + 1]);
    else if (event.key === "ArrowLeft" && expanded) this.#toggle(row.node);
    else if (event.key === "ArrowLeft") go(parent);
    else return;
    event.preventDefault();
  }
}

/** @param {TopicNode} node
 * @returns {Row} */
function build(node) {
  const cell = (/** @type {string} */ name) => make("span", { class: name, role: "gridcell" });
  const dot = make("span", { class: "lamp" });
  const topic = make("span", { class: "topic", role: "gridcell" }, make("span", { class: "fold" }), dot, make("span", { class: "name" }, node.name));
  topic.title = node.name;
  const [value, speed, total, old] = [cell("last"), cell("rate"), cell("count"), cell("age")];
  const row = make("div", { class: "row", role: "row", tabindex: "-1", "aria-level": String(node.level) }, topic, value, speed, total, old);
  row.style.setProperty("--level", String(node.level - 1));
  return { row, dot, value, rate: speed, count: total, age: old, node };
}

/**
 * @param {Row} row
 * @param {number} now
 */
function fill(row, now) {
  const { node } = row;
  const shown = node.preview;
  const branch = node.children.length > 0;
  setText(row.value, shown ? shown.line : branch ? "" : "—");
  setAttribute(row.value, "data-kind", shown ? shown.kind : null);
  setText(row.rate, `${rate(node.rate)}/s`);
  setText(row.count, count(node.total));
  setText(row.age, node.at === 0 ? "" : age(now - node.at));
  setAttribute(row.dot, "data-lit", node.at > 0 && now - node.at < LIT_MS ? "true" : null);
}

/** @param {number} unplaced */
function cappedText(unplaced) {
  const messages = unplaced === 1 ? "1 message" : `${count(unplaced)} messages`;
  return `The tree holds ${count(NODES_MAX)} entries and is full: ${messages} on other topics are counted, but not shown. Subscribe to a narrower prefix to see them.`;
}
