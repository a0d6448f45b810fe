/** The cluster end to end: three edges, the original page, scaling, a killed edge and a clean end. Run by ./run. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { get as httpsGet, request as httpsRequest } from "node:https";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { until } from "../browser/support/wait.js";
import { ARTEFACTS, JsonClient, keep, listed, load, serveOriginalPage, startChromium } from "./clients.js";
import { Cluster } from "./cluster.js";
import { Flock } from "./flock.js";

const MINUTE_MS = 60_000;
const START_MS = 30 * MINUTE_MS; // with --from-source the images are compiled
const EDGES = 3;
const ROLLED_CLIENTS = 240;

const lines = (name, count) => Array.from({ length: count }, (_, index) => `${name} ${index + 1}`);

let cluster;
let browser;
/** Tabs that run to the end of all tests. */
let context;

before(async () => {
  cluster = await Cluster.start({ edges: EDGES, settings: () => ({ TRESTLE_ALLOW_PUBLISH: '["chat/"]' }) });
  browser = await startChromium();
  context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1360, height: 900 } });
}, { timeout: START_MS });

after(async () => {
  await browser?.close();
  if (!cluster) return;
  mkdirSync(ARTEFACTS, { recursive: true });
  writeFileSync(`${ARTEFACTS}compose.log`, await cluster.compose("logs", "--no-color", "--timestamps"));
}, { timeout: MINUTE_MS });

test("nothing but nginx is published beyond loopback, and nothing runs as root", async () => {
  const containers = await cluster.containers();
  const services = containers.map((container) => container.Config.Labels["com.docker.compose.service"]).sort();
  assert.deepEqual(services, [...Array(EDGES).fill("edge"), "forwarder", "init", "nginx", "publisher"]);
  const published = containers.flatMap(({ Config, HostConfig }) =>
    Object.entries(HostConfig.PortBindings ?? {}).map(([port]) => `${Config.Labels["com.docker.compose.service"]} ${port}`),
  );
  assert.deepEqual(published.sort(), ["forwarder 5555/tcp", "forwarder 5556/tcp", "nginx 443/tcp", "nginx 80/tcp"]);
  for (const { Name, Config, HostConfig } of containers) {
    assert.equal(Config.User, "10001:10001", Name);
    assert.ok(HostConfig.ReadonlyRootfs, Name);
    assert.deepEqual(HostConfig.CapDrop, ["ALL"], Name);
  }
});

test("port 80 leads to the published https port", async () => {
  const answer = await fetch(`http://localhost:${cluster.ports.http}/events?topic=jobs/`, { redirect: "manual" });
  assert.equal(answer.status, 308);
  assert.equal(answer.headers.get("location"), `https://${cluster.host}/events?topic=jobs/`);
});

// The edge's 426 came through with `Upgrade`, which HTTP/2 forbids: clients threw the whole answer away.
test("a client that cannot upgrade is told so, over HTTP/2 as over HTTP/1.1", { timeout: MINUTE_MS }, async () => {
  const session = connectHttp2(`https://${cluster.host}`, { rejectUnauthorized: false });
  const request = session.request({ ":path": "/ws" });
  const [headers] = await once(request, "response");
  assert.equal(headers[":status"], 426);
  session.close();

  const old = { Upgrade: "websocket", Connection: "Upgrade", "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==" };
  const [answer] = await once(httpsGet(`https://${cluster.host}/ws`, { rejectUnauthorized: false, headers: old }), "response");
  assert.equal(answer.statusCode, 426);
  assert.equal(answer.headers["sec-websocket-version"], "13");
  answer.destroy();
});

test("the original page receives every message published after it opened", { timeout: MINUTE_MS }, async () => {
  const site = await serveOriginalPage(cluster.host);
  // As many as there are edges: the least connected edge comes next, so that each has one.
  const pages = await Promise.all(Array.from({ length: EDGES }, () => context.newPage()));
  try {
    for (const page of pages) {
      await load(page, site.url);
      await page.waitForFunction(() => document.title === "open");
    }
    assert.deepEqual([...(await cluster.connections()).values()], Array(EDGES).fill(1));

    const sent = lines("line", 2000);
    await cluster.publish("jobs/42", sent, "--raw");
    for (const page of pages) {
      // The demo publisher's events arrive as well.
      const received = async () => (await listed(page)).filter((text) => text.startsWith("line "));
      await until("the last line", async () => (await received()).at(-1) === sent.at(-1));
      assert.deepEqual(await received(), sent);
    }
  } finally {
    for (const page of pages) await page.close();
    site.close();
  }
});

