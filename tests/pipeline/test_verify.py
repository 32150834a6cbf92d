"""`crgen verify` finds what happened to a product's files since they were made, and says where."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

import crgen
from crgen.errors import OutputError
from crgen.files import file_sha256
from crgen.pipeline.cog.tiff import TILE_BYTE_COUNTS, read_directories, tile_table
from crgen.pipeline.product.outputs import PUBLISHING, RUN, Paths
from crgen.pipeline.run.scratch import sweep
from crgen.pipeline.verify import verify
from tests.products import files_of, item_first

AOI = "113.50,34.70,113.56,34.702"


@pytest.fixture(scope="module")
def made(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product of two tiles and an overview."""
    out = tmp_path_factory.mktemp("made") / "map.tif"
    crgen.fill(aoi=AOI, t1="2021-07-10", t2="2021-07-22", source="demo", out=out, weights=str(tiny_weights))
    return out


@pytest.fixture
def product(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(made.parent, tmp_path / "copy") / made.name


def problems(product: Path) -> dict[str, tuple[str, ...]]:
    return {checked.path.name: checked.problems for checked in verify(product) if checked.problems}


def test_an_untouched_product_is_whole(product):
    assert [(c.path.name, c.problems) for c in verify(product)] == [(name, ()) for name in item_first("map")]
    assert verify(product.with_suffix(".json")) == verify(product)


@settings(max_examples=60)
@given(
    name=st.sampled_from(files_of("map")),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_anywhere_is_found(made, tmp_path_factory, name, where, bit):
    product = shutil.copytree(made.parent, tmp_path_factory.mktemp("flipped") / "copy") / made.name
    file = product.with_name(name)
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    file.write_bytes(content)
    found = problems(product)
    assert name in found
    assert all("\n" not in line for lines in found.values() for line in lines)
    if name != "map.json":
        assert set(found) == {name}


@settings(max_examples=15)
@given(name=st.sampled_from(files_of("map")), share=st.floats(0, 0.999))
def test_any_truncation_is_found(made, tmp_path_factory, name, share):
    product = shutil.copytree(made.parent, tmp_path_factory.mktemp("cut") / "copy") / made.name
    file = product.with_name(name)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    found = problems(product)
    assert name in found
    if name != "map.json":
        assert "cut off: " in found[name][0]


def test_a_damaged_tile_is_named_by_its_place_and_its_overview(product):
    with product.open("rb") as file:
        tables = [tile_table(directory) for directory in read_directories(file)]
    assert len(tables) == 2
    content = bytearray(product.read_bytes())
    for table, index in ((tables[0], 1), (tables[1], 0)):
        content[table.offsets[index] + 40] ^= 1
    product.write_bytes(content)
    height, width = tables[0].shape
    assert problems(product) == {
        "map.tif": (
            f"damaged tile: rows 0 to {height}, columns 512 to {width}",
            f"damaged tile: rows 0 to {-(-height // 2)}, columns 0 to {-(-width // 2)} of the overview 1:2",
        )
    }
    with rasterio.open(product) as cog, pytest.raises(rasterio.RasterioIOError):
        cog.read()  # GDAL notices too, but not every damage, and not where


def test_a_missing_tile_is_named(product):
    with product.open("rb") as file:
        directory = next(read_directories(file))
    height, _ = tile_table(directory).shape
    sizes = directory[TILE_BYTE_COUNTS].data
    content = product.read_bytes()
    at = content.index(sizes)
    product.write_bytes(content[:at] + np.zeros(1, "<u4").tobytes() + content[at + 4 :])
    assert problems(product)["map.tif"][0] == f"missing tile: rows 0 to {height}, columns 0 to 512"


@pytest.mark.parametrize(
    ("run", "announced", "over"),
    [(False, None, True), (True, None, False), (True, "", False), (True, "map.json", True)],
    ids=["no run any more", "one at work on another", "one that publishes another", "one that published this"],
)
def test_what_a_kill_after_the_last_file_left_is_removed_and_an_unfinished_run_is_not(product, run, announced, over):
    paths = Paths(product)
    paths.scratch.mkdir()
    for name in ("lock", "0_0.part", *((RUN,) if run else ())):
        (paths.scratch / name).touch()
    if announced is not None:
        digest = file_sha256(paths.item) if announced else "1220" + 64 * "0"
        (paths.scratch / PUBLISHING).write_text(json.dumps({"map.json": digest}))
    assert not problems(product)
    assert paths.scratch.exists() != over


def test_whoever_takes_a_product_for_done_waits_for_a_process_that_still_tidies_up(product):
    paths = Paths(product)
    paths.scratch.mkdir()
    lock = FileLock(paths.scratch / "lock", thread_local=False)
    lock.acquire()
    sweep(paths)
    assert paths.scratch.exists()
    threading.Timer(0.3, lock.release).start()
    sweep(paths, patience=30)
    assert not paths.scratch.exists()


def test_damage_outside_the_tiles_is_found(product):
    content = product.read_bytes()
    at = content.index(b"KNOWN_INCOMPATIBLE_EDITION=NO")
    product.write_bytes(content[:at] + b"k" + content[at + 1 :])
    assert problems(product) == {"map.tif": ("damaged outside its tiles, in the header or between them",)}


def test_a_missing_file_and_an_edited_item_are_said(product):
    product.with_name("map.png").unlink()
    item = json.loads(product.with_suffix(".json").read_text())
    item["properties"]["crgen:t2"] = "2021-07-23"
    product.with_suffix(".json").write_text(json.dumps(item, indent=2))
    assert problems(product) == {
        "map.json": ("damaged or edited: its own digest differs",),
        "map.png": ("missing",),
    }


def test_many_damaged_tiles_do_not_fill_the_screen(product):
    content = bytearray(product.read_bytes())
    with product.open("rb") as file:
        table = tile_table(next(read_directories(file)))
    content[int(table.offsets.min()) :] = bytes(len(content) - int(table.offsets.min()))
    product.write_bytes(content)
    assert len(problems(product)["map.tif"]) == len(table.offsets)


def test_what_is_no_product_is_refused_in_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"cannot read .*none\.json: No such file or directory; give a product"):
        verify(tmp_path / "none.tif")
    (tmp_path / "other.json").write_text("{}")
    assert problems(tmp_path / "other.tif") == {
        "other.json": ("damaged: it cannot be read as the STAC Item of a product",)
    }
