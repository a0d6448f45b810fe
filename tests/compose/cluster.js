/** The cluster of compose/compose.yaml under the project name in the environment, and what a test does with it. */

import { execFile, spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MAX_OUTPUT_BYTES = 64 << 20;
/** Beyond this a publisher is stuck. */
const PUBLISH_MS = 45_000;
const run = promisify(execFile);

export class Cluster {
  #environment;
  /** What a browser connects to, e.g. `localhost:40123`. */
  host;
  ports;

  /**
   * Builds the images and starts everything; resolves once nginx has a ready edge behind it.
   *
   * @param {{ edges: number, settings?: (cluster: Cluster) => Record<string, string> }} options
   */
  static async start({ edges, settings = () => ({}) }) {
    const [https, http, frontend, backend] = await freePorts(4);
    const cluster = new Cluster({ https, http, frontend, backend });
    for (const [name, value] of Object.entries(settings(cluster))) cluster.set(name, value);
    await cluster.up("--build", "--scale", `edge=${edges}`);
    return cluster;
  }

  constructor(ports) {
    this.ports = ports;
    this.host = `localhost:${ports.https}`;
    this.#environment = {
      ...process.env,
      TRESTLE_HTTPS_PORT: `127.0.0.1:${ports.https}`,
      TRESTLE_HTTP_PORT: `127.0.0.1:${ports.http}`,
      TRESTLE_FRONTEND_PORT: `127.0.0.1:${ports.frontend}`,
      TRESTLE_BACKEND_PORT: `127.0.0.1:${ports.backend}`,
    };
  }

  /** A setting of compose.yaml from the next `up` on. */
  set(name, value) {
    this.#environment[name] = value;
  }

  /** Runs `docker compose` and gives its standard output; fails with all that it said. */
  async compose(...args) {
    return this.#run(["compose", "--progress", "quiet", ...args]);
  }

  async #run(args) {
    try {
      const { stdout } = await run("docker", args, { cwd: ROOT, env: this.#environment, maxBuffer: MAX_OUTPUT_BYTES });
      return stdout;
    } catch (error) {
      throw new Error(`docker ${args.join(" ")}: ${error.stdout ?? ""}${error.stderr ?? error}`, { cause: error });
    }
  }

  up(...args) {
    return this.compose("up", "--detach", ...args);
  }

  /** What `docker inspect` says of each container, `init` with them. */
  async containers(service) {
    const ids = (await this.compose("ps", "--all", "--quiet", ...(service ? [service] : []))).split("\n").filter(Boolean);
    return JSON.parse(await this.#run(["inspect", ...ids]));
  }

  /** The running edges' container ids. */
  async edges() {
    const edges = await this.containers("edge");
    return edges.filter((edge) => edge.State.Running).map((edge) => edge.Id);
  }

  kill(id) {
    return this.#run(["kill", id]);
  }

  /** SIGTERM, and SIGKILL after the grace period of compose.yaml. */
  stop(id) {
    return this.#run(["stop", id]);
  }

  /**
   * Publishes lines as a user does: `docker compose run publisher --stdin`.
   *
   * @param {string} topic
   * @param {string[]} lines
   * @param {string[]} flags
   */
  async publish(topic, lines, ...flags) {
    const args = ["compose", "--progress", "quiet", "run", "--rm", "-T", "publisher", "--stdin", "--topic", topic, ...flags];
    const child = spawn("docker", args, { cwd: ROOT, env: this.#environment, stdio: "pipe", timeout: PUBLISH_MS });
    let said = "";
    child.stdout.on("data", (data) => (said += data));
    child.stderr.on("data", (data) => (said += data));
    child.stdin.end(lines.map((line) => `${line}\n`).join(""));
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(`publisher exited with ${code}: ${said}`);
  }

  /**
   * Publishes 1, 2, 3 … on `topic`, one each `periodMs`, until `stop`, which gives the last one.
   *
   * @param {string} topic
   * @param {number} periodMs
   */
  count(topic, periodMs) {
    const args = ["compose", "--progress", "quiet", "run", "--rm", "-T", "publisher", "--stdin", "--raw", "--topic", topic];
    const child = spawn("docker", args, { cwd: ROOT, env: this.#environment, stdio: ["pipe", "inherit", "inherit"] });
    const ended = new Promise((resolve) => child.on("close", resolve));
    let last = 0;
    const timer = setInterval(() => child.stdin.write(`${(last += 1)}\n`), periodMs);
    return {
      async stop() {
        clearInterval(timer);
        child.stdin.end();
        const code = await ended;
        if (code !== 0) throw new Error(`publisher exited with ${code}`);
        return last;
      },
    };
  }

  /** Runs scripts/roll and gives its exit code and what it said. */
  async roll(...args) {
    const ran = run("scripts/roll", args, { cwd: ROOT, env: this.#environment });
    const { code = 0, stderr } = await ran.catch((error) => error);
    return { code, said: stderr.trim() };
  }

  /** Sum of a metric over its labels, read on the private port inside the container. */
  async metric(id, name) {
    const request = `exec 3<>/dev/tcp/127.0.0.1/9100; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
    const text = await this.#run(["exec", id, "bash", "-c", request]);
    const values = text
      .split("\n")
      .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      .map((line) => Number(line.slice(line.lastIndexOf(" ") + 1)));
    if (values.length === 0) throw new Error(`no metric ${name} in:\n${text}`);
    return values.reduce((sum, value) => sum + value, 0);
  }

  /** Open WebSockets by edge, container id to number. */
  async connections() {
    const ids = await this.edges();
    return new Map(await Promise.all(ids.map(async (id) => [id, await this.metric(id, "trestle_edge_connections")])));
  }
}

/** Ports of the loopback address that were free a moment ago. */
async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, () => new Promise((resolve) => {
      const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
    })),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
