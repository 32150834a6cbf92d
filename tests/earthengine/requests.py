"""What is kept of a request, and what a refused one is answered with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request: endpoint, what was asked (a hash of expression and grid), the grid, how it was answered.

    ``begun``: when, by the monotonic clock. ``seconds``: until the answer was ready. ``cpu``: of these, computing.
    """

    endpoint: str
    key: str
    grid: Mapping[str, Any] | None
    status: int
    begun: float
    seconds: float
    cpu: float
    bytes: int
    workload: str | None


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, retry_after: float | str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


def key_of(body: Mapping[str, Any]) -> str:
    """What a request asks for: the expression and the grid, nothing else."""
    asked = {name: body.get(name) for name in ("expression", "grid", "bandIds")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
