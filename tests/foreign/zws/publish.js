// A PUB of jszmq, or of libzmq's own ws://, as npm has them: `node publish.js jszmq|libzmq URL` sends each line of standard
// input, a JSON array of a message's frames in hex. TOKEN in the environment is libzmq's password.

"use strict";

const { createInterface } = require("node:readline");

const [library, url] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin });
const framesOf = (line) => JSON.parse(line).map((frame) => Buffer.from(frame, "hex"));

async function libzmq() {
  const { Publisher } = require("zeromq");
  const { TOKEN } = process.env;
  const socket = new Publisher({
    sendHighWaterMark: 0,
    ...(TOKEN && { plainUsername: "ann", plainPassword: TOKEN }),
  });
  socket.connect(url);
  for await (const line of lines) await socket.send(framesOf(line));
}

function jszmq() {
  const socket = require("jszmq").socket("pub");
  socket.connect(url);
  lines.on("line", (line) => socket.send(framesOf(line)));
}

({ jszmq, libzmq })[library]();
