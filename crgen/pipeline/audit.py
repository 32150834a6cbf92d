"""`crgen audit`: a map scored against a clear Sentinel-2 image that has come since."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import numpy as np
import rasterio
import xarray as xr
from filelock import FileLock
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from scipy.ndimage import uniform_filter

from crgen.errors import OutputError, RequestError, StackError
from crgen.files import told_after, write_whole
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.request import EarthEngine, FillRequest
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.stack import require_two_dates
from crgen.pipeline.tiling.composite import seen_clear
from crgen.pipeline.tiling.quality import GENERATED_CLASSES
from crgen.pipeline.tiling.reader import StackReader
from crgen.pipeline.tiling.water import UNKNOWN, told_by_image

RECORD = "track_record.csv"
DAYS = 20
"""Days after t2 within which an image still tells of it."""
STAYED = 2.0
"""Change of radar in dB, mean over :data:`SIDE` × SIDE pixels, up
to which ground counts as unchanged: twice what speckle does."""
SIDE = 5
"""Pixels of the square over which radar is averaged."""
STRIP = 512
"""Rows at once."""


class NotYetError(StackError):
    """No later image tells of a map so far."""


class Audit(NamedTuple):
    """What became of a map."""

    path: Path
    """Where the result stands, beside the Item."""
    scores: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def line(self) -> str:
        """The result in one line."""
        s = self.scores
        held = f", {100 * s['interval_held']:.0f} % within their interval (90 is right)" if "interval_held" in s else ""
        water = f", water F1 {s['water_F1']:.2f}" if s.get("water_F1") is not None else ""
        return (
            f"against Sentinel-2 of {s['day']}, {s['days_after']} days after: RMSE {s['RMSE']:.3f}, PSNR "
            f"{s['PSNR']:.1f} dB over {s['pixels']:,} generated pixels ({100 * s['share']:.0f} % of them){held}{water}"
        )


def audit(
    product: Path,
    against: Path | None = None,
    *,
    s1_units: Literal["dB", "linear"] = "dB",
    s2_scale: float = 1.0,
    s2_offset: float = 0.0,
    clear_threshold: float = FillRequest.clear_threshold,
    earth_engine: EarthEngine | None = None,
    unless: datetime.date | None = None,
) -> Audit:
    """Score a map where it was generated, the later image is clear, and the radar did not change in between.

    Leaves ``NAME_audit.json`` beside the Item, and a line in the folder's ``track_record.csv``, in place of one of the
    same map and day.

    Args:
        product: its reflectance COG or its STAC Item.
        against: a stack whose t1 is the map's t2 and whose t2 is the day of the later image, with ``s2_t2`` and
            ``clear_t2``, e.g. from ``crgen pull``. None for what Earth Engine has by now: of the days on which
            Sentinel-2 saw some of the area clear, the clearest that tells something.
        s1_units: unit of the stack's backscatter.
        s2_scale: factor from the stack's Sentinel-2 to reflectance.
        s2_offset: added after that factor.
        clear_threshold: clear-sky score from which a pixel of the later image counts.
        earth_engine: how to ask it.
        unless: a day that the map was scored against already: nothing is done where it is the clearest still.

    Raises:
        OutputError: if there is no product or it is damaged, or the result cannot be written.
        RequestError: if the stack is of other days, or a value makes no sense.
        StackError: if it lacks something, or nothing can be compared.
        NotYetError: if no image that has come tells of the map, or none clearer than that of ``unless``.
        SourceError: if Earth Engine cannot be asked.
    """
    asked = FillRequest(s1_units=s1_units, s2_scale=s2_scale, s2_offset=s2_offset, clear_threshold=clear_threshold)
    item = _item(Paths(product))
    paths = Paths(Paths(product).item.parent / unquote(item["assets"]["reflectance"]["href"]))
    with _opened(paths.reflectance) as map_:
        grid, bands = GeoBox.from_rio(map_), tuple(map_.descriptions)
    if against is None:
        shared = bands
        day, found = _come_since(paths, item, grid, earth_engine or EarthEngine(), asked.clear_threshold, unless)
    else:
        stack = open_stack(
            against,
            s1_units=asked.s1_units,
            s2_scale=asked.s2_scale,
            s2_offset=asked.s2_offset,
            geobox=grid,
        )
        require_two_dates(stack, f"'{against}'")
        day = _day(item, json.loads(stack.attrs["manifest"]), against)
        if missing := [name for name in ("s2_t2", "clear_t2") if name not in stack]:
            raise StackError(f"'{against}' has no {' and no '.join(missing)}: nothing of it is known to be clear")
        held = [str(band) for band in stack["s2_t2"].band.values]
        shared = tuple(band for band in bands if band in held)
        if not shared:
            raise StackError(
                f"'{against}' holds none of the map's bands {', '.join(bands)}; it holds {', '.join(held)}"
            )
        found = _compare(paths, stack, bands, shared, asked.clear_threshold)
        if not found["pixels"]:
            raise StackError(
                f"nothing can be compared: of {found['generated']:,} generated pixels none is clear on {day} over "
                "ground whose radar stayed; look for another day"
            )
    t2 = _t2(item)
    scores = {
        "product": paths.reflectance.stem,
        "t2": t2.isoformat(),
        "day": day.isoformat(),
        "days_after": (day - t2).days,
        "weights": item["properties"]["crgen:model"]["name"],
        **_scores(found, shared),
    }
    notes = tuple(
        f"{what}: a product of an earlier crgen, or of weights without it"
        for what, path in (("no water is scored", paths.water), ("no intervals are scored", paths.half_width))
        if not path.exists()
    )
    write_whole(paths.audit, json.dumps(scores, indent=1).encode())
    _record(paths.folder, scores)
    return Audit(paths.audit, scores, notes)


def _item(paths: Paths) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(paths.item.read_bytes())
        item["properties"]["crgen:t2"], item["properties"]["crgen:model"]["name"], item["assets"]["reflectance"]["href"]
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(
            f"cannot audit {paths.reflectance}: {paths.item} is missing or no Item of crgen's; give a product by its "
            ".tif or its .json"
        ) from None
    return item


def _opened(path: Path) -> Any:
    """Open a raster of the product."""
    try:
        return rasterio.open(path)
    except RasterioIOError as error:
        raise _damaged(path, error) from None


def _read(raster: Any, bands: int | list[int], window: Window) -> NDArray[Any]:
    """Read a window of a raster of the product."""
    try:
        values: NDArray[Any] = raster.read(bands, window=window)
    except RasterioIOError as error:
        raise _damaged(raster.name, error) from None
    return values


def _damaged(path: Path | str, error: Exception) -> OutputError:
    return OutputError(f"cannot read {path}: {error}; 'crgen verify' says what is wrong")


def _t2(item: Mapping[str, Any]) -> datetime.date:
    return datetime.date.fromisoformat(item["properties"]["crgen:t2"])


def _day(item: Mapping[str, Any], manifest: Mapping[str, Any], against: Path) -> datetime.date:
    """Return the day of the later image."""
    t2 = _t2(item)
    if not {"t1", "t2"} <= manifest.keys():
        raise RequestError(f"'{against}' does not say its t1 and t2: pull it with --t1 {t2} and --t2 the later day")
    first, day = (datetime.date.fromisoformat(manifest[name]) for name in ("t1", "t2"))
    if first != t2:
        raise RequestError(f"the t1 of '{against}' is {first}, but the map shows {t2}: pull it with --t1 {t2}")
    if not 0 < (day - t2).days <= DAYS:
        raise RequestError(f"'{against}' is of {day}: give one of 1 to {DAYS} days after the map's {t2}")
    return day


def _come_since(
    paths: Paths,
    item: Mapping[str, Any],
    grid: GeoBox,
    options: EarthEngine,
    clear_threshold: float,
    unless: datetime.date | None,
) -> tuple[datetime.date, dict[str, Any]]:
    """Return the clearest day of Earth Engine's that tells something of a map, and what it tells."""
    from crgen.pipeline.source.earthengine.acquire import open_later  # loads Google's libraries

    with _opened(paths.reflectance) as map_:
        bands = tuple(map_.descriptions)
    first, last = (_t2(item) + datetime.timedelta(days) for days in (1, DAYS))
    for day, stack in open_later(options, item, grid, bands, first=first, last=last):
        if day == unless:
            raise NotYetError(
                f"no Sentinel-2 of {first} to {last} is clearer over {paths.reflectance} than that of {day}"
            )
        found = _compare(paths, stack, bands, bands, clear_threshold)
        if found["pixels"]:
            return day, found
    raise NotYetError(
        f"nothing tells of {paths.reflectance} yet: no Sentinel-2 of {first} to {last} that Earth Engine has shows "
        "generated pixels clear over ground whose radar stayed"
    )


