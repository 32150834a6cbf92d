"""What the synthetic satellites see: smooth functions of longitude, latitude and date, exact at any point.

Wavelengths of several hundred metres make half a pixel visible: 5 m change reflectance by about 0.002 and backscatter
by about 0.15 dB, an order of magnitude more than rounding and interpolation do. A small offset grows with the date, so
that a value tells the acquisition it came from.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EPOCH = datetime(2021, 7, 1, tzinfo=UTC)

#: Mean reflectance and phase of every Sentinel-2 band.
REFLECTANCE = {
    name: (0.08 + 0.015 * number, 0.7 * number)
    for number, name in enumerate(("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"))
}
#: Mean backscatter in dB and phase of every Sentinel-1 polarisation.
BACKSCATTER = {"VV": (-11.0, 0.0), "VH": (-18.0, 1.1), "HH": (-10.0, 2.2), "HV": (-19.0, 3.3)}


def day(time: datetime) -> int:
    return (time - EPOCH).days


def _metres(lon: Array, lat: Array) -> tuple[Array, Array]:
    """Roughly metres east and north, good enough to give the patterns a size."""
    return (lon - 113.5) * 91_000.0, (lat - 34.7) * 111_000.0


def _waves(lon: Array, lat: Array, phase: float) -> Array:
    """Between -1.5 and 1.5."""
    x, y = _metres(lon, lat)
    return np.sin(2 * np.pi * (x / 700 + y / 1100) + phase) + 0.5 * np.cos(2 * np.pi * (x / 1900 - y / 800) + 2 * phase)


def backscatter(lon: Array, lat: Array, polarisation: str, time: datetime) -> Array:
    """Backscatter in dB, between -26 and -5."""
    mean, phase = BACKSCATTER[polarisation]
    return mean + 3.0 * _waves(lon, lat, phase) + 0.02 * (day(time) % 50)


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
