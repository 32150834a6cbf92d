"""Land of the demo scene: what covers each pixel whatever the date, and how much of it on a date."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from crgen.pipeline.source.demo.noise import (
    Floats,
    Hash,
    Metres,
    lattice_hash,
    mix,
    nearest_site,
    normal,
    smoothstep,
    strips,
    uniform,
)
from crgen.pipeline.source.demo.terrain import Block, Terrain, make_terrain

COVERS = ("crop", "tree", "straw", "soil", "sand", "water", "turbid", "roof", "asphalt")
"""What a pixel can be made of; the shares of all add up to 1."""

# Green cover by day of the year in the northern hemisphere. In order: winter wheat followed by maize, rice,
# cotton, groundnut, vegetables, orchard.
_CALENDAR: tuple[tuple[tuple[int, float], ...], ...] = (
    ((1, 0.3), (45, 0.35), (85, 0.8), (125, 0.92), (145, 0.6), (156, 0.1), (168, 0.06), (184, 0.3),
     (204, 0.72), (222, 0.92), (250, 0.75), (268, 0.2), (290, 0.1), (320, 0.28), (365, 0.3)),
    ((1, 0.05), (150, 0.08), (168, 0.1), (190, 0.42), (215, 0.88), (245, 0.9), (270, 0.5), (288, 0.1),
     (365, 0.05)),
    ((1, 0.04), (120, 0.05), (160, 0.25), (190, 0.6), (215, 0.85), (255, 0.75), (290, 0.3), (310, 0.08),
     (365, 0.04)),
    ((1, 0.05), (130, 0.08), (170, 0.4), (200, 0.8), (235, 0.85), (258, 0.3), (270, 0.06), (365, 0.05)),
    ((1, 0.3), (60, 0.5), (90, 0.2), (120, 0.7), (160, 0.35), (195, 0.65), (225, 0.3), (265, 0.75),
     (310, 0.4), (365, 0.3)),
    ((1, 0.2), (85, 0.3), (120, 0.75), (220, 0.8), (290, 0.5), (325, 0.22), (365, 0.2)),
)  # fmt: skip
_RICE, _ORCHARD = 1, 5
_GREEN = np.array(
    [np.interp(np.arange(366), [d for d, _ in knots], [g for _, g in knots]) for knots in _CALENDAR]
    + [np.full(366, 0.16)],
    np.float32,
)


@dataclass(frozen=True)
class Land:
    """What covers a block whatever the date; planes of the block's shape.

    Attributes:
        terrain: what lies under it.
        block: where it is.
        street: the hash of the block between streets.
        parcel: the parcel's hash.
        crop: row of the crop calendar.
        tree, built, road, water, sand: shares of each, 0 to 1.
        muddy: how turbid the water is when the river runs low, 0 to 1.
        bright: brightness of roofs, about 1.
        season: how early crops are sown around here, mean 0, variance about 1.
        texture: fine texture of vegetation and soil, mean 0, variance about 1.
        facing: how directly walls face the radar, 0 to 1.
    """

    terrain: Terrain
    block: Block
    street: Hash
    parcel: Hash
    crop: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    tree: Floats
    built: Floats
    road: Floats
    water: Floats
    sand: Floats
    muddy: Floats
    bright: Floats
    season: Floats
    texture: Floats
    facing: Floats


@dataclass(frozen=True)
class Cover:
    """What covers a block on a date.

    Attributes:
        share: plane by name of :data:`COVERS`.
        soil: brightness of bare soil, about 1 when dry, lower when wet.
        vigour: greenness of the vegetation, about 1.
        flooded: share of the pixel that stands in flood water, with what rises out of it.
        rained: whether soils are wet.
    """

    share: dict[str, Floats]
    soil: Floats
    vigour: Floats
    flooded: Floats
    rained: bool


def make_land(block: Block) -> Land:
    """Lay parcels, roads, towns and trees over the terrain of ``block``."""
    terrain = make_terrain(block)
    district, u, v, edge = _districts(block)
    angle = normal(mix(district + np.uint32(3))) * np.float32(0.16)
    angle += np.where(uniform(mix(district + np.uint32(4))) < 0.25, np.float32(0.6), np.float32(0))
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = u * cos + v * sin, v * cos - u * sin

    coarseness = 0.75 + 0.7 * uniform(mix(district + np.uint32(5)))
    row, edge_v = strips(v, 430.0, district)
    field_block, edge_u = strips(u, 610.0, row)
    turned = (field_block & np.uint32(1)) == 0
    along, across = np.where(turned, u, v), np.where(turned, v, u)
    strip, edge_strip = strips(across, 62 * coarseness, field_block)
    parcel, edge_parcel = strips(along, 235 * coarseness, strip)

    # A street block is either built or not, so towns end in blocks; houses stand inside.
    street_row, street_v = strips(v, 115.0, district + np.uint32(7))
    street, street_u = strips(u, 90.0, street_row)
    house, _ = strips(v, 31.0, street)
    house, _ = strips(u, 26.0, house)
    lot = uniform(mix(street.copy()))
    built = smoothstep(-0.06, 0.06, terrain.town + (lot - 0.45) * np.float32(0.35)) * smoothstep(
        150, 300, terrain.river
    )
    tone = normal(house) * np.float32(0.85) + normal(mix(street + np.uint32(2))) * np.float32(0.5)
    works = (lot < 0.16) & (terrain.town < 0.55)
    bright = np.where(
        works, np.float32(1.35) + np.float32(0.45) * normal(mix(street + np.uint32(1))), 0.8 + 0.24 * tone
    )

    texture = block.fractal("texture", 70, 3, 0.75) * np.float32(0.8)
    texture += np.float32(0.45) * normal(lattice_hash(block.i, block.j, block.seed("grain")))
    clump = block.fractal("clump", 210, 4, 0.7)
    chance = uniform(mix(parcel + np.uint32(9)))
    wet = smoothstep(6, 3, terrain.height)
    crop = np.digitize(chance, (0.66, 0.72, 0.79, 0.86, 0.92, 0.965)).astype(np.uint8)
    rice = (crop < 4) & (uniform(mix(field_block + np.uint32(2))) < 0.35 * wet)
    crop[rice] = _RICE

    half = np.float32(0.7 * block.metres)
    lane = _line(np.minimum(edge_u, edge_v), 3.5, half) * np.float32(0.7)
    highway = _line(edge, 9.0, half)
    streets = _line(np.minimum(street_u, street_v), 5.5, half) * built
    rows_of_trees = (uniform(mix(row + np.uint32(6))) < 0.45) * _line(
        np.abs(np.minimum(edge_u, edge_v) - 11), 5.0, half
    )
    river_edge = terrain.river_width + texture * np.float32(2.5)
    river = smoothstep(8, -8, terrain.river - river_edge)
    brook = _line(terrain.stream, 9.0, half) * (terrain.hills < 0.8)
    lake = smoothstep(2.28, 2.36, terrain.wetland) * (terrain.hills < 0.3)
    pond = ((chance > 0.45) & (uniform(mix(field_block + np.uint32(8))) < 0.07 * wet)) * smoothstep(
        5, 14, _edge(edge_strip, edge_parcel, edge_u, edge_v)
    )
    still = np.maximum(lake, pond)
    water = np.maximum(np.maximum(river, 0.8 * brook), still)
    sand = smoothstep(8, -8, terrain.river - river_edge - np.maximum(terrain.bar, 0)) * (terrain.bar > 0)

    grove = smoothstep(1.45, 1.65, clump + smoothstep(90, 20, terrain.stream)) * np.float32(0.85)
    slopes = smoothstep(0.12, 0.35, terrain.hills + np.float32(0.09) * clump) * smoothstep(
        -1.5, 0.1, clump + 1.1 * terrain.hills
    )
    gardens = built * smoothstep(0.55, 1.5, tone + np.float32(0.5) * clump) * np.float32(0.75)
    tree = np.maximum(np.maximum(grove, slopes), np.maximum(0.8 * rows_of_trees, 0.5 * lane * (clump > 0)))
    tree = np.maximum(tree, np.where(crop == _ORCHARD, np.float32(0.55), np.float32(0)) * (1 - terrain.hills))
    return Land(
        terrain=terrain,
        block=block,
        street=street,
        parcel=parcel,
        crop=crop,
        tree=tree * (1 - built) + gardens,
        built=built,
        road=np.maximum(np.maximum(lane, streets * np.float32(0.8)), highway * np.float32(0.9)) * (1 - 0.8 * slopes),
        water=water,
        sand=sand,
        muddy=np.where(still > river, np.float32(0.2), np.float32(0.75)),
        bright=np.clip(bright, 0.35, 2.4),
        season=block.fractal("season", 2_300, 3) * np.float32(0.8),
        texture=texture,
        facing=np.abs(np.cos(2 * angle)) ** 3,
    )


def cover_on(land: Land, date: datetime.date, *, southern: bool, flood: bool) -> Cover:
    """Return what covers ``land`` on ``date``.

    Args:
        land: the land.
        date: its day of the year decides how far the crops have grown.
        southern: whether the seasons are those of the southern hemisphere.
        flood: whether heavy rain has fallen: the river is over its banks and soils are wet.
    """
    day = date.timetuple().tm_yday - 1 + (183 if southern else 0)
    grass = _GREEN[_ORCHARD, day % 366]
    phase = normal(mix(land.parcel + np.uint32(11))) + land.season
    late = (phase * np.float32(7)).astype(np.int32)
    vigour = 1 + np.float32(0.09) * normal(mix(land.parcel + np.uint32(12))) + np.float32(0.05) * land.texture
    green = np.clip(
        _GREEN[land.crop, (day - late) % 366] * (1 + np.float32(0.1) * phase + np.float32(0.06) * land.texture),
        0,
        1,
    )
    paddy = np.where(land.crop == _RICE, np.float32(0.75), np.float32(0)) * np.float32(165 < day % 366 < 250)
    soil = 1 + np.float32(0.11) * normal(mix(land.parcel + np.uint32(13))) + np.float32(0.05) * land.texture
    straw = np.where(land.crop == 0, np.float32(0.45), np.float32(0.2)) * uniform(mix(land.parcel + np.uint32(14)))
    hills = smoothstep(0.1, 0.35, land.terrain.hills)
    green += hills * (np.float32(grass) * (np.float32(0.75) + np.float32(0.12) * land.texture) - green)
    bare = np.clip(1 - green, 0, 1)

    share = {
        "crop": green,
        "straw": bare * straw * (1 - paddy),
        "soil": bare * (1 - straw) * (1 - paddy),
        "turbid": bare * paddy * np.float32(0.4),
        "water": bare * paddy * np.float32(0.6),
        "tree": np.zeros_like(green),
        "sand": np.zeros_like(green),
        "roof": np.zeros_like(green),
        "asphalt": np.zeros_like(green),
    }
    leafy = np.float32(0.45 + 0.55 * min(1.0, float(grass) / 0.7))
    _lay(share, land.sand * np.float32(0.95), sand=0.85, soil=0.15)
    _lay(share, land.tree * leafy, tree=1.0)
    _lay(share, land.built * (1 - land.tree) * np.float32(0.88), roof=0.62, asphalt=0.26, soil=0.12)
    _lay(share, land.road * (1 - land.built) * np.float32(0.75), asphalt=0.6, soil=0.4)
    muddy = land.muddy
    flooded = np.zeros_like(green)
    if flood:
        soil *= np.float32(0.8)
        near = smoothstep(1_600, 200, land.terrain.river)
        mud = np.clip(np.float32(0.55) + np.float32(0.35) * near + np.float32(0.14) * land.season, 0, 1)
        depth = _depth(land)
        under = smoothstep(-0.08, 0.12, depth)
        flooded = under * (1 - _above_water(land, green, depth))
        muddy = muddy + under * np.maximum(mud - muddy, 0)
        _lay(share, flooded, turbid=mud, water=1 - mud)
    _lay(share, land.water, turbid=muddy, water=1 - muddy)
    return Cover(share=share, soil=soil, vigour=vigour, flooded=flooded, rained=flood)


def _above_water(land: Land, green: Floats, depth: Floats) -> Floats:
    """Return the share of a flooded pixel that rises out of the water: crowns, roofs, tall crops."""
    crops = green * smoothstep(0.35, 0.8, green) * smoothstep(0.55, -0.1, depth) * np.float32(0.55)
    trees = np.float32(0.55) * np.clip(land.tree, 0, 1)
    standing: Floats = 1 - (1 - crops * (1 - land.built)) * (1 - trees) * (1 - np.float32(0.25) * land.built)
    return standing


def _districts(block: Block) -> tuple[Hash, Floats, Floats, Floats]:
    """Divide the plain into districts that each lay out their fields in one direction."""
    size = 2_900.0
    bend = np.float32(0.022)
    parts = []
    for name, axis in (("bend-x", block.x[None, :]), ("bend-y", block.y[:, None])):
        s: Metres = axis / size
        k = np.floor(s)
        t = (s - k).astype(np.float32) + bend * block.field(name, 1_100)
        step = np.floor(t)
        parts.append((t - step, k.astype(np.int64) + step.astype(np.int64)))
    (x, i), (y, j) = parts
    return nearest_site(x, y, i, j, size, block.seed("district"))


def _line(distance: Floats, half_width: float, blur: np.float32) -> Floats:
    """Return the share of a pixel that a line covers."""
    share: Floats = np.clip(
        (np.float32(half_width) - distance) / (2 * blur) + np.float32(0.5),
        0,
        min(1.0, half_width / float(blur)),
    )
    return share


def _edge(*distances: Floats) -> Floats:
    """Return the distance to the nearest of several edges."""
    nearest: Floats = np.minimum.reduce(distances)
    return nearest


def _depth(land: Land) -> Floats:
    """Return the depth of the flood in metres: over the river's banks, and ponded in hollows of the plain."""
    bunds = np.float32(0.35) * normal(mix(land.parcel + np.uint32(15)))
    overbank = np.float32(1.8) + bunds * np.float32(0.6) + np.float32(0.8) * land.sand - land.terrain.height
    ponded = (land.terrain.wetland + bunds - np.float32(1.75)) * np.float32(0.8) - 9 * land.terrain.hills
    depth: Floats = np.maximum(overbank, ponded)
    return depth


def _lay(share: dict[str, Floats], over: Floats, **parts: float | Floats) -> None:
    """Cover the share ``over`` of each pixel with ``parts``, in place."""
    keep = 1 - over
    for name, plane in share.items():
        plane *= keep
        if name in parts:
            plane += over * np.asarray(parts[name], np.float32)
