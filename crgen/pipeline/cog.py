"""Cloud-Optimized GeoTIFFs that appear whole or not at all.

Blocks arrive from any thread in any order and go to a tiled scratch GeoTIFF; GDAL's COG driver then copies
it, with overviews, statistics and every tag already in place, to a hidden file beside the target. That file
is read back and compared with what was written before it is published, because GDAL can report success after
the disk ran full. The same pixels give the same bytes, whatever the order they arrived in.

The COG interleaves bands by pixel: a colour display asks for three bands of one place at a time, and one
range request then fetches them; it is also the only layout of GDAL's COG driver before GDAL 3.11.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.shutil import copy as gdal_copy
from rasterio.windows import Window

from crgen.errors import OutputError
from crgen.pipeline.files import discard, free_space, partial_name, require_space, size_text, sync

BLOCK = 512
OVERVIEWS = 4 / 3
"""Size of a raster with its overviews over its size without: 1 + 1/4 + 1/16 + …"""

WRITE_ERRORS = (OSError, RasterioError, CPLE_BaseError, SystemError)
"""What a failing disk can raise: rasterio turns a GDAL failure without a message into a SystemError."""

Colour = tuple[int, int, int, int]


@dataclass(frozen=True)
class RasterProfile:
    """What a raster is, beside its pixels."""

    geobox: GeoBox
    bands: tuple[str, ...]
    """Band descriptions, in order; Sentinel-2 bands by Earth Engine's names (``"B4"``)."""
    dtype: Literal["uint8", "uint16", "float32"]
    nodata: float
    scale: float = 1.0
    """``value = stored * scale + offset``."""
    offset: float = 0.0
    units: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[int, Colour] | None = None
    """RGBA by value; makes the raster categorical: a palette, and overviews by majority."""

    @property
    def nbytes(self) -> int:
        """Size of the pixels in memory, uncompressed."""
        height, width = self.geobox.shape
        return int(height * width * len(self.bands) * np.dtype(self.dtype).itemsize)

    @property
    def colour_interpretation(self) -> tuple[ColorInterp, ...]:
        """Palette, or what :func:`display_bands` shows as red, green and blue, or as gray."""
        if self.colours is not None:
            return (ColorInterp.palette,)
        shown = display_bands(self.bands)
        guns = (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if len(shown) == 3 else (ColorInterp.gray,)
        by_band = dict(zip(shown, guns, strict=True))
        return tuple(by_band.get(band, ColorInterp.undefined) for band in self.bands)


def display_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the bands to show as red, green and blue, or the first alone where there are fewer than three.

    True colour (B4, B3, B2) where all three exist, else the first three as a false colour.
    """
    if {"B4", "B3", "B2"} <= set(bands):
        return ("B4", "B3", "B2")
    return tuple(bands[:3]) if len(bands) >= 3 else tuple(bands[:1])


class CogWriter:
    """Write one COG block by block; leaving the ``with`` block removes whatever was not published.

    Args:
        path: the file to make. It is not touched before :func:`~crgen.pipeline.files.publish`.
        profile: its grid, bands and metadata.
        work: folder for the scratch file, about as large as the product; made if missing.

    Raises:
        OutputError: if the scratch file cannot be made.
    """

    def __init__(self, path: Path, profile: RasterProfile, *, work: Path) -> None:
        self.path = path
        self.profile = profile
        self._scratch = work / f"{path.name}.scratch.tif"
        self._partial = partial_name(path)
        self._checksums: dict[tuple[int, int, int, int], int] = {}
        self._lock = threading.Lock()
        try:
            work.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            discard([self.path])
            self._dataset = _create(self._scratch, profile)
        except WRITE_ERRORS as error:
            raise self._failure(work, error) from error

    def write(self, row: int, col: int, array: NDArray[Any]) -> None:
        """Write the block whose upper left pixel is ``(row, col)``; safe from any thread.

        Blocks may have any size and come in any order but must not overlap, unless the same block comes
        again. Pixels never written are nodata.

        Args:
            row: first row of the block.
            col: first column of the block.
            array: ``(band, y, x)`` in the profile's dtype.

        Raises:
            OutputError: if the disk is full or fails.
            ValueError: if the block does not fit the raster.
        """
        count, height, width = array.shape
        rows, cols = self.profile.geobox.shape
        if count != len(self.profile.bands) or array.dtype != self.profile.dtype:
            expected = f"{len(self.profile.bands)} in {self.profile.dtype}"
            raise ValueError(f"block of {count} bands in {array.dtype}, expected {expected}")
        if row < 0 or col < 0 or row + height > rows or col + width > cols:
            raise ValueError(f"block {height} × {width} at ({row}, {col}) leaves the {rows} × {cols} raster")
        checksum = _checksum(array)
        try:
            with self._lock:
                require_space(self._scratch.parent, array.nbytes, self.path)
                self._dataset.write(array, window=Window(col, row, width, height))
                self._checksums[row, col, height, width] = checksum
        except WRITE_ERRORS as error:
            raise self._failure(self._scratch.parent, error) from error

    def finish(self) -> Path:
        """Make the COG beside the target, compare it with what was written, and bring it to the disk.

        Returns:
            The finished file under its hidden name, for :func:`~crgen.pipeline.files.publish`.

        Raises:
            OutputError: if it cannot be written, or does not read back as written.
        """
        try:
            self._dataset.close()
            require_space(self.path.parent, int(self._scratch.stat().st_size * OVERVIEWS), self.path)
            with rasterio.Env(GDAL_PAM_ENABLED="NO"):  # type: ignore[no-untyped-call]
                gdal_copy(self._scratch, self._partial, driver="COG", **self._cog_options())
            self._verify()
            sync(self._partial)
            self._scratch.unlink()
        except WRITE_ERRORS as error:
            raise self._failure(self.path.parent, error) from error
        return self._partial

    def discard(self) -> None:
        """Remove the scratch file and, if it was not published, the finished one."""
        with contextlib.suppress(*WRITE_ERRORS):  # what cannot be flushed is thrown away anyway
            self._dataset.close()
        self._scratch.unlink(missing_ok=True)
        discard([self.path])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _cog_options(self) -> dict[str, Any]:
        return {
            "blocksize": BLOCK,
            "compress": "DEFLATE",
            "predictor": "FLOATING_POINT" if self.profile.dtype == "float32" else "STANDARD",
            "overview_resampling": "AVERAGE" if self.profile.colours is None else "MODE",
            "statistics": "YES",
            "bigtiff": "IF_SAFER",
            "num_threads": "ALL_CPUS",
        }

    def _verify(self) -> None:
        with rasterio.open(self._partial, num_threads="ALL_CPUS") as cog:
            for (row, col, height, width), checksum in sorted(self._checksums.items()):
                if _checksum(cog.read(window=Window(col, row, width, height))) != checksum:
                    raise OSError(f"rows {row} to {row + height} do not read back as written")

    def _failure(self, folder: Path, error: BaseException) -> OutputError:
        need = size_text(self.profile.nbytes * OVERVIEWS)
        free = size_text(free_space(folder))
        return OutputError(
            f"cannot write {self.path}: {_reason(error)} (up to {need} needed in {folder}, {free} free); "
            "free some space there or choose another folder"
        )


def band_statistics(path: Path) -> list[dict[str, float]]:
    """Return the statistics a COG holds of each band's stored values, before scale and offset.

    Returns:
        By band ``minimum``, ``maximum``, ``mean``, ``stddev`` and ``valid_percent``; only the last where no
        pixel is valid.
    """
    with rasterio.open(path) as cog:
        tags = [cog.tags(band) for band in cog.indexes]
    names = ("minimum", "maximum", "mean", "stddev", "valid_percent")
    keys = {name: f"STATISTICS_{name.upper()}" for name in names}
    return [{name: float(band[key]) for name, key in keys.items() if key in band} for band in tags]


def _create(path: Path, profile: RasterProfile) -> Any:
    height, width = profile.geobox.shape
    dataset = rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=len(profile.bands),
        dtype=profile.dtype,
        nodata=profile.nodata,
        crs=str(profile.geobox.crs),
        transform=profile.geobox.affine,
        photometric="MINISBLACK" if profile.colours is None else "PALETTE",
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        interleave="pixel",
        compress="ZSTD",
        zstd_level=1,
        bigtiff="IF_SAFER",
        sparse_ok=True,
    )
    if profile.colours is not None:
        dataset.write_colormap(1, dict(profile.colours))
    dataset.colorinterp = profile.colour_interpretation
    dataset.scales = (profile.scale,) * dataset.count
    dataset.offsets = (profile.offset,) * dataset.count
    dataset.units = (profile.units,) * dataset.count
    dataset.descriptions = profile.bands
    dataset.update_tags(**profile.tags)
    return dataset


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, SystemError):
        return "the disk did not take the data"
    return f"the disk did not take the data, GDAL says '{str(error.__cause__ or error).strip()}'"
