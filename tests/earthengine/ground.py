"""What the synthetic satellites see: smooth functions of longitude, latitude and date, exact at any point.

Wavelengths of several hundred metres make half a pixel visible: 5 m change reflectance by about 0.002 and backscatter
by about 0.15 dB, an order of magnitude more than rounding and interpolation do. A small offset grows with the date, so
that a value tells the acquisition it came from.

Around ``LAKE`` radar has what real radar has: speckle of single pixels, and thermal noise that the processor subtracts.
There a pixel's value is decided by its own grid, as it is in a real scene; elsewhere it is smooth.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Array = NDArray[Any]

EPOCH = datetime(2021, 7, 1, tzinfo=UTC)

#: Mean reflectance and phase of every Sentinel-2 band.
REFLECTANCE = {
    name: (0.08 + 0.015 * number, 0.7 * number)
    for number, name in enumerate(("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"))
}
#: Mean backscatter in dB and phase of every Sentinel-1 polarisation.
BACKSCATTER = {"VV": (-11.0, 0.0), "VH": (-18.0, 1.1), "HH": (-10.0, 2.2), "HV": (-19.0, 3.3)}

#: Calm water where tracks 113, 40 and 47 overlap: longitude and latitude of its middle, and its radius in metres.
LAKE = (114.06, 34.83, 1500.0)
#: How far from the lake's middle radar is speckled, metres.
SPECKLED = 3000.0
#: Equivalent number of looks of an IW GRD pixel.
LOOKS = 4.4
#: What the processor leaves where noise outweighs the signal, dB: far below anything measured.
NEGATIVE = -60.0
_SHARES = (np.arange(4096) + 0.5) / 4096
_SPECKLE = gammaincinv(LOOKS, _SHARES) / LOOKS


def day(time: datetime) -> int:
    return (time - EPOCH).days


def _metres(lon: Array, lat: Array) -> tuple[Array, Array]:
    """Roughly metres east and north, good enough to give the patterns a size."""
    return (lon - 113.5) * 91_000.0, (lat - 34.7) * 111_000.0


def _waves(lon: Array, lat: Array, phase: float) -> Array:
    """Between -1.5 and 1.5."""
    x, y = _metres(lon, lat)
    return np.sin(2 * np.pi * (x / 700 + y / 1100) + phase) + 0.5 * np.cos(2 * np.pi * (x / 1900 - y / 800) + 2 * phase)


def _from_lake(lon: Array, lat: Array) -> Array:
    """Metres from the lake's middle."""
    x, y = _metres(lon, lat)
    x0, y0 = _metres(np.asarray(LAKE[0]), np.asarray(LAKE[1]))
    return np.hypot(x - x0, y - y0)


def on_lake(lon: Array, lat: Array) -> Array:
    """Where there is calm water."""
    return _from_lake(lon, lat) < LAKE[2]


def occurrence(lon: Array, lat: Array) -> Array:
    """Per cent of the looks since 1984 that showed water: 100 in the lake's middle, less along its shore, 0 outside."""
    return np.clip(400 * (1 - _from_lake(lon, lat) / LAKE[2]), 0, 100)


def backscatter(lon: Array, lat: Array, polarisation: str, time: datetime) -> Array:
    """Backscatter in dB: of land between -26 and -5, of the lake in VV from -20 at its shore to -26 in its middle."""
    mean, phase = BACKSCATTER[polarisation]
    land = mean + 3.0 * _waves(lon, lat, phase) + 0.02 * (day(time) % 50)
    depth = np.clip(1 - _from_lake(lon, lat) / LAKE[2], 0, 1)
    # Over calm water the cross-polarised return is 8 dB weaker.
    water = -20.0 - 6.0 * depth - (8.0 if polarisation in ("VH", "HV") else 0.0)
    return np.where(depth > 0, water, land)


def noise(lon: Array, lat: Array) -> Array:
    """Noise-equivalent backscatter in dB, between -28 and -24, as it varies across a swath."""
    x, _ = _metres(lon, lat)
    return -26.0 + 2.0 * np.sin(2 * np.pi * x / 2500)


def measured(lon: Array, lat: Array, x: Array, y: Array, polarisation: str, time: datetime) -> Array:
    """What a scene stores at pixels whose centres are ``lon``, ``lat``, and ``x``, ``y`` in the scene's own CRS, dB.

    Backscatter; around the lake with noise, speckle, and the mean of the noise subtracted.
    """
    ideal = backscatter(lon, lat, polarisation, time)
    speckled = _from_lake(lon, lat) < SPECKLED
    if not speckled.any():
        return ideal
    floor = 10 ** (noise(lon, lat) / 10)
    share = _random(
        np.floor(x / 10), np.floor(y / 10), int(time.timestamp()) + 7 * list(BACKSCATTER).index(polarisation)
    )
    power = (10 ** (ideal / 10) + floor) * np.interp(share, _SHARES, _SPECKLE) - floor
    stored = 10 * np.log10(np.maximum(power, 10 ** (NEGATIVE / 10)))
    return np.where(speckled, stored, ideal)


def _random(column: Array, row: Array, seed: int) -> Array:
    """Numbers from 0 to 1 that look random (SplitMix64), one for each pixel and seed, whichever window it is in."""
    bits = column.astype(np.int64).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = bits + row.astype(np.int64).astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return (bits ^ (bits >> np.uint64(31))).astype(float) / 2.0**64


def clear_sky(lon: Array, lat: Array, time: datetime, cloudiness: float) -> Array:
    """Score 0 (opaque cloud) to 1 (clear), kilometres large; ``cloudiness`` 0 clears the sky and 1 closes it."""
    x, y = _metres(lon, lat)
    phase = 2 * np.pi * day(time)
    waves = np.sin(2 * np.pi * x / 9000 + phase / 3) * np.cos(2 * np.pi * y / 7000 - phase / 5)
    return np.clip(0.5 + 0.5 * waves + 1.1 * (0.5 - cloudiness), 0.0, 1.0)


def reflectance(lon: Array, lat: Array, band: str, time: datetime, cloudiness: float) -> Array:
    """Surface reflectance: the ground where the score is 0.6 or more, white cloud where it is 0.2 or less."""
    mean, phase = REFLECTANCE[band]
    ground = mean + 0.04 * _waves(lon, lat, phase) + 0.0005 * (day(time) % 50)
    cloud = np.clip((0.6 - clear_sky(lon, lat, time, cloudiness)) / 0.4, 0.0, 1.0)
    return np.clip(ground * (1 - cloud) + 0.8 * cloud, 0.0001, 1.5)