test("a trestle.v1.json client receives its topic, in order, with positions", { timeout: MINUTE_MS }, async () => {
  const client = await JsonClient.connect(cluster.host);
  try {
    client.send({ id: 1, subscribe: { topics: ["jobs/7"] } });
    const reply = await client.first("reply");
    assert.equal(reply.id, 1);
    assert.deepEqual(reply.subscribed.topics, ["jobs/7"]);

    const sent = lines("step", 500);
    await cluster.publish("jobs/7", sent, "--raw");
    await until("the last step", () => client.events.at(-1)?.text === sent.at(-1));
    assert.deepEqual(client.events.map((event) => event.text), sent);
    assert.deepEqual([...new Set(client.events.map((event) => event.topic))], ["jobs/7"]);
    const positions = new Set(client.events.map((event) => event.position));
    assert.equal(positions.size, sent.length);
  } finally {
    client.close();
  }
});

test("a publisher's typed lines reach the browser with what the envelope says", { timeout: MINUTE_MS }, async () => {
  const client = await JsonClient.connect(cluster.host);
  try {
    client.send({ id: 1, subscribe: { topics: ["jobs/8"] } });
    await client.first("reply");
    await cluster.publish("jobs/8", ["hello"]);
    const event = await client.first("event");
    assert.equal(event.text, "hello");
    assert.ok(event.id && event.source, JSON.stringify(event));
  } finally {
    client.close();
  }
});

test("what is published through nginx, by POST or by ZWS, comes to clients of every edge", { timeout: MINUTE_MS }, async () => {
  // The least connected edge comes next, so that each has one.
  const clients = await Promise.all(Array.from({ length: EDGES }, () => JsonClient.connect(cluster.host)));
  let publisher;
  try {
    for (const client of clients) {
      client.send({ id: 1, subscribe: { topics: ["chat/"] } });
      await client.first("caught_up");
    }
    const request = httpsRequest(`https://${cluster.host}/publish?topic=chat/1`, { rejectUnauthorized: false, method: "POST" });
    request.end("by POST");
    const [answer] = await once(request, "response");
    answer.resume();
    assert.equal(answer.statusCode, 200);

    // ZeroMQ RFC 45: routing ids, then the edge says what it wants; each frame behind a flag.
    const heard = [];
    publisher = new WebSocket(`wss://${cluster.host}/pub`, "ZWS2.0", { rejectUnauthorized: false });
    publisher.on("message", (data) => heard.push(String(data)));
    await once(publisher, "open");
    publisher.send(Buffer.of(0));
    await until("what it may publish", () => heard.includes("\0\x01chat/"));
    publisher.send(Buffer.from("\x01chat/2"));
    publisher.send(Buffer.from("\0by ZWS"));
    const expected = [["chat/1", "by POST"], ["chat/2", "by ZWS"]];
    for (const client of clients) {
      await until("both", () => client.events.length >= expected.length);
      assert.deepEqual(client.events.map(({ topic, text }) => [topic, text]), expected);
    }
  } finally {
    publisher?.terminate();
    for (const client of clients) client.close();
  }
});

test("all edges are replaced under load: nothing is lost, nothing comes twice, and none is refused", { timeout: 3 * MINUTE_MS }, async () => {
  const others = async () => {
    const containers = await Promise.all(["nginx", "forwarder"].map((service) => cluster.containers(service)));
    return containers.flat().map(({ Id, State }) => [Id, State.StartedAt, State.Pid]);
  };
  const [oldEdges, oldOthers] = [await cluster.edges(), await others()];
  const counting = cluster.count("roll/1", 20);
  const flock = await Flock.gather(cluster.host, "roll/", ROLLED_CLIENTS);
  try {
    await flock.hasSeen(1);
    const started = Date.now();
    const { code, said } = await cluster.roll();
    console.log(`# ${said.replaceAll("\n", "\n# ")}\n# rolled in ${Date.now() - started} ms`);
    assert.equal(code, 0);
    await flock.hasSeen(await counting.stop());

    const edges = await cluster.edges();
    assert.equal(edges.length, EDGES);
    assert.deepEqual(edges.filter((id) => oldEdges.includes(id)), []);
    assert.deepEqual(await others(), oldOthers);
    const { members, reconnectsInASecond } = flock;
    const outageMs = Math.max(...members.map((member) => member.outageMs));
    console.log(`# at most ${reconnectsInASecond} came back in a second, and within ${outageMs} ms`);
    // Not one attempt failed, and each was told before.
    assert.deepEqual(new Set(members.flatMap(({ ends }) => ends)), new Set([1012]));
    assert.ok(members.every(({ ends }) => ends.length >= 1), "each was on an old edge");
    assert.deepEqual(members.flatMap(({ losses }) => losses), []);
    assert.deepEqual(members.flatMap(({ astray }) => astray), []);
    assert.ok(outageMs < 5_000, `${outageMs} ms`);
    // An edge closes a hundred in a second.
    assert.ok(reconnectsInASecond <= 150, `${reconnectsInASecond} in a second`);
  } finally {
    flock.close();
  }
});

