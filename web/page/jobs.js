/** Jobs as progress bars, from typed `progress` events. */

import { arrange, byId, make, setAttribute, setText } from "./dom.js";
import { count, duration } from "./format.js";

/** Beyond this many the oldest finished job leaves, then the oldest of all. */
const JOBS_MAX = 200;
/** On the page before "more". */
const JOBS_SHOWN = 8;

/** @typedef {import("../client/wire.js").Event} Event */
/** @typedef {"started" | "running" | "done" | "failed"} JobState */
/** @typedef {{id: string, topic: Event, done: number, total: number, unit: string, state: JobState, firstAt: number,
 *   firstDone: number, at: number}} Job */
/** @typedef {{item: HTMLElement, name: Element, badge: Element, bar: HTMLElement, amount: Element, note: Element}} Bar */

const LABELS = { started: "Started", running: "Running", done: "Done", failed: "Failed" };

export class Jobs {
  #redraw;
  /** In the order of their first event.
   * @type {Map<string, Job>} */
  #jobs = new Map();
  /** @type {Map<string, Bar>} */
  #bars = new Map();
  #all = false;

  /** @param {() => void} redraw */
  constructor(redraw) {
    this.#redraw = redraw;
    byId("jobs-more").addEventListener("click", () => {
      this.#all = !this.#all;
      this.#redraw();
    });
  }

  /**
   * @param {Event} event
   * @param {number} now Unix ms.
   */
  take(event, now) {
    const progress = event.progress;
    if (!progress) return;
    const id = String(progress.job);
    const [done, total] = [number(progress.done), number(progress.total)];
    const known = this.#jobs.get(id);
    // A job that starts over is measured anew.
    const fresh = known === undefined || done < known.done || finished(known);
    this.#jobs.set(id, {
      id,
      topic: event,
      done,
      total,
      unit: String(progress.unit ?? ""),
      state: Object.hasOwn(LABELS, progress.state) ? progress.state : "running",
      firstAt: fresh ? now : known.firstAt,
      firstDone: fresh ? done : known.firstDone,
      at: now,
    });
    if (this.#jobs.size > JOBS_MAX) this.#evict();
  }

  /** @param {(event: Event) => boolean} wanted */
  retain(wanted) {
    for (const [id, job] of this.#jobs) if (!wanted(job.topic)) this.#jobs.delete(id);
  }

  /** @param {number} now Unix ms. */
  draw(now) {
    const jobs = [...this.#jobs.values()];
    const active = jobs.filter((job) => !finished(job)).reverse();
    // A failure waits for somebody's eyes; what is done only makes room.
    const rank = (/** @type {Job} */ job) => (job.state === "failed" ? 0 : 1);
    const over = jobs.filter(finished).sort((a, b) => rank(a) - rank(b) || b.at - a.at);
    const listed = [...active, ...over];
    const shown = this.#all ? listed : listed.slice(0, JOBS_SHOWN);
    const bars = new Map(shown.map((job) => [job.id, this.#bars.get(job.id) ?? build(job.id)]));
    this.#bars = bars;
    arrange(byId("jobs"), [...bars.values()].map((bar) => bar.item));
    for (const job of shown) fill(/** @type {Bar} */ (bars.get(job.id)), job, now);
    byId("jobs-empty").hidden = jobs.length > 0;
    setText(byId("jobs-summary"), jobs.length === 0 ? "" : summary(active, over));
    const more = byId("jobs-more");
    more.hidden = listed.length <= JOBS_SHOWN;
    setText(more, this.#all ? "Show fewer" : `Show all ${listed.length}`);
  }

  #evict() {
    const jobs = [...this.#jobs.values()];
    const oldest = (jobs.some(finished) ? jobs.filter(finished) : jobs).reduce((a, b) => (a.at <= b.at ? a : b));
    this.#jobs.delete(oldest.id);
  }
}

/** @param {Job} job */
function finished(job) {
  return job.state === "done" || job.state === "failed";
}

/** Wire numbers beyond 2^53 come as strings; a bar needs no more than a double.
 * @param {unknown} value */
function number(value) {
  const n = Number(value);
  return Number.isFinite(n) && n > 0 ? n : 0;
}

/**
 * @param {Job[]} active
 * @param {Job[]} over
 */
function summary(active, over) {
  const failed = over.filter((job) => job.state === "failed").length;
  const parts = [[active.length, "running"], [over.length - failed, "done"], [failed, "failed"]];
  return parts.filter(([n]) => n !== 0).map(([n, what]) => `${n} ${what}`).join(" · ");
}

/** @param {string} id
 * @returns {Bar} */
function build(id) {
  const name = make("span", { class: "job-name", title: id }, id);
  const badge = make("span", { class: "badge" });
  const bar = make("div", { class: "bar", role: "progressbar", "aria-label": id, "aria-valuemin": "0", "aria-valuemax": "100" }, make("i"));
  const [amount, note] = [make("span"), make("span")];
  const item = make("li", { class: "job" }, make("div", { class: "line" }, name, badge), bar, make("div", { class: "line small" }, amount, note));
  return { item, name, badge, bar, amount, note };
}

/**
 * @param {Bar} bar
 * @param {Job} job
 * @param {number} now
 */
function fill(bar, job, now) {
  const share = job.state === "done" ? 1 : job.total > 0 ? Math.min(1, job.done / job.total) : null;
  setAttribute(bar.item, "data-state", job.state);
  setText(bar.badge, LABELS[job.state]);
  // Without a total there is no share: the bar says "busy", and has no value, as ARIA asks.
  setAttribute(bar.bar, "aria-valuenow", share === null ? null : String(Math.round(share * 100)));
  setAttribute(bar.bar, "data-busy", share === null && !finished(job) ? "true" : null);
  bar.bar.style.setProperty("--share", String(share ?? 1));
  const amount = job.total > 0 ? `${count(job.done)} of ${count(job.total)}` : count(job.done);
  setText(bar.amount, `${amount} ${job.unit}`.trim());
  setText(bar.note, noteOf(job, share, now));
}

/**
 * @param {Job} job
 * @param {number | null} share
 * @param {number} now
 */
function noteOf(job, share, now) {
  if (finished(job)) return now - job.at < 60_000 ? "just now" : `${duration(Math.floor((now - job.at) / 60_000) * 60_000)} ago`;
  const perMs = (job.done - job.firstDone) / Math.max(1, job.at - job.firstAt);
  const percent = share === null ? "" : `${Math.floor(share * 100)} %`;
  // A guess from less than two seconds of work would jump about.
  if (share === null || share >= 1 || perMs <= 0 || job.at - job.firstAt < 2000) return percent;
  const leftMs = (job.total - job.done) / perMs - (now - job.at);
  return `${percent} · ${duration(Math.max(1000, leftMs))} left`;
}
