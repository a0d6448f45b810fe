/** What happens to a page that stays open: cuts, no network, sleep, a tab that stands still, other edges. Through nginx, in Chromium. Run by ./run. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { until } from "../browser/support/wait.js";
import { load, startChromium } from "./clients.js";
import { Cluster } from "./cluster.js";
import { Cutter } from "./cutter.js";

const MINUTE_MS = 60_000;
const START_MS = 30 * MINUTE_MS; // with --from-source the images are compiled
const CUTS = 200;
const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 32);

let cluster;
let browser;
let cutter;
let context;
let page;

before(async () => {
  cluster = await Cluster.start({ edges: 2, settings: () => ({ COMPOSE_PROJECT_NAME: `${process.env.COMPOSE_PROJECT_NAME}-page` }) });
  browser = await startChromium();
  console.log(`# SEED=${SEED}`);
}, { timeout: START_MS });

after(async () => {
  await browser?.close();
  await cluster?.compose("down", "--volumes", "--rmi", "local", "--timeout", "5");
}, { timeout: MINUTE_MS });

beforeEach(async () => {
  cutter = await Cutter.start(cluster.ports.https, SEED);
  context = await browser.newContext({ ignoreHTTPSErrors: true });
  page = await context.newPage();
});

afterEach(async () => {
  await context.close();
  cutter.close();
});

/** Opens the page and has it keep a record of `topic` by a client for each of `clients`' options. */
async function record(topic, clients) {
  await load(page, `https://trestle.test:${cutter.port}/`);
  await page.evaluate(async ({ topic, clients }) => {
    // Something for a debugger to stop at.
    setInterval(() => {}, 20);
    const { connect } = await import("/client.js");
    globalThis.records = await Promise.all(clients.map(async (options) => {
      const client = connect("/ws", options);
      const record = { client, numbers: [], losses: [], states: [] };
      for (const state of ["open", "waiting", "closed"]) {
        client.addEventListener(state, ({ detail }) => record.states.push({ state, code: detail.code, offline: detail.offline }));
      }
      const onEvent = ({ text, bytes }) => record.numbers.push(Number(text ?? new TextDecoder().decode(bytes)));
      await client.subscribe(topic, { onEvent, onGap: (loss) => record.losses.push(loss) }).ready;
      return record;
    }));
  }, { topic, clients });
}

/** What the page has seen so far, a record a client. */
const seen = () => page.evaluate(() => globalThis.records.map(({ client, numbers, losses, states }) => ({ now: client.state, numbers, losses, states })));

/** Until each client has seen the last number; then nothing is missing, comes twice, or is in another's place. */
async function sawAll(last) {
  const have = () => page.evaluate(() => globalThis.records.map(({ numbers }) => numbers.at(-1) ?? 0));
  await until(`${last} at each client`, async () => (await have()).every((number) => number >= last), MINUTE_MS).catch(async (error) => {
    throw new Error(`${error.message}; they have ${await have()}; SEED=${SEED}`);
  });
  const all = Array.from({ length: last }, (_, index) => index + 1);
  for (const { numbers, losses } of await seen()) {
    assert.deepEqual(losses, []);
    assert.deepEqual(numbers, all);
  }
}

const count = (records, state) => records.flatMap(({ states }) => states).filter((entry) => entry.state === state).length;

test(`${CUTS} cuts at random while all edges are replaced: nothing is missed, repeated or swapped`, { timeout: 5 * MINUTE_MS }, async () => {
  const quick = { reconnectMinMs: 20, reconnectMaxMs: 200 };
  await record("cuts/", [quick, quick, { ...quick, format: "binary" }, { ...quick, format: "binary" }]);
  const counting = cluster.count("cuts/1", 5);
  const [loadedWith, started] = [cutter.cuts, Date.now()];
  cutter.cutWithin(1_000);
  const rolled = cluster.roll();
  await until(`${CUTS} cuts`, () => cutter.cuts - loadedWith >= CUTS, 3 * MINUTE_MS);
  const { code, said } = await rolled;
  assert.equal(code, 0, said);
  cutter.cutWithin(0);
  const last = await counting.stop();
  await sawAll(last);
  const records = await seen();
  console.log(`# ${last} messages to 4 clients, ${cutter.cuts - loadedWith} cuts, ${count(records, "open")} reconnects in ${Date.now() - started} ms`);
  assert.ok(count(records, "open") >= CUTS / 2, "most cuts met who had come in");
});

test("without a network it waits, and with one it is back at once with what it missed", { timeout: 2 * MINUTE_MS }, async () => {
  await record("offline/", [{}]);
  await cluster.publish("offline/1", ["1", "2"], "--raw");
  await until("the first", async () => (await seen())[0].numbers.length === 2);
  await context.setOffline(true);
  cutter.cut();
  await until("the wait", async () => (await seen())[0].now === "waiting");
  const [{ states }] = await seen();
  assert.equal(states.at(-1).offline, true);
  await cluster.publish("offline/1", ["3", "4"], "--raw");
  assert.equal((await seen())[0].now, "waiting");

  const online = Date.now();
  await context.setOffline(false);
  await sawAll(4);
  // Offline it would have waited for twenty seconds.
  console.log(`# back within ${Date.now() - online} ms`);
});

test("a laptop that slept comes back to what it missed", { timeout: 2 * MINUTE_MS }, async () => {
  await page.clock.install();
  await record("sleep/", [{}, { format: "binary" }]);
  await cluster.publish("sleep/1", ["1", "2"], "--raw");
  await until("the first", async () => (await seen()).every(({ numbers }) => numbers.length === 2));
  // Asleep, it answers nothing, and is told nothing of the end.
  cutter.silence();
  await cluster.publish("sleep/1", ["3", "4"], "--raw");
  assert.deepEqual((await seen()).map(({ now }) => now), ["open", "open"]);
  await page.clock.fastForward("08:00:00");
  await until("the wait", async () => count(await seen(), "waiting") === 2);
  await page.clock.runFor(30_000);
  await sawAll(4);
});

// As of a tab in the background that the browser has frozen, which no headless one does by itself.
test("a tab whose scripts stood still has it all once they go on", { timeout: 2 * MINUTE_MS }, async () => {
  await record("frozen/", [{}, { format: "binary" }]);
  const session = await context.newCDPSession(page);
  const paused = new Promise((resolve) => session.once("Debugger.paused", resolve));
  await session.send("Debugger.enable");
  await session.send("Debugger.pause");
  await paused;
  const lines = Array.from({ length: 20_000 }, (_, index) => `${index + 1}`);
  await cluster.publish("frozen/1", lines, "--raw");
  await session.send("Debugger.resume");
  await sawAll(lines.length);
});