test("new edges that do not come up are removed, and the old ones stay", { timeout: MINUTE_MS }, async () => {
  const before = await cluster.edges();
  cluster.set("TRESTLE_CONNECTION_RATE", "soon");
  const { code, said } = await cluster.roll("--timeout", "3");
  cluster.set("TRESTLE_CONNECTION_RATE", "");
  assert.equal(code, 69, said);
  assert.match(said, /not within 3 s: every new edge healthy/);
  assert.deepEqual((await cluster.edges()).sort(), before.sort());
  assert.equal((await cluster.containers("edge")).length, before.length);
});

test("two more edges take new connections while nginx stays as it is", { timeout: 2 * MINUTE_MS }, async () => {
  const nginx = async () => (await cluster.containers("nginx"))[0].State;
  const before = await nginx();
  const held = await Promise.all(Array.from({ length: EDGES * 2 }, () => JsonClient.connect(cluster.host)));
  await cluster.up("--scale", "edge=5");
  const scaled = Date.now();
  const clients = [];
  try {
    // One at a time until each of the five has one: the new ones are the least connected.
    await until("a connection to each of five edges", async () => {
      clients.push(await JsonClient.connect(cluster.host));
      const connections = await cluster.connections();
      return connections.size === 5 && [...connections.values()].every((count) => count > 0);
    });
    console.log(`# five edges had connections ${Date.now() - scaled} ms after they were up`);
    const { StartedAt, Pid } = await nginx();
    assert.deepEqual({ StartedAt, Pid }, { StartedAt: before.StartedAt, Pid: before.Pid });
    assert.deepEqual(held.flatMap((client) => client.messages.filter((message) => "closed" in message)), []);
  } finally {
    for (const client of [...held, ...clients]) client.close();
  }
});

/** Runs `check` with an open live page and the edge that holds it. */
async function withLivePage(check) {
  await until("no connection left", async () => [...(await cluster.connections()).values()].every((count) => count === 0));
  const page = await context.newPage();
  try {
    await load(page, `https://${cluster.host}/`);
    await live(page);
    await check(page, await holder());
  } finally {
    await page.close();
  }
}

/** The container id of the edge with the only connection. */
async function holder() {
  return until("one connection", async () => {
    const busy = [...(await cluster.connections())].filter(([, count]) => count > 0);
    return busy.length === 1 && busy[0][1] === 1 ? busy[0][0] : null;
  });
}

/** Resolves once the page is connected and what it has received rises. */
async function live(page) {
  await page.locator("#state[data-state=open]").waitFor();
  const received = () => page.locator("#received").textContent();
  const before = await received();
  await until("a further message on the page", async () => (await received()) !== before);
}

test("the live page comes back by itself on another edge when its own is killed", { timeout: 2 * MINUTE_MS }, async () => {
  await withLivePage(async (page, edge) => {
    const disconnected = page.locator("#state[data-state=waiting]").waitFor();
    await cluster.kill(edge);
    const killed = Date.now();
    await disconnected;
    await live(page);
    console.log(`# the page was live again ${Date.now() - killed} ms after its edge was killed`);
    assert.notEqual(await holder(), edge);
    await keep(page, "compose-live-page");
  });
});

/** Opens an EventSource in a page; `heard()` gives what its messages said, topic and text. */
async function listen(target) {
  const page = await context.newPage();
  // Any document of this origin.
  await load(page, `https://${cluster.host}/client.js`);
  await page.evaluate((url) => {
    window.heard = [];
    window.named = [];
    const source = new EventSource(url);
    source.onmessage = ({ data }) => window.heard.push(JSON.parse(data).event);
    for (const name of ["reply", "lost"]) source.addEventListener(name, ({ data }) => window.named.push(JSON.parse(data)));
  }, target);
  return {
    page,
    heard: () => page.evaluate(() => window.heard.map(({ topic, text }) => `${topic} ${text}`)),
    named: () => page.evaluate(() => window.named),
  };
}

test("an EventSource whose edge is killed goes on at another, and misses nothing", { timeout: 2 * MINUTE_MS }, async () => {
  await until("no connection left", async () => [...(await cluster.connections()).values()].every((count) => count === 0));
  const { page, heard, named } = await listen("/events?topic=sse/count&topic=sse/last");
  const edge = await holder();
  const counting = cluster.count("sse/count", 20);
  try {
    await until("some messages", async () => (await heard()).length >= 50);
    await cluster.kill(edge);
    await until("it is back", async () => (await named()).length >= 2, MINUTE_MS);
    const last = await counting.stop();
    await cluster.publish("sse/last", ["the end"], "--raw");
    await until("the last message", async () => (await heard()).at(-1) === "sse/last the end");
    assert.deepEqual(await heard(), [...Array.from({ length: last }, (_, n) => `sse/count ${n + 1}`), "sse/last the end"]);
    // It may come back more than once: Chromium breaks connections off when a container's network interface goes.
    const [first, ...later] = await named();
    assert.ok(first.reply, "the first subscription");
    assert.ok(later.every(({ reply }) => reply?.subscribed.recovered === true), JSON.stringify(later));
    assert.notEqual(await holder(), edge);
  } finally {
    await page.close();
  }
});

