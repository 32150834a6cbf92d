"""What a scheduler and the processes of its jobs say to each other."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crgen.batch.jobs.job import Deliver, Job
from crgen.batch.schedule.failures import Failure
from crgen.batch.schedule.journal import Row


@dataclass(frozen=True)
class Order:
    """What a process is to do."""

    job: Job
    unfinished: Row | None
    """A product to go on with, as the journal holds it; None to look for acquisitions."""
    finished: frozenset[str]
    """Identities that were made, or given up."""
    today: datetime.date
    log: Path
    threads: int
    """Cores to use."""
    deliver: Deliver | None
    """Where to copy the product."""
    processes: int
    """Processes that share the quota of the Earth Engine project."""
    eecu_hours: float | None = None
    """Of a month, that the project may have used before no new product is begun."""


@dataclass(frozen=True)
class Found:
    """A product is due, and is being made now."""

    identity: str
    t1: datetime.date
    t2: datetime.date
    product: str
    """The reflectance COG."""
    manifest: dict[str, Any] | None
    """The frozen scenes, of source ``gee``."""
    earlier: tuple[str, ...] = ()
    """Identities of the same product by weights that crgen shipped before under the same name, if these will do."""

    def among(self, identities: Collection[str]) -> str | None:
        """Return by which identity it is among others; None if it is not."""
        return next((identity for identity in (self.identity, *self.earlier) if identity in identities), None)


@dataclass(frozen=True)
class Done:
    """The product stands."""

    identity: str
    seconds: float
    windows: int
    """Windows computed now; not those of a stopped run, or of a product that stood already."""


@dataclass(frozen=True)
class Nothing:
    """The acquisitions are those of a product that was made, or given up."""

    identity: str


@dataclass(frozen=True)
class Waiting:
    """Acquisitions are missing that may still come."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """It failed."""

    failure: Failure

    @property
    def reason(self) -> str:
        """Why, in one line."""
        return self.failure.reason


@dataclass(frozen=True)
class Stopped:
    """It was asked to stop; finished parts are kept."""


Outcome = Done | Nothing | Waiting | Failed | Stopped
