/** An edge that answers by itself: for pages, which only watch. */

import { FakeEdge } from "./fake.js";

export class AutoEdge {
  #edge;
  #heartbeatMs;
  /** @type {Map<import("./fake.js").Peer, Set<string>>} */
  #wanted = new Map();
  /** Last value of each topic, for snapshots. */
  #last = new Map();
  #offset = 0;
  #stopped = false;
  /** Prefixes that it refuses. */
  forbidden = new Set();

  static async start(server, { heartbeatMs = 25_000 } = {}) {
    const auto = new AutoEdge(await FakeEdge.start(server), heartbeatMs);
    void auto.#run();
    return auto;
  }

  constructor(edge, heartbeatMs) {
    this.#edge = edge;
    this.#heartbeatMs = heartbeatMs;
  }

  set refuses(refuses) {
    this.#edge.refuses = refuses;
  }

  /** The prefixes of each present connection. */
  get wanted() {
    return [...this.#wanted].filter(([peer]) => peer.closed === null).map(([, prefixes]) => [...prefixes]);
  }

  publish(event) {
    this.#offset += 1;
    const full = { position: `p${this.#offset}`, time_ms: Date.now(), ...event };
    if (event.topic) this.#last.set(event.topic, full);
    for (const [peer, prefixes] of this.#wanted) {
      if (peer.closed === null && covers(prefixes, topicOf(event))) peer.event(full);
    }
  }

  /** Says something outside the script to all. */
  say(message) {
    for (const peer of this.#wanted.keys()) if (peer.closed === null) peer.send(message);
  }

  close(code, reason) {
    for (const peer of this.#wanted.keys()) peer.close(code, reason);
  }

  cut() {
    for (const peer of this.#wanted.keys()) peer.cut();
  }

  async stop() {
    this.#stopped = true;
    await this.#edge.close();
  }

  async #run() {
    while (!this.#stopped) {
      const peer = await this.#edge.accept(Infinity).catch(() => null);
      if (peer !== null) void this.#serve(peer).catch(() => {});
    }
  }

  async #serve(peer) {
    const prefixes = new Set();
    this.#wanted.set(peer, prefixes);
    peer.welcome({ heartbeat_ms: this.#heartbeatMs });
    while (peer.closed === null) {
      const { id, subscribe, unsubscribe } = await peer.command(Infinity);
      for (const prefix of unsubscribe?.topics ?? []) prefixes.delete(prefix);
      if (unsubscribe) peer.send({ reply: { id, unsubscribed: { topics: unsubscribe.topics } } });
      if (!subscribe) continue;
      const refused = subscribe.topics.find((prefix) => this.forbidden.has(prefix));
      if (refused !== undefined) {
        peer.send({ reply: { id, error: { code: "forbidden", reason: `not for you: ${refused}`, retry: false } } });
        continue;
      }
      for (const prefix of subscribe.topics) prefixes.add(prefix);
      peer.send({ reply: { id, subscribed: { topics: subscribe.topics, position: `p${this.#offset}`, recorded: "all" } } });
      const wanted = new Set(subscribe.topics);
      for (const [topic, event] of subscribe.snapshot ? this.#last : []) {
        if (covers(wanted, topic)) peer.event({ ...event, snapshot: true });
      }
      peer.send({ caught_up: { id, position: `p${this.#offset}`, replayed: 0 } });
    }
  }
}

function covers(prefixes, topic) {
  return [...prefixes].some((prefix) => topic.startsWith(prefix));
}

function topicOf(event) {
  return event.topic ?? event.text ?? "";
}
