/** docs/recipes/salt.md: the events of a real Salt master, packed by Salt, as jobs on a page. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { startChromium } from "../browser/support/chromium.js";
import { Document } from "./support/document.js";
import { keepFrames, kept } from "./support/frames.js";
import { Kitchen } from "./support/kitchen.js";

/** Where the master's bus is, in the folder that its configuration names. */
const BUS = "salt/var/run/salt/master/master_event_pub.ipc";
/** The number that Salt gives to a job. */
const JOB = /\d{20}/g;

let chromium;
before(async () => (chromium = await startChromium()));
after(() => chromium?.close());

test("a job of a master is on the page as it begins and ends, and what it returns stays there", async () => {
  const kitchen = await Kitchen.open("salt");
  try {
    kitchen.start("master");
    await kitchen.until("the master's bus", () => existsSync(kitchen.path(BUS)));
    const events = kitchen.start("events");
    await events.logged(/listening to/);
    await kitchen.edge("edge");
    const upstream = () => kitchen.metric(9100, "trestle_edge_upstream_connections");
    await kitchen.until("the edge at the publisher", async () => (await upstream()) === 1);
    const { page, faults } = await kitchen.page(chromium, "salt.html");
    await keepFrames(page, `ws://127.0.0.1:${kitchen.port(8080)}/ws?topic=salt/`);
    await kitchen.subscribed(3);

    await kitchen.start("job").finished();
    const jobs = page.locator("#jobs li");
    await kitchen.until("a job's two events", async () => (await jobs.count()) >= 2);
    const shown = (await jobs.allTextContents()).toReversed();
    const [job] = shown[0].match(JOB);
    assert.deepEqual(shown, kitchen.text("shown").trim().replaceAll(JOB, job).split("\n"));

    const ends = async () => (await kept(page)).find((text) => text.includes(`"salt/run/${job}/ret"`));
    const { data } = JSON.parse(await kitchen.until("the end of the job", ends)).event;
    assert.deepEqual([data.fun, data.jid, data.success], ["runner.test.arg", job, true]);
    assert.ok(!("return" in data) && !JSON.stringify(data).includes("hello"), JSON.stringify(data));
    assert.deepEqual(faults, []);
    await page.close();
  } finally {
    await kitchen.close();
  }
});

test("nothing in the recipe is untried", () => {
  assert.deepEqual(Document.of("salt").unused, []);
});
