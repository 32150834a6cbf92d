"""Sentinel-2 over the demo scene: surface reflectance by cover, clouds and their shadows."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from crgen.pipeline.source.demo.land import COVERS, Cover, Land
from crgen.pipeline.source.demo.noise import Floats, fractal, lattice_hash, normal, seed_of, smoothstep
from crgen.pipeline.source.demo.terrain import Block
from crgen.pipeline.source.stack import S2_BANDS

# Rows: covers in the order of COVERS; columns: bands in the order of S2_BANDS.
_SPECTRA = np.array(
    [
        [0.030, 0.033, 0.068, 0.038, 0.105, 0.300, 0.380, 0.410, 0.430, 0.430, 0.205, 0.100],
        [0.022, 0.025, 0.046, 0.026, 0.072, 0.200, 0.250, 0.275, 0.290, 0.290, 0.140, 0.065],
        [0.080, 0.100, 0.135, 0.170, 0.210, 0.240, 0.260, 0.285, 0.305, 0.305, 0.350, 0.260],
        [0.072, 0.085, 0.115, 0.148, 0.175, 0.192, 0.205, 0.225, 0.240, 0.240, 0.320, 0.280],
        [0.120, 0.145, 0.190, 0.230, 0.255, 0.265, 0.275, 0.290, 0.300, 0.300, 0.350, 0.320],
        [0.042, 0.040, 0.040, 0.026, 0.022, 0.018, 0.017, 0.015, 0.013, 0.013, 0.008, 0.006],
        [0.080, 0.088, 0.112, 0.118, 0.110, 0.084, 0.084, 0.078, 0.064, 0.060, 0.024, 0.016],
        [0.135, 0.155, 0.175, 0.190, 0.205, 0.215, 0.220, 0.235, 0.240, 0.240, 0.260, 0.240],
        [0.080, 0.088, 0.098, 0.104, 0.115, 0.125, 0.132, 0.142, 0.148, 0.148, 0.165, 0.150],
    ],
    np.float32,
)
_HAZE = np.array([0.026, 0.020, 0.014, 0.010, 0.008, 0.007, 0.006, 0.005, 0.005, 0.005, 0.002, 0.001])
_CLOUD = np.array([0.80, 0.80, 0.78, 0.79, 0.80, 0.80, 0.80, 0.80, 0.79, 0.62, 0.50, 0.40])
# Half the resolution of each band in metres: the spread of the sensor's view.
_SPREAD = np.array([24, 5, 5, 5, 9, 9, 9, 5, 9, 24, 9, 9])
# Light left in a full shadow: the sky's share of the light, larger in the blue.
_SKYLIGHT = np.array([0.50, 0.46, 0.40, 0.36, 0.33, 0.31, 0.30, 0.28, 0.27, 0.27, 0.20, 0.18])
HALO = 60.0
"""Metres around a block that its widest filter sees."""

_LATITUDE = 35.0
# Towards the sun at 10:30 local time, as east and north components.
_SUN_NORTHERN = (0.62, -0.78)
_SUN_SOUTHERN = (0.62, 0.78)


@dataclass(frozen=True)
class Sky:
    """Clouds over a block on a date.

    Attributes:
        cloud: opacity of the cloud, 0 to 1.
        bright: brightness of the cloud, about 1.
        shadow: strength of the shadow on the ground, 0 to 1.
    """

    cloud: Floats
    bright: Floats
    shadow: Floats


def make_sky(block: Block, date: datetime.date, *, cover: float, southern: bool) -> Sky:
    """Draw the clouds of ``date`` over ``block``, about ``cover`` of the sky."""
    seed = block.seed("cloud", date)
    high = 700 + 800 * (seed % 997) / 997
    reach = high / np.tan(np.radians(sun_elevation(date, southern=southern)))
    east, north = _SUN_SOUTHERN if southern else _SUN_NORTHERN
    threshold = np.float32(-ndtri(cover))

    def density(dx: float, dy: float, finest: float) -> Floats:
        x, y = block.x + dx, block.y + dy
        out = fractal(x, y, 1_500, seed, octaves=7, gain=0.62, finest=finest)
        out *= np.float32(0.93)
        out += np.float32(0.37) * fractal(x, y, 9_000, seed_of(seed, "weather"), octaves=2)
        return out - threshold

    over = density(0, 0, 2 * block.metres)
    lit = over - density(60 * east, 60 * north, 4 * block.metres)
    cast = density(reach * east, reach * north, 6 * block.metres)
    opacity = _opacity(over)
    return Sky(
        cloud=opacity,
        bright=np.clip(
            np.float32(0.62) + np.float32(0.26) * smoothstep(0, 1.6, over) + np.float32(0.34) * lit, 0.3, 1.2
        ),
        shadow=_opacity(cast),
    )


def _opacity(density: Floats) -> Floats:
    """Return 0 where ``density`` is negative, rising softly to 1."""
    thick = np.maximum(density, 0) * np.float32(1.9)
    return 1 - np.exp(-thick * np.sqrt(thick))


def clear_score(block: Block, sky: Sky, date: datetime.date) -> Floats:
    """Return a clear-sky score like Cloud Score+'s ``cs_cdf``: 1 clear, 0 cloud, low in shadow."""
    noise = np.abs(normal(lattice_hash(block.i, block.j, block.seed("score", date))))
    score = (1 - smoothstep(0, 0.8, sky.cloud)) * (1 - np.float32(0.75) * sky.shadow) * (1 - np.float32(0.02) * noise)
    return np.clip(score, 0, 1)


