// A SUB of jszmq, or of libzmq's own ws://, as npm has them: `node subscribe.js jszmq|libzmq URL PREFIX_HEX…` writes each
// message as one line, a JSON array of its frames in hex. TOKEN in the environment is libzmq's password.

"use strict";

const [library, url, ...prefixes] = process.argv.slice(2);

function write(frames) {
  process.stdout.write(`${JSON.stringify(frames.map((frame) => Buffer.from(frame).toString("hex")))}\n`);
}

async function libzmq() {
  const { Subscriber } = require("zeromq");
  const { TOKEN } = process.env;
  const socket = new Subscriber({ ...(TOKEN && { plainUsername: "ann", plainPassword: TOKEN }) });
  for (const prefix of prefixes) socket.subscribe(Buffer.from(prefix, "hex"));
  socket.connect(url);
  for await (const frames of socket) write(frames);
}

function jszmq() {
  const socket = require("jszmq").socket("sub");
  // Again is no different from once.
  for (const prefix of [...prefixes, ...prefixes]) socket.subscribe(Buffer.from(prefix, "hex"));
  socket.on("message", (...frames) => write(frames));
  socket.connect(url);
}

({ jszmq, libzmq })[library]();
