"""Noise that is a pure function of place: hashed lattices, never a random generator with a state.

Every function takes lattice indices or metres counted from the origin of the CRS and gives the same bits for
the same place in whatever array it is asked for. Only elementwise arithmetic of fixed order is used: no
matrix product and no transform, whose rounding depends on the array's extent.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Metres = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.int64]
Hash = npt.NDArray[np.uint32]

_BYTE_SIGMA = float(np.sqrt(4 * (256**2 - 1) / 12))
_SPLINE_SIGMA = 151 / 315


def seed_of(*parts: object) -> int:
    """Return a 32-bit seed that names ``parts``, the same in every process."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def mix(h: Hash) -> Hash:
    """Scramble ``h`` in place (Wellons' ``lowbias32``) and return it."""
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def lattice_hash(i: Index, j: Index, seed: int) -> Hash:
    """Hash the lattice of columns ``i`` and rows ``j`` (1-D indices) to shape ``(len(j), len(i))``."""
    columns = mix(i.astype(np.uint32) ^ np.uint32(seed))
    rows = mix(j.astype(np.uint32) + mix(np.array([seed], np.uint32)))
    return mix(columns[None, :] + rows[:, None])


def uniform(h: Hash) -> Floats:
    """Turn hashes into uniform numbers in [0, 1)."""
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def normal(h: Hash) -> Floats:
    """Turn hashes into nearly normal numbers (mean 0, variance 1; the sum of the four bytes)."""
    pairs = (h & np.uint32(0x00FF00FF)) + ((h >> np.uint32(8)) & np.uint32(0x00FF00FF))
    total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
    return (total.astype(np.float32) - np.float32(510)) * np.float32(1 / _BYTE_SIGMA)


def field(x: Metres, y: Metres, length: float, seed: int) -> Floats:
    """Return smooth noise (cubic B-splines over a hashed lattice), mean 0, variance about 1.

    Args:
        x: columns in metres, 1-D; or a 2-D array of points.
        y: rows in metres, 1-D; or a 2-D array of points.
        length: spacing of the lattice in metres; features are about twice as large.
        seed: names the field.

    Returns:
        Shape ``(len(y), len(x))`` for 1-D axes, else that of the points.
    """
    i, u = _split(x, length, seed_of(seed, "x") * 2.0**-32)
    j, v = _split(y, length, seed_of(seed, "y") * 2.0**-32)
    i0, j0 = int(i.min()) - 1, int(j.min()) - 1
    lattice = normal(lattice_hash(np.arange(i0, i.max() + 3), np.arange(j0, j.max() + 3), seed))
    lattice *= np.float32(1 / _SPLINE_SIGMA)
    return _spline(lattice, i - i0, u, j - j0, v)


def fractal(
    x: Metres, y: Metres, length: float, seed: int, *, octaves: int, gain: float = 0.5, finest: float = 0.0
) -> Floats:
    """Sum ``octaves`` of :func:`field`, each of half the length and ``gain`` times the amplitude.

    The variance is about 1. Octaves of a lattice finer than ``finest`` metres are left out.
    """
    total = field(x, y, length, seed)
    for k in range(1, octaves):
        if length * 0.5**k < finest:
            break
        total += np.float32(gain**k) * field(x, y, length * 0.5**k, seed_of(seed, k))
    total *= np.float32(np.sqrt((1 - gain**2) / (1 - gain ** (2 * octaves))))
    return total


def upsample(coarse: Floats, x: Metres, y: Metres, spacing: float, i0: int, j0: int) -> Floats:
    """Interpolate ``coarse``, whose first element lies at ``(i0, j0) · spacing``, to ``x`` and ``y``."""
    i, u = _split(x, spacing, 0.0)
    j, v = _split(y, spacing, 0.0)
    return _spline(coarse, i - i0, u, j - j0, v)


def _split(t: Metres, length: float, offset: float) -> tuple[Index, Floats]:
    """Return cell index and position within the cell."""
    s = t / length + offset
    k = np.floor(s)
    return k.astype(np.int64), (s - k).astype(np.float32)


