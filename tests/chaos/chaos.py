"""Kills the forwarder and edges in turn under load, and judges what every client saw. `scripts/chaos` runs it."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import containers
import history
from clients import Client
from cluster import Cluster
from feed import Feed
from record import Verdict

N_TOPICS = 50
# Of the clients so many follow everything, the others a topic each.
N_FOLLOW_ALL = 3
# Between a kill and the start, seconds.
DEAD_S = (0.1, 1.5)
# Whatever is on its way at the end arrives within this, seconds.
SETTLE_S = 60.0
FAULTS_SHOWN = 20
# How long everybody may take for a message of each topic before they are given another, seconds.
ROUND_S = 5.0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long things are killed [default: 60]")
    parser.add_argument("--clients", type=int, default=300, help="clients that come and go [default: 300]")
    parser.add_argument("--rate", type=int, default=2_000, help="messages a second [default: 2000]")
    parser.add_argument("--edges", type=int, default=2, help="edges [default: 2]")
    parser.add_argument("--every", type=float, default=5, help="seconds between two kills [default: 5]")
    parser.add_argument("--seed", type=int, default=None, help="of all choices [default: by the clock]")
    parser.add_argument("--data", action="store_true", help="the forwarder keeps its history on disk")
    parser.add_argument("--compose", action="store_true", help="containers of the compose cluster, which has a data volume")
    parser.add_argument("--spare-forwarder", action="store_true", help="kill edges only")
    options = parser.parse_args()
    options.data |= options.compose
    return options


async def wreak(cluster: Cluster, options: argparse.Namespace, choices: random.Random) -> None:
    """Kills one after the other, each started again before the next dies."""
    victims = cluster.edges if options.spare_forwarder else cluster.programs
    end, nth = time.monotonic() + options.seconds, 0
    while time.monotonic() < end:
        await asyncio.sleep(options.every)
        victim = victims[nth % len(victims)]
        nth += 1
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(choices.uniform(*DEAD_S))
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(victim.until_ready)


async def settle(feed: Feed, clients: list[Client]) -> list[str]:
    """Waits until everybody has the last message of each topic; names those who have not."""
    for client in clients:
        client.stays = True
    feed.stop()
    deadline = time.monotonic() + SETTLE_S
    while True:
        # One more each: the last before it may have gone to a forwarder that was dead, where it is nobody's.
        for topic in feed.sent:
            feed.send(topic)
        round_ends = time.monotonic() + ROUND_S
        while behind := [client.record.name for client in clients if not has_all(client, feed.sent)]:
            if time.monotonic() > deadline:
                return behind
            if time.monotonic() > round_ends:
                break
            await asyncio.sleep(0.2)
        else:
            return []


def has_all(client: Client, sent: dict[str, int]) -> bool:
    """Whether it has the last message of each topic that it follows."""
    return all(client.record.has(topic, n) for topic, n in sent.items() if topic.startswith(client.prefix))


def show(rows: list[tuple[str, object]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:{width}}  {value:,}" if isinstance(value, int) else f"  {name:{width}}  {value}")


async def run(options: argparse.Namespace) -> bool:
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    choices = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="trestle-chaos-"))
    print(f"seed {seed}, logs in {folder} (kept if there is a fault)", flush=True)
    topics = [f"c/{nth:02}" for nth in range(N_TOPICS)]
    if options.compose:
        cluster = containers.Cluster(folder, options.edges)
    else:
        cluster = Cluster(folder, options.edges, options.data)
    clients = []
    for nth in range(options.clients):
        prefix = "c/" if nth < N_FOLLOW_ALL else choices.choice(topics)
        clients.append(Client(f"client {nth}", prefix, cluster.urls, cluster.tls, choices.randrange(1 << 30)))
    try:
        cluster.start()
        feed = Feed(cluster.frontend, topics, options.rate)
        tasks = [asyncio.create_task(client.run()) for client in clients]
        await wreak(cluster, options, choices)
        behind = await settle(feed, clients)
        positions = [client.position for client in clients]
        recorded = await history.recorded(cluster.urls[0], cluster.tls, positions) if options.data else None
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        cluster.stop()
    failed = [error for error in ended if not isinstance(error, asyncio.CancelledError)]

    total = Verdict()
    for client in clients:
        total.add(client.record.judge(recorded))
    show(
        [
            ("messages published", feed.n_sent),
            *([("messages recorded", sum(map(len, recorded.values())))] if recorded else []),
            ("events received", total.events),
            ("of those replayed", total.replayed),
            ("connections made", sum(client.n_connections for client in clients)),
            ("attempts refused", sum(client.n_refused for client in clients)),
            *((f"kills of {program.name}", program.n_kills) for program in cluster.programs),
            *((f"told: {cause}", count) for cause, count in sorted(total.told.items())),
            ("missing, and told", total.missing_told),
            ("missing, and NOT told", total.missing_untold),
            ("on the way to a killed forwarder", total.never_recorded),
            ("begun anew, as told", total.begun_anew),
            ("duplicates", total.duplicates),
            ("out of order", total.out_of_order),
            ("clients that did not get the end", len(behind)),
        ]
    )
    for fault in total.faults[:FAULTS_SHOWN]:
        print(f"  {fault}")
    for error in failed[:FAULTS_SHOWN]:
        print(f"  a client failed: {error!r}")
    is_clean = total.is_clean and not behind and not failed
    if is_clean:
        # Logs are for who looks for a fault.
        shutil.rmtree(folder)
    return is_clean


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(run(parse())) else 1)
