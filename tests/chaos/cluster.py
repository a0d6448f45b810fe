"""A forwarder and edges as processes that are killed and started again at their old addresses."""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

DEADLINE_S = 30.0
LOOK_S = 0.05


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """One process; what it logs goes into a file."""

    def __init__(self, name: str, folder: Path, args: list[str], metrics: int):
        self.name = name
        self.log = folder / f"{name}.log"
        self.n_kills = 0
        program = "trestle-forwarder" if name == "forwarder" else "trestle-edge"
        self._command = [Path(os.environ["TRESTLE_BIN_DIR"]) / program, *args, "--metrics", f"127.0.0.1:{metrics}"]
        self._metrics = metrics
        self._child: subprocess.Popen | None = None

    def start(self) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TRESTLE_")}
        with self.log.open("a") as log:
            self._child = subprocess.Popen(self._command, env=clean | {"NO_COLOR": "1"}, stdin=subprocess.DEVNULL, stderr=log)

    def kill(self) -> None:
        """As the kernel does when memory is short: nothing is said, nothing is flushed."""
        assert self._child.poll() is None, f"{self.name} has ended by itself: {self.log}"
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()
        self.n_kills += 1

    def stop(self) -> None:
        if self._child and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()

    def until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/readyz", timeout=1):
                    return
            except (urllib.error.URLError, OSError) as error:
                assert time.monotonic() < deadline, f"{self.name} is not ready: {error}; see {self.log}"
                assert self._child.poll() is None, f"{self.name} has ended; see {self.log}"
            threading.Event().wait(LOOK_S)


class Cluster:
    """All of them."""

    # Clients come without TLS.
    tls = None

    def __init__(self, folder: Path, n_edges: int, data: bool):
        ports = {name: free_port() for name in ("frontend", "backend", "link", "grpc")}
        self.frontend = f"tcp://127.0.0.1:{ports['frontend']}"
        flags = [word for name, port in ports.items() for word in (f"--{name}", f"127.0.0.1:{port}")]
        flags += ["--data", str(folder / "data")] if data else []
        self.forwarder = Program("forwarder", folder, flags, free_port())
        upstream = ["--link", f"tcp://127.0.0.1:{ports['link']}", "--recorder", f"http://127.0.0.1:{ports['grpc']}"]
        self.edges, self.urls = [], []
        for nth in range(1, n_edges + 1):
            listen = free_port()
            own = ["--listen", f"127.0.0.1:{listen}", "--control", f"127.0.0.1:{free_port()}"]
            self.edges.append(Program(f"edge-{nth}", folder, own + upstream, free_port()))
            self.urls.append(f"ws://127.0.0.1:{listen}/ws")

    @property
    def programs(self) -> list[Program]:
        return [self.forwarder, *self.edges]

    def start(self) -> None:
        for program in self.programs:
            program.start()
        for program in self.programs:
            program.until_ready()

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.stop()
