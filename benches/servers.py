"""The servers under test: what they are, and how one is started and ended."""

import os
import shutil
import signal
import socket
import subprocess
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

READY_S = 20
STOP_S = 5


@dataclass
class Server:
    """One definition: a table of servers.toml, or a peer's server.toml."""

    name: str
    title: str
    what: str
    start: list[str]
    url: str
    publish: list[str]
    clients: list[str]
    version: str = ""
    config: str | None = None
    ingest_listens: bool = False
    # Fills @HERE@ and @DIR@.
    places: dict[str, str] = field(default_factory=dict)


def own(version: str, warp: str) -> list[Server]:
    with open(HERE / "servers.toml", "rb") as file:
        tables = tomllib.load(file)
    versions = {"warp": warp}
    return [Server(name=name, version=versions.get(name, version), **table) for name, table in tables.items()]


def peers(target: Path) -> tuple[list[Server], dict[str, str]]:
    """Installs the peers; those that can be measured here, and why the others cannot."""
    found, skipped = [], {}
    for definition in sorted((HERE / "peers").glob("*/server.toml")):
        name, folder = definition.parent.name, target / "peers" / definition.parent.name
        print(f"installing {name}", flush=True)
        done = subprocess.run([definition.parent / "install", folder], capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()
            skipped[name] = said[-1]
            print(f"  skipped: {said[-1]}", flush=True)
            continue
        with open(definition, "rb") as file:
            table = tomllib.load(file)
        version = (folder / "version").read_text().strip()
        places = {"HERE": str(definition.parent), "DIR": str(folder)}
        found.append(Server(name=name, version=version, places=places, **table))
    return found, skipped


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """A server at work, with ports of its own; ends when the `with` block does."""

    def __init__(self, server: Server, binaries: Path, scratch: Path, core: int | None):
        self.server = server
        self.log_path = scratch / f"{server.name}.log"
        self.scratch = scratch / server.name
        self.core = core
        self.words = {
            "BIN": str(binaries),
            "PORT": str(free_port()),
            "INGEST": str(free_port()),
            "RUN": str(self.scratch),
            "CONFIG": str(self.scratch / (server.config or "none")),
            **server.places,
        }

    def fill(self, text: str) -> str:
        for word, value in self.words.items():
            text = text.replace(f"@{word}@", value)
        return text

    def __enter__(self) -> "Running":
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        if self.server.config:
            config = Path(self.words["HERE"], self.server.config).read_text()
            Path(self.words["CONFIG"]).write_text(self.fill(config))

        def pin() -> None:
            if self.core is not None:
                os.sched_setaffinity(0, {self.core})

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.fill(word) for word in self.server.start],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=pin,
            )
        try:
            ports = ["PORT"] + ["INGEST"] * self.server.ingest_listens
            for port in ports:
                self.wait_for(int(self.words[port]))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, port: int) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.server.name} ended with {self.process.returncode}: see {self.log_path}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.server.name} does not listen: see {self.log_path}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        """Ends the process and whatever is left of its group, which is ours alone."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
