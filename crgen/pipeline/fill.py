"""`crgen fill`: from an area and two dates to a cloud-free, georeferenced product."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.errors import OutputError
from crgen.pipeline.cog import CogWriter, RasterProfile
from crgen.pipeline.composite import Composite
from crgen.pipeline.earthengine import EarthEngine
from crgen.pipeline.files import discard, publish, require_space
from crgen.pipeline.plan import plan, settings_of
from crgen.pipeline.predict import BATCH, MAX_DN, REFLECTANCE_SCALE, Predictor
from crgen.pipeline.product import Paths, describe, picture, profiles
from crgen.pipeline.quicklook import InputThumbnails
from crgen.pipeline.request import FillRequest, parse_date
from crgen.pipeline.result import Result, errors, notes_on
from crgen.pipeline.runner import Run, StackReader, Tally
from crgen.pipeline.windows import Chunk


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
        options: the other fields of :class:`FillRequest`, and those of
            :class:`~crgen.pipeline.earthengine.EarthEngine`.

    Returns:
        The published product, whose rasters open lazily as xarray.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    earth_engine = EarthEngine(**{f.name: options.pop(f.name) for f in fields(EarthEngine) if f.name in options})
    return run(
        FillRequest(
            earth_engine=earth_engine,
            t1=parse_date(t1, "t1"),
            t2=parse_date(t2, "t2"),
            out=None if out is None else Path(out),
            **options,
        )
    )


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
        notes = (*scene.notes, *notes_on(tally, scene))
        finished = [(reflectance.finish(), paths.reflectance), (quality.finish(), paths.quality)]
        finished.append((picture(scene, paths, inputs, tally, errors(tally)), paths.quicklook))
        item = describe(
            scene,
            paths,
            {"reflectance": reflectance_profile, "quality": quality_profile},
            model=work.model,
            settings=settings_of(request, work),
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
