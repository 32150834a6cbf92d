"""What became of the jobs of one invocation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Summary:
    """What became of the jobs that a scheduler took up."""

    last: dict[str, str] = field(default_factory=dict)
    """By job: done, nothing (no new acquisition), waiting, retry, failed, late, lost or stopped."""

    @property
    def counts(self) -> Counter[str]:
        """Jobs by what became of them."""
        return Counter(self.last.values())

    def note(self, job: str, kind: str) -> None:
        """Remember what became of a job; that nothing came after its product is no news."""
        if kind != "nothing" or job not in self.last:
            self.last[job] = kind

    @property
    def failures(self) -> int:
        """Jobs that were due and are not done."""
        return self.counts["retry"] + self.counts["failed"] + self.counts["late"]
