"""`crgen fill`: from an area and two dates to a cloud-free, georeferenced product."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rioxarray
import torch
import xarray as xr
from numpy.typing import NDArray

from crgen.errors import OutputError, RequestError, StackError
from crgen.model.weights import LoadedModel, load_model
from crgen.pipeline.cog import CogWriter, RasterProfile
from crgen.pipeline.composite import Composite
from crgen.pipeline.files import check_writable, discard, publish, require_space
from crgen.pipeline.predict import MAX_DN, REFLECTANCE_SCALE, Predictor, pick_device
from crgen.pipeline.product import Paths, describe, picture, profiles
from crgen.pipeline.quicklook import InputThumbnails
from crgen.pipeline.runner import Run, StackReader, Tally
from crgen.pipeline.sources import Scene, open_scene
from crgen.pipeline.windows import Chunk, ChunkGrid, lattice_box

BATCH = 4


@dataclass(frozen=True)
class FillRequest:
    """What is asked of a run; every field that is not about speed decides the result.

    Raises:
        RequestError: if a value makes no sense.
    """

    aoi: str | None = None
    """GeoJSON or other vector file, or ``west,south,east,north``; None for the whole of a local stack."""
    t1: datetime.date | None = None
    t2: datetime.date | None = None
    source: str = "gee"
    """``gee``, ``demo``, or the path of a local stack."""
    out: Path | None = None
    """The reflectance COG; its companions are named after it. None: ``<area>_<t1>_<t2>.tif`` here."""
    weights: str = "base"
    device: str = "auto"
    crs: str | None = None
    clip: bool = False
    """Leave out pixels outside the polygon, not only outside its bounding box."""
    generate_all: bool = False
    """Leave observations of t2 out of the result."""
    dtype: Literal["uint16", "float32"] = "uint16"
    clear_threshold: float = 0.6
    s1_units: Literal["dB", "linear"] = "dB"
    s2_scale: float = 1.0
    chunk: int = 1024
    workers: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        choices = {"dtype": ("uint16", "float32"), "s1_units": ("dB", "linear")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise RequestError(f"{name} '{getattr(self, name)}' is not one of {', '.join(allowed)}")
        if not 0 < self.clear_threshold <= 1:
            raise RequestError(f"the clear threshold is {self.clear_threshold}; give a score above 0 and up to 1")
        if not (math.isfinite(self.s2_scale) and self.s2_scale > 0):
            raise RequestError(f"the Sentinel-2 scale is {self.s2_scale}; give a positive factor, e.g. 1e-4")
        if self.chunk < 1 or (self.workers is not None and self.workers < 1):
            raise RequestError("the chunk size and the number of workers must be positive")
        for name in ("source", "weights", "crs"):
            if getattr(self, name) == "":
                raise RequestError(f"{name} is empty; give a value, or leave the option out")
        if self.out is not None and self.out.suffix.lower() not in (".tif", ".tiff"):
            raise RequestError(f"the output '{self.out}' is not a .tif: name the file to make, e.g. result.tif")


@dataclass(frozen=True)
class Plan:
    """What a run would do and cost, from one measured batch of windows."""

    scene: Scene
    model: LoadedModel
    device: str
    paths: Paths
    grid: ChunkGrid
    workers: int
    windows_per_second: float
    """Measured now, on this device; 0 if it was not measured."""

    @property
    def pixels(self) -> int:
        """Pixels of the result."""
        height, width = self.grid.output.shape
        return height * width

    @property
    def seconds(self) -> float:
        """Time for all windows at the measured rate."""
        return self.grid.window_count / self.windows_per_second if self.windows_per_second else math.nan

    @property
    def memory(self) -> int:
        """Bytes of imagery held at once, at most: the arrays of the chunks at work and of one that waits."""
        config = self.model.card.config
        side = min(self.grid.chunk, max(self.grid.output.shape)) + 2 * self.model.card.window
        inputs = 4 * (2 * len(config.pols) + 4 * len(config.bands) + 2)
        sums = 8 * 3 * len(config.bands)
        down, across = self.grid.shape
        return (min(self.workers, down * across) + 1) * side * side * (2 * inputs + sums)

    @property
    def disk(self) -> int:
        """Bytes needed for the product and its scratch files, at most (before compression)."""
        return self.pixels * (2 * len(self.model.card.config.bands) + 1) * 7 // 3


@dataclass(frozen=True)
class Result:
    """A finished product. Rasters open lazily."""

    paths: Paths
    tally: Tally
    notes: tuple[str, ...]
    seconds: float

    @property
    def reflectance(self) -> xr.DataArray:
        """Reflectance at t2, ``(band, y, x)``, NaN where there is none."""
        data = _open(self.paths.reflectance, masked=True)
        return data.assign_coords(band=list(data.attrs["long_name"])) if data.sizes["band"] > 1 else data

    @property
    def quality(self) -> xr.DataArray:
        """The :class:`~crgen.pipeline.quality.Quality` class of each pixel, ``(y, x)`` uint8."""
        return _open(self.paths.quality, masked=False).squeeze("band", drop=True)

    @property
    def error(self) -> dict[str, dict[str, float]] | None:
        """RMSE, MAE and PSNR of generated pixels and of copying t1, if the truth is known."""
        return errors(self.tally)


def _open(path: Path, *, masked: bool) -> xr.DataArray:
    data = rioxarray.open_rasterio(path, chunks=1024, mask_and_scale=masked)
    assert isinstance(data, xr.DataArray)
    return data


def errors(tally: Tally) -> dict[str, dict[str, float]] | None:
    """Return the scores of the generated pixels and of copying t1 there; None if no truth was known."""
    if not tally.compared:
        return None
    count = tally.compared * tally.bands
    rmse = np.sqrt(tally.squared / count)
    return {
        name: {
            "RMSE": float(rmse[i]),
            "MAE": float(tally.absolute[i] / count),
            "PSNR": float(-20 * np.log10(max(rmse[i], 1e-6))),
        }
        for i, name in enumerate(("generated", "copy of t1"))
    }


def plan(request: FillRequest, *, estimate: bool = True) -> Plan:
    """Open the inputs, check everything that can be checked without reading pixels, and lay out the work.

    Args:
        request: what is asked.
        estimate: time one batch of windows to estimate the duration.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    device = pick_device(request.device)
    model = load_model(request.weights, device)
    card = model.card
    scene = open_scene(
        request.source,
        aoi=request.aoi,
        t1=request.t1,
        t2=request.t2,
        crs=request.crs,
        s1_units=request.s1_units,
        s2_scale=request.s2_scale,
        card=card,
    )
    paths = Paths(request.out or Path(f"{scene.area.name}_{scene.t1}_{scene.t2}.tif"))
    _check_free(paths, request.overwrite)
    predictor = Predictor(model, device, BATCH)
    grid = ChunkGrid(lattice_box(scene.area.geobox), predictor.lattice, request.chunk)
    rate = measure(predictor) if estimate else 0.0
    return Plan(scene, model, device, paths, grid, request.workers or os.cpu_count() or 1, rate)


