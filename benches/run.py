"""Runs every server through every workload and writes one JSON line a run. `scripts/bench` builds and calls it.

Repetitions are the outermost loop and a workload takes all servers one after the other, so that a machine that gets slower
does so for all of them; who begins changes with each repetition.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers
from results import is_disturbed
from servers import ROOT, Running, Server
from workloads import WORKLOADS, Workload, kept

# A disturbed run is repeated at most so often.
REPEATS_MAX = 2
RUN_S_MAX = 180
# Beside the clients' sockets: listeners, logs, ØMQ.
FILES_BESIDE = 500


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def first(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else "unknown"


def machine() -> dict:
    """What the figures depend on besides the programs."""
    virtual = "hypervisor" in first(r"^flags\s*: (.*)$", "/proc/cpuinfo")
    memory_kib = first(r"^MemTotal:\s*(\d+)", "/proc/meminfo")
    return {
        "cpu": first(r"^model name\s*: (.*)$", "/proc/cpuinfo"),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": virtual,
        "memory_gib": round(int(memory_kib) / 2**20) if memory_kib.isdigit() else None,
        "kernel": platform.release(),
        "system": first(r'^PRETTY_NAME="(.*)"$', "/etc/os-release"),
        "rust": output("rustc", "--version").removeprefix("rustc "),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def cores() -> tuple[int | None, int | None]:
    """The server's and the client's core; none where there are not two."""
    mine = sorted(os.sched_getaffinity(0))
    return (mine[0], mine[1]) if len(mine) > 1 else (None, None)


def busy_s() -> tuple[float, float]:
    """CPU that all programs, and our ended children with theirs, have used so far, seconds."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Without idle and waiting for disks.
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), used.ru_utime + used.ru_stime


def others_share(before: tuple[float, float], seconds: float) -> float:
    """Of all cores' time, what programs used that are no part of the measurement."""
    machine, ours = (now - then for now, then in zip(busy_s(), before))
    return max(0.0, round((machine - ours) / seconds / os.cpu_count(), 3))


