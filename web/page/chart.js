/** The throughput chart, drawn by uPlot. */

import uPlot from "../vendor/uPlot.esm.js";
import { age, rate } from "./format.js";
import { SECONDS } from "./meter.js";

/** Between ticks, of a young chart and of a full one. */
const TICKS_S = [10, 30];

/** @typedef {[number[], (number | null)[]]} Columns */

export class Chart {
  #box;
  #onPoint;
  /** @type {uPlot} */
  #plot;
  /** @type {Columns} */
  #columns = [[], []];

  /**
   * @param {HTMLElement} box
   * @param {(text: string) => void} onPoint What lies under the pointer; empty when it has left.
   */
  constructor(box, onPoint) {
    this.#box = box;
    this.#onPoint = onPoint;
    this.#plot = this.#build();
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(box);
  }

  /** @param {Columns} columns */
  draw(columns) {
    this.#columns = columns;
    this.#plot.setData(columns);
  }

  /** Colours are read from the style sheet once, so another theme means another plot. */
  recolour() {
    this.#plot.destroy();
    this.#plot = this.#build();
    this.#plot.setData(this.#columns);
  }

  #build() {
    const colour = (/** @type {string} */ name) => colourOf(this.#box, name);
    const font = `11px ${getComputedStyle(this.#box).fontFamily}`;
    /** @type {uPlot.Axis} */
    const axis = { stroke: colour("--muted"), font, ticks: { show: false } };
    return new uPlot(
      {
        ...this.#size(),
        padding: [8, 16, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        scales: {
          x: { time: true },
          y: { range: (_plot, _min, max) => [0, Math.max(4, (max ?? 0) * 1.15)] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 24, splits: secondsBack, values: (plot, ticks) => ticks.map((tick) => label(plot, tick)) },
          { ...axis, grid: { stroke: colour("--line"), width: 1 }, size: gutter, space: 34, values: (_plot, ticks) => ticks.map(rate) },
        ],
        series: [
          {},
          {
            stroke: colour("--accent"),
            width: 2,
            fill: (plot) => gradient(plot, colour("--accent")),
            paths: uPlot.paths.spline?.(),
            points: { show: false },
          },
        ],
        hooks: { setCursor: [(plot) => this.#onPoint(pointText(plot))] },
      },
      this.#columns,
      this.#box,
    );
  }

  #size() {
    return { width: Math.max(120, this.#box.clientWidth), height: Math.max(100, this.#box.clientHeight) };
  }
}

/** Ticks count back from the newest second, so that they stay put while the data moves.
 * @param {uPlot} plot */
function secondsBack(plot) {
  const newest = plot.data[0].at(-1) ?? 0;
  const step = plot.data[0].length <= SECONDS / 2 ? TICKS_S[0] : TICKS_S[1];
  const ticks = Array.from({ length: Math.ceil(plot.data[0].length / step) }, (_, at) => newest - at * step);
  return ticks.reverse();
}

/**
 * @param {uPlot} plot
 * @param {number} tick
 */
function label(plot, tick) {
  const back = (plot.data[0].at(-1) ?? tick) - tick;
  return back === 0 ? "now" : `−${back} s`;
}

/** As wide as its longest label, so that the labels begin where the card's text does.
 * @param {uPlot} _plot
 * @param {string[] | null} labels */
function gutter(_plot, labels) {
  return 10 + 7 * Math.max(2, ...(labels ?? []).map((text) => text.length));
}

/** @param {uPlot} plot */
function pointText(plot) {
  const at = plot.cursor.idx;
  if (at === null || at === undefined) return "";
  const value = plot.data[1][at];
  const back = (plot.data[0].at(-1) ?? 0) - plot.data[0][at];
  return value === null || value === undefined ? "" : `${rate(value)}/s, ${age(back * 1000)}${back < 1 ? "" : " ago"}`;
}

/**
 * @param {uPlot} plot
 * @param {string} colour
 */
function gradient(plot, colour) {
  const { top, height } = plot.bbox;
  if (!(height > 0)) return "transparent";
  const fill = plot.ctx.createLinearGradient(0, top, 0, top + height);
  fill.addColorStop(0, colour.replace(")", " / 0.32)"));
  fill.addColorStop(1, colour.replace(")", " / 0)"));
  return fill;
}

/** A custom property as a colour that a canvas takes: `light-dark()` is resolved by a probe.
 * @param {HTMLElement} box
 * @param {string} name */
function colourOf(box, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  box.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g) ?? ["0", "0", "0"];
  probe.remove();
  return `rgb(${r} ${g} ${b})`;
}
