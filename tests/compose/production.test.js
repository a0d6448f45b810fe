/** The cluster as compose/production.yaml has it, from outside and from inside. Run by ./run. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { until } from "../browser/support/wait.js";
import { load, startChromium } from "./clients.js";
import { Cluster } from "./cluster.js";
import { Cutter } from "./cutter.js";

const MINUTE_MS = 60_000;
const START_MS = 30 * MINUTE_MS; // with --from-source the images are compiled
/** What an address may have, and ask for in a second. Of HTTP/2, as the page's files come, each request counts. */
const [CONNECTIONS, REQUESTS] = [50, 20];
/** nginx gives a request this long to come. */
const HEADER_MS = 10_000;

/** How long a page's token lasts, and how much longer an edge takes it, as its own clock may be ahead. */
const [TOKEN_SECONDS, LEEWAY_SECONDS] = [4, 5];

const run = promisify(execFile);
const certificate = mkdtempSync(join(tmpdir(), "trestle-certificate-"));
/** The cookie that production.yaml takes a token from. */
const COOKIE = "__Host-trestle";
const login = generateKeyPairSync("ed25519");
let cluster;
/** Between a page, to which the cluster is `trestle.test`, and nginx. */
let cutter;

/** A token as a login server makes it. */
function token(claims = {}, key = login.privateKey) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const all = { sub: "ann", exp: Math.floor(Date.now() / 1000) + 3600, trestle: { subscribe: [""] }, ...claims };
  const said = `${part({ alg: "EdDSA" })}.${part(all)}`;
  return `${said}.${sign(null, Buffer.from(said), key).toString("base64url")}`;
}

before(async () => {
  await run(fileURLToPath(new URL("../../scripts/cert", import.meta.url)), [certificate]);
  // It is for this test alone; nginx is not its owner.
  chmodSync(certificate, 0o755);
  chmodSync(join(certificate, "tls"), 0o755);
  chmodSync(join(certificate, "tls/key.pem"), 0o644);
  chmodSync(join(certificate, "tls/cert.pem"), 0o644);
  mkdirSync(join(certificate, "keys"));
  writeFileSync(join(certificate, "keys/tokens"), login.publicKey.export({ type: "spki", format: "pem" }));
  cutter = await Cutter.start();
  cluster = await Cluster.start({
    edges: 1,
    settings: ({ host }) => ({
      COMPOSE_PROJECT_NAME: `${process.env.COMPOSE_PROJECT_NAME}-production`,
      COMPOSE_FILE: `${process.env.COMPOSE_FILE}:compose/production.yaml`,
      TRESTLE_ALLOW_ORIGIN: JSON.stringify([`https://${host}`, `https://trestle.test:${cutter.port}`]),
      TRESTLE_CERTIFICATE: join(certificate, "tls"),
      TRESTLE_KEYS: join(certificate, "keys"),
      TRESTLE_CLIENT_CONNECTIONS: String(CONNECTIONS),
      TRESTLE_CLIENT_REQUESTS: String(REQUESTS),
    }),
  });
  cutter.to = cluster.ports.https;
}, { timeout: START_MS });

after(async () => {
  cutter?.close();
  await cluster?.compose("down", "--volumes", "--rmi", "local", "--timeout", "5");
  rmSync(certificate, { recursive: true, force: true });
}, { timeout: MINUTE_MS });

/** An answer through nginx; `body` is sent where it is given. */
async function ask(path, { headers = {}, method = "GET", body, agent = false } = {}) {
  const request = httpsRequest(`https://${cluster.host}${path}`, { rejectUnauthorized: false, agent, headers, method });
  request.end(body);
  const [answer] = await Promise.race([once(request, "response"), once(request, "upgrade")]);
  const stay = answer.statusCode === 101 ? answer.socket : undefined;
  if (!stay) answer.resume();
  return { status: answer.statusCode, headers: answer.headers, socket: stay };
}

/** What a browser sends from the cluster's own page to somebody who has logged in. */
const own = (cookie = token()) => ({ Origin: `https://${cluster.host}`, Cookie: `${COOKIE}=${cookie}` });

/** A handshake. */
const upgrade = (headers) =>
  ask("/ws", {
    headers: {
      Upgrade: "websocket",
      Connection: "Upgrade",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
      "Sec-WebSocket-Protocol": "trestle.v1.json",
      ...headers,
    },
  });

