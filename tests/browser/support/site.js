/** web/ over HTTP as an edge serves it, with its policy, and a place for WebSockets. */

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../../web/", import.meta.url));

export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * @param {Record<string, string>} [extras] More files, path to text, served without the policy.
 * @returns {Promise<{server: import("node:http").Server, origin: string, missing: string[], close: () => Promise<void>}>}
 */
export async function startSite(extras = {}) {
  const missing = [];
  const server = createServer(async (request, response) => {
    const asked = normalize(new URL(request.url, "http://x").pathname);
    const path = asked === "/" ? "/index.html" : asked;
    const headers = { "content-type": TYPES[extname(path)] ?? "text/plain; charset=utf-8", "x-content-type-options": "nosniff" };
    if (extras[path] !== undefined) {
      response.writeHead(200, headers).end(extras[path]);
      return;
    }
    try {
      const body = await readFile(join(WEB, path));
      response.writeHead(200, { ...headers, "content-security-policy": POLICY }).end(body);
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