test("curl has each event as it comes, through nginx", { timeout: MINUTE_MS }, async () => {
  const curl = spawn("curl", ["--no-buffer", "--silent", "--show-error", "--insecure", `https://${cluster.host}/events?topic=curl/&max_hz=1000`]);
  let said = "";
  for (const stream of [curl.stdout, curl.stderr]) stream.on("data", (data) => (said += data));
  try {
    await until("the beginning", () => said.includes("event: caught_up"));
    for (const text of ["one", "two"]) {
      await cluster.publish("curl/1", [text], "--raw");
      await until("what was published", () => new RegExp(`^id: \\S+\ndata: .*"text":"${text}"`, "m").test(said)).catch((error) => {
        throw new Error(`${error.message}; curl said: ${said}`);
      });
    }
  } finally {
    curl.kill();
  }
});

test("an edge that is stopped sends its page to another and exits with 0", { timeout: 2 * MINUTE_MS }, async () => {
  await withLivePage(async (page, edge) => {
    const started = Date.now();
    await cluster.stop(edge);
    console.log(`# the edge stopped in ${Date.now() - started} ms`);
    await live(page);
    assert.notEqual(await holder(), edge);
    const stopped = (await cluster.containers("edge")).find(({ Id }) => Id === edge);
    assert.equal(stopped.State.ExitCode, 0);
  });
});

/** The status of a handshake through nginx, and its Retry-After. */
async function handshake() {
  const headers = {
    Upgrade: "websocket",
    Connection: "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "trestle.v1.json",
  };
  const request = httpsGet(`https://${cluster.host}/ws`, { rejectUnauthorized: false, headers, agent: false });
  const [answer] = await Promise.race([once(request, "response"), once(request, "upgrade")]);
  answer.destroy();
  return { status: answer.statusCode, after: answer.headers["retry-after"] };
}

// With a failed replica left out for a while, one refusal took an edge out for everybody: most got nginx's own 502.
test("a storm is sent away by the edges, through nginx, and who is served is served on", { timeout: 2 * MINUTE_MS }, async () => {
  const [edges, rate, storm] = [2, 5, 100];
  cluster.set("TRESTLE_CONNECTION_RATE", String(rate));
  await cluster.up("--wait", "--scale", `edge=${edges}`);
  const client = await until("a connection", () => JsonClient.connect(cluster.host).catch(() => null));
  try {
    client.send({ id: 1, subscribe: { topics: ["jobs/storm"] } });
    await client.first("reply");
    const started = Date.now();
    const answers = await Promise.all(Array.from({ length: storm }, handshake));
    const seconds = (Date.now() - started) / 1000;
    const refused = answers.filter(({ status }) => status === 503);
    const admitted = answers.filter(({ status }) => status === 101);
    console.log(`# ${admitted.length} admitted, ${refused.length} sent away in ${seconds} s`);
    assert.equal(admitted.length + refused.length, storm, JSON.stringify(answers));
    assert.ok(admitted.length <= edges * rate * (1 + seconds) + edges, `${admitted.length} in ${seconds} s`);
    const afters = refused.map(({ after }) => Number(after));
    assert.ok(afters.every((after) => after >= 1 && after <= 61), String(afters));
    // So many that not all can come back in the same second, or the next.
    assert.ok(new Set(afters).size >= 3, String(afters));
    await cluster.publish("jobs/storm", ["after"], "--raw");
    assert.equal((await client.first("event")).text, "after");
    assert.deepEqual(client.messages.filter((message) => "closed" in message), []);
  } finally {
    client.close();
    cluster.set("TRESTLE_CONNECTION_RATE", "");
  }
});

test("every container ends cleanly within its grace period", { timeout: 2 * MINUTE_MS }, async () => {
  await cluster.up("--scale", "edge=5"); // those that were killed and stopped
  await withLivePage(async () => {
    const started = Date.now();
    await cluster.compose("stop");
    console.log(`# the cluster stopped in ${Date.now() - started} ms`);
  });
  const ends = (await cluster.containers()).map(({ Name, State }) => [Name, State.Status, State.ExitCode]);
  assert.deepEqual(ends, ends.map(([name]) => [name, "exited", 0]));
});