def measure(server: Server, call: list[str], publishes: bool, binaries: Path, scratch: Path) -> dict:
    """One run: the figures, or what went wrong."""
    server_core, client_core = cores()
    try:
        with Running(server, binaries, scratch, server_core) as running:
            command = [str(binaries / "trestle"), "bench", *call, "--json", "--url", server.url, *server.clients]
            command += server.publish if publishes else []
            command += ["--server-pid", str(running.process.pid)]
            command += ["--cpu", str(client_core)] if client_core is not None else []
            command = [running.fill(word) for word in command]
            done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX)
    except subprocess.TimeoutExpired:
        return {"error": f"the load generator was not done after {RUN_S_MAX} s"}
    except RuntimeError as error:
        return {"error": str(error)}
    try:
        return kept(json.loads(done.stdout)["runs"][0])
    except (json.JSONDecodeError, KeyError, IndexError):
        return {"error": f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"}


def line_of(figures: dict) -> str:
    """A run for whoever watches."""
    if "error" in figures:
        return f"ERROR {figures['error']} {figures.get('log', '').strip()[-300:]}"
    words = []
    for name, form in [
        ("deliveries_per_s", "{:,.0f} deliveries/s"), ("cpu_us", "{:.2f} µs CPU each"), ("p99_us", "p99 {:,.0f} µs"),
        ("lost", "lost {:.0f}"), ("handshakes_per_s", "{:,.0f} handshakes/s"), ("rss_kib", "{:.2f} KiB a client"),
    ]:
        if figures.get(name) is not None and (name != "lost" or figures[name]):
            words.append(form.format(figures[name]))
    words += ["client-limited"] if figures.get("client_limited") else []
    return ", ".join(words)


def sweep(name: str, workload: Workload, chosen: list[Server], rep: int, args: argparse.Namespace, write) -> None:
    """One workload through all servers once."""
    turn = rep % len(chosen)
    for server in chosen[turn:] + chosen[:turn]:
        for attempt in range(1 + REPEATS_MAX):
            began, before = time.time(), busy_s()
            call = workload.quick if args.quick else workload.call
            with tempfile.TemporaryDirectory(prefix="trestle-bench-") as scratch:
                figures = measure(server, call, workload.publishes, args.binaries, Path(scratch))
                if "error" in figures and (log := Path(scratch, f"{server.name}.log")).exists():
                    figures["log"] = log.read_text(errors="replace")[-500:]
            figures["others"] = others_share(before, time.time() - began)
            disturbed = is_disturbed(figures)
            write({"server": server.name, "workload": name, "rep": rep, "attempt": attempt, "unix_time_s": int(began), **figures})
            taken = f"{figures.get('steal', 0):.0%} stolen, {figures['others']:.0%} used by others"
            mark = f"  [disturbed: {taken}]" if disturbed else ""
            print(f"{rep + 1}  {name:8} {server.name:13} {line_of(figures)}{mark}", flush=True)
            if not disturbed:
                break


def forwarder(args: argparse.Namespace, write) -> None:
    """The forwarder's own bench, which interleaves it with libzmq's `zmq_proxy` by itself."""
    seconds = "1" if args.quick else "2"
    command = ["cargo", "bench", "--locked", "--quiet", "-p", "trestle-forwarder", "--bench", "proxy", "--",
               "--rounds", str(args.runs), "--seconds", seconds, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"forwarder: exit code {done.returncode}", flush=True)
        return
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            run = json.loads(line)
            write({"workload": "forwarder", **run})
            print(f"{run['rep'] + 1}  forwarder {run['server']:24} {run['messages_per_s']:,.0f} messages/s, "
                  f"{run['cpu_us']:.2f} µs CPU each", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, help="repetitions [default: 5, with --quick 1]")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a minute; its figures mean nothing")
    parser.add_argument("--peers", action="store_true", help="install and measure Bun, NATS and nchan as well")
    names = ", ".join([*WORKLOADS, "forwarder"])
    parser.add_argument("--workloads", metavar="NAME,…", help=f"only these of: {names}")
    parser.add_argument("--servers", metavar="NAME,…", help="only these of: floor, trestle, trestle-json, warp and peers")
    parser.add_argument("--output", type=Path, help="the file for the results [default: target/bench/TIME.jsonl]")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.binaries, args.target = args.binaries.resolve(), args.target.resolve()
    args.runs = args.runs or (1 if args.quick else 5)
    return args


def choose(all_of: list[str], wanted: str | None, what: str) -> list[str]:
    if wanted is None:
        return all_of
    names = wanted.split(",")
    for name in names:
        if name not in all_of:
            sys.exit(f"scripts/bench: no {what} '{name}' ({', '.join(all_of)})")
    return names


def main() -> None:
    args = arguments()
    wanted = choose([*WORKLOADS, "forwarder"], args.workloads, "workload")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    commit = output("git", "rev-parse", "--short=10", "HEAD") + ("+" if output("git", "status", "--porcelain") else "")
    lock = str(ROOT / "Cargo.lock")
    locked = {name: first(rf'name = "{name}"\nversion = "(.*)"', lock) for name in ["warp", "tokio", "zmq"]}
    all_servers = servers.own(f"commit {commit}", f"warp {locked['warp']}, tokio {locked['tokio']}")
    installed, skipped = servers.peers(args.target) if args.peers else ([], {})
    all_servers += installed
    names = choose([server.name for server in all_servers], args.servers, "server")
    chosen = [server for server in all_servers if server.name in names]

    header = {
        "machine": machine(), "commit": commit, "runs": args.runs, "quick": args.quick, "skipped": skipped,
        "pinned": cores() != (None, None), "unix_time_s": int(time.time()),
        "servers": {s.name: {"title": s.title, "what": s.what, "version": s.version} for s in chosen},
        "workloads": {name: w.title for name, w in WORKLOADS.items() if name in wanted},
        "calls": {name: (w.quick if args.quick else w.call) for name, w in WORKLOADS.items() if name in wanted},
    }
    here = header["machine"]
    print(f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB, kernel {here['kernel']}, "
          f"{here['system']}, {here['rust']}")
    for server in chosen:
        print(f"  {server.name:13} {server.version}: {server.what}")
    if not header["pinned"]:
        print("one core only: servers and client share it, and no figure means much")
    if here["load_1min"] > 0.5:
        print(f"the machine is not quiet: load {here['load_1min']}")

    with open(args.output, "w", encoding="utf-8") as file:
        def write(line: dict) -> None:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()

        write(header)
        for name in [name for name in wanted if name in WORKLOADS]:
            if not args.quick and WORKLOADS[name].clients + FILES_BESIDE > hard:
                print(f"{name}: skipped, {hard} open files are too few (ulimit -n)")
                wanted.remove(name)
        for rep in range(args.runs):
            for name in wanted:
                if name in WORKLOADS:
                    sweep(name, WORKLOADS[name], chosen, rep, args, write)
        if "forwarder" in wanted:
            forwarder(args, write)
    print(f"\nresults: {args.output}", flush=True)


if __name__ == "__main__":
    main()
