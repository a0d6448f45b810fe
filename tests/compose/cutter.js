/** A wire between a browser and nginx that can be cut, now or at random, or that swallows what goes through it. */

import { connect, createServer } from "node:net";

export class Cutter {
  /** Open connections, both ends of each. */
  #pairs = new Set();
  /** The browser's ends of what was silenced. */
  #silenced = new Set();
  /** The longest life of a connection while cutting; 0 while not. */
  #lifeMs = 0;
  /** Connections that were cut. */
  cuts = 0;
  #random;
  /** The port of this machine that connections lead to. */
  to;

  /** Listens on a port of its own. `seed` is what chance is made of. */
  static async start(to, seed = 0) {
    const cutter = new Cutter(to, seed);
    const onward = () => connect({ port: cutter.to, host: "127.0.0.1", allowHalfOpen: true });
    cutter.server = createServer({ allowHalfOpen: true }, (near) => cutter.#join(near, onward()));
    await new Promise((resolve) => cutter.server.listen(0, "127.0.0.1", resolve));
    cutter.port = cutter.server.address().port;
    return cutter;
  }

  constructor(to, seed) {
    this.to = to;
    this.#random = mulberry32(seed);
  }

  #join(near, far) {
    const pair = { near, far, isDumb: false };
    this.#pairs.add(pair);
    const end = () => this.#end(pair);
    for (const [from, onto] of [[near, far], [far, near]]) {
      from.setNoDelay(true);
      from.on("data", (data) => pair.isDumb || onto.write(data));
      from.on("end", () => pair.isDumb || onto.end());
      // A reset is what cuts are for; `close` follows.
      from.on("error", () => {});
      from.on("close", end);
    }
    if (this.#lifeMs > 0) this.#condemn(pair);
  }

  #end(pair) {
    if (!this.#pairs.delete(pair)) return;
    clearTimeout(pair.timer);
    pair.near.destroy();
    pair.far.destroy();
  }

  #condemn(pair) {
    pair.timer = setTimeout(() => this.#cut(pair), this.#random() * this.#lifeMs);
  }

  #cut(pair) {
    this.cuts += 1;
    // Half of them with a reset, as a phone that changes its network; half as if the other end had hung up.
    if (this.#random() < 0.5) pair.near.resetAndDestroy();
    this.#end(pair);
  }

  /** From now on each connection, also each new one, is cut at random within `lifeMs`; with 0 no more are. */
  cutWithin(lifeMs) {
    this.#lifeMs = lifeMs;
    for (const pair of this.#pairs) {
      clearTimeout(pair.timer);
      if (lifeMs > 0) this.#condemn(pair);
    }
  }

  /** Cuts all that is open. */
  cut() {
    for (const pair of [...this.#pairs]) this.#cut(pair);
  }

  /** What is open stays open to the browser, and nothing comes through any more: the other end is told that it ended. */
  silence() {
    for (const pair of this.#pairs) {
      clearTimeout(pair.timer);
      pair.isDumb = true;
      this.#silenced.add(pair.near);
      pair.far.destroy();
    }
    this.#pairs.clear();
  }

  close() {
    this.cut();
    for (const near of this.#silenced) near.destroy();
    this.server.close();
  }
}

/** Chance that a seed repeats. */
function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
