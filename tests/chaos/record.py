"""What one client saw, judged: every message once, in order, or a loss that was told.

The feed numbers the messages of each topic. A client's record is right if after n comes n + 1. A number that comes again
is a duplicate, a smaller one is out of order. A gap is right only if the client was told before of a loss that may have
been this one, or if nobody could have it: what a publisher had on its way to a forwarder that was killed was never recorded.
A subscription that was refused its resume point as unknown begins anew where its edge stands. That may be before what another
edge had sent already, so each topic may go back once.
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Verdict:
    """Counts over any number of clients."""

    events: int = 0
    replayed: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    begun_anew: int = 0
    missing_untold: int = 0
    missing_told: int = 0
    never_recorded: int = 0
    told: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Verdict") -> None:
        self.events += other.events
        self.replayed += other.replayed
        self.duplicates += other.duplicates
        self.out_of_order += other.out_of_order
        self.begun_anew += other.begun_anew
        self.missing_untold += other.missing_untold
        self.missing_told += other.missing_told
        self.never_recorded += other.never_recorded
        self.told += other.told
        self.faults += other.faults

    @property
    def is_clean(self) -> bool:
        return not (self.duplicates or self.out_of_order or self.missing_untold)


class Record:
    """One client's, over all its connections."""

    def __init__(self, name: str):
        self.name = name
        # Of which nothing was told: topic, the number before and the number after.
        self.gaps: list[tuple[str, int, int]] = []
        self.verdict = Verdict()
        self._last: dict[str, int] = {}
        # Topics that went on since the last loss was told: a gap in one of these was not told.
        self._settled: set[str] = set()
        # Topics that were told to begin anew, and have not yet.
        self._may_go_back: set[str] = set()

    def event(self, topic: str, number: int) -> None:
        verdict = self.verdict
        verdict.events += 1
        last = self._last.get(topic)
        if topic in self._may_go_back:
            self._may_go_back.remove(topic)
            if last is not None and number <= last:
                verdict.begun_anew += 1
                last = None
        if last is not None and number <= last:
            if number == last:
                verdict.duplicates += 1
            else:
                verdict.out_of_order += 1
            verdict.faults.append(f"{self.name}: {topic} {number} after {last}")
            return
        if last is not None and number > last + 1:
            missing = number - last - 1
            if topic in self._settled:
                self.gaps.append((topic, last, number))
            else:
                verdict.missing_told += missing
        self._last[topic] = number
        self._settled.add(topic)

    def lost(self, cause: str) -> None:
        self.verdict.told[cause] += 1
        self._settled.clear()
        if cause == "unknown_position":
            self._may_go_back = set(self._last)

    def judge(self, recorded: dict[str, set[int]] | None) -> Verdict:
        """Everything, gaps included. `recorded`: all that was, by topic; None where nobody knows: then all was."""
        verdict = self.verdict
        for topic, last, number in self.gaps:
            gap = range(last + 1, number)
            missing = len(gap) if recorded is None else sum(n in recorded.get(topic, ()) for n in gap)
            verdict.never_recorded += len(gap) - missing
            if missing:
                verdict.missing_untold += missing
                verdict.faults.append(f"{self.name}: {topic} {number} after {last}, and nothing was told")
        self.gaps.clear()
        return verdict

    def has(self, topic: str, number: int) -> bool:
        return self._last.get(topic, 0) >= number
