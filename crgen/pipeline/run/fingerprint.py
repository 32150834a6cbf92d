"""What decides a run's bytes, so that parts of different runs are never put together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from crgen.files import stack_files
from crgen.model.weights import earlier_digests
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.plan import Plan, settings_of
from crgen.pipeline.source.stack import FEATHER, manifest_of, past_days, stack_geobox

Fingerprint = dict[str, Any]


def fingerprint_of(request: FillRequest, work: Plan, device: str | None = None) -> Fingerprint:
    """Return, by kind, what decides every byte a run writes; strings, numbers and dicts of them.

    Args:
        request: what is asked.
        work: how it was laid out.
        device: the kind of device, if another process computes.
    """
    area = work.scene.area
    settings = settings_of(request, work)
    for covered in ("aoi", "layer", "source", "weights", "crs", "device"):  # by the digests below
        del settings[covered]
    return {
        "weights": work.model.sha256,
        "area": _digest(_grid(area.geobox), area.polygon.wkb_hex),
        "settings": settings,
        "inputs": _digest(
            manifest_of(work.scene.stack),
            _grid(stack_geobox(work.scene.stack)),
            stack_files(request.source),
            past_days(work.scene.stack),
        ),
        "device": device or device_kind(work.device),
        "software": {
            "crgen": f"{version('crgen')} {_code()[:12]}",
            "torch": torch.__version__,
            "numpy": np.__version__,
            "GDAL": rasterio.__gdal_version__,
        },
    }


OPTIONS = ("t1", "t2", "clip", "generate_all", "dtype", "clear_threshold", "s1_units", "s2_scale", "window")
"""The settings that an identity has been made of since version 0.1.0. The list stays as it is: with another one all
that was ever made would be due again."""

OPTIONS_SINCE: dict[str, Any] = {"bands": None, "s1_calibrated": True, "s2_offset": 0.0}
"""Settings that came later and decide what a product shows, with the value by which products were made before. They
count where they have another value, so that a new option makes nothing due again."""

IMMATERIAL = (
    *("aoi", "layer", "source", "weights", "crs"),  # counted by the area, the inputs and the tensors
    *("past", "after"),  # a map is not due again because more is known of its place
    *("device", "precision", "chunk", "workers", "scheduler", "out", "overwrite", "restart", "earth_engine"),
)
"""Fields of a request that do not count."""


def identity_of(request: FillRequest, work: Plan) -> str:
    """Return one name for what a product shows: its acquisitions, area, dates, weights and settings.

    Unlike a fingerprint it does not tell by what it was computed: a map is not due again because crgen, a library or
    the machine changed. Of an Earth Engine manifest only the assets count.
    """
    return _identity(request, work, work.model.sha256, work.model.card.window)


def earlier_identities(request: FillRequest, work: Plan) -> tuple[str, ...]:
    """Return the identities of the same product by the weights that other versions of crgen shipped under this name."""
    return tuple(_identity(request, work, sha, window) for sha, window in earlier_digests(work.model.path).items())


def _identity(request: FillRequest, work: Plan, weights: str, window: int) -> str:
    settings = settings_of(request, work) | {"window": window, "bands": request.bands}
    counted = {name: settings[name] for name in OPTIONS}
    counted |= {name: settings[name] for name, before in OPTIONS_SINCE.items() if settings[name] != before}
    area, manifest = work.scene.area, manifest_of(work.scene.stack)
    if manifest.get("source") == "gee":
        scenes = {name: [(s["id"], s["score"]) for s in held] for name, held in manifest["scenes"].items()}
        inputs: list[Any] = [scenes]
    else:
        held, here = stack_geobox(work.scene.stack), work.model.card.window
        if window != here and held == area.geobox.pad(here + FEATHER):  # it was opened as far as windows reach
            held = held.pad(window - here)
        inputs = [manifest, _grid(held), stack_files(request.source)]
    return _digest(weights, _grid(area.geobox), area.polygon.wkb_hex, counted, inputs)


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


def device_kind(device: str) -> str:
    """Return the kind of a device: another kind may round otherwise."""
    if device.startswith("cuda"):
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device


@cache
def _code() -> str:
    """Return a digest of the source files that make pixels."""
    root = Path(__file__).parents[2]
    files = sorted(file for room in ("gee", "model", "pipeline") for file in (root / room).rglob("*.py"))
    return _digest([(file.relative_to(root).as_posix(), file.read_text("utf-8")) for file in files])


def _grid(geobox: Any) -> list[Any]:
    return [str(geobox.crs), [float(v) for v in geobox.affine[:6]], [int(n) for n in geobox.shape]]


def _digest(*things: Any) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()