test("containers have no right that they do not need, and bounds of all that they may take", async () => {
  const containers = await cluster.containers();
  assert.equal(containers.length, 5);
  const published = containers.flatMap(({ Config, HostConfig }) =>
    Object.entries(HostConfig.PortBindings ?? {}).map(([port]) => `${Config.Labels["com.docker.compose.service"]} ${port}`),
  );
  assert.deepEqual(published.sort(), ["nginx 443/tcp", "nginx 80/tcp"]);
  for (const { Name, Config, HostConfig, Mounts } of containers) {
    assert.equal(Config.User, "10001:10001", Name);
    assert.ok(HostConfig.ReadonlyRootfs && !HostConfig.Privileged, Name);
    assert.deepEqual([HostConfig.CapDrop, HostConfig.CapAdd ?? []], [["ALL"], []], Name);
    assert.ok(HostConfig.SecurityOpt.includes("no-new-privileges:true"), Name);
    assert.ok(HostConfig.Memory > 0 && HostConfig.PidsLimit > 0, Name);
    const limits = new Map(HostConfig.Ulimits.map(({ Name: name, Hard }) => [name, Hard]));
    assert.ok(limits.get("nofile") > 0, Name);
    assert.equal(limits.get("core"), 0, Name);
    assert.ok(!Mounts.some(({ Source }) => Source.endsWith("docker.sock")), Name);
  }
  const edge = containers.find(({ Config }) => Config.Labels["com.docker.compose.service"] === "edge");
  assert.deepEqual(Object.keys(edge.NetworkSettings.Networks).map((name) => name.split("_").at(-1)), ["inside"]);
});

test("inside, nothing can be written, and no process has a capability or gets one", async () => {
  for (const service of ["publisher", "forwarder", "edge", "nginx"]) {
    const script = "touch /probe /usr/probe /etc/probe 2>&1; grep -E '^(CapEff|CapBnd|NoNewPrivs|Uid)' /proc/1/status; ulimit -c";
    const said = await cluster.compose("exec", "-T", service, "sh", "-c", script);
    assert.equal(said.match(/Read-only file system/g)?.length, 3, `${service}: ${said}`);
    assert.match(said, /CapEff:\s+0+\n/, service);
    assert.match(said, /CapBnd:\s+0+\n/, service);
    assert.match(said, /NoNewPrivs:\s+1\n/, service);
    assert.match(said, /Uid:\s+10001\s/, service);
    assert.match(said, /\n0\n$/, service);
  }
});

/** What a TLS handshake comes to: its version, or why there is none. */
async function handshake(options) {
  const [host, port] = cluster.host.split(":");
  const socket = connectTls({ host, port: Number(port), rejectUnauthorized: false, ...options });
  try {
    await once(socket, "secureConnect");
    return socket.getProtocol();
  } catch (error) {
    return error.code;
  } finally {
    socket.destroy();
  }
}

test("TLS is 1.2 or 1.3, with ciphers of today", async () => {
  const only = (version, ciphers = "ALL:@SECLEVEL=0") => ({ minVersion: version, maxVersion: version, ciphers });
  assert.equal(await handshake(only("TLSv1.3", undefined)), "TLSv1.3");
  assert.equal(await handshake(only("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")), "TLSv1.2");
  for (const old of ["TLSv1", "TLSv1.1"]) assert.equal(await handshake(only(old)), "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION", old);
  // Without forward secrecy, and without authenticated encryption.
  for (const weak of ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"]) {
    assert.match(await handshake(only("TLSv1.2", `${weak}:@SECLEVEL=0`)), /HANDSHAKE_FAILURE/, weak);
  }
});

test("answers say what a browser is to hold them to", async () => {
  const page = await ask("/");
  assert.equal(page.status, 200);
  assert.match(page.headers["strict-transport-security"], /^max-age=\d{7,}$/);
  assert.match(page.headers["content-security-policy"], /^default-src 'none'; /);
  assert.doesNotMatch(page.headers["content-security-policy"], /unsafe|\*/);
  assert.equal(page.headers["x-content-type-options"], "nosniff");
  assert.equal(page.headers["x-frame-options"], "DENY");
  assert.equal(page.headers["referrer-policy"], "no-referrer");
  assert.equal(page.headers["cross-origin-opener-policy"], "same-origin");
  assert.equal(page.headers.server, "nginx", "no version");
  assert.ok((await ask("/nothing")).headers["strict-transport-security"], "with errors, too");
});

