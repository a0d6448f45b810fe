/**
 * Trestle's client: ØMQ topics in the browser, over the subprotocol `trestle.v1.json`.
 *
 *     import { connect } from "/client.js";
 *     const client = connect("/ws");
 *     for await (const event of client.subscribe("jobs/", { snapshot: true })) {
 *       console.log(event.topic, event.progress ?? event.data ?? event.text ?? event.base64);
 *     }
 *
 * It reconnects and subscribes again by itself, from where each subscription stood. A plain ES module without dependencies; read
 * `Client` in client/client.js first, then `SubscribeOptions` in client/subscription.js.
 */

import { Client } from "./client/client.js";

export { Client } from "./client/client.js";
export { CLOSE_CODES } from "./client/close.js";
export { TrestleError } from "./client/error.js";
export { Subscription } from "./client/subscription.js";
export { Topic, topicOf } from "./client/topic.js";

/**
 * @param {string | URL} url
 * @param {import("./client/client.js").ClientOptions} [options]
 */
export function connect(url, options) {
  return new Client(url, options);
}
