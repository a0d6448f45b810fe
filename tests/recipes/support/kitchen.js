/** A recipe being cooked: a folder with its files, its commands as processes, and its page in Chromium. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "../../browser/support/wait.js";
import { Document, installs, relocate } from "./document.js";
import { freePorts } from "./ports.js";

/** Whatever a test waits for comes within this time: the machine may be busy, and some publishers roll dice. */
const DEADLINE_MS = 60_000;

/** Where processes listen that are not told, and the variable that tells them. */
const DEFAULTS = {
  "trestle-edge": { TRESTLE_LISTEN: 8080, TRESTLE_CONTROL: 9092, TRESTLE_METRICS: 9100 },
  "trestle-forwarder": {
    TRESTLE_FRONTEND: 5555,
    TRESTLE_BACKEND: 5556,
    TRESTLE_LINK: 5557,
    TRESTLE_GRPC: 9091,
    TRESTLE_METRICS: 9101,
  },
};

/** How all recipes have their pages served, and where. */
const SITE = Document.of("README").block("site");
const SITE_PORT = 8000;

export class Kitchen {
  #document;
  #ports;
  #folder = mkdtempSync(join(tmpdir(), "trestle-recipe-"));
  #children = [];

  /** @param {string} name Of a document in docs/recipes, without `.md`. */
  static async open(name) {
    const document = Document.of(name);
    const defaults = Object.values(DEFAULTS).flatMap(Object.values);
    return new Kitchen(document, await freePorts(document.ports(SITE_PORT, ...defaults)));
  }

  constructor(document, ports) {
    this.#document = document;
    this.#ports = ports;
    for (const name of document.files) {
      mkdirSync(dirname(this.path(name)), { recursive: true });
      writeFileSync(this.path(name), relocate(document.peek(name), ports));
    }
  }

  /** Where a file of the recipe is. */
  path(name) {
    return join(this.#folder, name);
  }

  /** A block with the addresses of this machine. */
  text(name) {
    return relocate(this.#document.block(name), this.#ports);
  }

  /** A port of this machine, by its number in the recipe. */
  port(number) {
    return this.#ports.get(number);
  }

  /** Whether a block `pip install …` brings what the tests use. */
  installs(name) {
    assert.ok(installs(this.#document.block(name)), `${this.#document.path}: \`${name}\` is not in tests/recipes/requirements.txt`);
  }

  /** Starts the command that stands in a block, or one like it.
   * @returns {Cook} */
  start(name, command = this.text(name).trim()) {
    for (const file of this.#document.files) if (command.split(/\s/).includes(file)) this.#document.block(file);
    const clean = Object.entries(process.env).filter(([variable]) => !variable.startsWith("TRESTLE_"));
    const listens = Object.entries(DEFAULTS[command.split(/\s/)[0]] ?? {});
    const told = listens.map(([variable, port]) => [variable, `127.0.0.1:${this.port(port)}`]);
    const env = { ...Object.fromEntries([...clean, ...told]), NO_COLOR: "1", PYTHONUNBUFFERED: "1" };
    const child = new Cook(name, command, this.#folder, env);
    this.#children.push(child);
    return child;
  }

  /** Starts an edge, and waits until pages are served. */
  async edge(name, command = this.text(name).trim()) {
    const edge = this.start(name, command);
    await edge.logged(/listening.*http:\/\/127/);
    return edge;
  }

  /** A page of the recipe, as its reader opens it: from a web server of its own. */
  async page(chromium, name) {
    const port = this.port(SITE_PORT);
    this.#document.block(`site/${name}`);
    const site = this.start("site", SITE.trim().replace(new RegExp(`${SITE_PORT}$`), port));
    await site.logged(/Serving HTTP/);
    const opened = await chromium.open();
    // Browsers ask for an icon of their own accord: that there is none is no fault of the page.
    await opened.page.route("**/favicon.ico", (route) => route.fulfill({ status: 204 }));
    await opened.page.goto(`http://127.0.0.1:${port}/${name}`);
    return opened;
  }

  /** Waits until so many subscriptions stand at the edge: what is published then arrives. */
  async subscribed(n) {
    const subscriptions = () => this.metric(9100, "trestle_edge_subscriptions");
    await this.until(`${n} subscriptions`, async () => (await subscriptions()) === n);
  }

  /** Waits for what a test is about; where it does not come, all say what they printed. */
  async until(what, condition) {
    try {
      return await until(what, condition, DEADLINE_MS);
    } catch (error) {
      throw new Error([error.message, ...this.#children.map(({ name, output }) => `── ${name}\n${output}`)].join("\n"));
    }
  }

  /** Waits until the process with this private port is ready. */
  async ready(port) {
    const looks = () => fetch(`http://127.0.0.1:${this.port(port)}/readyz`).then((response) => response.ok, () => false);
    await this.until(`ready at ${port}`, looks);
  }

  /** A figure of the edge or forwarder whose private port the recipe knows by this number, or undefined. */
  async metric(port, name) {
    const response = await fetch(`http://127.0.0.1:${this.port(port)}/metrics`);
    const line = (await response.text()).split("\n").find((line) => line.startsWith(`${name} `));
    return line && Number(line.split(" ").at(-1));
  }

  /** Stands for a program of the field where it cannot be run: publishes what it is given, and says who subscribes. */
  publisher(port) {
    const script = fileURLToPath(new URL("publish.py", import.meta.url));
    const child = this.start("publisher", `exec python3 '${script}' tcp://127.0.0.1:${this.port(port)}`);
    const send = (...frames) => child.write(frames.map((frame) => frame.toString("hex")).join(" "));
    return { send, subscribed: (prefix) => child.logged(`(?<!un)subscribed b'${prefix}'`) };
  }

  /** Ends all processes. */
  async close() {
    for (const child of this.#children.toReversed()) await child.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** One command of a recipe, and what it prints. */
class Cook {
  #child;
  #ended;
  output = "";

  constructor(name, command, cwd, env) {
    this.name = name;
    // A process group of its own: a shell's children end with it.
    this.#child = spawn("bash", ["-c", command], { cwd, env, detached: true, stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stdin.on("error", () => {}); // Whoever has ended says so itself.
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on("data", (data) => (this.output += data));
    this.#ended = new Promise((resolve) => this.#child.on("close", (code) => resolve(code)));
    this.#child.on("error", (error) => (this.output += error));
  }

  /** The first match in what it prints. */
  async logged(pattern) {
    const look = () => this.output.match(pattern) ?? (this.#child.exitCode !== null && "ended");
    const match = await until(`${this.name} to print ${pattern}`, look, DEADLINE_MS).catch((error) => error);
    assert.ok(Array.isArray(match), `${this.name}: no ${pattern}\n${this.output}`);
    return match;
  }

  /** Gives it a line. */
  write(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Waits for its end, which must be good. */
  async finished() {
    assert.equal(await this.#ended, 0, `${this.name}\n${this.output}`);
    return this.output;
  }

  async kill() {
    try {
      process.kill(-this.#child.pid, "SIGKILL");
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
    await this.#ended;
  }
}
