/** Ports that nothing listens at. */

import { once } from "node:events";
import { createServer } from "node:net";

/** Below what Linux gives to whoever asks for any port, so that no test that runs beside is given one of them. */
const LOWEST = 20_000;
const HIGHEST = 32_000;

/** @param {number[]} named
 * @returns {Promise<Map<number, number>>} A free port for each. */
export async function freePorts(named) {
  const held = [];
  while (held.length < named.length) {
    const server = createServer();
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
    server.listen({ port, host: "0.0.0.0", exclusive: true });
    const listens = await Promise.race([once(server, "listening").then(() => true), once(server, "error").then(() => false)]);
    if (listens) held.push(server);
  }
  const ports = new Map(named.map((port, i) => [port, held[i].address().port]));
  await Promise.all(held.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}
