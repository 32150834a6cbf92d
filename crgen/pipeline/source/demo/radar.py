"""Sentinel-1 over the demo scene: GRD-like backscatter with speckle and the geometry of one orbit."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import gammaincinv, ndtr

from crgen.pipeline.source.demo.land import Cover, Land
from crgen.pipeline.source.demo.noise import Floats, lattice_hash, mix, normal, smoothstep

# Mean backscatter in dB by cover, VV and VH.
_BACKSCATTER = {
    "crop": (-10.3, -16.6),
    "tree": (-9.2, -14.6),
    "straw": (-12.4, -19.5),
    "soil": (-12.6, -20.6),
    "sand": (-15.5, -22.5),
    "water": (-20.5, -27.0),
    "turbid": (-19.5, -26.5),
    "roof": (-5.8, -13.0),
    "asphalt": (-15.0, -22.0),
}
LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 IW GRD (Product Specification, S1-RS-MDA-52-7441)."""

# A descending pass in the morning looks westward; towards the radar, as east and north components.
_TOWARDS_RADAR = (0.98, -0.19)
_INCIDENCE, _SWATH = 38.0, 250_000.0
_NOISE_FLOOR = {"VV": -24.5, "VH": -28.5}
# Speckle in dB by a standard normal deviate: the quantiles of a gamma distribution of LOOKS looks and mean 1.
_DEVIATES = np.linspace(-5.5, 5.5, 2_048)
_SPECKLE = (10 * np.log10(gammaincinv(LOOKS, ndtr(_DEVIATES)) / LOOKS)).astype(np.float32)


def backscatter(land: Land, cover: Cover, date: datetime.date, pols: Sequence[str], *, halo: int) -> Floats:
    """Return backscatter in dB, shape ``(pol, y, x)`` without the halo."""
    block = land.block
    inner = (slice(halo, -halo), slice(halo, -halo))
    east, north = _TOWARDS_RADAR
    north_slope, east_slope = np.gradient(land.terrain.height, -block.metres, block.metres)
    incidence = np.radians(_INCIDENCE + 6 * np.sin(np.pi * block.x / _SWATH))
    tangent = (1 / np.tan(incidence)).astype(np.float32)
    facing = -(east_slope * np.float32(east) + north_slope * np.float32(north)) * tangent
    relief = 10 * np.log10(1 / np.clip(1 - facing, 0.18, 2.6))
    fall = (-0.12 * (np.degrees(incidence) - _INCIDENCE)).astype(np.float32)
    roughness = np.float32(1.7) * normal(mix(land.parcel + np.uint32(21)))
    corner = normal(lattice_hash(block.i, block.j, block.seed("corner")))
    bright = (
        corner * np.float32(2.5)
        + np.float32(2.2) * normal(mix(land.street + np.uint32(5)))
        + 9 * smoothstep(1.5, 3.0, corner)
        + np.float32(3.2) * (land.facing - np.float32(0.5))
    )
    standing = cover.flooded * (cover.share["crop"] + cover.share["tree"])
    out = np.empty((len(pols), *(n - 2 * halo for n in relief.shape)), np.float32)
    for k, pol in enumerate(pols):
        p = ("VV", "VH").index(pol)
        power = np.zeros_like(relief)
        for name, level in _BACKSCATTER.items():
            mean = np.float32(10 ** (level[p] / 10))
            share = cover.share[name]
            if name == "roof":
                power += share * mean * _power(bright)
            elif name in ("soil", "straw"):
                power += share * mean * _power(roughness + np.float32(1.2 if cover.rained else 0))
            elif name == "crop":
                power += share * mean * _power(np.float32(0.8) * roughness)
            else:
                power += share * mean
        power *= _power(relief + fall + np.float32(0.35) * land.texture)
        power += standing * np.float32((0.16, 0.012)[p])
        power += np.float32(10 ** (_NOISE_FLOOR[pol] / 10) * 0.5)
        power = gaussian_filter(power, 7.5 / block.metres, truncate=2.4)[inner]
        deviate = normal(lattice_hash(block.i, block.j, block.seed("speckle", date, pol)))
        out[k] = 10 * np.log10(power) + speckle(deviate)[inner]
    return np.clip(out, -32, 12)


def speckle(deviate: Floats) -> Floats:
    """Turn white normal noise into gamma speckle in dB whose neighbours correlate by about 0.5."""
    a, b = np.float32(0.30), np.float32(0.90)
    smooth = b * deviate
    smooth[1:-1] += a * (deviate[2:] + deviate[:-2])
    wide = b * smooth
    wide[:, 1:-1] += a * (smooth[:, 2:] + smooth[:, :-2])
    wide *= np.float32(1 / (b * b + 2 * a * a))
    place = (wide + np.float32(5.5)) * np.float32(2_047 / 11)
    index = np.clip(place.astype(np.int32), 0, 2_046)
    decibel: Floats = _SPECKLE[index] + (place - index) * (_SPECKLE[index + 1] - _SPECKLE[index])
    return decibel


def _power(decibel: Floats) -> Floats:
    power: Floats = np.exp(decibel * np.float32(np.log(10) / 10))
    return power
