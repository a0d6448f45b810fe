/** The client module in Node, with the WebSocket of `ws`. */

import { WebSocket } from "ws";
import * as client from "../../web/client.js";
import { makeRig } from "./support/rig.js";
import { scenarios } from "./support/scenarios.js";

scenarios("client in Node", async () => {
  const rig = makeRig(client, WebSocket);
  return { call: async (method, ...args) => rig[method](...args), end: async () => {} };
});
