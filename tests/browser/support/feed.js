/** A feed like that of the demo: a few hosts, a few jobs, and the odd foreign message. */

const GIB = 1024 ** 3;

/** Messages that make a full page. `step` counts from 0; the same step gives the same messages. */
export function feed(step) {
  return [...host("atlas", step), ...host("build-2", step + 40), ...jobs(step), ...foreign(step)];
}

function host(name, step) {
  const wave = (period, low, high) => low + ((high - low) * (1 + Math.sin((2 * Math.PI * step) / period))) / 2;
  const event = (kind, gauges) => ({ topic: `system/${name}/${kind}`, id: `${name}-${kind}-${step}`, source: `publisher@${name}`, status: { gauges } });
  const used = wave(90, 9, 12.5) * GIB;
  return [
    event("cpu", { "cpu.percent": wave(37, 12, name === "atlas" ? 62 : 97) }),
    event("memory", { "memory.used_bytes": used, "memory.total_bytes": 16 * GIB, "memory.percent": (100 * used) / (16 * GIB) }),
    event("disk", { "disk.percent": 41.3, "disk.used_bytes": 206 * GIB, "disk.total_bytes": 499 * GIB }),
    event("network", { "network.received_bytes_per_s": wave(23, 4e4, 3.1e6), "network.sent_bytes_per_s": wave(31, 2e4, 9e5) }),
    event("load", { "load.1m": wave(60, 0.4, 3.2) }),
  ];
}

function jobs(step) {
  const progress = (job, done, total, unit, state) => ({ topic: `jobs/${job}`, source: "publisher@atlas", progress: { job, done, total, unit, state } });
  return [
    progress("render-intro", Math.min(240, 20 + step), 240, "frames", step < 220 ? "running" : "done"),
    progress("import-2026-03", Math.min(18_400, 900 + step * 61), 18_400, "rows", "running"),
    progress("train-detector", Math.min(40, 2 + Math.floor(step / 6)), 40, "epochs", "running"),
    progress("scan-archive", 100 + step * 3, 0, "files", "running"),
    ...(step === 3 ? [progress("nightly-backup", 512, 512, "GB", "done"), progress("deploy-staging", 7, 12, "steps", "failed")] : []),
  ];
}

function foreign(step) {
  const height = 874_201 + Math.floor(step / 20);
  return [
    { topic: "chat/7", data: { from: step % 2 ? "ada" : "grace", text: "the bridge is up", n: step } },
    { topic: "hashblock", parts: [{ base64: Buffer.from(`${height}`.padStart(32, "0")).toString("base64") }, { base64: "AQAAAA==" }] },
    { topic: "weather/10001", text: `10001 ${61 + (step % 9)} ${40 + (step % 20)}` },
    { topic_base64: Buffer.from([0x66, 0xff, 0x00, 0x2f, 0x61]).toString("base64"), base64: Buffer.from([step & 255, 1, 2, 250]).toString("base64") },
    { text: `a single frame, ${step}` },
  ];
}
