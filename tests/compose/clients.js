/** What connects to the cluster from outside: a Chromium, the original page, and a `trestle.v1.json` client. */

import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import WebSocket from "ws";
import { until } from "../browser/support/wait.js";

export const ARTEFACTS = fileURLToPath(new URL("../../artefacts/", import.meta.url));

/** A Chromium that takes the development certificate, to which `trestle.test` is this machine. */
export async function startChromium() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--ignore-certificate-errors", "--host-resolver-rules=MAP trestle.test 127.0.0.1"],
  });
}

/** What Chromium says of requests under way when the machine gets or loses a network, as with each container that starts. */
const NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED";

/** Loads a page, again where a container's start cut a part of it off. */
export async function load(page, url) {
  let cut = true;
  const look = (request) => (cut ||= request.failure().errorText === NETWORK_CHANGED);
  page.on("requestfailed", look);
  while (cut) {
    cut = false;
    await page.goto(url).catch((error) => {
      if (!error.message.includes(NETWORK_CHANGED)) throw error;
      cut = true;
    });
  }
  page.off("requestfailed", look);
}

/** Keeps a picture of the page as an artefact of the test run. */
export async function keep(page, name) {
  mkdirSync(ARTEFACTS, { recursive: true });
  await page.screenshot({ path: `${ARTEFACTS}${name}.png`, fullPage: true });
}

/** Serves a page as people wrote it for the first such bridge: one WebSocket, and a list item for each message. */
export async function serveOriginalPage(host) {
  const html = `<!doctype html>
<meta charset="utf-8">
<title>connecting</title>
<ul></ul>
<script>
  var socket = new WebSocket('wss://${host}', 'rust-websocket');
  socket.onopen = function () { document.title = 'open'; };
  socket.onclose = function () { document.title = 'closed'; };
  socket.onmessage = function (event) {
    var item = document.createElement('li');
    item.textContent = event.data;
    document.querySelector('ul').appendChild(item);
  };
</script>`;
  const server = createServer((request, response) => {
    if (request.url === "/") response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(html);
    else response.writeHead(404).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    // The same host as the edges', by name: their --allow-origin's default.
    url: `http://localhost:${server.address().port}/`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** The texts of the list on the original page. */
export function listed(page) {
  return page.locator("li").allTextContents();
}

/** A client of `trestle.v1.json` that keeps all that it gets. */
export class JsonClient {
  messages = [];
  #socket;

  static async connect(host) {
    const socket = new WebSocket(`wss://${host}/ws`, "trestle.v1.json", { rejectUnauthorized: false });
    const client = new JsonClient(socket);
    await client.first("welcome");
    return client;
  }

  constructor(socket) {
    this.#socket = socket;
    socket.on("message", (data) => this.messages.push(JSON.parse(String(data))));
    socket.on("error", (error) => this.messages.push({ failed: String(error) }));
    socket.on("close", (code) => this.messages.push({ closed: { code } }));
  }

  send(command) {
    this.#socket.send(JSON.stringify(command));
  }

  /** The first message of a kind, e.g. `welcome`. */
  async first(kind) {
    const found = () => this.messages.find((message) => kind in message || "failed" in message);
    const message = await until(`a ${kind}`, found);
    if ("failed" in message) throw new Error(message.failed);
    return message[kind];
  }

  get events() {
    return this.messages.filter((message) => "event" in message).map((message) => message.event);
  }

  close() {
    this.#socket.terminate();
  }
}
