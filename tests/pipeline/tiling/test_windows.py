"""Windows stand where the CRS puts them, each has one owner, and together they weigh one everywhere."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.tiling.windows import ChunkGrid, Lattice

boxes = st.builds(
    lambda r, c, h, w: Box(r, r + h, c, c + w),
    st.integers(-500, 500),
    st.integers(-500, 500),
    st.integers(1, 300),
    st.integers(1, 300),
)
lattices = st.sampled_from([Lattice(8), Lattice(32), Lattice(64)])
chunks = st.integers(1, 200)


@given(boxes, lattices, chunks)
def test_every_pixel_is_written_by_exactly_one_chunk(output: Box, lattice: Lattice, chunk: int) -> None:
    written = np.zeros(output.shape, int)
    for piece in ChunkGrid(output, lattice, chunk):
        written[piece.box.slices(output)] += 1
    assert (written == 1).all()


def multiples(low: int, high: int, lattice: Lattice) -> list[int]:
    """Lattice positions around a span of pixels, some more than can touch it."""
    return [i for i in range(low - 200, high + 200) if i % lattice.stride == 0]


@given(boxes, lattices, chunks)
def test_every_window_that_touches_the_output_has_exactly_one_owner(output: Box, lattice: Lattice, chunk: int) -> None:
    grid = ChunkGrid(output, lattice, chunk)
    owned = [window for piece in grid for window in piece.windows]
    touching = {
        (r, c)
        for r in multiples(output.r0, output.r1, lattice)
        for c in multiples(output.c0, output.c1, lattice)
        if Box(r, r + lattice.window, c, c + lattice.window).intersect(output)
    }
    assert len(owned) == len(set(owned)) == grid.window_count
    assert set(owned) == touching


@given(boxes, lattices, chunks)
def test_what_all_windows_cover_is_known_without_them(output: Box, lattice: Lattice, chunk: int) -> None:
    grid = ChunkGrid(output, lattice, chunk)
    covered = np.array([grid.footprint(piece) for piece in grid])
    least, most = covered.min(0), covered.max(0)
    assert output.windows(lattice.window) == (least[0], most[1], least[2], most[3])


@given(boxes, lattices, chunks)
def test_weights_of_all_windows_add_up_to_one_constant(output: Box, lattice: Lattice, chunk: int) -> None:
    around = output.grow(lattice.window)
    total = np.zeros(around.shape, np.int64)
    for piece in ChunkGrid(output, lattice, chunk):
        for r, c in piece.windows:
            total[Box(r, r + lattice.window, c, c + lattice.window).slices(around)] += lattice.weights
    assert (total[output.slices(around)] == lattice.total).all()


@given(boxes, lattices, chunks)
def test_windows_spill_only_into_the_neighbours_right_and_below(output: Box, lattice: Lattice, chunk: int) -> None:
    grid = ChunkGrid(output, lattice, chunk)
    for piece in grid:
        covered = grid.footprint(piece)
        for other in grid:
            if covered.intersect(other.box):
                assert other.row - piece.row in (0, 1)
                assert other.col - piece.col in (0, 1)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 50), st.integers(1, 50))
def test_a_part_of_a_grid_keeps_its_place_on_the_lattice(row: int, col: int, height: int, width: int) -> None:
    whole = GeoBox((200, 200), Affine(10, 0, 730_000, 0, -10, 3_850_000), "EPSG:32649")
    part = whole.translate_pix(col, row).expand((height, width))
    assert lattice_box(part).slices(lattice_box(whole)) == (slice(row, row + height), slice(col, col + width))


def test_rows_count_southward_from_the_crs_origin() -> None:
    box = lattice_box(GeoBox((3, 2), Affine(10, 0, 50, 0, -10, 100), "EPSG:32649"))
    assert box == Box(-10, -7, 5, 7)


def test_an_odd_window_is_refused() -> None:
    with pytest.raises(ValueError, match="halved"):
        Lattice(33)
