"""Trestle's processes on free ports, and what their logs say of them."""

import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

# Whatever a test waits for comes within this many seconds, or it fails.
DEADLINE_S = 20.0

# Longest wait between two looks at a condition, seconds.
LOOK_S = 0.02


class Process:
    """One program; its standard error is kept and can be waited for."""

    def __init__(self, name: str, *args: str):
        program = Path(os.environ["TRESTLE_BIN_DIR"]) / name
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TRESTLE_")}
        self.name = name
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._child = subprocess.Popen(
            [program, *args], env=clean | {"NO_COLOR": "1"}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._child.stderr:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def logged(self, pattern: str) -> str:
        """The first group of `pattern` in the first line that has it."""

        def found() -> re.Match | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._more:
            self._more.wait_for(lambda: found() or self._child.poll() is not None, DEADLINE_S)
            match = found()
        assert match, f"{self.name} logged no {pattern!r}:\n" + "\n".join(self.lines)
        return match.group(1)

    def stop(self) -> None:
        """Asks it to end by SIGTERM; it must do so cleanly."""
        self._child.terminate()
        try:
            code = self._child.wait(DEADLINE_S)
        finally:
            self._child.kill()
            self._child.wait()
            self._reader.join(DEADLINE_S)
            self._child.stderr.close()
        assert code == 0, f"{self.name} exited with {code}:\n" + "\n".join(self.lines)


class Forwarder(Process):
    """A forwarder with the classic pair of ports and the link."""

    def __init__(self, *args: str):
        ports = [word for flag in ("frontend", "backend", "link", "grpc", "metrics") for word in (f"--{flag}", "127.0.0.1:0")]
        super().__init__("trestle-forwarder", *ports, *args)
        endpoint = r"(tcp://127\.0\.0\.1:\d+)"
        self.frontend = self.logged(rf"publishers connect to {endpoint}")
        self.backend = self.logged(rf"subscribers to {endpoint}")
        self.link = self.logged(rf"edges to {endpoint}")
        self.grpc = self.logged(r"gRPC on (127\.0\.0\.1:\d+)")


class Edge(Process):
    """An edge that is ready."""

    def __init__(self, *upstream: str, listen: str = "127.0.0.1:0"):
        ports = [word for flag in ("control", "metrics") for word in (f"--{flag}", "127.0.0.1:0")]
        super().__init__("trestle-edge", "--listen", listen, *ports, *upstream)
        self.address = self.logged(r"listening.*?http://(127\.0\.0\.1:\d+)")
        self.private = self.logged(r"metrics on http://(127\.0\.0\.1:\d+)")
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.private}/readyz", timeout=DEADLINE_S):
                    return
            except urllib.error.HTTPError as error:
                assert time.monotonic() < deadline, f"not ready: {error.read()!r}\n" + "\n".join(self.lines)
            threading.Event().wait(LOOK_S)
