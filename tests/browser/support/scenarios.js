/** What the client module promises, each a script between a fake edge and a rig (support/rig.js). */

import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeEdge } from "./fake.js";
import { until } from "./wait.js";

/** Fast enough for tests, in the proportions of the defaults. */
const FAST = { reconnectMinMs: 20, reconnectMaxMs: 160, uptimeMinMs: 60_000, handshakeMaxMs: 12_000 };

/** Close codes that end the client. */
const STOPS = [1008, 1009, 4500, 4501, 4503, 4999];

/** Close codes that it comes back from, each with the longest delay in ms of the first attempt. */
const RETURNS = [[1000, 40], [1001, 40], [1011, 40], [1012, 40], [1013, 160], [3001, 40], [4000, 40], [4008, 40], [4029, 160], [4401, 40], [4499, 40]];

/**
 * @param {string} world For the tests' names.
 * @param {() => Promise<{call: (method: string, ...args: unknown[]) => Promise<any>, end: () => Promise<void>}>} makeRig
 * @param {{stops?: number[], returns?: number[][]}} [codes]
 */
export function scenarios(world, makeRig, { stops = STOPS, returns = RETURNS } = {}) {
  const scenario = (name, run, { refused, ...options } = {}) =>
    test(`${world}: ${name}`, async () => {
      const edge = await FakeEdge.start();
      const { call, end } = await makeRig();
      const rig = new Proxy({}, { get: (_, method) => (...args) => call(method, ...args) });
      const logged = async (what, name) => (await rig.log()).filter((entry) => entry.what === what && (name === undefined || entry.name === name));
      const seen = (what, many = 1, name = undefined) =>
        until(`${many} × ${what} ${name ?? ""}`, async () => {
          const entries = await logged(what, name);
          return entries.length >= many && entries;
        });
      const topics = async (name) => (await logged("event", name)).map(({ event }) => event.topic ?? event.topic_base64 ?? event.text ?? event.base64 ?? event.data);
      try {
        edge.refuses = refused === true;
        await rig.connect(edge.url, { ...FAST, ...options });
        await run({ edge, rig, seen, logged, topics });
      } finally {
        await rig.close().catch(() => {});
        await end();
        await edge.close();
      }
    });

  /** All events so far have been routed when this one has. */
  const flush = async (peer, rig) => {
    const reason = `flush ${Math.random()}`;
    peer.send({ goodbye: { reason } });
    await until("the flush", async () => (await rig.log()).some((entry) => entry.what === "goodbye" && entry.detail.reason === reason));
  };

  scenario("speaks trestle.v1.json and subscribes once it is welcome", async ({ edge, rig, seen, logged }) => {
    await rig.subscribe("jobs", ["jobs/", "système/"], { snapshot: true, policy: "conflate", max_hz: 10 });
    const peer = await edge.accept();
    assert.equal(peer.protocol, "trestle.v1.json");
    assert.equal(peer.waitingCommands, 0);
    peer.welcome({ session: "s7" });
    const command = await peer.subscribed("p5");
    assert.deepEqual(command, { id: 1, subscribe: { topics: ["jobs/", "système/"], snapshot: true, policy: "conflate", max_hz: 10 } });
    const [ready] = await seen("ready");
    assert.equal(ready.subscribed.position, "p5");
    assert.deepEqual((await logged("open")).map(({ detail }) => detail.welcome.session), ["s7"]);
    assert.equal((await rig.log())[0].what, "connecting");
    await rig.subscribe("exact", ["jobs/1"], { exact: true });
    assert.deepEqual(await peer.subscribed(), { id: 2, subscribe: { topics: ["jobs/1"], exact: true } });
  });

  scenario("gives an event to the subscriptions that match it, once to each", async ({ edge, rig, seen, topics }) => {
    await rig.subscribe("jobs", ["jobs/", "jobs/1"]);
    await rig.subscribe("one", ["jobs/1"], { exact: true });
    await rig.subscribe("all", [""]);
    const peer = await edge.welcome();
    for (let asked = 0; asked < 3; asked += 1) await peer.subscribed();
    for (const topic of ["jobs/1", "jobs/12", "job", "system/a", "jöbs/1", ""]) peer.event({ topic, text: "x" });
    await seen("event", 6, "all");
    assert.deepEqual(await topics("all"), ["jobs/1", "jobs/12", "job", "system/a", "jöbs/1", ""]);
    assert.deepEqual(await topics("jobs"), ["jobs/1", "jobs/12"]);
    assert.deepEqual(await topics("one"), ["jobs/1"]);
  });

  scenario("gives a subscription nothing before the edge has said where it starts", async ({ edge, rig, seen, topics }) => {
    // After a reconnect the first may be sent live what the second is sent later, in its order.
    await rig.subscribe("one", ["jobs/1"]);
    await rig.subscribe("all", [""]);
    const peer = await edge.welcome();
    await peer.subscribed();
    peer.event({ topic: "jobs/1", text: "x" });
    await seen("event", 1, "one");
    await peer.subscribed();
    peer.event({ topic: "jobs/2", text: "x" });
    await seen("event", 1, "all");
    assert.deepEqual(await topics("all"), ["jobs/2"]);
  });

  scenario("matches bytes: topics that are not UTF-8, and prefixes within a character", async ({ edge, rig, seen, topics }) => {
    await rig.subscribe("ff", [[0xff]]);
    await rig.subscribe("half", [[0xc3]]);
    await rig.subscribe("all", [""]);
    const peer = await edge.welcome();
    assert.deepEqual((await peer.subscribed()).subscribe, { topics: [], topics_base64: ["/w=="] });
    for (let asked = 1; asked < 3; asked += 1) await peer.subscribed();
    for (const event of [{ topic_base64: "/wA=" }, { topic: "été" }, { topic: "ete" }, { topic_base64: "/g==" }]) peer.event({ ...event, text: "x" });
    await seen("event", 4, "all");
    assert.deepEqual(await topics("ff"), ["/wA="]);
    assert.deepEqual(await topics("half"), ["été"]);
    assert.equal(await rig.matches("été", [0xc3, 0xa9], false), true);
    assert.equal(await rig.matches("été", [0xc3], true), false);
  });

  scenario("takes the body of a single frame for its topic", async ({ edge, rig, seen, logged }) => {
    await rig.subscribe("text", ["10001 "]);
    await rig.subscribe("json", ['{ "a" :']);
    await rig.subscribe("spaced", [' ["']);
    await rig.subscribe("binary", [[0, 1]]);
    await rig.subscribe("all", [""]);
    const peer = await edge.welcome();
    for (let asked = 0; asked < 5; asked += 1) await peer.subscribed();
    peer.event({ text: "10001 61 40" });
    peer.event({ text: "10002 61 40" });
    peer.send('{"event":{"position":"}\\"{","data":{ "a" : [1,{"b":"}"}] },"time_ms":1}}');
    peer.send('{"event":{"data":{"a":1}}}');
    peer.send('{ "event" : {"x":{},"data": ["]"] }}');
    peer.event({ base64: "AAEC" });
    await seen("event", 6, "all");
    const bodies = async (name) => (await logged("event", name)).map(({ event }) => event.text ?? event.data ?? event.base64);
    assert.deepEqual(await bodies("text"), ["10001 61 40"]);
    assert.deepEqual(await bodies("json"), [{ a: [1, { b: "}" }] }]);
    assert.deepEqual(await bodies("spaced"), [["]"]]);
    assert.deepEqual(await bodies("binary"), ["AAEC"]);
  });

  scenario("unsubscribes, and keeps what another subscription still holds", async ({ edge, rig, seen, topics }) => {
    await rig.subscribe("a", ["x/", "y/"], { policy: "drop_oldest" });
    await rig.subscribe("b", ["y/", "z/"], { policy: "conflate" });
    const peer = await edge.welcome();
    await peer.subscribed();
    await peer.subscribed();
    await rig.unsubscribe("b");
    // The edge held b's options for y/; those of a are said again, of y/ alone.
    assert.deepEqual((await peer.subscribed()).subscribe, { topics: ["y/"], policy: "drop_oldest" });
    const command = await peer.command();
    assert.deepEqual(command.unsubscribe, { topics: ["z/"] });
    peer.send({ reply: { id: command.id, unsubscribed: { topics: ["z/"] } } });
    await seen("left", 1, "b");
    for (const topic of ["z/1", "y/1"]) peer.event({ topic, text: "x" });
    await seen("event", 1, "a");
    assert.deepEqual(await topics("b"), []);
    assert.equal((await rig.of("b")).ended, true);
  });

  scenario("tells a refusal once and for all", async ({ edge, rig, seen, logged }) => {
    await rig.subscribe("secret", ["secret/"]);
    await rig.queue("read", ["secret/"]);
    await rig.subscribe("open", ["open/"]);
    const peer = await edge.welcome();
    for (let n = 0; n < 2; n += 1) {
      const { id } = await peer.command();
      peer.send({ reply: { id, error: { code: "forbidden", reason: "not yours", retry: false } } });
    }
    await peer.subscribed();
    const refusal = { name: "TrestleError", code: "forbidden", reason: "not yours", retry: false };
    assert.deepEqual((await seen("refused"))[0].error, refusal);
    assert.deepEqual(await rig.read("read"), { thrown: refusal });
    assert.deepEqual((await logged("error")).map(({ detail }) => detail), [refusal, refusal]);
    peer.cut();
    const next = await edge.welcome();
    assert.deepEqual((await next.subscribed()).subscribe, { topics: ["open/"], since: "p0" });
    await flush(next, rig);
    assert.equal(next.waitingCommands, 0);
  });

  scenario("asks again where a refusal may pass", async ({ edge, rig, seen }) => {
    await rig.subscribe("jobs", ["jobs/"]);
    const peer = await edge.welcome();
    const { id } = await peer.command();
    peer.send({ reply: { id, error: { code: "unavailable", reason: "not yet", retry: true } } });
    const again = await peer.subscribed();
    assert.equal(again.id > id, true);
    await seen("ready");
  }, { random: 0 });

  scenario("comes back with everything that it was subscribed to", async ({ edge, rig, seen, topics }) => {
    await rig.subscribe("a", ["a/"], { snapshot: true });
    await rig.subscribe("b", ["b/"]);
    const peer = await edge.welcome();
    await peer.subscribed();
    await peer.subscribed();
    peer.event({ topic: "a/1", text: "x" });
    await seen("event", 1, "a");
    peer.cut();
    const [{ detail }] = await seen("waiting");
    assert.equal(detail.code, 1006);
    assert.ok(detail.delayMs >= 20 && detail.delayMs <= 40, `${detail.delayMs}`);
    const next = await edge.welcome();
    assert.deepEqual((await next.subscribed()).subscribe, { topics: ["a/"], snapshot: true, since: "p0" });
    assert.deepEqual((await next.subscribed()).subscribe, { topics: ["b/"], since: "p0" });
    next.event({ topic: "a/2", text: "x" });
    next.event({ topic: "b/2", text: "x" });
    await seen("event", 1, "b");
    assert.deepEqual(await topics("a"), ["a/1", "a/2"]);
    assert.deepEqual((await rig.log()).map(({ what }) => what).filter((what) => ["connecting", "open", "waiting", "closed"].includes(what)),
      ["connecting", "open", "waiting", "connecting", "open"]);
  });

  scenario("waits longer each time, and no longer than the longest", async ({ edge, seen }) => {
    const waits = await seen("waiting", 5);
    assert.deepEqual(waits.slice(0, 5).map(({ detail }) => detail.delayMs), [40, 80, 160, 160, 160]);
    edge.refuses = false;
    await edge.welcome();
    await seen("open");
  }, { random: 1, refused: true });

  scenario("resets its back-off only after a minimum uptime", async ({ edge, seen }) => {
    for (let n = 0; n < 3; n += 1) {
      (await edge.welcome()).cut();
      await seen("waiting", n + 1);
    }
    const delays = (await seen("waiting", 3)).map(({ detail }) => detail.delayMs);
    assert.deepEqual(delays, [40, 80, 160]);
  }, { random: 1 });

  scenario("resets its back-off once the minimum uptime has passed", async ({ edge, seen }) => {
    await seen("waiting", 3);
    edge.refuses = false;
    const peer = await edge.welcome();
    const [{ at }] = await seen("open");
    await until("the uptime", () => Date.now() > at + 60);
    const before = (await seen("waiting")).length;
    peer.cut();
    const waits = await seen("waiting", before + 1);
    assert.equal(waits[before].detail.delayMs, 40);
  }, { random: 1, uptimeMinMs: 50, refused: true });

  scenario("obeys the pause that a goodbye asks for, counted from the goodbye", async ({ edge, seen }) => {
    const peer = await edge.welcome();
    peer.send({ goodbye: { reason: "restarting", reconnect_after_ms: 333 } });
    const [{ at }] = await seen("goodbye");
    peer.close(1012, "restart");
    const [{ detail }] = await seen("waiting");
    assert.ok(detail.delayMs <= 333, `${detail.delayMs} ms`);
    await edge.accept();
    const connecting = await seen("connecting", 2);
    assert.ok(connecting[1].at - at >= 330, `${connecting[1].at - at} ms`);
  });

  scenario("stays for what comes between goodbye and close, and then comes back at once", async ({ edge, rig, seen, topics }) => {
    await rig.subscribe("jobs", ["jobs/"]);
    const peer = await edge.welcome();
    await peer.subscribed();
    peer.send({ goodbye: { reason: "draining", reconnect_after_ms: 50 } });
    const [{ at }] = await seen("goodbye");
    await until("the end of the pause", () => Date.now() > at + 50);
    peer.event({ topic: "jobs/1", text: "still here" });
    await seen("event", 1, "jobs");
    assert.deepEqual(await topics("jobs"), ["jobs/1"]);
    peer.close(1012, "restart");
    const [{ detail }] = await seen("waiting");
    assert.equal(detail.delayMs, 0);
    await edge.accept();
  });

  scenario("bounds an absurd pause", async ({ edge, seen, rig }) => {
    const peer = await edge.welcome();
    peer.send({ goodbye: { reason: "draining", reconnect_after_ms: 1e15 } });
    peer.close(1012);
    const [{ detail }] = await seen("waiting");
    assert.ok(detail.delayMs <= 600_000 && detail.delayMs > 590_000, `${detail.delayMs} ms`);
    // Whoever does not want to wait need not.
    await rig.reconnect();
    await edge.welcome();
    await seen("open", 2);
  });

  for (const code of stops) {
    scenario(`stops for good at ${code}`, async ({ edge, rig, seen }) => {
      await rig.queue("jobs", ["jobs/"]);
      const peer = await edge.welcome();
      await peer.subscribed();
      peer.event({ topic: "jobs/1", text: "the last" });
      peer.close(code, "no more");
      const [{ detail }] = await seen("closed");
      assert.equal(detail.code, code);
      assert.equal(detail.reason, "no more");
      assert.equal((await rig.read("jobs")).text, "the last");
      assert.equal((await rig.read("jobs")).thrown.code, "closed");
      assert.equal(await rig.read("jobs"), "end");
      await rig.reconnect();
      assert.equal(await rig.state(), "closed");
      assert.equal(edge.peers.length, 1);
    });
  }

  for (const [code, longest] of returns) {
    scenario(`comes back after ${code}`, async ({ edge, seen }) => {
      (await edge.welcome()).close(code);
      const [{ detail }] = await seen("waiting");
      assert.deepEqual([detail.code, detail.delayMs], [code, longest]);
      await edge.accept();
    }, { random: 1 });
  }

  scenario("gives up a connection that has been silent for 2.5 heartbeats", async ({ edge, seen }) => {
    const peer = await edge.welcome({ heartbeat_ms: 200 });
    const [{ at: openAt }] = await seen("open");
    const beats = setInterval(() => peer.send({ heartbeat: {} }), 50);
    await until("five heartbeat periods", () => Date.now() > openAt + 1000);
    clearInterval(beats);
    const silentAt = Date.now();
    const [{ at, detail }] = await seen("waiting");
    assert.equal(detail.reason, "no heartbeat");
    assert.ok(at - silentAt > 350, `given up after ${at - silentAt} ms`);
    await edge.welcome();
    await seen("open", 2);
  });

  scenario("gives up a connection that never welcomes it", async ({ edge, seen }) => {
    await edge.accept();
    assert.equal((await seen("waiting"))[0].detail.reason, "no welcome");
    await edge.welcome();
    await seen("open");
  }, { handshakeMaxMs: 100 });

  scenario("waits while offline, and comes back when the network does", async ({ edge, rig, seen }) => {
    const peer = await edge.welcome();
    await seen("open");
    await rig.online(false);
    assert.equal(await rig.state(), "open");
    peer.cut();
    const [{ detail }] = await seen("waiting");
    assert.deepEqual([detail.offline, detail.delayMs], [true, 60_000]);
    await rig.online(true);
    await edge.welcome();
    await seen("open", 2);
  }, { fakeNetwork: true, reconnectMaxMs: 60_000 });

  scenario("keeps a resume point for each subscription", async ({ edge, rig }) => {
    await rig.subscribe("a", ["a/"], { snapshot: true });
    await rig.subscribe("all", [""]);
    const peer = await edge.welcome();
    const a = await peer.command();
    await peer.subscribed("p10");
    const positions = async () => {
      await flush(peer, rig);
      return [(await rig.of("a")).position, (await rig.of("all")).position];
    };
    peer.send({ reply: { id: a.id, subscribed: { topics: ["a/"], position: "p10" } } });
    peer.event({ topic: "a/1", position: "p3", snapshot: true, text: "x" });
    assert.deepEqual(await positions(), ["p10", "p10"]);
    peer.event({ topic: "b/1", position: "p11", text: "x" });
    assert.deepEqual(await positions(), ["p10", "p11"]);
    peer.event({ topic: "a/1", text: "not recorded" });
    peer.event({ topic: "a/1", position: "p12", text: "x" });
    assert.deepEqual(await positions(), ["p12", "p12"]);
    peer.send({ heartbeat: { position: "p15" } });
    assert.deepEqual(await positions(), ["p12", "p15"], "a has not caught up");
    peer.send({ caught_up: { id: a.id, position: "p16", replayed: 0 } });
    assert.deepEqual(await positions(), ["p16", "p15"]);
    peer.send({ lost: { topics: [""], from: "p16", position: "p20", cause: "slow_consumer", count: 4 } });
    assert.deepEqual(await positions(), ["p20", "p20"]);
    peer.cut();
    const next = await edge.welcome();
    assert.deepEqual((await next.command()).subscribe, { topics: ["a/"], snapshot: true, since: "p20" });
    assert.deepEqual((await next.command()).subscribe, { topics: [""], since: "p20" });
  });

  scenario("does not resume who asked not to", async ({ edge, rig }) => {
    await rig.subscribe("fresh", ["a/"], { snapshot: true, resume: false });
    const peer = await edge.welcome();
    await peer.subscribed("p5");
    peer.cut();
    assert.deepEqual((await (await edge.welcome()).command()).subscribe, { topics: ["a/"], snapshot: true });
  });

  scenario("begins where an earlier visit ended, or says what is missing since", async ({ edge, rig, seen, logged }) => {
    await rig.subscribe("kept", ["a/"], { resume: "p5" });
    await rig.subscribe("old", ["b/"], { resume: "p1" });
    const peer = await edge.welcome();
    assert.deepEqual((await peer.subscribed("p9")).subscribe, { topics: ["a/"], since: "p5" });
    const { id, subscribe } = await peer.command();
    assert.deepEqual(subscribe, { topics: ["b/"], since: "p1" });
    peer.send({ reply: { id, subscribed: { topics: ["b/"], position: "p9", recovered: false, reason: "history_truncated" } } });
    await seen("gap");
    assert.deepEqual((await logged("loss")).map(({ name, loss }) => [name, loss.cause, loss.from]), [["old", "history_truncated", "p1"]]);
    peer.cut();
    assert.equal((await (await edge.welcome()).command()).subscribe.since, "p9");
  });

  scenario("dispatches events, gaps and the end to who listens", async ({ edge, rig, seen, logged }) => {
    await rig.listen("jobs", ["jobs/"]);
    const peer = await edge.welcome();
    await peer.subscribed();
    for (const text of ["1", "2"]) peer.event({ topic: "jobs/1", text });
    await seen("event", 2, "jobs");
    assert.deepEqual((await logged("event", "jobs")).map(({ event }) => event.text), ["1", "2"]);
    peer.send({ lost: { topics: ["jobs/"], from: "p1", position: "p9", cause: "link_hole", at_most: 8 } });
    assert.equal((await seen("loss", 1, "jobs"))[0].loss.cause, "link_hole");
    await rig.unsubscribe("jobs");
    assert.deepEqual((await seen("end", 1, "jobs")).map(({ error }) => error), [null]);
    await rig.listen("forbidden", ["x/"]);
    let command;
    do command = await peer.command();
    while (command.subscribe === undefined);
    peer.send({ reply: { id: command.id, error: { code: "forbidden", reason: "no", retry: false } } });
    assert.equal((await seen("end", 1, "forbidden"))[0].error.code, "forbidden");
    assert.equal((await rig.of("forbidden")).dropped, 0);
  });

  scenario("tells what could not be sent again", async ({ edge, rig, seen, logged }) => {
    await rig.subscribe("jobs", ["jobs/"]);
    const peer = await edge.welcome();
    await peer.subscribed("p5");
    peer.cut();
    const next = await edge.welcome();
    const { id } = await next.command();
    const subscribed = { topics: ["jobs/"], position: "p90", recorded: "all", recovered: false, reason: "history_truncated" };
    next.send({ reply: { id, subscribed } });
    await seen("loss");
    assert.deepEqual((await logged("loss")).map(({ loss }) => loss), [{ cause: "history_truncated", from: "p5", position: "p90" }]);
    assert.deepEqual((await seen("gap")).map(({ detail }) => detail), [{ topics: ["jobs/"], cause: "history_truncated", from: "p5", position: "p90" }]);
    assert.equal((await rig.of("jobs")).position, "p90");
  });

  scenario("tells when the edge hears nothing from upstream, and when it does again", async ({ edge, seen }) => {
    const peer = await edge.welcome({ stale: true });
    for (const stale of [true, false, false, true]) peer.send({ heartbeat: { position: "p1", ...(stale && { stale }) } });
    const told = await seen("stale", 3);
    assert.deepEqual(told.map(({ detail }) => detail.stale), [true, false, true]);
  });

  scenario("gives nobody twice what another subscription is sent again", async ({ edge, rig, seen, topics }) => {
    const at = (offset, epoch = 7) => Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, epoch, 0, 0, 0, 0, 0, 0, offset >> 8, offset & 255]).toString("base64url");
    await rig.subscribe("behind", [""]);
    await rig.subscribe("ahead", ["jobs/"]);
    const peer = await edge.welcome();
    const commands = [await peer.command(), await peer.command()];
    const subscribed = (n, position) => peer.send({ reply: { id: commands[n].id, subscribed: { topics: [], position } } });
    subscribed(0, at(250));
    subscribed(1, at(260));
    for (const offset of [255, 260, 261]) peer.event({ topic: `jobs/${offset}`, position: at(offset), text: "x" });
    peer.send({ heartbeat: { position: at(255) } });
    peer.send({ caught_up: { id: commands[1].id, position: at(261) } });
    peer.send({ heartbeat: { position: at(256) } });
    peer.event({ topic: "jobs/begun anew", position: at(1, 8), text: "x" });
    await seen("event", 4, "behind");
    assert.deepEqual(await topics("behind"), ["jobs/255", "jobs/260", "jobs/261", "jobs/begun anew"]);
    assert.deepEqual(await topics("ahead"), ["jobs/261", "jobs/begun anew"]);
    assert.equal((await rig.of("ahead")).position, at(1, 8));
  });

  scenario("tells a loss to the subscriptions that it concerns", async ({ edge, rig, seen, logged }) => {
    await rig.subscribe("jobs", ["jobs/"]);
    await rig.subscribe("chat", ["chat/"]);
    const peer = await edge.welcome();
    peer.send({ lost: { topics: ["jobs/"], from: "p1", position: "p9", cause: "link_hole", at_most: 8 } });
    assert.equal((await seen("gap"))[0].detail.at_most, 8);
    assert.deepEqual((await logged("loss")).map(({ name, loss }) => [name, loss.cause]), [["jobs", "link_hole"]]);
  });

  scenario("gives a snapshot to who asked for it, until it has caught up", async ({ edge, rig, seen, topics }) => {
    await rig.subscribe("live", ["jobs/"]);
    await rig.subscribe("fresh", ["jobs/"], { snapshot: true });
    const peer = await edge.welcome();
    await peer.subscribed();
    const fresh = await peer.command();
    peer.send({ reply: { id: fresh.id, subscribed: { topics: ["jobs/"] } } });
    peer.event({ topic: "jobs/old", snapshot: true, text: "x" });
    peer.send({ caught_up: { id: fresh.id } });
    peer.event({ topic: "jobs/older", snapshot: true, text: "for another one" });
    peer.event({ topic: "jobs/new", text: "x" });
    await seen("event", 2, "fresh");
    assert.deepEqual(await topics("fresh"), ["jobs/old", "jobs/new"]);
    assert.deepEqual(await topics("live"), ["jobs/new"]);
  });

  scenario("is an iterator with a bounded buffer that counts what it drops", async ({ edge, rig, logged }) => {
    await rig.queue("jobs", ["jobs/"], { queueMax: 3 });
    const peer = await edge.welcome();
    await peer.subscribed();
    for (let n = 0; n < 10; n += 1) peer.event({ topic: "jobs/1", text: `${n}` });
    await flush(peer, rig);
    assert.equal((await rig.of("jobs")).dropped, 7);
    assert.deepEqual((await logged("loss")).map(({ loss }) => loss), Array(7).fill({ cause: "slow_reader", count: 1 }));
    const texts = [];
    for (let n = 0; n < 3; n += 1) texts.push((await rig.read("jobs")).text);
    assert.deepEqual(texts, ["7", "8", "9"]);
    const waiting = rig.read("jobs");
    peer.event({ topic: "jobs/1", text: "live" });
    assert.equal((await waiting).text, "live");
    await rig.close();
    assert.equal(await rig.read("jobs"), "end");
  });

  scenario("unsubscribes when its loop is left", async ({ edge, rig }) => {
    await rig.queue("jobs", ["jobs/"]);
    const peer = await edge.welcome();
    await peer.subscribed();
    for (const text of ["1", "2", "3"]) peer.event({ topic: "jobs/1", text });
    assert.deepEqual((await rig.loop("jobs", 2)).map(({ text }) => text), ["1", "2"]);
    assert.deepEqual((await peer.command()).unsubscribe, { topics: ["jobs/"] });
  });

  scenario("survives what it does not understand, and says what is wrong", async ({ edge, rig, seen, topics, logged }) => {
    await rig.subscribe("all", [""]);
    const peer = await edge.welcome();
    await peer.subscribed();
    peer.send({ tomorrow: { of: "a newer edge" } });
    peer.send({ reply: { id: 999, published: {} } });
    peer.send("{ not json");
    peer.send("null");
    peer.send(Buffer.from([1, 2, 3]));
    peer.send({ reply: { error: { code: "bad_request", reason: "whose?", retry: false } } });
    peer.event({ topic: "after", text: "x", tomorrow: true });
    await seen("event", 1, "all");
    assert.deepEqual(await topics("all"), ["after"]);
    assert.equal((await logged("error")).length, 4);
    assert.equal(await rig.state(), "open");
  });

  scenario("closes for good", async ({ edge, rig, seen }) => {
    await rig.subscribe("jobs", ["jobs/"]);
    const peer = await edge.welcome();
    await peer.subscribed();
    await rig.close();
    await until("the close", () => peer.closed);
    assert.equal(peer.closed.code, 1000);
    assert.equal((await seen("closed")).length, 1);
    assert.equal((await rig.of("jobs")).ended, true);
    assert.equal(edge.peers.length, 1);
  });

  scenario("closes while it waits", async ({ edge, rig, seen, logged }) => {
    (await edge.welcome()).cut();
    await seen("waiting");
    await rig.close();
    await seen("closed");
    const attempts = (await logged("connecting")).length;
    // Longer than the longest delay of the first window.
    const end = Date.now() + 200;
    await until("the time of an attempt", () => Date.now() > end);
    assert.equal((await logged("connecting")).length, attempts);
  });
}
