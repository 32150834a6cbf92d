"""Batch exports: the way out for areas beyond the interactive quota.

Earth Engine runs about two exports of a person at once, and leaves GeoTIFFs in Google Drive or Cloud Storage. What was
started is remembered in a state file beside the output, with the manifest, so that looking again, or going on after a
crash, starts nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from crgen.errors import SourceError
from crgen.files import write_whole
from crgen.gee.connection.session import Session, Settings, connect
from crgen.gee.fetch.arrays import Pull
from crgen.gee.fetch.images import Layer
from crgen.gee.manifest import Grid, Manifest

MAX_PIXELS = 10**13
DONE = "SUCCEEDED"
AGAIN = ("FAILED", "CANCELLED", "GONE")
"""States from which an export is started anew."""
EVERY = 15.0
"""Seconds between looks at exports that are waited for; they take minutes to hours."""


class Destination(BaseModel):
    """Where exports go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drive", "gcs"]
    place: str
    """A folder of Google Drive, or ``bucket`` or ``bucket/path`` of Cloud Storage."""


class Export(BaseModel):
    """One variable's export."""

    model_config = ConfigDict(extra="forbid")

    variable: str
    files: str
    """What the names of its GeoTIFFs begin with."""
    attempt: int = 1
    operation: str | None = None
    state: str = "NOT STARTED"
    done: float = 0.0
    """Share that the service says is done, 0 to 1."""
    message: str = ""


class ExportState(BaseModel):
    """What the state file holds."""

    model_config = ConfigDict(extra="forbid")

    destination: Destination
    manifest: Manifest
    grid: Grid | None = None
    """What is exported: the area and its surroundings; None in files of crgen 0.1."""
    exports: list[Export]

    @classmethod
    def read(cls, path: Path) -> ExportState:
        """Read a state file.

        Raises:
            SourceError: if it is not one.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror}") from None
        except ValueError:  # pydantic's, and that of bytes that are no text
            raise SourceError(f"{path} does not hold the state of exports; move it away to start anew") from None

    def write(self, path: Path) -> None:
        """Write a state file whole or not at all.

        Raises:
            OutputError: if the disk does not take it.
        """
        write_whole(path, json.dumps(self.model_dump(mode="json"), indent=2).encode())


def run_exports(pull: Pull, manifest: Manifest, destination: Destination, path: Path, *, stem: str) -> list[Export]:
    """Start the exports of all layers that are not under way or done, and return how each is doing.

    Args:
        pull: the layers and the grid.
        manifest: their scenes, kept in the state file.
        destination: where to; must be that of the state file if there is one.
        path: the state file.
        stem: what file names begin with.

    Raises:
        SourceError: if Earth Engine refuses.
        OutputError: if the state cannot be kept; what it does not remember is not started twice all the same.
    """
    session = connect(pull.settings.standard)
    if destination.kind == "drive" and session.as_service:
        raise SourceError(
            f"a service account has no Google Drive that a person could open (credentials: {session.origin}): export "
            "to Cloud Storage with --export gcs --to BUCKET, or sign in with 'earthengine authenticate'"
        )
    if path.exists():
        state = ExportState.read(path)
        if state.destination != destination:
            raise SourceError(
                f"{path} is of exports to {state.destination.kind} '{state.destination.place}'; name the same "
                "destination, or move the file away to start anew"
            )
    else:
        exports = [Export(variable=layer.name, files=f"{stem}_{layer.name}") for layer in pull.layers]
        grid = Grid.of(manifest.area.name, pull.geobox, pull.geobox.extent.geom)
        state = ExportState(destination=destination, manifest=manifest, grid=grid, exports=exports)
    layers = {layer.name: layer for layer in pull.layers}
    for export in state.exports:
        if export.operation is not None and export.state != DONE:
            _look(session, export)
        if export.operation is None or export.state in AGAIN:
            if export.operation is not None:
                export.attempt += 1
            _start(session, export, layers[export.variable], pull, destination)
        state.write(path)
    return state.exports


def follow_exports(settings: Settings, path: Path, tell: Callable[[float, str], None]) -> list[Export]:
    """Look at the exports of a state file until each has ended, well or not, and return them; starts none.

    Args:
        settings: how to reach Earth Engine.
        path: the state file.
        tell: called after each look, with the share of all that is done, 0 to 1, and how many exports are.

    Raises:
        SourceError: if Earth Engine cannot be asked; the exports go on all the same.
        OutputError: if the state cannot be kept.
    """
    session, state = connect(settings.standard), ExportState.read(path)
    while True:
        running = [export for export in state.exports if export.state not in (DONE, *AGAIN)]
        for export in running:
            _look(session, export)
        state.write(path)
        ended, exports = [export.state == DONE for export in state.exports], len(state.exports)
        tell(sum(export.done for export in state.exports) / exports, f"{sum(ended)} of {exports} exports done")
        if all(export.state in (DONE, *AGAIN) for export in running):
            return state.exports
        time.sleep(EVERY)


def _look(session: Session, export: Export) -> None:
    import ee

    name = export.operation or ""
    try:
        operation = session.call(f"the state of {name}", lambda: ee.data.getOperation(name))
    except SourceError as error:
        if "does not know" not in str(error):
            raise
        export.state = "GONE"
        return
    told = operation.get("metadata", {})
    export.state = told.get("state", "UNKNOWN")
    export.done = 1.0 if export.state == DONE else float(told.get("progress", 0))
    export.message = operation.get("error", {}).get("message", "") or _progress(export, told)


def _progress(export: Export, told: dict[str, Any]) -> str:
    """Return how far an export is and what it has cost, as far as the service tells."""
    spent = told.get("batchEecuUsageSeconds")
    parts = [] if "progress" not in told or export.state == DONE else [f"{100 * export.done:.0f} % done"]
    parts += [] if spent is None else [f"{float(spent):,.0f} EECU-seconds"]
    return ", ".join(parts)


def _start(session: Session, export: Export, layer: Layer, pull: Pull, destination: Destination) -> None:
    import ee

    image = ee.deserializer.fromJSON(layer.expression).toFloat()  # a GeoTIFF has one data type
    a, (rows, columns) = pull.geobox.affine, pull.geobox.shape
    common: dict[str, Any] = {
        "description": export.files[:100],
        "crs": str(pull.geobox.crs),
        "crsTransform": [float(v) for v in a[:6]],
        "dimensions": f"{columns}x{rows}",
        "maxPixels": MAX_PIXELS,
        "fileFormat": "GeoTIFF",
    }
    make: Callable[..., Any]
    if destination.kind == "drive":
        make = ee.batch.Export.image.toDrive
        common |= {"folder": destination.place, "fileNamePrefix": export.files}
    else:
        bucket, _, prefix = destination.place.partition("/")
        make = ee.batch.Export.image.toCloudStorage
        common |= {"bucket": bucket, "fileNamePrefix": "/".join(filter(None, (prefix.strip("/"), export.files)))}
    task = make(image, **common)
    request = dict(task.config or {})
    # The service starts a request of the same name once, also if its answer, or this process, was lost.
    asked = json.dumps([layer.digest, common, export.attempt], sort_keys=True)
    name = hashlib.sha256(asked.encode()).hexdigest()[:24].upper()
    operation = session.call(
        f"the export of {export.variable}", lambda: ee.data.exportImage(name, request), writes=True
    )
    export.operation = operation["name"]
    export.state = operation.get("metadata", {}).get("state", "PENDING")
    export.done, export.message = 0.0, ""
