"""Tables and chart of a results file.

    report.py [FILE]            prints all tables (default: benches/results.jsonl)
    report.py [FILE] --update   writes README.md's table, those of docs/benchmarks.md, and docs/bench.svg
    report.py --check           fails where these are not what benches/results.jsonl gives
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median

import chart
from results import FLOOR, OTHERS_MAX, STEAL_MAX, Results, Spread
from servers import HERE, ROOT

BEGIN, END = "<!-- bench: made by scripts/bench -->", "<!-- bench: end -->"
COMMITTED = HERE / "results.jsonl"


def number(value: float) -> str:
    """Three digits that mean something."""
    for unit, name in [(1e6, " M"), (1e3, " k")]:
        if abs(value) >= unit * (10 if unit == 1e3 else 1):
            return number(value / unit) + name
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:.0f}" if abs(value) >= 100 or value == 0 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ends(of: Spread) -> str:
    return f"{number(of.least)}–{number(of.most)}"


# ── README: a row a measure, a column a server ──

def ms(figure: str):
    return lambda run: run[figure] / 1000 if figure in run else None


MEASURES = [
    ("**deliveries/s**, 1,000 clients, none lost ↑", "fanout", "deliveries_per_s"),
    ("**CPU µs a delivery**, the same ↓", "fanout", "cpu_us"),
    ("**CPU µs a delivery**, 1,000 clients, 50 messages/s ↓", "latency", "cpu_us"),
    ("**p99 ms** from publish to client, the same ↓", "latency", ms("p99_us")),
    ("**CPU µs a delivery**, 10,000 clients, 10 messages/s ↓", "large", "cpu_us"),
    ("**deliveries/s**, 1,000 clients with a topic each ↑", "topics", "deliveries_per_s"),
    ("**RSS KiB an idle client**, 10,000 clients ↓", "idle", "rss_kib"),
    ("**CPU µs a handshake**, 10,000 clients at once ↓", "storm", "handshake_cpu_us"),
]


def brief(results: Results) -> list[str]:
    servers = results.servers
    lines = ["| | " + " | ".join(servers[name]["title"] for name in servers) + " |"]
    lines.append("| --- |" + " ---: |" * len(servers))
    for label, workload, figure in MEASURES:
        cells = []
        for server in servers:
            of, ratio = results.of(server, workload, figure), results.ratio(server, workload, figure)
            if of is None:
                cells.append("–")
                continue
            mark = "†" if (server, workload) in results.doubtful else ""
            mark += "‡" if figure == "deliveries_per_s" and results.share(server, workload, "client_limited") else ""
            cell = f"**{number(of.middle)}**{mark}<br><sub>{ends(of)}</sub>"
            cell += f"<br>{number(ratio.middle)} ×" if ratio and server != FLOOR and workload != "idle" else ""
            cells.append(cell)
        if any(cell != "–" for cell in cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def counted(results: Results) -> str:
    """How many runs stand behind a figure."""
    numbers = {len(runs) for (_, workload), runs in results.runs.items() if workload in results.header["workloads"]}
    return f"{min(numbers)} to {max(numbers)}" if len(numbers) > 1 else str(max(numbers, default=0))


def notes(results: Results) -> list[str]:
    header, here = results.header, results.header["machine"]
    day = time.strftime("%Y-%m-%d", time.gmtime(header["unix_time_s"]))
    memory = f", {here['memory_gib']} GiB" if here["memory_gib"] else ""
    lines = [
        f"Median and (small) the least and the greatest of {counted(results)} interleaved runs; × is the median of the ratios to "
        f"the floor, run by run. ↑ more is better, ↓ less. {day}, commit {header['commit']}; {here['cpu']}, "
        f"{here['cores']} {'virtual ' if here['virtual'] else ''}cores{memory}, kernel {here['kernel']}, {here['system']}, "
        f"Rust {here['rust'].split()[0]}; "
        + ("server on one core, clients and publisher on another" if header["pinned"] else "nothing pinned")
        + ", loopback, 128-byte bodies.",
    ]
    versions = {}
    for name, server in results.servers.items():
        versions.setdefault(server["version"], server["title"])
    lines.append("Versions: " + "; ".join(v for v in versions if not v.startswith("commit")) + "." if len(versions) > 1 else "")
    if any("‡" in line for line in brief(results)):
        lines.append("‡ The load generator was at its limit: the server may do more.")
    if results.doubtful:
        lines.append("† Only runs in which the hypervisor or other programs took much of the machine's time.")
    for name, reason in header["skipped"].items():
        lines.append(f"Not measured: {name} ({reason}).")
    return [line for line in lines if line]


def forwarder(results: Results) -> list[str]:
    """The forwarder against zmq_proxy: a sentence each."""
    lines = []
    for ours, theirs, what in [
        ("forwarder, 5556", "zmq_proxy", "on 5556"),
        ("forwarder, 5557", "zmq_proxy, 27 bytes more", "on 5557, against `zmq_proxy` with a frame of 27 bytes more"),
    ]:
        rate, cpu = (results.ratio(ours, "forwarder", figure, theirs) for figure in ["messages_per_s", "cpu_us"])
        absolute = results.of(ours, "forwarder", "messages_per_s")
        if rate and cpu and absolute:
            lines.append(
                f"Forwarder ÷ libzmq's `zmq_proxy`, 4 subscribers {what}: messages/s **{rate.middle:.2f} ×** ({rate.least:.2f}–"
                f"{rate.most:.2f}), CPU a message {cpu.middle:.2f} × ({cpu.least:.2f}–{cpu.most:.2f}); "
                f"{number(absolute.middle)} messages/s."
            )
    return lines


def readme_section(results: Results) -> str:
    chart_line = "![Deliveries per CPU second, CPU, latency and memory by server](docs/bench.svg)"
    parts = [chart_line, "", *brief(results), ""]
    for note in [*forwarder(results), *notes(results)]:
        parts += [note, ""]
    return "\n".join(parts).rstrip()


# ── docs/benchmarks.md: a table a workload ──

PUBLISHING = [
    ("deliveries/s", "deliveries_per_s"), ("CPU µs a delivery", "cpu_us"), ("of it user", "user_us"),
    ("cores", "server_cores"), ("p50 ms", ms("p50_us")), ("p99 ms", ms("p99_us")), ("p99.9 ms", ms("p999_us")),
    ("last client p50 ms", ms("last_p50_us")), ("bytes a delivery", "wire_bytes"),
    ("TCP segments a delivery", "segments"), ("frames a read", "frames_per_read"), ("lost", "lost"),
    ("disconnected", "disconnected"), ("client's CPU µs", "client_cpu_us"), ("client's core", "client_share"),
]
CONNECTING = [
    ("RSS KiB a client", "rss_kib"), ("RSS MiB before", lambda run: run.get("rss_before_kib", 0) / 1024 or None),
    ("MiB at the end", lambda run: run.get("rss_end_kib", 0) / 1024 or None),
    ("MiB after all left once", lambda run: run.get("rss_after_first_kib", 0) / 1024 or None),
    ("MiB after the last storm", lambda run: run.get("rss_after_kib", 0) / 1024 or None),
    ("handshakes/s", "handshakes_per_s"), ("CPU µs a handshake", "handshake_cpu_us"),
    ("handshake p99 ms", ms("handshake_p99_us")), ("failed", "failed"), ("s until all are gone", "left_s"),
]
COLUMNS = {"idle": CONNECTING, "storm": CONNECTING}


def table(results: Results, workload: str) -> list[str]:
    columns = COLUMNS.get(workload, PUBLISHING)
    measured = [name for name in results.servers if (name, workload) in results.runs]
    columns = [(label, figure) for label, figure in columns
               if any(results.of(name, workload, figure) for name in measured)]
    paired = "cpu_us" if columns and workload not in COLUMNS else "handshake_cpu_us"
    lines = ["| | runs | CPU ÷ floor | " + " | ".join(label for label, _ in columns) + " |"]
    lines.append("| --- | ---: | ---: |" + " ---: |" * len(columns))
    for name in measured:
        ratio = results.ratio(name, workload, paired)
        cells = [f"{ratio.middle:.2f} ({ratio.least:.2f}–{ratio.most:.2f})" if ratio else "–"]
        for _, figure in columns:
            of = results.of(name, workload, figure)
            cells.append("–" if of is None else number(of.middle) if of.least == of.most
                         else f"**{number(of.middle)}** ({ends(of)})")
        mark = "†" if (name, workload) in results.doubtful else ""
        runs = len(results.runs[name, workload])
        lines.append(f"| {results.servers[name]['title']}{mark} | {runs} | " + " | ".join(cells) + " |")
    return lines


def full_section(results: Results) -> str:
    parts = []
    for workload, title in results.header["workloads"].items():
        call = " ".join(results.header["calls"][workload])
        parts += [f"### {title}", "", f"`trestle bench {call}`", "", *table(results, workload), ""]
    rows = forwarder(results)
    if rows:
        parts += ["### Forwarder", ""]
        for row in rows:
            parts += [row, ""]
    parts += ["### Servers", "", "| | version | |", "| --- | --- | --- |"]
    parts += [f"| {one['title']} | {one['version']} | {one['what']} |" for one in results.servers.values()]
    parts.append("")
    for note in notes(results):
        parts += [note, ""]
    parts += [disturbances(results), others(results), ""]
    for run in results.errors:
        parts += [f"Failed: {run['server']}, {run['workload']}, repetition {run['rep'] + 1}: {run['error']}.", ""]
    return "\n".join(parts).rstrip()


def disturbances(results: Results) -> str:
    if not results.disturbed:
        return "No run was disturbed, by the hypervisor or by other programs."
    counts = Counter(f"{run['workload']} of {run['server']}" for run in results.disturbed)
    named = [f"{name} ({count})" if count > 1 else name for name, count in counts.items()]
    return f"Disturbed were {len(results.disturbed)} runs: the hypervisor gave more than {STEAL_MAX:.0%} of all cores' time to " \
        f"others, or other programs here used more than {OTHERS_MAX:.0%}. They count only where there are no others: " \
        + ", ".join(named) + "."


def others(results: Results) -> str:
    """How quiet the machine was."""
    shares = [run["others"] for runs in results.runs.values() for run in runs.values() if "others" in run]
    if not shares:
        return ""
    return f"In the runs that count, other programs used {median(shares):.1%} of all cores' time (median; at most " \
        f"{max(shares):.0%})."


def with_section(text: str, section: str, path: Path) -> str:
    if BEGIN not in text or END not in text:
        sys.exit(f"{path} lacks the lines {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{section}\n{END}{rest.split(END, 1)[1]}"


def made_from(results: Results) -> dict[Path, str]:
    """All that is made from results, by the file that holds it."""
    files = {}
    for path, section in [(ROOT / "README.md", readme_section), (ROOT / "docs/benchmarks.md", full_section)]:
        files[path] = with_section(path.read_text(encoding="utf-8"), section(results), path)
    files[ROOT / "docs/bench.svg"] = chart.svg(results)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=COMMITTED)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    results = Results.read(args.file)
    if args.update:
        if results.header["quick"]:
            sys.exit("the figures of a --quick run mean nothing; README.md stays as it is")
        if args.file.resolve() != COMMITTED:
            COMMITTED.write_bytes(args.file.read_bytes())
        for path, text in made_from(results).items():
            path.write_text(text, encoding="utf-8")
    elif args.check:
        stale = [path for path, text in made_from(results).items() if path.read_text(encoding="utf-8") != text]
        if stale:
            sys.exit(f"not what {args.file.name} gives: {', '.join(map(str, stale))}; python3 benches/report.py --update")
    else:
        print(full_section(results))


if __name__ == "__main__":
    main()
