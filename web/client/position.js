/** The order of positions. To everybody else they are opaque; this module comes with its edge and reads the one layout. */

/** Format 1, then epoch and offset, 8 bytes each, big-endian. */
const FORMAT = "\x01";
const BYTES = 17;
const EPOCH_END = 9;

/**
 * Whether `position` is `floor` or before it, in the same epoch. False where that cannot be said.
 *
 * @param {string} position
 * @param {string} floor
 */
export function isReached(position, floor) {
  const [a, b] = [position, floor].map(decode);
  return a !== null && b !== null && a.slice(0, EPOCH_END) === b.slice(0, EPOCH_END) && a <= b;
}

/** One character a byte, so that texts of one epoch compare as their offsets do.
 * @param {string} position */
function decode(position) {
  try {
    const bytes = atob(position.replaceAll("-", "+").replaceAll("_", "/"));
    return bytes.length === BYTES && bytes.startsWith(FORMAT) ? bytes : null;
  } catch {
    return null;
  }
}
