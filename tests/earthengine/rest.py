"""The plain parts of the REST API: discovery, assets, export operations, and the control of a server from outside."""

import functools
import json
import operator
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

import shapely
import shapely.geometry

from tests.earthengine import catalogue
from tests.earthengine.faults import Fault
from tests.earthengine.images import EarthEngineError, Image
from tests.earthengine.interpreter import evaluate
from tests.earthengine.requests import RefusedError

if TYPE_CHECKING:
    from tests.earthengine.server import EarthEngineServer

STATES = ("PENDING", "RUNNING", "SUCCEEDED")


def endpoint(path: str) -> str:
    """The kind of request behind a path."""
    if path.startswith("/$discovery"):
        return "discovery"
    found = re.fullmatch(r"/v1(?:alpha|beta)?/projects/[^/:]+(?:/(.*?))?(?::(\w+))?", path)
    if found is None:
        return path
    resource, verb = found[1] or "", found[2]
    head = resource.split("/")[0]
    if verb:
        return f"{head or 'projects'}:{verb}"
    return f"{head}:get" if "/" in resource else head


@functools.cache
def discovery(url: str) -> bytes:
    """The discovery document of the ``ee`` wheel, with the parameters it was trimmed of."""
    document = json.loads(resources.files("ee.tests").joinpath("cloud_api_discovery_document.json").read_bytes())
    document["rootUrl"] = document["baseUrl"] = f"{url}/"
    projects = document["resources"]["projects"]
    for methods in (projects["methods"], projects["resources"]["assets"]["methods"]):
        for name in ("filter", "view"):
            methods["listAssets"]["parameters"][name] = {"type": "string", "location": "query"}
    maps = projects["resources"]["maps"]["methods"]["create"]
    maps["parameters"]["workloadTag"] = {"type": "string", "location": "query"}
    return json.dumps(document).encode()


