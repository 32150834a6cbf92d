"""Earth Engine images of frozen scenes: one expression per variable, computed by the service.

Every image ends with a band ``valid`` (1 or 0), because NPY carries no mask and a masked pixel would arrive as 0. All
bands of an optical scene share one mask, so that no pixel takes its bands, or its clear-sky score, from different
scenes. Polarisations keep masks of their own: where only one is there, the other arrives as ``NO_SIGNAL``.

Optical resampling is bilinear, and counts only where all of a pixel's weight is valid: how the service weighs masked
neighbours is not documented.

Of radar the nearest pixel is taken. Every scene lies on a lattice of its own, so that bilinear weights would differ
between dates, and speckle's deviation with them, from as measured to half of it: a change that no ground made. Terrain
correction leaves about one pixel open between two slices of a pass: it is filled with the mean power around.

Radar is clamped from below (``FLOOR``), never masked by its value inside a scene. Over calm water thermal noise, which
the processor subtracts, outweighs the signal in many single pixels (speckle of 4.4 looks): they hold −30 dB or far less
and are measurements all the same. Border noise, on the other hand, lies along the edges of scenes from before IPF 2.90
alone, and only there a low value means that nothing was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from crgen.gee.manifest import S1, SCORE_BAND, WATER_BAND, Manifest, Scene

FLOOR = {"VV": -30.0, "VH": -35.0}
"""Backscatter in dB that lower values are raised to, or near the edge of an old scene count as border noise: below the
noise floor (−22 to −30 dB) differences say nothing about the ground."""
NO_BORDER_NOISE_FROM = date(2018, 3, 13)
"""IPF 2.90 masks border noise itself. The day decides, because later products do not all state their version."""
BORDER = 5000.0
"""Metres from the footprint's edge within which border noise is looked for: 500 pixels, as ESA's SNAP does."""
NO_SIGNAL = -99.0
"""Stands for a polarisation that is missing where another is there, in dB: far below ``FLOOR``, so never measured."""
TEN_METRES = frozenset({"B2", "B3", "B4", "B8"})
"""Bands that Sentinel-2 tiles, and Cloud Score+, have on the 10 m lattice of their UTM zone."""
VALID, CLEAR = "valid", "clear"
NO_SCORE = -1.0
WHOLE = 0.99
"""Mask that counts as 1 but for rounding: resampled pixels have fractional ones, and stored ones may."""
SCALE = {"u2": np.float32(1e-4), "u1": np.float32(0.01), "f4": np.float32(1)}
"""By dtype: reflectance of a digital number (HARMONIZED has the offset of baseline 04.00 removed already), the share
of a per cent, and what comes in its own unit."""


@dataclass(frozen=True)
class Layer:
    """What one variable's pixels are computed from, and how they arrive."""

    name: str
    """``s1_t1``, ``s2_t2``, …"""
    expression: str
    """The serialised image, JSON: cache key and provenance."""
    bands: tuple[tuple[str, str], ...]
    """Name and dtype of each band as it arrives; the last is ``valid``."""
    scenes: int = 1
    """Scenes that a pixel is computed from, those that decide alone which one shows among them."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a pixel as it arrives."""
        return np.dtype(list(self.bands))

    @property
    def channels(self) -> int:
        """Bands of :meth:`decode`'s result."""
        return len(self.bands) - 1

    @property
    def request_bytes(self) -> int:
        """What a pixel counts against the limit of a request: its bytes and a mask byte per band."""
        return self.dtype.itemsize + len(self.bands)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the expression."""
        return hashlib.sha256(self.expression.encode()).hexdigest()

    def decode(self, tile: NDArray[Any]) -> NDArray[np.float32]:
        """Return pixels in the Stack's units, ``(channel, y, x)`` float32, NaN where missing.

        Sentinel-1 in dB; Sentinel-2 as reflectance, with the clear-sky score as its last channel; occurrence of water
        as a share.
        """
        valid = tile[VALID] == 1
        planes = np.full((self.channels, *tile.shape), np.nan, np.float32)
        for plane, (name, dtype) in zip(planes, self.bands[:-1], strict=True):
            absent = NO_SCORE if name.startswith(CLEAR) else NO_SIGNAL
            # A value that is not finite was measured nowhere: asking again would bring the same.
            keep = valid if dtype != "f4" else valid & np.isfinite(tile[name]) & (tile[name] > absent)
            plane[keep] = tile[name][keep] * SCALE[dtype]
        return planes


def layers(manifest: Manifest) -> list[Layer]:
    """Return the layer of every variable that has scenes, with all of them; the client must be connected."""
    radar = {name: scenes for name, scenes in manifest.scenes.items() if name.startswith("s1")}
    return [
        layer_of(manifest, name, scenes, [held for other, held in radar.items() if other != name])
        for name, scenes in manifest.scenes.items()
    ]


def layer_of(manifest: Manifest, name: str, scenes: Sequence[Scene], others: Sequence[Sequence[Scene]] = ()) -> Layer:
    """Return a variable's layer of some scenes; of radar, ``others`` are those of each other date."""
    if name.startswith("s1"):
        image = radar_image(scenes, manifest.pols, others)
    else:
        image = optical_image(scenes, manifest.bands, manifest.area.geobox)
    held = sum(map(len, (scenes, *others)))
    return Layer(name, image.serialize(for_cloud_api=True), bands_of(name, manifest), held)


