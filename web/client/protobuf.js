/** The encoding of protobuf (protobuf.dev/programming-guides/encoding), as far as these messages use it. */

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

export const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];
const VARINT_BYTES_MAX = 10;

/** Reads a message's fields one after the other. What it reads past the end of is a `RangeError`. */
export class Reader {
  #bytes;
  #view;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd() {
    return this.#at >= this.#bytes.length;
  }

  tag() {
    const tag = Number(this.varint());
    return { number: tag >>> 3, wireType: tag & 7 };
  }

  /** Of 64 bits: a string where no number holds it, as in JSON. */
  varint() {
    let low = 0;
    let factor = 1;
    for (let n = 0; n < VARINT_BYTES_MAX; n += 1) {
      const byte = this.#view.getUint8(this.#at);
      this.#at += 1;
      low += (byte & 0x7f) * factor;
      if (byte < 0x80) return low <= Number.MAX_SAFE_INTEGER ? low : this.#large(n + 1);
      factor *= 128;
    }
    throw new RangeError("a varint of more than ten bytes");
  }

  double() {
    const value = this.#view.getFloat64(this.#at, true);
    this.#at += 8;
    return value;
  }

  /** A view, not a copy. */
  bytes() {
    const length = Number(this.varint());
    const start = this.#at;
    if (length > this.#bytes.length - start) throw new RangeError("a field that is longer than its message");
    this.#at += length;
    return this.#bytes.subarray(start, start + length);
  }

  text() {
    return decoder.decode(this.bytes());
  }

  /** @param {number} wireType */
  skip(wireType) {
    if (wireType === VARINT) this.varint();
    else if (wireType === BYTES) this.bytes();
    else if (wireType === FIXED64) this.double();
    else if (wireType === FIXED32) this.#at += 4;
    else throw new RangeError(`a field of the unknown wire type ${wireType}`);
    if (this.#at > this.#bytes.length) throw new RangeError("a field that is longer than its message");
  }

  /** The varint of so many bytes that was read last.
   * @param {number} n */
  #large(n) {
    let value = 0n;
    for (let back = 1; back <= n; back += 1) value = (value << 7n) | BigInt(this.#bytes[this.#at - back] & 0x7f);
    return BigInt.asUintN(64, value).toString();
  }
}

/** Puts fields one behind the other. */
export class Writer {
  /** @type {Uint8Array[]} */
  #pieces = [];
  #length = 0;

  finish() {
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  /**
   * @param {number} number
   * @param {number} value At most 2^53 - 1.
   */
  varint(number, value) {
    this.#push(varint(number * 8 + VARINT));
    this.#push(varint(value));
  }

  /**
   * @param {number} number
   * @param {number} value
   */
  double(number, value) {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, true);
    this.#push(varint(number * 8 + FIXED64));
    this.#push(bytes);
  }

  /**
   * @param {number} number
   * @param {Uint8Array} value
   */
  bytes(number, value) {
    this.#push(varint(number * 8 + BYTES));
    this.#push(varint(value.length));
    this.#push(value);
  }

  /**
   * @param {number} number
   * @param {string} value
   */
  text(number, value) {
    this.bytes(number, encoder.encode(value));
  }

  /** @param {Uint8Array} piece */
  #push(piece) {
    this.#pieces.push(piece);
    this.#length += piece.length;
  }
}

/** @param {number} value */
function varint(value) {
  const bytes = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return Uint8Array.of(...bytes, rest);
}