test("the live page obeys its policy", { timeout: MINUTE_MS }, async () => {
  const browser = await startChromium();
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    // As a login's answer sets it.
    const cookie = { name: COOKIE, value: token(), url: `https://${cluster.host}`, secure: true, httpOnly: true, sameSite: "Strict" };
    await context.addCookies([cookie]);
    const page = await context.newPage();
    const faults = [];
    const isFault = (message) => ["error", "warning"].includes(message.type()) && !message.text().includes("ERR_NETWORK_CHANGED");
    page.on("console", (message) => isFault(message) && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("response", (response) => response.status() >= 400 && faults.push(`${response.status()} of ${response.url()}`));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    });
    await load(page, `https://${cluster.host}/`);
    await page.locator("#state[data-state=open]").waitFor().catch(async (error) => {
      throw new Error(`${error.message}\n${await page.locator("body").innerText()}\n${faults.join("\n")}`);
    });
    await until("messages", async () => Number((await page.locator("#received").textContent()).replace(/\D/g, "")) > 0);
    assert.deepEqual(faults, []);
    // The browser says of its own EventSource that it is of the same origin, and names none.
    const opened = await page.evaluate(() => new Promise((resolve) => {
      const source = new EventSource("/events?topic=jobs/");
      source.onopen = () => resolve(true);
      source.onerror = () => resolve(false);
    }));
    assert.ok(opened, "an EventSource");
  } finally {
    await browser.close();
  }
});

test("private ports are not led to", async () => {
  for (const path of ["/metrics", "/healthz", "/readyz", "/edge", "/trestle.v1.Control/Status", "/grpc.health.v1.Health/Check"]) {
    assert.equal((await ask(path)).status, 404, path);
  }
  assert.equal((await ask("/trestle.v1.Control/Drain", { method: "POST", headers: { "Content-Type": "application/grpc" } })).status, 405);
});

test("whoever names no origin, or another, is refused", async () => {
  const statuses = [];
  for (const headers of [{}, { Origin: "https://evil.example" }, { Origin: "null" }, { Origin: "https://localhost" }, own()]) {
    const { status, socket } = await upgrade(headers);
    statuses.push(status);
    socket?.destroy();
  }
  assert.deepEqual(statuses, [403, 403, 403, 403, 101]);
  assert.equal((await ask("/events")).status, 403);
  assert.equal((await ask("/publish?topic=x", { method: "POST", body: "x" })).status, 403);
});

test("whoever has no token, or one that does not count, gets nothing but the page", async () => {
  const { Origin } = own();
  const other = generateKeyPairSync("ed25519").privateKey;
  const past = token({ exp: 1_000_000_000 });
  for (const headers of [{ Origin }, own(past), own(token({}, other)), { Origin, Authorization: `Bearer ${past}` }]) {
    assert.equal((await ask("/events?topic=jobs/", { headers })).status, 401);
    assert.equal((await ask("/publish?topic=chat/x", { method: "POST", body: "x", headers })).status, 401);
  }
  const { status, socket } = await upgrade(own(past));
  socket?.destroy();
  assert.equal(status, 401);
  const jobs = own(token({ trestle: { subscribe: ["jobs/"] } }));
  assert.equal((await ask("/events?topic=hosts/", { headers: jobs })).status, 403);
  assert.equal((await ask("/publish?topic=jobs/", { method: "POST", body: "x", headers: jobs })).status, 403);
  assert.equal((await ask("/")).status, 200);
});

