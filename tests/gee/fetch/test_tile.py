"""Tiles: cut by bytes, split without loss, and refused when they are not what was asked for."""

import io

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from crgen.gee.connection.faults import Corrupt
from crgen.gee.fetch.images import Layer
from crgen.gee.fetch.tile import FLOOR, REQUEST_BYTES, Tile, Tiling, edges, grid_of, read_tile, tile_key, tile_side

RADAR = Layer("s1_t1", "{}", (("VV", "f4"), ("valid", "u1")))
OPTICAL = Layer("s2_t1", "{}", (("B3", "u2"), ("B8", "u2"), ("clear", "f4"), ("valid", "u1")))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def some_tile(layer: Layer, height: int = 5, width: int = 7) -> np.ndarray:
    array = np.zeros((height, width), layer.dtype)
    array["valid"] = 1
    for name, dtype in layer.bands[:-1]:
        array[name] = np.arange(height * width).reshape(height, width) / (35 if dtype == "f4" else 1)
    return array


@given(bands=st.integers(1, 13), dtype=st.sampled_from(["u2", "f4"]))
def test_a_tile_never_asks_for_more_bytes_than_a_request_may(bands: int, dtype: str) -> None:
    layer = Layer("s2_t1", "{}", (*((f"B{n}", dtype) for n in range(bands)), ("valid", "u1")))
    side = tile_side([layer], largest=10**6)
    assert side * side * layer.request_bytes <= REQUEST_BYTES
    assert (2 * side) ** 2 * layer.request_bytes > REQUEST_BYTES


@given(height=st.integers(1, 2000), width=st.integers(1, 2000))
def test_the_parts_of_a_tile_cover_it_once(height: int, width: int) -> None:
    tile = Tile(3, 5, height, width)
    parts = list(tile.halves())
    covered = np.zeros((height, width), int)
    for part in parts:
        covered[part.row - 3 : part.row - 3 + part.height, part.col - 5 : part.col - 5 + part.width] += 1
    assert (covered == 1).all()
    assert tile.smallest == (len(parts) == 1) == (max(height, width) <= FLOOR)


@given(first=st.integers(-(10**5), 10**5), length=st.integers(1, 10**5), side=st.integers(1, 2048))
def test_runs_cover_an_edge_and_only_the_first_and_the_last_are_short(first: int, length: int, side: int) -> None:
    runs = edges(first, length, side)
    assert sum(runs) == length
    assert set(runs[1:-1]) <= {side}
    assert all(0 < run <= side for run in runs)
    assert len(runs) == 1 or (first + runs[0]) % side == 0


def an_area(row: int, col: int, height: int, width: int) -> GeoBox:
    """A grid by its place on the lattice of its CRS, in pixels of 10 m."""
    return GeoBox((height, width), Affine(10, 0, 10 * col, 0, -10, -10 * row), "EPSG:32649")


PLACES = st.tuples(*[st.integers(n, n + 3000) for n in (-390_000, 60_000)], st.integers(1, 3000), st.integers(1, 3000))


@given(place=PLACES, side=st.sampled_from([256, 1024]))
def test_the_tiles_of_an_area_hold_its_pixels_once_and_no_others(place: tuple[int, int, int, int], side: int) -> None:
    geobox = an_area(*place)
    tiling = Tiling(geobox, side)
    assert sum(tile.height * tile.width for tile in tiling.tiles) == geobox.shape[0] * geobox.shape[1]
    assert len(tiling.tiles) == len(tiling.rows) * len(tiling.columns)
    last = tiling.tiles[-1]
    assert (last.row + last.height, last.col + last.width) == tuple(geobox.shape)


@given(one=PLACES, other=PLACES, side=st.sampled_from([256, 1024]))
def test_areas_that_overlap_share_every_whole_tile_that_both_hold(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int], side: int
) -> None:
    def whole(place: tuple[int, int, int, int]) -> set[str]:
        geobox = an_area(*place)
        tiles = (tile for tile in Tiling(geobox, side).tiles if (tile.height, tile.width) == (side, side))
        return {tile_key(RADAR, grid_of(geobox, tile)) for tile in tiles}

    rows, cols = (
        range(max(one[axis], other[axis]), min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]))
        for axis in (0, 1)
    )
    common = an_area(rows.start, cols.start, len(rows), len(cols)) if rows and cols else None
    held = [tile for tile in Tiling(common, side).tiles if (tile.height, tile.width) == (side, side)] if common else []
    assert len(whole(one) & whole(other)) == len(held)


