"""Beyond its edge a Stack goes on as its own reflection, whatever rectangle is read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import crgen
from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.tiling.reader import StackReader
from tests.pipeline.source.local.stacks import GRID, make_stack


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corner=st.tuples(st.integers(-100, 39), st.integers(-100, 39)),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_a_read_is_a_slice_of_the_whole_stack_padded_by_reflection(
    shape: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    grid = GeoBox(shape, GRID.affine, GRID.crs)
    stack = make_stack(grid).chunk(y=16, x=16)
    home = lattice_box(grid)
    box = Box(home.r0 + corner[0], home.r0 + corner[0] + size[0], home.c0 + corner[1], home.c0 + corner[1] + size[1])
    reader = StackReader(stack, ("VV",), ("B11", "B3"))
    if box.intersect(home) is None:
        with pytest.raises(ValueError, match="outside the stack"):
            reader.read(box)
        return
    margin = 260
    at = box.slices(home.grow(margin))
    for name, read in reader.read(box).items():
        channels = {"s1": ["VV"], "s2": ["B11", "B3"], "tr": ["B11", "B3"]}.get(name[:2])
        array = stack[name].values if channels is None else stack[name].sel({stack[name].dims[0]: channels}).values
        whole = np.pad(array, ((0, 0),) * (array.ndim - 2) + ((margin, margin),) * 2, mode="reflect")
        assert read.tobytes() == whole[..., *at].tobytes()


@pytest.mark.parametrize("generate_all", [False, True])
def test_the_chunk_size_decides_no_byte_where_the_stack_ends_with_the_area(
    tmp_path: Path, tiny_weights: Path, generate_all: bool
) -> None:
    """Windows of 64 px over 200 columns: the last chunk of 192 is narrower than a window reaches beyond the edge."""
    stack = make_stack(GeoBox((128, 200), GRID.affine, GRID.crs)).assign_coords(band=["B3", "B8", "B11"])
    stack.attrs["manifest"] = '{"t1": "2021-07-10", "t2": "2021-07-22"}'
    crgen.write_stack(stack, tmp_path / "stack.zarr")
    made = {}
    for chunk in (64, 96, 192, 256):
        out = tmp_path / f"{chunk}.tif"
        crgen.fill(
            source=str(tmp_path / "stack.zarr"),
            weights=str(tiny_weights),
            chunk=chunk,
            generate_all=generate_all,
            out=out,
        )
        made[chunk] = (out.read_bytes(), (tmp_path / f"{chunk}_quality.tif").read_bytes())
    assert all(made[chunk] == made[64] for chunk in made)
