"""What makes an acquisition, and a pixel, good enough; loads no library, as the command line shows these defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date

CLEAR_FROM = 0.6
"""Score from which a pixel counts as clear, also for a fill that names no other."""


@dataclass(frozen=True)
class Rules:
    """What makes an acquisition eligible."""

    search_days: int = 6
    """Days from a date within which passes serve it. A satellite comes back after 12 days: 6 reach every orbit."""
    observed_days: int = 0
    """Days from the date to map within which an optical pass counts as observed on it."""
    min_coverage: float = 0.9
    """Share of the area that radar, and the optical image of t1, must cover."""
    radar_not_before: date | None = None
    """First day, UTC, of which the radar of a date to map may be."""

    def told(self) -> dict[str, int | float | str]:
        """Return the rules as a manifest holds them, without those that are not set."""
        held = asdict(self).items()
        return {name: str(value) if isinstance(value, date) else value for name, value in held if value is not None}
