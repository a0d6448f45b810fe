/** web/ over HTTP as an edge serves it, with a policy at least as strict, and a place for WebSockets. */

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../../web/", import.meta.url));

export const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * @param {Record<string, string>} [pages] More pages, path to HTML.
 * @returns {Promise<{server: import("node:http").Server, origin: string, missing: string[], close: () => Promise<void>}>}
 */
export async function startSite(pages = {}) {
  const missing = [];
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    if (pages[path] !== undefined) {
      response.writeHead(200, { "content-type": TYPES[".html"] }).end(pages[path]);
      return;
    }
    try {
      const body = await readFile(join(WEB, path === "/" ? "index.html" : path));
      const type = TYPES[extname(path === "/" ? ".html" : path)] ?? TYPES[path === "/" ? ".html" : ""] ?? "text/plain";
      response.writeHead(200, { "content-type": type, "content-security-policy": POLICY, "x-content-type-options": "nosniff" }).end(body);
    } catch {
      missing.push(path);
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  return { server, origin: `http://127.0.0.1:${server.address().port}`, missing, close };
}
