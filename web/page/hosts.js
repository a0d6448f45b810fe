/** Hosts and their gauges, from typed `status` events. */

import { arrange, byId, make, makeSvg, setAttribute, setText } from "./dom.js";
import { age, bytes, gauge } from "./format.js";

/** Beyond these, a new host or gauge is not taken. */
const HOSTS_MAX = 16;
const GAUGES_MAX = 48;
/** Samples of a small curve. */
const CURVE_MAX = 60;
/** A host that says nothing for so long is shown as silent. */
const SILENT_MS = 15_000;

/** @typedef {import("../client/wire.js").Event} Event */
/** @typedef {{name: string, topic: Event, gauges: Map<string, number>, inward: number[], outward: number[], at: number}} Host */
/** @typedef {{root: HTMLElement, name: Element, age: Element, dials: Map<string, Dial>, network: HTMLElement, inward: Element,
 *   outward: Element, curves: SVGElement[], others: HTMLElement}} Panel */
/** @typedef {{root: HTMLElement, arc: SVGElement, value: Element, note: Element}} Dial */

/** Each dial with the gauges that explain it. */
const DIALS = [
  { gauge: "cpu.percent", label: "CPU", note: loadNote },
  { gauge: "memory.percent", label: "Memory", note: sizeNote("memory") },
  { gauge: "disk.percent", label: "Disk", note: sizeNote("disk") },
];
const INWARD = "network.received_bytes_per_s";
const OUTWARD = "network.sent_bytes_per_s";
const EXPLAINED = /^(cpu\.percent|(memory|disk)\.(percent|used_bytes|total_bytes)|load\.1m|network\.(received|sent)_bytes_per_s)$/;

export class Hosts {
  /** @type {Map<string, Host>} */
  #hosts = new Map();
  /** @type {Map<string, Panel>} */
  #panels = new Map();