def test_a_tile_is_asked_for_at_its_exact_place() -> None:
    grid = grid_of(GeoBox((100, 200), Affine(10, 0, 731_230, 0, -10, 3_842_110), "EPSG:32649"), Tile(30, 64, 20, 40))
    assert grid == {
        "dimensions": {"width": 40, "height": 20},
        "affineTransform": {
            "scaleX": 10.0,
            "shearX": 0,
            "translateX": 731_870.0,
            "shearY": 0,
            "scaleY": -10.0,
            "translateY": 3_841_810.0,
        },
        "crsCode": "EPSG:32649",
    }


def test_a_crs_without_a_code_travels_as_wkt() -> None:
    crs = "+proj=laea +lat_0=35 +lon_0=114 +datum=WGS84 +units=m"
    grid = grid_of(GeoBox((10, 10), Affine(10, 0, 0, 0, -10, 0), crs), Tile(0, 0, 10, 10))
    assert "crsCode" not in grid
    assert "Lambert" in grid["crsWkt"]


def test_the_key_changes_with_all_that_decides_the_pixels() -> None:
    geobox = GeoBox((100, 100), Affine(10, 0, 0, 0, -10, 0), "EPSG:32649")
    here, there = grid_of(geobox, Tile(0, 0, 10, 10)), grid_of(geobox, Tile(0, 1, 10, 10))
    other = Layer(RADAR.name, '{"another": "image"}', RADAR.bands)
    assert len({tile_key(RADAR, here), tile_key(RADAR, there), tile_key(other, here), tile_key(OPTICAL, here)}) == 4
    same = Layer("s1_t2", RADAR.expression, RADAR.bands)
    assert tile_key(same, here) == tile_key(RADAR, here), "the same image is fetched once whatever it is called"


@pytest.mark.parametrize("layer", [RADAR, OPTICAL])
def test_a_whole_tile_is_read(layer: Layer) -> None:
    array = some_tile(layer)
    np.testing.assert_array_equal(read_tile(npy(array), layer, Tile(0, 0, 5, 7)), array)


@given(st.data())
def test_no_damaged_answer_passes_for_pixels(data: st.DataObject) -> None:
    content = npy(some_tile(OPTICAL))
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(Corrupt):
        read_tile(content[:cut], OPTICAL, Tile(0, 0, 5, 7))
    with pytest.raises(Corrupt):
        read_tile(content + b"x", OPTICAL, Tile(0, 0, 5, 7))


def test_answers_of_another_kind_are_refused() -> None:
    whole = some_tile(OPTICAL)
    strange_mask = whole.copy()
    strange_mask["valid"][0, 0] = 2
    for array in (whole[:-1], whole[["B3", "B8", "valid"]], strange_mask, np.zeros((5, 7))):
        with pytest.raises(Corrupt):
            read_tile(npy(array), OPTICAL, Tile(0, 0, 5, 7))
    with pytest.raises(Corrupt):
        read_tile(b"<html>502 Bad Gateway</html>", OPTICAL, Tile(0, 0, 5, 7))


def test_wider_numbers_are_taken_if_their_values_fit() -> None:
    wide = some_tile(OPTICAL).astype([("B3", "<i4"), ("B8", "<f8"), ("clear", "<f8"), ("valid", "<i4")])
    np.testing.assert_array_equal(read_tile(npy(wide), OPTICAL, Tile(0, 0, 5, 7)), some_tile(OPTICAL))
    wide["B3"][0, 0] = 70_000
    with pytest.raises(Corrupt, match="does not fit"):
        read_tile(npy(wide), OPTICAL, Tile(0, 0, 5, 7))


def test_pixels_get_the_units_of_the_stack_and_stay_missing_where_they_are() -> None:
    array = some_tile(OPTICAL, 1, 3)
    array["B3"], array["clear"], array["valid"] = [[0, 1234, 65535]], [[0.5, -1.0, 0.0]], [[1, 1, 0]]
    planes = OPTICAL.decode(array)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[0], [[0, 0.1234, np.nan]], rtol=1e-6)
    np.testing.assert_array_equal(planes[2], [[0.5, np.nan, np.nan]])
    radar = some_tile(RADAR, 1, 2)
    radar["VV"], radar["valid"] = [[-17.25, 0.0]], [[1, 0]]
    np.testing.assert_array_equal(RADAR.decode(radar), [[[-17.25, np.nan]]])
