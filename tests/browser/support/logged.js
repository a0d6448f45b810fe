/** Clients of the module that write down what they say, and are closed after their test. */

import { WebSocket } from "ws";
import { connect } from "../../../web/client.js";
import { until } from "./wait.js";

const NAMES = ["connecting", "open", "waiting", "closed", "error", "goodbye"];

/** @type {import("../../../web/client.js").Client[]} */
const clients = [];

/** A client of `url` with a log: `of(name)` is what it said under that name, `seen(name, many)` waits for so much. */
export function logged(url, options = {}) {
  const client = connect(url, { WebSocket, reconnectMinMs: 20, reconnectMaxMs: 160, ...options });
  clients.push(client);
  const log = [];
  for (const name of NAMES) {
    client.addEventListener(name, (event) => log.push({ name, detail: /** @type {CustomEvent} */ (event).detail }));
  }
  const of = (name) => log.filter((entry) => entry.name === name).map(({ detail }) => detail);
  const seen = (name, many = 1) => until(`${many} × ${name}`, () => of(name).length >= many && of(name));
  return { client, of, seen };
}

export function closeClients() {
  for (const client of clients.splice(0)) client.close();
}
