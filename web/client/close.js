/** What each WebSocket close code asks of the client: the one table of it. */

/** @typedef {"reconnect" | "slowly" | "stop"} Reaction */

/**
 * The first row that holds a code decides. `slowly` draws the next delay from the widest window.
 * Codes below 3000 are those of RFC 6455 §7.4.1 and its registry; 4000–4499 and 4500–4999 are ours.
 *
 * @type {readonly {from: number, to: number, then: Reaction, meaning: string}[]}
 */
export const CLOSE_CODES = Object.freeze([
  { from: 1000, to: 1000, then: "reconnect", meaning: "the server ended the session" },
  { from: 1001, to: 1001, then: "reconnect", meaning: "the server is going away" },
  // We broke the protocol's own rules: a second attempt would break them again.
  { from: 1002, to: 1002, then: "stop", meaning: "protocol error" },
  { from: 1003, to: 1003, then: "stop", meaning: "the server cannot accept this kind of data" },
  { from: 1005, to: 1005, then: "reconnect", meaning: "closed without a code" },
  { from: 1006, to: 1006, then: "reconnect", meaning: "the connection broke or was refused" },
  { from: 1007, to: 1007, then: "stop", meaning: "inconsistent data" },
  { from: 1008, to: 1008, then: "stop", meaning: "against the server's policy" },
  { from: 1009, to: 1009, then: "stop", meaning: "a message of ours was too large" },
  { from: 1010, to: 1010, then: "stop", meaning: "a required extension is missing" },
  { from: 1011, to: 1011, then: "reconnect", meaning: "internal error of the server" },
  { from: 1012, to: 1012, then: "reconnect", meaning: "the server restarts" },
  { from: 1013, to: 1013, then: "slowly", meaning: "the server is overloaded" },
  { from: 1014, to: 1015, then: "reconnect", meaning: "a proxy or TLS failed" },
  { from: 3000, to: 3999, then: "reconnect", meaning: "closed by something between us and the server" },
  { from: 4008, to: 4008, then: "reconnect", meaning: "too slow a reader" },
  { from: 4029, to: 4029, then: "slowly", meaning: "too many requests" },
  { from: 4401, to: 4401, then: "reconnect", meaning: "token expired" },
  { from: 4000, to: 4499, then: "reconnect", meaning: "the server asks to reconnect" },
  { from: 4500, to: 4500, then: "stop", meaning: "bad request" },
  { from: 4501, to: 4501, then: "stop", meaning: "unauthorized" },
  { from: 4503, to: 4503, then: "stop", meaning: "forbidden" },
  { from: 4500, to: 4999, then: "stop", meaning: "the server asks not to reconnect" },
]);

/**
 * @param {number} code A close code as the browser reports it.
 * @returns {{then: Reaction, meaning: string}}
 */
export function closeCode(code) {
  const row = CLOSE_CODES.find((row) => row.from <= code && code <= row.to);
  return row ?? { then: "reconnect", meaning: "closed" };
}