def _compare(
    paths: Paths,
    stack: xr.Dataset,
    bands: tuple[str, ...],
    shared: tuple[str, ...],
    clear_threshold: float,
) -> dict[str, Any]:
    """Return sums over the pixels that can be compared, strip by strip."""
    held = [str(band) for band in stack["s2_t2"].band.values]
    reader = StackReader(stack, (str(stack.pol.values[0]),), tuple(held))
    at_map, at_stack = [bands.index(band) + 1 for band in shared], [held.index(band) for band in shared]
    sums: dict[str, Any] = {
        "pixels": 0,
        "generated": 0,
        "error": np.zeros(len(shared)),
        "square": np.zeros(len(shared)),
    }
    with _opened(paths.reflectance) as map_, _opened(paths.quality) as quality:
        scale = map_.scales[0]
        for row in range(0, map_.height, STRIP):
            rows = min(STRIP, map_.height - row)
            window = Window(0, row, map_.width, rows)
            box = reader.box._replace(r0=reader.box.r0 + row, r1=reader.box.r0 + row + rows)
            margin = box.grow(SIDE // 2)
            own = box.slices(margin)
            made = np.isin(_read(quality, 1, window), GENERATED_CLASSES)
            sums["generated"] += int(made.sum())
            data = reader.read(box, ("s2_t2", "clear_t2"))
            radar = reader.read(margin, ("s1_t1", "s1_t2"))
            clear = seen_clear(data["s2_t2"], data["clear_t2"], clear_threshold)
            compared = made & clear & _stayed(radar["s1_t1"][0], radar["s1_t2"][0])[own]
            if not compared.any():
                continue
            truth = data["s2_t2"][at_stack]
            error = _read(map_, at_map, window) * scale - truth
            sums["pixels"] += int(compared.sum())
            sums["error"] += error[:, compared].sum(1)
            sums["square"] += np.square(error[:, compared], dtype=np.float64).sum(1)
            if paths.half_width.exists():
                with _opened(paths.half_width) as widths:
                    width = _read(widths, at_map, window) * widths.scales[0]
                inside = (np.abs(error) <= width)[:, compared]
                sums["held"] = sums.get("held", 0) + int(inside.sum())
            if paths.water.exists():
                _count_water(sums, paths.water, window, told_by_image(data["s2_t2"], compared, held))
    return sums


def _stayed(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where the radar of two days is the same but for speckle; not where it is missing."""

    def smooth(db: NDArray[np.float32]) -> NDArray[np.float64]:
        power = uniform_filter(10 ** (np.nan_to_num(db, nan=-60.0).astype(np.float64) / 10), SIDE)
        return np.asarray(10 * np.log10(power + 1e-9))

    same = np.abs(smooth(after) - smooth(before)) <= STAYED
    return np.asarray(np.isfinite(before) & np.isfinite(after) & same)


def _count_water(sums: dict[str, Any], path: Path, window: Window, told: NDArray[np.uint8]) -> None:
    with _opened(path) as raster:
        p = _read(raster, 1, window)
    known = (told != UNKNOWN) & (p != UNKNOWN)
    called, is_water = p[known] >= 50, told[known] == 100
    for name, case in (("hits", called & is_water), ("wrong", called != is_water)):
        sums[name] = sums.get(name, 0) + int(case.sum())
    sums["known"] = sums.get("known", 0) + int(known.sum())
    sums["brier"] = sums.get("brier", 0.0) + float(np.square(p[known] / 100 - is_water).sum())


def _scores(found: Mapping[str, Any], bands: tuple[str, ...]) -> dict[str, Any]:
    rmse = math.sqrt(float(found["square"].mean()) / found["pixels"])
    scores = {
        "pixels": found["pixels"],
        "share": round(found["pixels"] / found["generated"], 4),
        "RMSE": round(rmse, 5),
        "PSNR": round(-20 * math.log10(max(rmse, 1e-6)), 3),
        "bias": {b: round(float(e) / found["pixels"], 5) for b, e in zip(bands, found["error"], strict=True)},
    }
    if "held" in found:
        scores["interval_held"] = round(found["held"] / found["pixels"] / len(bands), 4)
    if found.get("known"):
        right = 2 * found["hits"]
        scores["water_F1"] = round(right / (right + found["wrong"]), 4) if right + found["wrong"] else None
        scores["water_Brier"] = round(found["brier"] / found["known"], 5)
    return scores


COLUMNS = (
    *("product", "t2", "day", "days_after", "weights", "pixels", "share", "RMSE", "PSNR"),
    *("interval_held", "water_F1", "water_Brier"),
)


def _record(folder: Path, scores: Mapping[str, Any]) -> None:
    """Put the line into the folder's record, in place of one of the same map and day."""
    path = folder / RECORD
    lock = folder / f".{RECORD}.lock"
    with told_after(f"waiting for {lock}, which another audit holds while it writes"):
        held = FileLock(lock).acquire()
    with held:
        lines: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                lines = list(csv.DictReader(file))
        key = (scores["product"], scores["day"])
        lines = [line for line in lines if (line.get("product"), line.get("day")) != key]
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows([*lines, scores])
        write_whole(path, content.getvalue().encode())