  /**
   * @param {Event} event
   * @param {number} now Unix ms.
   */
  take(event, now) {
    const gauges = event.status?.gauges;
    if (typeof gauges !== "object" || gauges === null) return;
    const name = hostOf(event);
    let host = this.#hosts.get(name);
    if (host === undefined) {
      if (this.#hosts.size >= HOSTS_MAX) return;
      host = { name, topic: event, gauges: new Map(), inward: [], outward: [], at: now };
      this.#hosts.set(name, host);
    }
    host.at = now;
    for (const [gauge, value] of Object.entries(gauges)) {
      if (!Number.isFinite(value) || (!host.gauges.has(gauge) && host.gauges.size >= GAUGES_MAX)) continue;
      host.gauges.set(gauge, value);
    }
    if (INWARD in gauges) sample(host.inward, gauges[INWARD]);
    if (OUTWARD in gauges) sample(host.outward, gauges[OUTWARD]);
  }

  /** @param {(event: Event) => boolean} wanted */
  retain(wanted) {
    for (const [name, host] of this.#hosts) if (!wanted(host.topic)) this.#hosts.delete(name);
  }

  /** @param {number} now Unix ms. */
  draw(now) {
    const hosts = [...this.#hosts.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#panels = new Map(hosts.map((host) => [host.name, this.#panels.get(host.name) ?? build(host.name)]));
    arrange(byId("hosts"), [...this.#panels.values()].map((panel) => panel.root));
    for (const host of hosts) fill(/** @type {Panel} */ (this.#panels.get(host.name)), host, now);
    byId("hosts-empty").hidden = hosts.length > 0;
    setText(byId("hosts-summary"), hosts.length > 1 ? `${hosts.length} hosts` : "");
  }
}

/** `system/<host>/<kind>`; of any other topic its source.
 * @param {Event} event */
function hostOf(event) {
  const names = (event.topic ?? "").split("/");
  return (names[0] === "system" && names[1]) || event.source || event.topic || "unnamed";
}

/**
 * @param {number[]} curve
 * @param {number} value
 */
function sample(curve, value) {
  curve.push(Math.max(0, Number(value) || 0));
  if (curve.length > CURVE_MAX) curve.shift();
}

/** @param {Host} host */
function loadNote(host) {
  const load = host.gauges.get("load.1m");
  return load === undefined ? "" : `load ${load.toFixed(2)}`;
}

/** @param {string} what */
function sizeNote(what) {
  return (/** @type {Host} */ host) => {
    const [used, total] = [host.gauges.get(`${what}.used_bytes`), host.gauges.get(`${what}.total_bytes`)];
    if (used === undefined || total === undefined) return "";
    const [usedText, totalText] = [bytes(used), bytes(total)];
    const sameUnit = usedText.split(" ")[1] === totalText.split(" ")[1];
    return `${sameUnit ? usedText.split(" ")[0] : usedText} of ${totalText}`;
  };
}

/** @param {string} name
 * @returns {Panel} */
function build(name) {
  const dials = new Map(DIALS.map(({ gauge, label }) => [gauge, buildDial(label, name)]));
  const curves = ["inward", "outward"].map((way) => makeSvg("polyline", { class: way }));
  const [inward, outward] = [make("dd"), make("dd")];
  const network = make(
    "div",
    { class: "network" },
    makeSvg("svg", { viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" }, ...curves),
    make("dl", {}, make("div", { class: "inward" }, make("dt", {}, "Received"), inward), make("div", { class: "outward" }, make("dt", {}, "Sent"), outward)),
  );
  const others = make("dl", { class: "others" });
  const [title, seen] = [make("h3", { title: name }, name), make("span", { class: "aside" })];
  const root = make("article", { class: "host", "aria-label": name }, make("div", { class: "line" }, title, seen),
    make("div", { class: "dials" }, ...Array.from(dials.values(), (dial) => dial.root)), network, others);
  return { root, name: title, age: seen, dials, network, inward, outward, curves, others };
}

/**
 * @param {string} label
 * @param {string} host
 * @returns {Dial}
 */
function buildDial(label, host) {
  const circle = { cx: "18", cy: "18", r: "15.5", pathLength: "100" };
  const arc = makeSvg("circle", { ...circle, class: "arc", "stroke-dasharray": "0 100" });
  const ring = makeSvg("svg", { viewBox: "0 0 36 36", "aria-hidden": "true" }, makeSvg("circle", { ...circle, class: "track" }), arc);
  const [value, note] = [make("b"), make("span", { class: "dial-note" })];
  const root = make("div", { class: "dial", role: "meter", "aria-label": `${label} of ${host}`, "aria-valuemin": "0", "aria-valuemax": "100" },
    make("div", { class: "ring" }, ring, value), make("span", { class: "dial-name" }, label), note);
  return { root, arc, value, note };
}

/**
 * @param {Panel} panel
 * @param {Host} host
 * @param {number} now
 */
function fill(panel, host, now) {
  const silent = now - host.at > SILENT_MS;
  setText(panel.age, silent ? `silent for ${age(now - host.at)}` : "");
  setAttribute(panel.root, "data-silent", silent ? "true" : null);
  for (const { gauge, note } of DIALS) {
    const dial = /** @type {Dial} */ (panel.dials.get(gauge));
    const value = host.gauges.get(gauge);
    dial.root.hidden = value === undefined;
    if (value !== undefined) turn(dial, value, note(host));
  }
  fillNetwork(panel, host);
  fillOthers(panel, host);
}

/**
 * @param {Dial} dial
 * @param {number} value
 * @param {string} note
 */
function turn(dial, value, note) {
  const percent = Math.min(100, Math.max(0, value));
  setAttribute(dial.arc, "stroke-dasharray", `${percent.toFixed(1)} 100`);
  setAttribute(dial.root, "data-level", percent >= 90 ? "high" : percent >= 75 ? "raised" : null);
  setAttribute(dial.root, "aria-valuenow", String(Math.round(percent)));
  setText(dial.value, `${Math.round(value)}%`);
  setText(dial.note, note);
}

/**
 * @param {Panel} panel
 * @param {Host} host
 */
function fillNetwork(panel, host) {
  const [inward, outward] = [host.gauges.get(INWARD), host.gauges.get(OUTWARD)];
  panel.network.hidden = inward === undefined && outward === undefined;
  if (panel.network.hidden) return;
  setText(panel.inward, `${bytes(inward ?? 0)}/s`);
  setText(panel.outward, `${bytes(outward ?? 0)}/s`);
  const max = Math.max(1, ...host.inward, ...host.outward);
  setAttribute(panel.curves[0], "points", points(host.inward, max));
  setAttribute(panel.curves[1], "points", points(host.outward, max));
}

/** The newest sample is at the right edge.
 * @param {number[]} curve
 * @param {number} max */
function points(curve, max) {
  const step = 100 / (CURVE_MAX - 1);
  const first = 100 - (curve.length - 1) * step;
  return curve.map((value, at) => `${(first + at * step).toFixed(1)},${(26.5 - (value / max) * 25).toFixed(1)}`).join(" ");
}

/** Gauges that no dial shows.
 * @param {Panel} panel
 * @param {Host} host */
function fillOthers(panel, host) {
  const others = [...host.gauges].filter(([name]) => !EXPLAINED.test(name));
  const items = others.map(([name, value], at) => {
    const item = panel.others.children[at] ?? make("div", {}, make("dt"), make("dd"));
    setText(item.children[0], name);
    setText(item.children[1], gauge(name, value));
    return item;
  });
  arrange(panel.others, items);
}
