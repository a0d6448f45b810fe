// Bun's native publish: `bun server.js PORT INGEST`. Browsers connect to PORT with ?topic=; INGEST takes lines of topic,
// space, body over TCP (Bun cannot load the ØMQ addon of Node).
const [port, ingest] = process.argv.slice(2).map(Number);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  fetch(request, server) {
    const topic = new URL(request.url).searchParams.get("topic") ?? "";
    return server.upgrade(request, { data: topic }) ? undefined : new Response("not an upgrade", { status: 400 });
  },
  websocket: {
    open: (browser) => browser.subscribe(browser.data),
    message() {},
    // All as the other servers: no compression, no pings within a run, slow clients are kept.
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    backpressureLimit: 64 * 1024 * 1024,
  },
});

Bun.listen({
  hostname: "127.0.0.1",
  port: ingest,
  socket: {
    open: (publisher) => (publisher.data = Buffer.alloc(0)),
    data(publisher, chunk) {
      const bytes = publisher.data.length ? Buffer.concat([publisher.data, chunk]) : chunk;
      let start = 0;
      for (let end; (end = bytes.indexOf(10, start)) >= 0; start = end + 1) {
        const space = bytes.indexOf(32, start);
        server.publish(bytes.toString("latin1", start, space), bytes.toString("utf8", space + 1, end));
      }
      publisher.data = Buffer.from(bytes.subarray(start));
    },
  },
});
