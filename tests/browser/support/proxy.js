/** A proxy as some companies have them: HTTP passes, an upgrade does not. */

import { createServer, request as httpRequest } from "node:http";

export class HttpOnlyProxy {
  requests = [];

  static async start(port) {
    const proxy = new HttpOnlyProxy();
    proxy.server = createServer((request, response) => {
      proxy.requests.push(`${request.method} ${request.url}`);
      const { method, url, headers } = request;
      const onward = httpRequest({ host: "127.0.0.1", port, method, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      response.on("close", () => onward.destroy());
      request.pipe(onward);
    });
    proxy.server.on("upgrade", (request, socket) => {
      socket.on("error", () => {});
      socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.origin = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  /** Cuts all that is open. */
  cut() {
    this.server.closeAllConnections();
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