def past_together(manifest: Manifest, days: Mapping[str, Sequence[date]]) -> list[Layer]:
    """Return Sentinel-1 of several of the past's days in one layer ``s1_past``, and Sentinel-2 in another, ``s2_past``.

    So a small place takes few requests. Their channels follow each other day by day; where a day shows nothing, radar
    and the clear-sky score are missing, and digital numbers 0.

    Args:
        manifest: the scenes.
        days: which days, by layer.
    """
    now = [manifest.scenes[name] for name in ("s1_t1", "s1_t2") if name in manifest.scenes]
    made = []
    for name, chosen in days.items():
        if not chosen:
            continue
        images = []
        for at, day in enumerate(chosen):
            if name == "s1_past":
                image = radar_like(manifest.past[f"s1_{day}"], manifest.pols, now)
                image = _shown(image, manifest.pols, NO_SIGNAL)
                names = list(manifest.pols)
            else:
                image = optical_image(manifest.past[f"s2_{day}"], manifest.bands, manifest.area.geobox)
                image = image.select(list(manifest.bands)).addBands(_shown(image, [CLEAR], NO_SCORE))
                names = [*manifest.bands, CLEAR]
            images.append(image.rename([f"{band}_{at}" for band in names]))
        bands = [(f"{band}_{at}", dtype) for at in range(len(chosen)) for band, dtype in bands_of(name, manifest)[:-1]]
        together = images[0]
        for image in images[1:]:
            together = together.addBands(image)
        together = _all_valid(together)
        held = sum(len(manifest.past[f"{name[:2]}_{day}"]) for day in chosen)
        made.append(Layer(name, together.serialize(for_cloud_api=True), (*bands, (VALID, "u1")), held))
    return made


def water_layer(asset: str, name: str) -> Layer:
    """Return the layer ``name`` of how often there was water, by the nearest pixel of the JRC's map."""
    import ee

    image = _flagged(ee.Image(asset).select([WATER_BAND])).unmask(0, False).toByte()
    return Layer(name, image.serialize(for_cloud_api=True), ((WATER_BAND, "u1"), (VALID, "u1")))


def _shown(image: Any, names: Sequence[str], missing: float) -> Any:
    """Return bands of an image, ``missing`` where it is not valid."""
    return image.select(list(names)).updateMask(image.select([VALID])).unmask(missing, False).toFloat()


def _all_valid(image: Any) -> Any:
    """Add the band ``valid``, 1 everywhere."""
    import ee

    return image.addBands(ee.Image.constant(1).rename([VALID]).toByte())