def sun_elevation(date: datetime.date, *, southern: bool) -> float:
    """Return the sun's elevation in degrees at 10:30 local time, at 35° of latitude whatever the place."""
    season = np.cos(2 * np.pi * (date.timetuple().tm_yday - 172) / 365.25)
    declination = np.radians(23.44) * (-season if southern else season)
    latitude = np.radians(_LATITUDE)
    sine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(np.radians(22.5))
    return float(np.degrees(np.arcsin(sine)))


def ground_reflectance(
    land: Land, cover: Cover, date: datetime.date, bands: Sequence[str], *, southern: bool, halo: int
) -> Floats:
    """Return the reflectance of the ground under a clear sky, shape ``(band, y, x)``, without the halo."""
    block = land.block
    east, north = _SUN_SOUTHERN if southern else _SUN_NORTHERN
    north_slope, east_slope = np.gradient(land.terrain.height, -block.metres, block.metres)
    sine = np.sin(np.radians(sun_elevation(date, southern=southern)))
    light = 1 - (east_slope * np.float32(east) + north_slope * np.float32(north)) * np.float32(
        np.sqrt(1 - sine**2) / sine
    )
    light = np.clip(light, 0.45, 1.5)
    shares = cover.share
    gain = {
        "crop": cover.vigour,
        "tree": 1 + np.float32(0.10) * land.texture,
        "soil": cover.soil,
        "straw": cover.soil,
        "roof": land.bright,
        "turbid": 1 + np.float32(0.02) * land.texture,
    }
    parts = {name: shares[name] * gain[name] if name in gain else shares[name] for name in COVERS}
    draw = seed_of(block.crs, "air", date) % 1000 / 1000
    haze = np.float32(0.3 + 0.9 * draw) * (1 + np.float32(0.25) * block.field(f"haze-{date}", 6_000))
    sun = 1 + 0.08 * (seed_of(block.crs, "sun", date) % 1000 / 1000 - 0.5)
    inner = (slice(halo, -halo), slice(halo, -halo))
    out = np.empty((len(bands), *(n - 2 * halo for n in light.shape)), np.float32)
    for k, band in enumerate(bands):
        b = S2_BANDS.index(band)
        plane = parts[COVERS[0]] * (_SPECTRA[0, b] * np.float32(sun))
        for c, name in enumerate(COVERS[1:], 1):
            plane += parts[name] * (_SPECTRA[c, b] * np.float32(sun))
        plane *= light
        plane = gaussian_filter(plane, _SPREAD[b] / block.metres, truncate=2.4)[inner]
        noise = normal(lattice_hash(block.i[halo:-halo], block.j[halo:-halo], block.seed("sensor", date, band)))
        plane += haze[inner] * np.float32(_HAZE[b]) + np.float32(0.0018) * noise
        out[k] = np.clip(plane, 0.001, 1)
    return out


def under_clouds(ground: Floats, sky: Sky, bands: Sequence[str]) -> Floats:
    """Return what Sentinel-2 sees of ``ground`` through ``sky``; the same pixels where that is clear."""
    out = np.empty_like(ground)
    for k, band in enumerate(bands):
        b = S2_BANDS.index(band)
        lit = ground[k] * (1 - np.float32(1 - _SKYLIGHT[b]) * sky.shadow)
        out[k] = lit * (1 - sky.cloud) + sky.cloud * (sky.bright * np.float32(_CLOUD[b]))
    return np.clip(out, 0.001, 1)