def measure(predictor: Predictor, batches: int = 1) -> float:
    """Return windows per second of the bare generator over ``batches``, after one to warm up."""
    card = predictor.model.card
    shapes = [len(card.config.pols), len(card.config.bands), len(card.config.pols)]
    inputs = [torch.zeros(BATCH, n, card.window, card.window, device=predictor.device) for n in shapes]
    with torch.inference_mode():
        predictor.model.generator(*inputs).reflectance.cpu()
        start = time.perf_counter()
        for _ in range(batches):
            predictor.model.generator(*inputs).reflectance.cpu()
    return batches * BATCH / (time.perf_counter() - start)


def _check_free(paths: Paths, overwrite: bool) -> None:
    """Refuse an output that cannot be written, or that would replace what nobody asked to replace."""
    try:
        check_writable(paths.folder)
        in_the_way = [path for path in paths.all if path.is_dir() or (path.exists() and not overwrite)]
    except OSError as error:
        raise OutputError(f"cannot write {paths.reflectance}: {error.strerror}; choose another --out") from error
    if in_the_way:
        hint = "" if in_the_way[0].is_dir() else ", or --overwrite to replace it"
        raise OutputError(f"{in_the_way[0]} exists already: give another --out{hint}")


def fill(
    *,
    t1: datetime.date | str | None = None,
    t2: datetime.date | str | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> Result:
    """Make a cloud-free product of an area at t2.

    Args:
        t1: date of the first pair of images, a date or ``"YYYY-MM-DD"``; None where a local stack says it.
        t2: date of the map, alike.
        out: the reflectance COG to make.
        options: the other fields of :class:`FillRequest`.

    Returns:
        The published product, whose rasters open lazily as xarray.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    return run(
        FillRequest(
            t1=parse_date(t1, "t1"),
            t2=parse_date(t2, "t2"),
            out=None if out is None else Path(out),
            **options,
        )
    )


def parse_date(value: datetime.date | str | None, name: str) -> datetime.date | None:
    """Return the day a person wrote as ``YYYY-MM-DD``.

    Raises:
        RequestError: if it is no such day.
    """
    if value is None or isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise RequestError(f"{name} '{value}' is not a day: write it as YYYY-MM-DD, e.g. 2021-07-22") from None


def run(request: FillRequest, on_windows: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Do what ``request`` asks.

    Args:
        request: what is asked.
        on_windows: called from worker threads with windows just done and windows in all.

    Returns:
        The published product.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    start = time.perf_counter()
    work = plan(request, estimate=False)
    scene, paths, card = work.scene, work.paths, work.model.card
    bands = card.config.bands
    total = work.grid.window_count
    predictor = Predictor(work.model, work.device, BATCH, lambda count: on_windows(count, total))
    reflectance_profile, quality_profile = profiles(scene, card, request.dtype)
    require_space(paths.folder, work.disk // 4, paths.reflectance)
    tally = Tally(bands=len(bands))
    inputs = InputThumbnails(work.grid.output.shape, bands, card.config.pols[0])
    with (
        _workplace(paths) as scratch,
        CogWriter(paths.reflectance, reflectance_profile, work=scratch) as reflectance,
        CogWriter(paths.quality, quality_profile, work=scratch) as quality,
    ):

        def show(chunk: Chunk, data: dict[str, NDArray[np.float32]]) -> None:
            inputs.add(chunk.box.r0 - work.grid.output.r0, chunk.box.c0 - work.grid.output.c0, data)

        def write(chunk: Chunk, result: Composite, counted: Tally) -> None:
            row, col = chunk.box.r0 - work.grid.output.r0, chunk.box.c0 - work.grid.output.c0
            reflectance.write(row, col, _stored(result.reflectance, reflectance_profile))
            quality.write(row, col, result.quality[None])
            tally.add(counted)

        Run(
            reader=StackReader(scene.stack, card.config.pols, bands),
            output=scene.area.geobox,
            polygon=scene.area.polygon if request.clip else None,
            predictor=predictor,
            grid=work.grid,
            generate_all=request.generate_all,
            clear_threshold=request.clear_threshold,
            on_inputs=show,
            on_chunk=write,
        ).compute(work.workers)
        notes = (*scene.notes, *_notes(tally, scene))
        finished = [(reflectance.finish(), paths.reflectance), (quality.finish(), paths.quality)]
        finished.append((picture(scene, paths, inputs, tally, errors(tally)), paths.quicklook))
        item = describe(
            scene,
            paths,
            {"reflectance": reflectance_profile, "quality": quality_profile},
            model=work.model,
            settings=_settings(request, work),
            tally=tally,
            error=errors(tally),
        )
        publish([*finished, (item, paths.item)])
    return Result(paths, tally, notes, time.perf_counter() - start)


@contextlib.contextmanager
def _workplace(paths: Paths) -> Iterator[Path]:
    """Make the product's folder and a hidden one in it for scratch files, also where a killed run left its own.

    Leaving removes all that was not published, and folders made for nothing.
    """
    new = [path for path in (paths.folder, *paths.folder.parents) if not path.exists()]
    scratch = paths.folder / f".{paths.reflectance.name}.scratch"
    try:
        try:
            paths.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write {paths.reflectance}: {error.strerror}; choose another --out") from error
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        discard(paths.all)
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir()


def _stored(reflectance: NDArray[np.float64], profile: RasterProfile) -> NDArray[Any]:
    if profile.dtype == "float32":
        return reflectance.astype(np.float32)
    dn = np.round(reflectance * REFLECTANCE_SCALE).clip(1, MAX_DN)
    return np.where(np.isnan(dn), profile.nodata, dn).astype(np.uint16)


def _notes(tally: Tally, scene: Scene) -> tuple[str, ...]:
    """Return what a person should know about the inputs.

    Raises:
        StackError: if nothing could be made at all.
    """
    if not tally.inside:
        raise StackError("the area holds no pixel centre; enlarge it, or leave --clip out")
    if tally.made == 0:
        variable = max(tally.missing, key=lambda name: tally.missing[name])
        raise StackError(
            f"no pixel could be made: '{variable}' is missing at {100 * tally.missing[variable] / tally.inside:.0f} % "
            f"of the area, and t2 was not seen clear; nothing was written. Look for another date, or another area"
        )
    return tuple(
        f"{name} is missing at {100 * count / tally.inside:.1f} % of the area"
        for name, count in tally.missing.items()
        if count
    )


def _settings(request: FillRequest, work: Plan) -> dict[str, Any]:
    settings = {name: value for name, value in asdict(request).items() if name not in ("out", "overwrite", "workers")}
    settings |= {"t1": work.scene.t1.isoformat(), "t2": work.scene.t2.isoformat()}
    return settings | {"device": work.device, "batch": BATCH, "window": work.model.card.window}
