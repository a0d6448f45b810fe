/** Many clients of the client module at once, and what each of them saw. */

import WebSocket from "ws";
import { connect } from "../../web/client.js";
import { until } from "../browser/support/wait.js";

/** Takes the development certificate. */
class Trusting extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { rejectUnauthorized: false });
  }
}

/** A client that notes the numbers it receives, in their order, and how its connections came and went. */
class Member {
  numbers = [];
  /** What was told as missing. */
  losses = [];
  /** Times of all attempts to connect. */
  attempts = [];
  /** Close codes of the connections that ended; 1006 where there was none, an attempt that failed included. */
  ends = [];
  /** The longest time without a connection. */
  outageMs = 0;
  #downAt = 0;
  #client;

  constructor(host, topic) {
    this.#client = connect(`wss://${host}/ws`, { WebSocket: Trusting });
    this.#client.addEventListener("connecting", () => this.attempts.push(Date.now()));
    this.#client.addEventListener("waiting", ({ detail }) => {
      this.ends.push(detail.code);
      this.#downAt ||= Date.now();
    });
    this.#client.addEventListener("open", () => {
      if (this.#downAt > 0) this.outageMs = Math.max(this.outageMs, Date.now() - this.#downAt);
      this.#downAt = 0;
    });
    this.subscription = this.#client.subscribe(topic, {
      onEvent: (event) => this.numbers.push(Number(event.text)),
      onGap: (loss) => this.losses.push(loss),
    });
  }

  /** Where a number does not follow the one before it: something is missing, came twice or out of order. */
  get astray() {
    const pairs = this.numbers.slice(1).map((number, at) => [this.numbers[at], number]);
    return pairs.filter(([before, number]) => number !== before + 1);
  }

  close() {
    this.#client.close();
  }
}

export class Flock {
  /** `count` clients, subscribed to `topic`; they come a few at a time, as people do. */
  static async gather(host, topic, count) {
    const flock = new Flock();
    while (flock.members.length < count) {
      const few = Array.from({ length: Math.min(20, count - flock.members.length) }, () => new Member(host, topic));
      flock.members.push(...few);
      await Promise.all(few.map((member) => member.subscription.ready));
    }
    return flock;
  }

  members = [];

  /** Resolves when each has seen `number`. */
  async hasSeen(number) {
    await until(`${number} at each of ${this.members.length} clients`, () => this.members.every(({ numbers }) => numbers.at(-1) >= number));
  }

  /** The most attempts to connect within a second, those of the gathering aside. */
  get reconnectsInASecond() {
    const times = this.members.flatMap(({ attempts }) => attempts.slice(1)).sort((a, b) => a - b);
    return Math.max(0, ...times.map((from, at) => times.slice(at).findIndex((time) => time >= from + 1000)).map((n, at) => (n < 0 ? times.length - at : n)));
  }

  close() {
    for (const member of this.members) member.close();
  }
}