def get(exports: "Exports", kind: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """The answer to a GET request (and to the cancellation of an operation)."""
    name = path.split("/", 2)[2].split(":")[0]
    match kind:
        case "assets:listImages" | "assets:listAssets":
            return _list(name.split("/assets/", 1)[1], query, "images" if kind.endswith("Images") else "assets")
        case "assets:get":
            return _asset(name.split("/assets/", 1)[1])
        case "operations":
            return {"operations": exports.list()}
        case "operations:get":
            return exports.get(name)
        case "operations:cancel":
            return exports.cancel(name)
    raise LookupError(f"The local Earth Engine does not implement GET {path}.")


def monitored(used: float | None, query: Mapping[str, str]) -> dict[str, Any]:
    """What Cloud Monitoring tells of a project: EECU-seconds by day, here half of them on each of two."""
    if used is None:
        raise RefusedError(403, "Permission monitoring.timeSeries.list denied (or the resource may not exist).")
    if query["filter"] != 'metric.type = "earthengine.googleapis.com/project/cpu/usage_time"':
        raise RefusedError(400, "The supplied filter does not specify a valid combination of metric and resource.")
    first, last = (datetime.fromisoformat(query[f"interval.{name}Time"]) for name in ("start", "end"))
    if first >= last or query["aggregation.perSeriesAligner"] != "ALIGN_SUM":
        raise RefusedError(400, "Field interval had an invalid value.")
    points = [{"interval": {"endTime": query["interval.endTime"]}, "value": {"doubleValue": used / 2}}] * 2
    return {"timeSeries": [{"metricKind": "DELTA", "valueType": "DOUBLE", "points": points}]} if used else {}


def _asset(asset: str) -> dict[str, Any]:
    if asset in catalogue.images():
        return _entry(catalogue.images()[asset])
    if asset in catalogue.collections():
        return {"type": "IMAGE_COLLECTION", "name": f"projects/earthengine-public/assets/{asset}", "id": asset}
    raise LookupError(f"Asset '{asset}' not found (does not exist or caller does not have access).")


def _entry(image: Image) -> dict[str, Any]:
    start = datetime.fromtimestamp(image.properties["system:time_start"] / 1000, UTC)
    return {
        "type": "IMAGE",
        "name": f"projects/earthengine-public/assets/{image.id}",
        "id": image.id,
        "startTime": start.isoformat().replace("+00:00", "Z"),
        "geometry": shapely.geometry.mapping(image.footprint),
        "bands": [{"id": band.name} for band in image.bands],
        "properties": {name: value for name, value in image.properties.items() if not name.startswith("system:")},
    }


def _list(asset: str, query: Mapping[str, str], key: str) -> dict[str, Any]:
    if asset not in catalogue.collections():
        raise LookupError(f"Asset '{asset}' not found (does not exist or caller does not have access).")
    unknown = query.keys() - {"pageSize", "pageToken", "filter", "view", "alt", "prettyPrint"}
    if unknown:
        raise EarthEngineError(f"The local Earth Engine does not implement '{sorted(unknown)[0]}' of {key}.")
    found = list(catalogue.collections()[asset])
    for term in re.split(r"\s+AND\s+", query["filter"]) if "filter" in query else []:
        keeps = _term(term)
        found = [image for image in found if keeps(image)]
    first, size = int(query.get("pageToken", 0)), int(query.get("pageSize", 1000))
    page = {key: [_entry(image) for image in found[first : first + size]]}
    return page | ({"nextPageToken": str(first + size)} if first + size < len(found) else {})


def _term(term: str) -> Callable[[Image], bool]:
    """One term of a listing's filter, as the client writes times, regions and properties."""
    compare = {
        ">=": operator.ge,
        "<=": operator.le,
        ">": operator.gt,
        "<": operator.lt,
        "=": operator.eq,
        "!=": operator.ne,
    }
    if match := re.fullmatch(r'intersects\("(.*)"\)', term):
        region = shapely.geometry.shape(json.loads(match[1].replace("'", '"')))
        return lambda image: bool(region.intersects(image.footprint))
    if match := re.fullmatch(r'(startTime|endTime)\s*(>=|<=|>|<)\s*"(.*)"', term):
        limit, test = datetime.fromisoformat(match[3]).timestamp() * 1000, compare[match[2]]
        return lambda image: test(image.properties["system:time_start"], limit)
    if match := re.fullmatch(r'properties\.(\S+?)\s*(>=|<=|!=|>|<|=)\s*"?(.*?)"?', term):
        name, test, given = match[1], compare[match[2]], match[3]

        def keeps(image: Image) -> bool:
            value = image.properties.get(name)
            return value is not None and test(value, type(value)(given))

        return keeps
    raise EarthEngineError(f"The local Earth Engine does not implement the filter '{term}'.")


class Exports:
    """Export tasks; each look at one lets it advance, from PENDING over RUNNING to SUCCEEDED, unless ``held``."""

    def __init__(self) -> None:
        self.held = False
        self.failure: str | None = None
        self.requests: list[dict[str, Any]] = []
        self._operations: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()

    def start(self, project: str, body: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(evaluate(body["expression"]), Image):
            raise EarthEngineError("Expression does not evaluate to an image.")
        options = body.get("fileExportOptions", {})
        if not options.keys() & {"driveDestination", "cloudStorageDestination"}:
            raise EarthEngineError("The local Earth Engine implements exports to Drive and Cloud Storage alone.")
        with self._lock:
            key = body.get("requestId") or f"LOCAL{len(self._operations):08d}"
            name = f"operations/{key}"
            if name not in self._operations:
                self.requests.append(body)
                now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
                metadata = {
                    "@type": "type.googleapis.com/google.earthengine.v1alpha.OperationMetadata",
                    "state": "PENDING",
                    "description": body.get("description", ""),
                    "type": "EXPORT_IMAGE",
                    "priority": 100,
                    "createTime": now,
                    "updateTime": now,
                    "attempt": 1,
                }
                self._operations[name] = {"name": f"projects/{project}/{name}", "metadata": metadata}
            return json.loads(json.dumps(self._operations[name]))

    def list(self) -> list[dict[str, Any]]:
        with self._lock:
            return [self._advance(operation) for operation in self._operations.values()]

    def get(self, name: str) -> dict[str, Any]:
        with self._lock:
            return self._advance(self._find(name))

    def cancel(self, name: str) -> dict[str, Any]:
        with self._lock:
            self._find(name)["metadata"]["state"] = "CANCELLED"
            return {}

    def _find(self, name: str) -> dict[str, Any]:
        key = "operations/" + name.rsplit("/", 1)[1]
        if key not in self._operations:
            raise LookupError(f"Operation {name} not found.")
        return self._operations[key]

    def _advance(self, operation: dict[str, Any]) -> dict[str, Any]:
        """The operation as it is, which moves on afterwards."""
        seen = json.loads(json.dumps(operation))
        state = operation["metadata"]["state"]
        if not self.held and state in STATES[:-1]:
            following = STATES[STATES.index(state) + 1]
            if following == "SUCCEEDED":
                operation["done"] = True
                if self.failure is not None:
                    following = "FAILED"
                    operation["error"] = {"code": 3, "message": self.failure}
            operation["metadata"] |= {"state": following, "progress": 0.5, "batchEecuUsageSeconds": 1234.5}
        return seen


def control(engine: "EarthEngineServer", path: str, raw: bytes) -> dict[str, Any]:
    """What a test in another process asks of the server itself."""
    match path.removeprefix("/control/"):
        case "counters":
            return engine.counters()
        case "faults":
            engine.add(*(Fault.from_json(item) for item in json.loads(raw)))
            return {}
        case "clear":
            engine.clear()
            return {}
        case "settings":
            engine.change(**json.loads(raw))
            return {}
    raise ValueError(f"there is no {path}")
