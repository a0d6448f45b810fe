"""A results file, as run.py writes it, and what its runs amount to: medians, spreads and ratios to the floor."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

FLOOR = "floor"
# Of all cores' time while it was measured, what a hypervisor may give to others, and what other programs here may use, before a
# run counts as disturbed.
STEAL_MAX = 0.04
OTHERS_MAX = 0.15


def is_disturbed(run: dict) -> bool:
    """By these two figures alone, whatever else the run says."""
    return run.get("steal", 0) > STEAL_MAX or run.get("others", 0) > OTHERS_MAX


@dataclass(frozen=True)
class Spread:
    """The middle one of several runs, the least and the greatest."""

    middle: float
    least: float
    most: float
    runs: int


def spread(values: list[float]) -> Spread | None:
    return Spread(median(values), min(values), max(values), len(values)) if values else None


class Results:
    """The runs that count: of each repetition the last attempt, and disturbed ones only where there are no others."""

    def __init__(self, lines: list[dict]):
        self.header, attempts = lines[0], lines[1:]
        self.errors = [run for run in attempts if "error" in run]
        last = {}
        for run in attempts:
            if "error" not in run:
                last[run["server"], run["workload"], run["rep"]] = run
        self.disturbed = [run for run in attempts if "error" not in run and is_disturbed(run)]
        # (server, workload) to repetition to run.
        self.runs: dict[tuple[str, str], dict[int, dict]] = {}
        for (server, workload, rep), run in last.items():
            self.runs.setdefault((server, workload), {})[rep] = run
        # Shown, with a mark: nothing but disturbed runs.
        self.doubtful = set()
        for key, runs in self.runs.items():
            quiet = {rep: run for rep, run in runs.items() if not is_disturbed(run)}
            if quiet:
                self.runs[key] = quiet
            else:
                self.doubtful.add(key)

    @classmethod
    def read(cls, path: Path) -> "Results":
        return cls([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])

    @property
    def servers(self) -> dict[str, dict]:
        return self.header["servers"]

    def of(self, server: str, workload: str, figure) -> Spread | None:
        """`figure` is a name, or computes a value from a run; none where no run has it."""
        return spread([v for v in self.values(server, workload, figure).values()])

    def values(self, server: str, workload: str, figure) -> dict[int, float]:
        value = figure if callable(figure) else lambda run: run.get(figure)
        runs = self.runs.get((server, workload), {})
        return {rep: v for rep, run in runs.items() if (v := value(run)) is not None}

    def ratio(self, server: str, workload: str, figure, to: str = FLOOR) -> Spread | None:
        """Of pairs of the same repetition, which stood close in time."""
        ours, theirs = self.values(server, workload, figure), self.values(to, workload, figure)
        return spread([ours[rep] / theirs[rep] for rep in sorted(ours) if theirs.get(rep)])

    def share(self, server: str, workload: str, flag: str) -> bool:
        """Whether a flag was set in most runs."""
        values = list(self.values(server, workload, flag).values())
        return sum(values) * 2 > len(values)
