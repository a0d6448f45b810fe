"""The compose cluster, whose containers are killed and started again. `tests/compose/run --chaos` says which project."""

import json
import os
import ssl
import subprocess
import threading
import time
from pathlib import Path

from cluster import LOOK_S, free_port

DEADLINE_S = 120.0


def docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"docker {' '.join(args)}: {done.stdout}{done.stderr}"
    return done.stdout


class Container:
    """One of them, the same over all its lives."""

    def __init__(self, name: str, identity: str):
        self.name = name
        self.n_kills = 0
        self._identity = identity

    def kill(self) -> None:
        assert self._state()["Running"], f"{self.name} has ended by itself: docker logs {self._identity}"
        docker("kill", "--signal", "KILL", self._identity)
        self.n_kills += 1

    def start(self) -> None:
        docker("start", self._identity)

    def until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while (state := self._state()).get("Health", {}).get("Status") != "healthy":
            assert state["Running"], f"{self.name} has ended: docker logs {self._identity}"
            assert time.monotonic() < deadline, f"{self.name} is not healthy: {state}"
            threading.Event().wait(LOOK_S)

    def _state(self) -> dict:
        return json.loads(docker("inspect", "--format", "{{json .State}}", self._identity))


class Cluster:
    """All of them; clients come through nginx, with TLS."""

    def __init__(self, folder: Path, n_edges: int):
        self._folder = folder
        self._n_edges = n_edges
        ports = {name: free_port() for name in ("HTTPS", "HTTP", "FRONTEND", "BACKEND")}
        os.environ.update({f"TRESTLE_{name}_PORT": f"127.0.0.1:{port}" for name, port in ports.items()})
        self.frontend = f"tcp://127.0.0.1:{ports['FRONTEND']}"
        self.urls = [f"wss://localhost:{ports['HTTPS']}/ws"]
        # The certificate was made by the cluster itself, a moment ago.
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.edges: list[Container] = []
        self.programs: list[Container] = []

    def start(self) -> None:
        compose = ("compose", "--progress", "quiet")
        docker(*compose, "up", "--detach", "--build", "--scale", f"edge={self._n_edges}", "nginx")
        edges = docker(*compose, "ps", "--quiet", "edge").split()
        self.edges = [Container(f"edge-{nth}", edge) for nth, edge in enumerate(edges, 1)]
        forwarder = docker(*compose, "ps", "--quiet", "forwarder").strip()
        nginx = docker(*compose, "ps", "--quiet", "nginx").strip()
        self.programs = [Container("forwarder", forwarder), *self.edges]
        for container in [*self.programs, Container("nginx", nginx)]:
            container.until_ready()

    def stop(self) -> None:
        """Whoever made the project takes it down; what it said is kept."""
        (self._folder / "compose.log").write_text(docker("compose", "logs", "--no-color", "--timestamps"))
