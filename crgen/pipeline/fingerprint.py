"""What decides a run's bytes, so that parts of different runs are never put together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

import crgen
from crgen.pipeline.plan import Plan, settings_of
from crgen.pipeline.request import FillRequest
from crgen.pipeline.stack import manifest_of, stack_geobox

Fingerprint = dict[str, Any]


def fingerprint_of(request: FillRequest, work: Plan, device: str | None = None) -> Fingerprint:
    """Return, by kind, what decides every byte a run writes; strings, numbers and dicts of them.

    Args:
        request: what is asked.
        work: how it was laid out.
        device: the kind of device, if another process computes.
    """
    area = work.scene.area
    files = files_identity(Path(request.source)) if request.source not in ("demo", "gee") else []
    settings = settings_of(request, work)
    for covered in ("aoi", "source", "weights", "crs", "device"):  # by the digests below
        del settings[covered]
    return {
        "weights": work.model.sha256,
        "area": _digest(_grid(area.geobox), area.polygon.wkb_hex),
        "settings": settings,
        "inputs": _digest(manifest_of(work.scene.stack), _grid(stack_geobox(work.scene.stack)), files),
        "device": device or device_kind(work.device),
        "software": {
            "crgen": f"{version('crgen')} {_code()[:12]}",
            "torch": torch.__version__,
            "numpy": np.__version__,
            "GDAL": rasterio.__gdal_version__,
        },
    }


def short(fingerprint: Fingerprint) -> str:
    """Return one name for a fingerprint."""
    return _digest(fingerprint)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return in words how two fingerprints differ first; None if they are the same."""
    for name in new:
        before, now = old.get(name), new[name]
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            key = next(k for k in {**before, **now} if before.get(k) != now.get(k))
            return f"other {name}: {key} was {before.get(key)}, now it is {now.get(key)}"
        if name == "device":
            return f"another device: it was {before}, now it is {now}"
        return {"weights": "other weights", "inputs": "other inputs", "area": "another area"}.get(name, f"other {name}")
    return None


def files_identity(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of a file, or of every file below a folder; nothing if there is none."""
    if path.is_file():
        files = [path]
    else:
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    found = ((file, file.stat()) for file in files)
    return [(file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in found]


def device_kind(device: str) -> str:
    """Return the kind of a device: another kind may round otherwise."""
    if device.startswith("cuda"):
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device


@cache
def _code() -> str:
    """Return a digest of the source files that make pixels."""
    root = Path(crgen.__file__).parent
    files = sorted(file for room in ("gee", "model", "pipeline") for file in (root / room).rglob("*.py"))
    return _digest([(file.relative_to(root).as_posix(), file.read_text()) for file in files])


def _grid(geobox: Any) -> list[Any]:
    return [str(geobox.crs), [float(v) for v in geobox.affine[:6]], [int(n) for n in geobox.shape]]


def _digest(*things: Any) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()