def _weights(t: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the four cubic B-spline weights at ``t`` in [0, 1)."""
    a, b = t * t, 1 - t
    cube, sixth = a * t, np.float32(1 / 6)
    return (
        b * b * b * sixth,
        (3 * cube - 6 * a + 4) * sixth,
        (3 * (t + a - cube) + 1) * sixth,
        cube * sixth,
    )


def _spline(lattice: Floats, i: Index, u: Floats, j: Index, v: Floats) -> Floats:
    """Evaluate the spline with coefficients ``lattice`` where cell ``(i, j)`` uses elements ``i-1 … i+2``."""
    wx, wy = _weights(u), _weights(v)
    if i.ndim == 1:
        rows: Floats = wy[0][:, None] * lattice[j - 1]
        for k in (1, 2, 3):
            rows += wy[k][:, None] * lattice[j + (k - 1)]
        out: Floats = wx[0] * rows[:, i - 1]
        for k in (1, 2, 3):
            out += wx[k] * rows[:, i + (k - 1)]
        return out
    width, flat = lattice.shape[1], lattice.ravel()
    base = (j - 1) * width + (i - 1)
    out = np.zeros(i.shape, np.float32)
    for m in range(4):
        for k in range(4):
            out += (wy[m] * wx[k]) * flat[base + (m * width + k)]
    return out


def nearest_site(
    x: Floats, y: Floats, i: Index, j: Index, size: float, seed: int
) -> tuple[Hash, Floats, Floats, Floats]:
    """Divide the plane into irregular cells around one jittered site per lattice square.

    Args:
        x: position within lattice square ``i``, in squares, 2-D.
        y: position within lattice square ``j``, in squares, 2-D.
        i: column of the square, 2-D.
        j: row of the square, 2-D.
        size: side of a square in metres.
        seed: names the division.

    Returns:
        ``(identity, east, north, edge)``: the cell's hash, the offset from its site and the rough distance to
        its edge, both in metres.
    """
    i0, j0 = int(i.min()) - 1, int(j.min()) - 1
    ii, jj = np.arange(i0, i.max() + 2), np.arange(j0, j.max() + 2)
    identity = lattice_hash(ii, jj, seed).ravel()
    east = 0.25 + 0.5 * uniform(mix(identity + np.uint32(1)))
    north = 0.25 + 0.5 * uniform(mix(identity + np.uint32(2)))
    right, up = x > 0.5, y > 0.5
    base = ((j - j0) + np.where(up, 0, -1)) * len(ii) + (i - i0) + np.where(right, 0, -1)
    du = x + np.where(right, np.float32(0), np.float32(1))
    dv = y + np.where(up, np.float32(0), np.float32(1))
    best = np.full(x.shape, np.float32(9))
    second = best.copy()
    chosen = base
    for m in (0, 1):
        for k in (0, 1):
            cell = base + (m * len(ii) + k)
            a, b = du - np.float32(k) - east[cell], dv - np.float32(m) - north[cell]
            d = a * a + b * b
            closer = d < best
            second = np.where(closer, best, np.minimum(second, d))
            best = np.where(closer, d, best)
            chosen = np.where(closer, cell, chosen)
    row, column = np.divmod(chosen, len(ii))
    a = (x + (i - i0 - column).astype(np.float32)) - east[chosen]
    b = (y + (j - j0 - row).astype(np.float32)) - north[chosen]
    metres = np.float32(size)
    return identity[chosen], a * metres, b * metres, (second - best) * (metres / 2)


def strips(t: Floats, size: float | Floats, group: Hash) -> tuple[Hash, Floats]:
    """Cut the axis ``t`` into strips of irregular width, differently in every ``group``.

    Args:
        t: position across the strips in metres.
        size: mean width in metres.
        group: hash of what is being cut.

    Returns:
        ``(identity, edge)``: the strip's hash, and the distance to its nearer edge in metres.
    """
    s = t / np.asarray(size, np.float32)
    k = np.floor(s)
    f = s - k
    step = np.uint32(0x9E3779B9)
    turn = k.astype(np.int32).view(np.uint32) * step
    low = uniform(mix(group ^ turn)) * np.float32(0.7) - np.float32(0.35)
    high = uniform(mix(group ^ (turn + step))) * np.float32(0.7) + np.float32(0.65)
    turn += np.where(f > high, step, np.uint32(0))
    turn -= np.where(f < low, step, np.uint32(0))
    edge: Floats = np.minimum(np.abs(f - low), np.abs(high - f)) * np.asarray(size, np.float32)
    return mix((group + np.uint32(0x51ED27)) ^ turn), edge


def smoothstep(low: float, high: float, t: Floats) -> Floats:
    """Return 0 below ``low``, 1 above ``high`` (or the reverse if ``high < low``), smooth between."""
    s = np.clip((t - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    out: Floats = s * s * (3 - 2 * s)
    return out
