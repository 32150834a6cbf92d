"""Terrain of the demo scene: a meandering river, its floodplain and streams, terraces and hills.

The river is drawn first and the relief is laid around it, so water lies on low ground everywhere without any
flow routing: a line across the whole CRS is bent by smooth warps, which leaves it one connected, meandering
line that any block can compute alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crgen.pipeline.source.demo.noise import (
    Floats,
    Index,
    Metres,
    field,
    fractal,
    lattice_hash,
    seed_of,
    smoothstep,
    uniform,
    upsample,
)

SCENE = "plain-1"
"""Version of the scene; any change of its pixels changes it."""

COARSE = 50.0
"""Spacing in metres of the lattice on which slow fields are computed before they are interpolated."""

RIVER_SPACING = 26_000.0
STREAM_SPACING = 5_200.0
RIVER_OFFSET = 5_400.0
"""Moves the rivers so that one crosses the README's area near Zhengzhou."""


@dataclass(frozen=True)
class Block:
    """A rectangle of pixels of the CRS's lattice.

    Attributes:
        crs: the CRS's name, part of every seed.
        i: columns counted from the CRS's origin, increasing eastward.
        j: rows counted from the CRS's origin, decreasing (north-up images).
        metres: size of a pixel.
    """

    crs: str
    i: Index
    j: Index
    metres: float

    @cached_property
    def x(self) -> Metres:
        """Columns' centres in metres."""
        return (self.i + 0.5) * self.metres

    @cached_property
    def y(self) -> Metres:
        """Rows' centres in metres."""
        return (self.j + 0.5) * self.metres

    def seed(self, *name: object) -> int:
        """Name a field of this CRS."""
        return seed_of(SCENE, self.crs, *name)

    def field(self, name: str, length: float) -> Floats:
        """Smooth noise over the block."""
        return field(self.x, self.y, length, self.seed(name))

    def fractal(self, name: str, length: float, octaves: int, gain: float = 0.5) -> Floats:
        """Fractal noise over the block, down to one pixel."""
        seed = self.seed(name)
        return fractal(self.x, self.y, length, seed, octaves=octaves, gain=gain, finest=self.metres)


@dataclass(frozen=True)
class Terrain:
    """What lies under the land, per pixel.

    Attributes:
        river: distance to the river's centre line in metres.
        river_width: half the river's width in metres.
        bar: how far sand reaches beyond the river's edge, in metres (may be negative: none).
        stream: distance to the nearest stream's centre line in metres.
        height: height in metres above the nearest river's low water.
        hills: 0 on the plain to 1 in the hills.
        town: size-weighted nearness to settlements: positive inside one.
        wetland: noise that makes lakes and hollows where it is high.
    """

    river: Floats
    river_width: Floats
    bar: Floats
    stream: Floats
    height: Floats
    hills: Floats
    town: Floats
    wetland: Floats


