/** The whole of Trestle as one process, for tests that need more than its pages. */

import { spawn } from "node:child_process";
import { until } from "./wait.js";

export const BINARY = process.env.TRESTLE_BIN;
/** Why there is nothing to test here, or false. */
export const skip = !BINARY && process.env.CI !== "true" && "TRESTLE_BIN does not name a trestle binary: cargo build -p trestle";

/** `trestle demo` in a process of its own, on a free port. */
export class Demo {
  #process;
  #output = "";

  /** Runs until it says where its page is. */
  static async start(port = 0) {
    const demo = new Demo(port);
    try {
      demo.origin = await until("the demo's address", () => demo.#address());
    } catch (error) {
      await demo.kill();
      throw new Error(`${error.message}\n${demo.#output}`);
    }
    return demo;
  }

  constructor(port) {
    this.#process = spawn(BINARY, ["demo", "--port", String(port), "--log", "warn"], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream.on("data", (data) => (this.#output += data));
    this.#process.on("error", (error) => (this.#output += error));
    this.ended = new Promise((resolve) => this.#process.on("close", resolve));
  }

  get port() {
    return Number(new URL(this.origin).port);
  }

  /** The port that publishers connect to. */
  publishers() {
    return until("the port of publishers", () => Number(this.#output.match(/publishers to +tcp:\/\/127\.0\.0\.1:(\d+)\s/)?.[1]));
  }

  #address() {
    if (this.#process.exitCode !== null) throw new Error(`the demo ended with ${this.#process.exitCode}`);
    return this.#output.match(/http:\/\/127\.0\.0\.1:\d+(?=\/\s)/)?.[0];
  }

  /** As a crash ends it: nothing is said to anybody. */
  async kill() {
    this.#process.kill("SIGKILL");
    await this.ended;
  }

  /** As an operator ends it.
   * @returns {Promise<number>} Its exit code. */
  async stop() {
    this.#process.kill("SIGTERM");
    return this.ended;
  }
}
