"""What the scheduler tells the process of a job, and what that process tells the scheduler."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crgen.batch.jobs.job import Deliver, Job, Limits
from crgen.batch.schedule.journal import Row


@dataclass(frozen=True)
class Order:
    """What the process of a job is to do."""

    job: Job
    unfinished: Row | None
    """The run in the journal to resume; None to look for acquisitions."""
    finished: frozenset[str]
    """Identities of products that were made, or given up."""
    today: datetime.date
    log: Path
    threads: int
    """Cores to use."""
    deliver: Deliver | None
    """Where to copy the product."""
    limits: Limits
    improve: Row | None = None
    """The run whose product is made once more, with later images, where no new one is due."""


@dataclass(frozen=True)
class Found:
    """A product is due; the process makes it now."""

    identity: str
    t1: datetime.date
    t2: datetime.date
    product: str
    """Path of the reflectance COG."""
    manifest: dict[str, Any] | None
    """The frozen scenes, of source ``gee``."""
    earlier: tuple[str, ...] = ()
    """Its identities by weights that crgen shipped before under the same name, if these count as the same product."""

    def among(self, identities: Collection[str]) -> str | None:
        """Return the first of its identities that is in ``identities``; None if none is."""
        return next((identity for identity in (self.identity, *self.earlier) if identity in identities), None)


@dataclass(frozen=True)
class Done:
    """The product is made and delivered."""

    seconds: float
    windows: int
    """Windows computed by this process, without those of the run that it resumed."""


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
    """The job failed."""

    kind: Literal["transient", "permanent", "crash"]
    """``crash``: the process died, or raised an error nobody foresaw; it is retried, but not without end."""
    reason: str


@dataclass(frozen=True)
class Stopped:
    """The process was asked to stop; finished parts are kept."""


Outcome = Done | Nothing | Waiting | Failed | Stopped