test("a page whose tokens end goes on with new ones, also after an outage that outlived one", { timeout: MINUTE_MS }, async () => {
  const browser = await startChromium();
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    const ends = [];
    await page.exposeFunction("getToken", () => {
      ends.push(Math.floor(Date.now() / 1000) + TOKEN_SECONDS);
      return token({ exp: ends.at(-1), trestle: { subscribe: ["chat/"] } });
    });
    await load(page, `https://trestle.test:${cutter.port}/`);
    await page.evaluate(async () => {
      const { connect } = await import("/client.js");
      globalThis.record = { numbers: [], told: [] };
      const { record } = globalThis;
      record.client = connect("/ws", { getToken: () => globalThis.getToken(), fallback: false });
      for (const what of ["waiting", "closed", "error"]) record.client.addEventListener(what, ({ detail }) => record.told.push({ what, code: detail.code }));
      const onGap = (loss) => record.told.push({ what: "gap", code: loss.cause });
      await record.client.subscribe("chat/", { onEvent: ({ text }) => record.numbers.push(Number(text)), onGap }).ready;
    });
    const seen = () => page.evaluate(() => ({ ...globalThis.record, client: globalThis.record.client.state }));
    await until("a third token", () => ends.length >= 3);
    await cluster.publish("chat/1", ["1"], "--raw");
    await until("the first", async () => (await seen()).numbers.length === 1);
    assert.deepEqual(await seen(), { numbers: [1], told: [], client: "open" });

    await context.setOffline(true);
    cutter.cut();
    await until("the wait", async () => (await seen()).client === "waiting");
    const last = ends.at(-1);
    await cluster.publish("chat/1", ["2", "3"], "--raw");
    await until("the token's end", () => Date.now() / 1000 > last + LEEWAY_SECONDS, MINUTE_MS);
    await context.setOffline(false);
    await until("the rest", async () => (await seen()).numbers.length === 3);
    assert.ok(ends.at(-1) > last);
    const { numbers, told } = await seen();
    assert.deepEqual(numbers, [1, 2, 3]);
    assert.deepEqual(new Set(told.map(({ what }) => what)), new Set(["waiting"]));
  } finally {
    await browser.close();
  }
});

test("an address has so many connections, whatever it claims to be, and gets them back", { timeout: MINUTE_MS }, async () => {
  const claim = (n) => ({ ...own(), "X-Forwarded-For": `203.0.113.${n}`, Forwarded: `for=203.0.113.${n}` });
  await until("those of before to be gone", async () => {
    const { socket } = await upgrade(own());
    socket?.destroy();
    return socket && [...(await cluster.connections()).values()][0] <= 1;
  });
  const sockets = [];
  try {
    let refused;
    for (let n = 0; n <= CONNECTIONS + 1 && !refused; n += 1) {
      const { status, socket } = await upgrade(claim(n));
      if (socket) sockets.push(socket);
      else refused = status;
    }
    assert.equal(refused, 429);
    assert.ok(sockets.length >= CONNECTIONS - 2 && sockets.length <= CONNECTIONS, String(sockets.length));
    for (const socket of sockets.splice(0)) socket.destroy();
    const { socket } = await until("a place", async () => {
      const answer = await upgrade(claim(0));
      return answer.status === 101 && answer;
    });
    sockets.push(socket);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
});

test("an address asks so often, and again after a while", { timeout: MINUTE_MS }, async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 4, rejectUnauthorized: false });
  const asked = 30 * REQUESTS;
  const started = Date.now();
  const answers = await Promise.all(Array.from({ length: asked }, () => ask("/favicon.svg", { agent })));
  const statuses = answers.map(({ status }) => status);
  assert.deepEqual([...new Set(statuses)].sort(), [200, 429], "and nothing else");
  const served = statuses.filter((status) => status === 200).length;
  // At once as many as in ten seconds.
  const seconds = (Date.now() - started) / 1000;
  assert.ok(served <= (11 + seconds) * REQUESTS, `${served} of ${asked} in ${seconds} s`);
  await until("a further answer", async () => (await ask("/favicon.svg", { agent })).status === 200);
  agent.destroy();
});

/** Milliseconds until nginx ends a connection that says `beginning` and then nothing, and what it answered. */
async function stalls(beginning) {
  const [host, port] = cluster.host.split(":");
  const socket = connectTls({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
  await once(socket, "secureConnect");
  const started = Date.now();
  let said = "";
  socket.on("data", (data) => (said += data));
  socket.on("error", () => {});
  socket.write(beginning);
  await once(socket, "close");
  return { ms: Date.now() - started, said };
}

test("a request that does not come is not waited for", { timeout: MINUTE_MS }, async () => {
  const { host } = cluster;
  const ends = await Promise.all([
    stalls(""),
    stalls(`GET /ws HTTP/1.1\r\nHost: ${host}\r\nX-Slow: `),
    stalls(`POST /publish?topic=x HTTP/1.1\r\nHost: ${host}\r\nOrigin: https://${host}\r\nContent-Length: 1000\r\n\r\nx`),
  ]);
  for (const { ms, said } of ends) {
    assert.ok(ms >= HEADER_MS / 2 && ms < 3 * HEADER_MS, `${ms} ms: ${said}`);
    assert.doesNotMatch(said, /^HTTP\/1.1 (2|101)/);
  }
});
