/** The live page: one feed, shown as a chart, bars, gauges and a tree. */

import { connect, topicOf } from "./client.js";
import { Chart } from "./page/chart.js";
import { byId, setText } from "./page/dom.js";
import { bytes, count, rate } from "./page/format.js";
import { Frames } from "./page/frames.js";
import { HeldEvents } from "./page/held.js";
import { Hosts } from "./page/hosts.js";
import { Jobs } from "./page/jobs.js";
import { Meter } from "./page/meter.js";
import { Prefixes } from "./page/prefixes.js";
import { setUpStatus } from "./page/status.js";
import { setUpTheme } from "./page/theme.js";
import { TopicTree } from "./page/topics/tree.js";
import { TopicsView } from "./page/topics/view.js";

/** @typedef {import("./client/wire.js").Event} Event */

const TICK_MS = 1000;

const meter = new Meter(Date.now());
const tree = new TopicTree();
const frames = new Frames(draw);
const view = new TopicsView(tree, () => frames.request());
const jobs = new Jobs(() => frames.request());
const hosts = new Hosts();
const chart = new Chart(byId("chart"), (text) => setText(byId("traffic-point"), text));
const held = new HeldEvents();
let lost = { count: 0, exact: true };
/** Unix ms; null while the page runs. */
let pausedAt = /** @type {number | null} */ (null);
/** @type {Event | null} */
let last = null;

const client = connect("/ws");
setUpStatus(client);
const prefixes = new Prefixes(client, take, forget);
client.addEventListener("gap", (event) => lose(/** @type {CustomEvent} */ (event).detail));
setUpTheme(() => chart.recolour());
byId("pause").addEventListener("click", () => pause(pausedAt === null));
setInterval(tick, TICK_MS);
// Axes without data have no room: the empty chart is one of seconds without messages.
chart.draw(meter.history());
frames.request();

/**
 * @param {Event} event
 * @param {string | ArrayBuffer} frame
 */
function take(event, frame) {
  // The client hands an event to each subscription that matches: here it counts once.
  if (event === last) return;
  last = event;
  const now = Date.now();
  const messages = event.snapshot === true ? 0 : 1;
  const size = typeof frame === "string" ? frame.length : frame.byteLength;
  if (messages > 0) meter.add(now, size);
  if (pausedAt === null) show(event, now, messages);
  else held.take(event, size);
}

/**
 * @param {Event} event
 * @param {number} now Unix ms.
 * @param {number} messages
 */
function show(event, now, messages) {
  tree.take(event, now, messages);
  if (event.progress) jobs.take(event, now);
  if (event.status) hosts.take(event, now);
  frames.request();
}

/** What nobody is subscribed to any more leaves the page. */
function forget() {
  // Prefixes call this from their constructor, before there is anything to forget.
  if (tree.topics === 0) return;
  tree.retain((topic) => prefixes.wants(topic));
  const wanted = (/** @type {Event} */ event) => prefixes.wants(topicOf(event));
  jobs.retain(wanted);
  hosts.retain(wanted);
  frames.request();
}

/** @param {import("./client/wire.js").Lost} loss */
function lose(loss) {
  lost = { count: lost.count + (loss.count ?? loss.at_most ?? 0), exact: lost.exact && loss.count !== undefined };
  frames.request();
}

function draw() {
  const now = pausedAt ?? Date.now();
  if (pausedAt === null) drawTraffic(now);
  jobs.draw(now);
  hosts.draw(now);
  view.draw(now);
}

/** @param {number} now Unix ms. */
function drawTraffic(now) {
  setText(byId("rate"), rate(meter.rate(now)));
  setText(byId("peak"), meter.peak === 0 ? "–" : `${count(meter.peak)}/s`);
  setText(byId("received"), count(meter.received));
  setText(byId("data"), bytes(meter.receivedBytes));
  setText(byId("lost"), `${lost.exact ? "" : "about "}${count(lost.count)}`);
  byId("lost").dataset.any = String(lost.count > 0 || !lost.exact);
}

/** What changes without a message: ages, rates that fall, the chart that moves on. */
function tick() {
  const now = Date.now();
  meter.advance(now);
  if (pausedAt !== null) {
    setText(byId("pause-text"), held.messages === 0 ? "Resume" : `Resume · ${count(held.messages)} new`);
    return;
  }
  tree.tick(now);
  if (!document.hidden) chart.draw(meter.history());
  frames.request();
}

/** A paused page stands still, so that one can read it; what arrives is held back, not lost.
 * @param {boolean} on */
function pause(on) {
  const now = Date.now();
  pausedAt = on ? now : null;
  for (const { event, messages } of held.release()) {
    if (prefixes.wants(topicOf(event))) show(event, now, messages);
  }
  byId("pause").setAttribute("aria-pressed", String(on));
  setText(byId("pause-text"), on ? "Resume" : "Pause");
  tick();
}
