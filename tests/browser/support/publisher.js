/** A ØMQ publisher of a few lines: ZMTP 3.0 (ZeroMQ RFC 23) with NULL, and no filter of its own. */

import { once } from "node:events";
import { connect } from "node:net";

const GREETING_BYTES = 64;
const MORE = 1;
const COMMAND = 4;

/** @param {number} port Of a forwarder's frontend on this machine. */
export async function connectPublisher(port) {
  const socket = connect({ host: "127.0.0.1", port });
  let read = 0;
  socket.on("data", (data) => (read += data.length));
  const reads = async (bytes) => {
    while (read < bytes) await once(socket, "data");
  };
  socket.write(greeting());
  await reads(GREETING_BYTES);
  const ready = Buffer.concat([string("READY"), string("Socket-Type"), Buffer.from([0, 0, 0, 3]), Buffer.from("PUB")]);
  socket.write(frame(COMMAND, ready));
  // The peer's READY has as many bytes and one more in "XSUB", and what it subscribes to comes behind it.
  await reads(GREETING_BYTES + ready.length + 3 + 1);
  return {
    /** @param {...string} parts Topic and body. */
    send: (...parts) => socket.write(Buffer.concat(parts.map((part, i) => frame(i + 1 < parts.length ? MORE : 0, Buffer.from(part))))),
    close: () => socket.destroy(),
  };
}

function greeting() {
  const bytes = Buffer.alloc(GREETING_BYTES);
  bytes[0] = 0xff;
  bytes[9] = 0x7f;
  bytes[10] = 3;
  bytes.write("NULL", 12);
  return bytes;
}

const string = (text) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);

function frame(flags, body) {
  const header = Buffer.alloc(body.length < 256 ? 2 : 9);
  header[0] = header.length === 2 ? flags : flags | 2;
  if (header.length === 2) header[1] = body.length;
  else header.writeBigUInt64BE(BigInt(body.length), 1);
  return Buffer.concat([header, body]);
}
