/** What the page keeps of an event: one line, and a longer text for who opens it. Both are bounded. */

import { base64Bytes } from "../../client/topic.js";
import { bytes as byteCount, gauge } from "../format.js";

const LINE_MAX = 160;
const DETAIL_MAX = 4096;

/** @typedef {{kind: string, line: string, detail: string}} Preview */

/** @param {import("../../client/wire.js").Event} event
 * @returns {Preview} */
export function preview(event) {
  const { kind, line, detail } = describe(event);
  return { kind, line: cut(line.replace(/\s+/g, " "), LINE_MAX), detail: cut(detail, DETAIL_MAX) };
}

/** @param {import("../../client/wire.js").Event} event */
function describe(event) {
  if (event.progress) {
    const { job, done, total, unit, state } = event.progress;
    const amount = Number(total) > 0 ? `${done} of ${total}` : done;
    return { kind: "progress", line: `${job}: ${amount} ${unit}, ${state}`, detail: pretty(event.progress) };
  }
  if (event.status) {
    const gauges = Object.entries(event.status.gauges ?? {});
    const line = gauges.map(([name, value]) => `${gaugeName(name)} ${gauge(name, value)}`.trim()).join(" · ");
    return { kind: "status", line, detail: pretty(event.status) };
  }
  if (event.parts) {
    const parts = event.parts.map(body);
    const line = parts.map((part) => part.line).join(" | ");
    return { kind: `${parts.length} parts`, line, detail: parts.map((part) => part.detail).join("\n— part —\n") };
  }
  return body(event);
}

/** Without the group and the unit, which the topic and the value tell: `memory.used_bytes` is `used`.
 * @param {string} name */
function gaugeName(name) {
  return name.replace(/^[^.]*\.(?=.)/, "").replace(/_bytes(_per_s)?$/, "").replace(/^percent$/, "").replaceAll("_", " ");
}

/** @param {import("../../client/wire.js").Body} part */
function body(part) {
  if (part.text !== undefined) return { kind: "text", line: part.text, detail: part.text };
  if (part.base64 !== undefined) return binary(part.base64);
  if (part.data === undefined) return { kind: "empty", line: "", detail: "" };
  const line = JSON.stringify(part.data);
  return { kind: "json", line, detail: line.length > DETAIL_MAX ? line : pretty(part.data) };
}

/** @param {string} base64 */
function binary(base64) {
  const length = (base64.length / 4) * 3 - (base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0);
  // Four characters hold three bytes; of a large body only the start is decoded.
  const start = base64Bytes(base64.slice(0, 1024));
  const hex = Array.from(start, (byte) => byte.toString(16).padStart(2, "0"));
  const lines = [];
  for (let at = 0; at < hex.length; at += 16) lines.push(hex.slice(at, at + 16).join(" "));
  return { kind: "binary", line: `${byteCount(length)}: ${hex.slice(0, 24).join(" ")}`, detail: lines.join("\n") };
}

/** @param {unknown} value */
function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/**
 * @param {string} text
 * @param {number} max
 */
function cut(text, max) {
  return text.length > max ? `${text.slice(0, max)}…` : text;
}