def make_terrain(block: Block) -> Terrain:
    """Compute the terrain under ``block``."""
    i0, i1 = int(block.x[0] // COARSE) - 3, int(block.x[-1] // COARSE) + 5
    j0, j1 = int(block.y[-1] // COARSE) - 3, int(block.y[0] // COARSE) + 5
    xs, ys = np.arange(i0, i1) * COARSE, np.arange(j0, j1) * COARSE

    def noise(name: str, length: float, octaves: int = 1, gain: float = 0.5) -> Floats:
        return fractal(xs, ys, length, block.seed(name), octaves=octaves, gain=gain)

    def to_pixels(coarse: Floats) -> Floats:
        return upsample(coarse, block.x, block.y, COARSE, i0, j0)

    X, Y = (a.copy() for a in np.broadcast_arrays(xs[None, :], ys[:, None]))
    for length, amplitude in ((11_000.0, 2_300.0), (4_600.0, 1_050.0), (1_900.0, 400.0), (800.0, 90.0)):
        dx, dy = (field(X, Y, length, block.seed("warp", axis, length)) for axis in "xy")
        X += amplitude * dx
        Y += amplitude * dy
    meander = 480 * np.sin((0.96 * X - 0.28 * Y) * (2 * np.pi / 4_100))
    line, steep = _lines(0.28 * X + 0.96 * Y + meander + RIVER_OFFSET, RIVER_SPACING)
    river = _distance(to_pixels(line), to_pixels(steep))
    stream_line, stream_steep = _lines(0.93 * X - 0.37 * Y, STREAM_SPACING)
    stream = _distance(to_pixels(stream_line), to_pixels(stream_steep))

    far = smoothstep(1_900, 4_200, np.abs(line) + 500 * noise("foot", 1_200, 3))
    # This draw, of several looked at, puts hills into a corner of the README's area.
    hills_c = smoothstep(0.2, 1.15, noise("hills14", 5_600, 3, 0.4)) * far
    fold = noise("fold-x", 1_300, 2), noise("fold-y", 1_300, 2)
    across, up = xs[None, :] + 230 * fold[0], ys[:, None] + 230 * fold[1]
    ridges: Floats = np.full(across.shape, 90, np.float32)
    for length, rise in ((1_700.0, 210.0), (800.0, 125.0), (380.0, 60.0)):
        ridges += np.float32(rise) * (1 - np.abs(field(across, up, length, block.seed("ridge", length))))
    terrace = smoothstep(1_300, 2_600, np.abs(line) + 350 * noise("terrace", 1_500, 2))
    high = 5 * terrace + 6 * smoothstep(2_500, 9_000, np.abs(line)) + hills_c * np.maximum(ridges, 0)

    plain = to_pixels(high)
    hills = to_pixels(hills_c)
    wetland = block.fractal("wetland", 900, 4)
    micro = block.fractal("micro", 420, 4, 0.55)
    swale = np.abs(block.field("swale", 190))
    near = 1 - smoothstep(300, 1_700, river)
    height = np.float32(1.0) + np.float32(2.3) * smoothstep(150, 1_500, river) + plain
    height += micro * (np.float32(0.55) + 15 * hills) + near * (swale - np.float32(0.8)) * np.float32(0.9)
    gullies = 30 * np.abs(block.field("gully", 230)) + 11 * np.abs(block.field("rill", 105))
    height += gullies * hills
    height -= wetland * np.float32(0.35) * (1 - hills)
    valley = np.exp(-stream * np.float32(1 / 160)) * (1 - smoothstep(0.2, 0.9, hills))
    height -= valley * np.maximum(height - 1, 0) * np.float32(0.75)

    width = 92 + 30 * to_pixels(noise("width", 1_000, 2))
    town = to_pixels(_settlements(block, xs, ys) - 0.8 * hills_c - 0.5 * (np.abs(line) < 500))
    town += np.float32(0.16) * micro
    height += np.float32(0.8) * smoothstep(-0.3, 0.3, town)
    return Terrain(
        river=river,
        river_width=np.maximum(width, 45),
        bar=90 * to_pixels(noise("bar", 800, 2)) - 15,
        stream=stream,
        height=np.maximum(height, np.float32(0.05)),
        hills=hills,
        town=town,
        wetland=wetland,
    )


def _lines(across: Metres, spacing: float) -> tuple[Floats, Floats]:
    """Return a smooth field that is zero on lines ``spacing`` apart, in metres, and its gradient."""
    value = spacing / np.pi * np.sin(np.pi / spacing * across)
    down, right = np.gradient(value, COARSE)
    return value.astype(np.float32), np.hypot(down, right).astype(np.float32)


def _distance(value: Floats, slope: Floats) -> Floats:
    """Return the distance to where ``value`` is zero, in the first order."""
    return (np.abs(value) / np.maximum(slope, np.float32(0.15))).astype(np.float32)


def _settlements(block: Block, xs: Metres, ys: Metres) -> Floats:
    """Return 1 - (distance / radius) to villages and towns, at most 1, -1 far away."""
    out = np.full((len(ys), len(xs)), -1, np.float32)
    for kind, spacing, chance, smallest, largest in (
        ("village", 1_450.0, 0.72, 110.0, 310.0),
        ("town", 8_500.0, 0.85, 600.0, 1_500.0),
    ):
        seed = block.seed(kind)
        reach = int(np.ceil(largest * 2 / spacing))
        columns = np.arange(int(xs[0] // spacing) - reach, int(xs[-1] // spacing) + reach + 1)
        rows = np.arange(int(ys[0] // spacing) - reach, int(ys[-1] // spacing) + reach + 1)
        draw = [uniform(lattice_hash(columns, rows, seed_of(seed, k))) for k in range(5)]
        for m, n in np.argwhere(draw[0] < chance):
            x = (columns[n] + 0.15 + 0.7 * float(draw[1][m, n])) * spacing
            y = (rows[m] + 0.15 + 0.7 * float(draw[2][m, n])) * spacing
            radius = smallest + (largest - smallest) * float(draw[3][m, n]) ** 2
            stretch = 0.65 + 0.7 * float(draw[4][m, n])
            a = slice(*np.searchsorted(xs, (x - 2 * radius / stretch, x + 2 * radius / stretch)))
            b = slice(*np.searchsorted(ys, (y - 2 * radius * stretch, y + 2 * radius * stretch)))
            dx = np.abs((xs[a] - x) * stretch / radius)[None, :]
            dy = np.abs((ys[b] - y) / stretch / radius)[:, None]
            near = 1 - (dx**3 + dy**3) ** (1 / 3)
            out[b, a] = np.maximum(out[b, a], near.astype(np.float32))
    return out
