/** Numbers as people read them. */

const whole = formatter({ maximumFractionDigits: 0 });
const fine = formatter({ maximumFractionDigits: 1 });
const short = formatter({ notation: "compact", maximumFractionDigits: 1 });
const signs = formatter({ maximumSignificantDigits: 4 });

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Beyond these a number is written as a power of ten: a gauge may be 1e308, which in full is wider than the page. */
const [TINY, HUGE] = [1e-9, 1e15];

/** @param {Intl.NumberFormatOptions} options */
function formatter(options) {
  const usual = new Intl.NumberFormat("en", options);
  const extreme = new Intl.NumberFormat("en", { notation: "scientific", maximumFractionDigits: 2 });
  /** @param {number} n */
  const isUsual = (n) => n === 0 || (Math.abs(n) >= TINY && Math.abs(n) < HUGE);
  return { format: (/** @type {number} */ n) => (isUsual(n) ? usual : extreme).format(n) };
}

/** @param {number} n */
export function count(n) {
  return n < 100_000 ? whole.format(n) : short.format(n);
}

/** @param {number} perSecond */
export function rate(perSecond) {
  if (perSecond < 0.05) return "0";
  return perSecond < 10 ? fine.format(perSecond) : count(perSecond);
}

/** @param {number} n */
export function bytes(n) {
  let unit = 0;
  let value = n;
  while (Math.abs(value) >= 1023.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const number = unit === 0 || value >= 99.95 ? whole.format(value) : fine.format(value);
  return `${number} ${BYTE_UNITS[unit]}`;
}

/** @param {number} n Any gauge. */
export function plain(n) {
  return signs.format(n);
}

/** A gauge in the unit that its name tells.
 * @param {string} name
 * @param {number} value */
export function gauge(name, value) {
  if (name.endsWith("bytes_per_s")) return `${bytes(value)}/s`;
  if (name.endsWith("bytes")) return bytes(value);
  return name.endsWith("percent") ? `${fine.format(value)} %` : plain(value);
}

/** @param {number} ms */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 86_400)} d`;
}

/** Like `duration`, in its largest unit alone.
 * @param {number} ms */
export function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 1) return "now";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
}
