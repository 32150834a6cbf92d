"""What can go wrong between a client and Earth Engine, as faults the local server plays on chosen requests.

Messages are the public wordings of Google's service. Faults are plain data, so that they can be sent to a server in
another process.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

COMPUTE = "image:computePixels"
DOWNLOAD = "thumbnails:getPixels"
PIXELS = (COMPUTE, DOWNLOAD)

TOO_MANY = "Too Many Requests: Request was rejected because the request rate or concurrency limit was exceeded."
QUOTA = "Quota exceeded for quota metric 'Number of concurrent requests' and limit 'Concurrent requests per project'."
RESTRICTED = (
    "Too Many Requests: the project has used its monthly noncommercial compute quota of EECU-hours and is in "
    "restricted mode. See https://developers.google.com/earth-engine/guides/noncommercial_tiers#restricted_mode"
)
DAILY = (
    "Quota exceeded for quota metric 'Earth Engine compute time (EECU-seconds)' and limit 'EECU-seconds per day per "
    "project' of service 'earthengine.googleapis.com'."
)
NOT_ELIGIBLE = "Project '{project}' is not eligible for noncommercial use of Earth Engine."
RATE = "Rate Limit Exceeded: rateLimitExceeded"
ELEMENTS = "Collection query aborted after accumulating over {limit} elements."
MEMORY = "User memory limit exceeded."
CAPACITY = "Earth Engine memory capacity exceeded."
TIMED_OUT = "Computation timed out."
AGGREGATIONS = "Too many concurrent aggregations."
UNAUTHENTICATED = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
NOT_REGISTERED = (
    "Not signed up for Earth Engine or project is not registered. Visit "
    "https://developers.google.com/earth-engine/guides/access"
)
PROJECT_NOT_REGISTERED = (
    "Project '{project}' is not registered to use Earth Engine. Visit "
    "https://console.cloud.google.com/earth-engine/configuration?project={project} to register your project."
)
API_NOT_USED = (
    "Google Earth Engine API has not been used in project {project} before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/earthengine.googleapis.com/overview?project={project} then retry."
)
NO_PERMISSION = (
    "Caller does not have required permission to use project {project}. Grant the caller the "
    "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use permission, by "
    "visiting "
    "https://console.developers.google.com/iam-admin/iam/project?project={project} and then retry."
)

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

ACTIONS = ("status", "html", "drop", "cut", "stall", "truncate", "resize", "retype", "expire")


@dataclass
class Fault:
    """One fault and the requests it strikes.

    ``action``: ``status`` answers with ``status`` and ``message`` (and ``retry_after``); ``html`` answers ``status``
    with a page of HTML as a proxy would; ``drop`` closes the connection before answering; ``cut`` closes it in the
    middle of the body; ``stall`` answers ``seconds`` late; ``truncate`` sends half of the NPY as a complete answer;
    ``resize`` one row fewer than asked; ``retype`` other dtypes; ``expire`` voids every access token handed out so far.

    Which requests, of those to ``endpoint``: ``nth`` (from 1) only that one, ``first`` the first so many, ``after`` all
    but the first so many, ``every`` every so many, else all; ``above_pixels`` only grids with more pixels, ``origin``
    only the grid that begins at these x and y. Requests that do not match are not counted.
    """

    action: str
    endpoint: str = COMPUTE
    nth: int | None = None
    first: int | None = None
    after: int | None = None
    every: int | None = None
    above_pixels: int | None = None
    origin: tuple[float, float] | None = None
    status: int = 500
    message: str = ""
    retry_after: float | str | None = None
    seconds: float = 0.0
    seen: int = field(default=0, compare=False)
    struck: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
        if self.origin is not None:
            self.origin = (float(self.origin[0]), float(self.origin[1]))

    def hits(self, endpoint: str, grid: Mapping[str, Any] | None) -> bool:
        """Whether this request is one to strike; counts it if it matches."""
        if endpoint != self.endpoint:
            return False
        if self.above_pixels is not None:
            size = (grid or {}).get("dimensions", {})
            if size.get("width", 0) * size.get("height", 0) <= self.above_pixels:
                return False
        if self.origin is not None:
            affine = (grid or {}).get("affineTransform", {})
            if (affine.get("translateX"), affine.get("translateY")) != self.origin:
                return False
        self.seen += 1
        return (
            (self.nth is None or self.seen == self.nth)
            and (self.first is None or self.seen <= self.first)
            and (self.after is None or self.seen > self.after)
            and (self.every is None or self.seen % self.every == 0)
        )

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Fault":
        unknown = content.keys() - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        return cls(**content)


def error(status: int, message: str, **which: Any) -> Fault:
    """An error as Google sends it."""
    return Fault("status", status=status, message=message, **which)


def storm(first: int, retry_after: float | str | None = None, message: str = TOO_MANY) -> Fault:
    """The first so many requests are refused with 429."""
    return error(429, message, first=first, retry_after=retry_after)


def memory_limit(above_pixels: int) -> Fault:
    """Larger tiles exceed the memory limit."""
    return error(400, MEMORY, above_pixels=above_pixels)


def timed_out(above_pixels: int) -> Fault:
    """Larger tiles take too long."""
    return error(400, TIMED_OUT, above_pixels=above_pixels)


def drop(**which: Any) -> Fault:
    return Fault("drop", **which)


def cut(**which: Any) -> Fault:
    return Fault("cut", **which)


def stall(seconds: float, **which: Any) -> Fault:
    return Fault("stall", seconds=seconds, **which)


def truncate(**which: Any) -> Fault:
    return Fault("truncate", **which)


def resize(**which: Any) -> Fault:
    return Fault("resize", **which)


def retype(**which: Any) -> Fault:
    return Fault("retype", **which)


def expire(**which: Any) -> Fault:
    return Fault("expire", **which)
