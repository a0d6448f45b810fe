/** The state of the connection, in the header and, when there is trouble, in a notice. */

import { byId, setText } from "./dom.js";

/** @typedef {import("../client.js").Client} Client */
/** @typedef {{delayMs: number, offline: boolean, code: number, reason: string, meaning: string, attempt: number}} Waiting */

const PERIOD_MS = 200;

/** @param {Client} client */
export function setUpStatus(client) {
  let until = 0;
  /** @type {Waiting | null} */
  let waiting = null;

  /** @param {string} state
   * @param {string} text */
  const show = (state, text) => {
    byId("state").dataset.state = state;
    setText(byId("state-text"), text);
  };
  const tell = (/** @type {string} */ title, /** @type {string} */ text, /** @type {string} */ action) => {
    setText(byId("notice-title"), title);
    setText(byId("notice-text"), text);
    setText(byId("notice-action"), action);
    byId("notice").hidden = false;
  };
  const showOpen = () => show("open", client.stale ? "Upstream is silent" : "Live");
  const count = () => {
    if (!waiting) return;
    const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
    const cause = waiting.offline ? "This device is offline" : sentence(waiting.reason || waiting.meaning);
    tell(`Reconnecting in ${seconds} s.`, cause, "Retry now");
  };

  client.addEventListener("connecting", () => {
    const again = waiting !== null;
    waiting = null;
    // A first attempt is no trouble; of a later one the notice stays until it succeeds.
    show(again ? "waiting" : "connecting", again ? "Reconnecting" : "Connecting");
    if (again) setText(byId("notice-title"), "Reconnecting now.");
  });
  client.addEventListener("open", () => {
    waiting = null;
    showOpen();
    byId("notice").hidden = true;
  });
  client.addEventListener("stale", () => {
    if (client.state === "open") showOpen();
  });
  client.addEventListener("waiting", (event) => {
    waiting = /** @type {CustomEvent<Waiting>} */ (event).detail;
    until = Date.now() + waiting.delayMs;
    show("waiting", "Reconnecting");
    count();
  });
  client.addEventListener("closed", (event) => {
    waiting = null;
    const { code, reason, meaning } = /** @type {CustomEvent<Waiting>} */ (event).detail;
    show("closed", "Closed");
    tell("Closed for good.", `${sentence(reason || meaning)} (code ${code})`, "Load again");
  });
  byId("notice-action").addEventListener("click", () => {
    if (client.state === "closed") location.reload();
    else client.reconnect();
  });
  setInterval(count, PERIOD_MS);
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + ".";
}
