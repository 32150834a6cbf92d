"""The time of day, and whose lease is alive."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def utc() -> float:
    """Return seconds since 1970, by the machine's clock, which somebody may set."""
    return time.time()


class Observer:
    """Watches the counters of leases by this process's monotonic clock.

    Args:
        lease: seconds for which a counter may stand still.
    """

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._seen: dict[str, tuple[tuple[str, int], float, bool]] = {}

    def see(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Note which counters moved since the last look."""
        now = time.monotonic()
        for name, row in rows.items():
            mark = (row["owner"], row["beat"])
            before = self._seen.get(name)
            if before is None or before[0] != mark:
                moved = before is not None and before[0][0] == mark[0]
                self._seen[name] = (mark, now, moved)

    def dead(self, row: Mapping[str, Any]) -> bool:
        """Say whether a lease's counter stood still for too long."""
        mark, since, _ = self._seen[row["name"]]
        return mark == (row["owner"], row["beat"]) and time.monotonic() - since >= self.lease

    def alive(self, row: Mapping[str, Any]) -> bool:
        """Say whether a lease's counter was seen to move."""
        return self._seen[row["name"]][2] and not self.dead(row)