def bands_of(variable: str, manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """Return name and dtype of each band of a variable's image."""
    if variable.startswith("s1"):
        return (*((pol, "f4") for pol in manifest.pols), (VALID, "u1"))
    return (*((band, "u2") for band in manifest.bands), (CLEAR, "f4"), (VALID, "u1"))


def radar_image(scenes: Sequence[Scene], pols: Sequence[str], others: Sequence[Sequence[Scene]] = ()) -> Any:
    """Return backscatter in dB and ``valid``: clamped, border noise masked, scenes mosaicked, the first on top.

    Scenes come with thermal noise removed, calibrated and terrain-corrected on a lattice of each one's own.

    Of several orbits, each shows only where it has pixels at every date: else, where one is missing at one date (swaths
    shift by hundreds of metres, slices get lost), another would show there, and geometry would look like change.

    Args:
        scenes: of one date.
        pols: polarisations, the bands.
        others: the scenes of each other date.
    """
    import ee

    def of_orbit(orbit: tuple[int, str]) -> Any:
        image, *elsewhere = (
            _pass([scene for scene in date if scene.geometry == orbit], pols)
            for date in (scenes, *others)
            if any(scene.geometry == orbit for scene in date)
        )
        for other in elsewhere:
            image = image.updateMask(other.mask())
        return image

    orbits = list(dict.fromkeys(scene.geometry for scene in scenes))
    if len(orbits) == 1:
        images = [_pass(scenes, pols)]
    else:
        partial = [of_orbit(orbit) for orbit in orbits]
        # An orbit that lacks a polarisation at a pixel shows there only where no other has all.
        images = [*(image.updateMask(image.mask().reduce(ee.Reducer.min())) for image in partial), *partial]
    return _in_decibel(images, pols)


def radar_like(scenes: Sequence[Scene], pols: Sequence[str], dates: Sequence[Sequence[Scene]]) -> Any:
    """Return what :func:`radar_image` does, of another day: each pixel of the orbit that it shows there at ``dates``.

    Where that orbit was not heard on that day, nothing is there: another's would differ by geometry alone.

    Args:
        scenes: of the day.
        pols: polarisations, the bands.
        dates: the scenes of each date.
    """
    import ee

    orbits = list(dict.fromkeys(scene.geometry for scene in dates[0]))
    if len(orbits) == 1:
        return radar_image(scenes, pols)
    complete, partial = [], []
    for number, orbit in enumerate(orbits):
        held = ([scene for scene in date if scene.geometry == orbit] for date in dates)
        mask, *others = (_pass(there, pols).mask() for there in held if there)
        for other in others:
            mask = mask.min(other)
        shown = ee.Image.constant(number)
        complete.append(shown.updateMask(mask.reduce(ee.Reducer.min())))
        partial.append(shown.updateMask(mask.reduce(ee.Reducer.max())))
    chosen = _stacked([*complete, *partial])
    images = []
    for number, orbit in enumerate(orbits):
        if heard := [scene for scene in scenes if scene.geometry == orbit]:
            images.append(_pass(heard, pols).updateMask(chosen.eq(number)))
    return _in_decibel(images, pols)


def _in_decibel(images: Sequence[Any], pols: Sequence[str]) -> Any:
    """Return images of power as one in dB, the first on top, and ``valid``."""
    image = _mosaic([_flagged(_filled(image.log10().multiply(10))) for image in images])
    return image.select(list(pols)).toFloat().addBands(image.select([VALID]).toByte())


def _pass(scenes: Sequence[Scene], pols: Sequence[str]) -> Any:
    """Return the power of a pass's scenes, clamped, without border noise, and with the seams between them closed."""
    import ee

    floor = ee.Image.constant([10 ** (FLOOR[pol] / 10) for pol in pols]).rename(list(pols))

    def one(scene: Scene) -> Any:
        power = ee.Image(scene.id).select(list(pols))
        if not scene.id.startswith(f"{S1}/"):
            power = ee.Image.constant(10).pow(power.divide(10))
        if scene.time.date() < NO_BORDER_NOISE_FROM:
            power = power.updateMask(power.gte(floor).Or(_away_from_edge(scene)))
        return power.max(floor)

    image = _stacked([one(scene) for scene in scenes])
    return image if len(scenes) == 1 else _closed(image)


def _closed(image: Any) -> Any:
    """Fill gaps of up to two pixels with the mean of their neighbours; wider ones and the outline stay."""
    closed = image.mask().focalMax(1, "square").focalMin(1, "square")
    return image.unmask(image.focalMean(1, "square").updateMask(closed), False)


def _away_from_edge(scene: Scene) -> Any:
    """Return 1 where a scene's footprint reaches ``BORDER`` further in every direction, 0 elsewhere."""
    import ee

    footprint = shapely.geometry.shape(scene.footprint)
    middle = np.array([footprint.centroid.x, footprint.centroid.y])
    metres = np.array([111_320 * np.cos(np.deg2rad(middle[1])), 110_570.0])
    inner = shapely.transform(footprint, lambda lonlat: (lonlat - middle) * metres).buffer(-BORDER)
    if inner.is_empty:
        return ee.Image.constant(0)
    inner = shapely.transform(inner, lambda xy: np.round(xy / metres + middle, 5))
    return ee.Image.constant(1).clip(ee.Geometry(shapely.geometry.mapping(inner), None, False)).unmask(0, False)


def optical_image(scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox | None = None) -> Any:
    """Return digital numbers, Cloud Score+'s ``cs_cdf`` as ``clear``, and ``valid``: clouds stay, the first on top.

    Each scene is resampled before the mosaic, whose own projection means nothing, but for what lies on ``grid``
    already, where that would change nothing. Without a score, ``clear`` is −1.
    """
    import ee

    def one(scene: Scene) -> Any:
        as_it_is = grid is not None and lies_on(scene, grid)
        stored = ee.Image(scene.id).select(list(bands))
        coarse = [band for band in bands if not (as_it_is and band in TEN_METRES)]
        if not coarse:
            reflectance = _whole(stored)
        elif len(coarse) == len(bands):
            reflectance = _whole(stored.resample("bilinear"))
        else:
            fine = stored.select([band for band in bands if band not in coarse])
            reflectance = _whole(fine.addBands(stored.select(coarse).resample("bilinear")).select(list(bands)))
        if scene.score is None:
            score = ee.Image.constant(NO_SCORE).rename([CLEAR])
        else:
            score = ee.Image(scene.score).select([SCORE_BAND], [CLEAR])
            score = _whole(score if as_it_is else score.resample("bilinear")).unmask(NO_SCORE, False)
        return _flagged(reflectance.addBands(score.toFloat()))

    image = _mosaic([one(scene) for scene in scenes])
    return (
        image.select(list(bands))
        .round()
        .toUint16()
        .addBands(image.select([CLEAR]).toFloat())
        .addBands(image.select([VALID]).toByte())
    )


def lies_on(scene: Scene, grid: GeoBox) -> bool:
    """Return whether the 10 m pixels of a Sentinel-2 scene are those of a grid: of its UTM zone, on its lattice."""
    if scene.tile is None:
        return False
    zone = f"EPSG:{326 if scene.tile[2] >= 'N' else 327}{scene.tile[:2]}"
    a = grid.affine
    return grid.crs == zone and (a.a, a.e) == (10, -10) and a.c % 10 == 0 and a.f % 10 == 0


def _whole(image: Any) -> Any:
    """Keep only pixels at which every band is there with all its weight."""
    import ee

    return image.updateMask(image.mask().reduce(ee.Reducer.min()).gte(WHOLE))


def _filled(image: Any) -> Any:
    """Put ``NO_SIGNAL`` in bands that are missing where another is there."""
    import ee

    return image.unmask(NO_SIGNAL, False).updateMask(image.mask().reduce(ee.Reducer.max()))


def _flagged(image: Any) -> Any:
    """Add the band ``valid``, 1 where every band is there with all its weight."""
    import ee

    return _whole(image.addBands(ee.Image.constant(1).rename([VALID])))


def _stacked(images: Sequence[Any]) -> Any:
    """Lay images over each other, the first on top, masked where there is none."""
    import ee

    return ee.ImageCollection.fromImages(list(reversed(images))).mosaic()


def _mosaic(images: Sequence[Any]) -> Any:
    """Lay images over each other, the first on top, 0 where there is none."""
    return _stacked(images).unmask(0, False)
