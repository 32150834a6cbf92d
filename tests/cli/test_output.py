"""What stands where the product should go, and what is there when it cannot be written."""

import datetime
import json
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rasterio

from crgen import write_stack
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from tests.cli.conftest import files_in
from tests.products import files_of

PRODUCT = set(files_of("map"))


def test_a_fill_says_what_it_made_and_leaves_four_files(crgen, fill, here):
    outcome = crgen(*fill, "--out", "my maps/map.tif")
    assert outcome.code == 0, outcome.err
    assert {p.name for p in (here / "my maps").iterdir()} == PRODUCT
    lines = outcome.out.splitlines()
    shares = [float(line.split()[-2]) for line in lines if line.endswith(" %")]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert re.search(r"^flooded +\d+\.\d\d km²", outcome.out, re.MULTILINE)
    assert "error of generated against the truth: RMSE" in outcome.out
    assert "error of copy of t1 against the truth: RMSE" in outcome.out
    assert [line for line in lines if "map" in line] == [f"my maps/{name}" for name in files_of("map")]
    with rasterio.open(here / "my maps" / "map.tif") as file:
        assert file.descriptions == ("B2", "B3", "B4", "B8", "B11", "B12")
    assert json.loads((here / "my maps" / "map.json").read_text())["id"] == "map"


def test_that_copying_was_better_on_the_places_past_is_said_first(crgen, fill, here):
    """Untrained weights know less of the demo's ground than its last image does."""
    outcome = crgen(*fill, "--past", "1y", "--out", "map.tif")
    assert outcome.code == 0, outcome.err
    notes = [line for line in outcome.err.splitlines() if not line.startswith("filling: ")]
    said = r"copying was better on this place's past: RMSE 0\.\d+ against 0\.\d+ over \d+ earlier pairs"
    assert re.search(said, notes[0]), outcome.err
    assert "on this place's past" not in outcome.out


def test_that_copying_is_better_where_t2_was_seen_is_said_first(crgen, tiny_weights, here):
    """What is seen of t2 is the image of t1, which nothing can be nearer to than a copy."""
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    stack = open_demo(read_area("113.53,34.71,113.54,34.72").geobox, *days, pols=("VV",), bands=("B11", "B8", "B3"))
    write_stack(stack.drop_vars("truth_t2").assign(s2_t2=stack["s2_t1"]).compute(), here / "same.zarr")
    outcome = crgen("fill", "--source", "same.zarr", "--weights", tiny_weights, "--out", "map.tif")
    assert outcome.code == 0, outcome.err
    notes = [line for line in outcome.err.splitlines() if not line.startswith("filling: ")]
    said = r"WORSE THAN COPYING t1: \d+ hidden blocks of t2: RMSE 0\.\d+ \(copy of t1 0\.000\)"
    assert re.match(f"note: {said}", notes[0]), outcome.err
    assert "hidden blocks" not in outcome.out, "not twice"
    page = (here / "map.html").read_text()
    assert re.search(r"<dt>Self-check</dt>\s*<dd>" + said, page)
    assert page.index("WORSE THAN COPYING") < page.index("<dt>Flooded</dt>")


@pytest.mark.parametrize(
    "options",
    [
        ["--aoi", "113.50,34.70,113.50001,34.70001", "--workers", "1000", "--chunk", "1"],
        ["--aoi", "-60.0001,-3.0001, -60.0,-3.0", "--out", "地图 ü.TIFF"],
    ],
)
def test_odd_requests_that_make_sense(crgen, fill, here, options):
    """One pixel, more threads than work, chunks below a window; the south and west, a space, a name in two scripts."""
    outcome = crgen(*fill, "--out", "map.tif", *options)
    assert outcome.code == 0, outcome.err
    assert all(line.startswith("filling: ") for line in outcome.err.splitlines()), outcome.err
    assert len(files_in(here)) == len(PRODUCT)


def test_without_out_the_product_is_named_after_area_and_dates(crgen, fill, here):
    outcome = crgen(*fill, "--dry-run")
    assert "bbox_113.5_34.7_113.503_34.703_2021-07-10_2021-07-22.tif" in outcome.out


def test_a_product_is_replaced_only_when_asked(crgen, refused, fill, here):
    for name in ("map.tif", "other_quality.tif"):
        (here / name).write_text("mine")
    assert "map.tif exists already: give another --out, or --overwrite" in refused(6, *fill, "--out", "map.tif")
    assert "other_quality.tif exists already" in refused(6, *fill, "--out", "other.tif")
    assert crgen(*fill, "--out", "map.tif", "--overwrite").code == 0
    assert set(files_in(here)) == PRODUCT | {"other_quality.tif"}
    assert (here / "map.tif").read_bytes()[:2] == b"II"


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_folder_in_the_way(refused, fill, here, flags):
    (here / "map.tif").mkdir()
    assert "map.tif" in refused(6, *fill, "--out", "map.tif", *flags)


def test_an_output_below_a_file(refused, fill, here):
    (here / "file").write_text("mine")
    assert "cannot write into file/maps" in refused(6, *fill, "--out", "file/maps/map.tif")


def test_an_output_behind_a_link_that_leads_nowhere(refused, fill, here):
    (here / "loop").symlink_to("loop")
    assert "cannot write loop/map.tif" in refused(6, *fill, "--out", "loop/map.tif")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no file system here that refuses files")
def test_an_output_where_no_file_can_be_made(refused, fill):
    assert "cannot write into /proc/self" in refused(6, *fill, "--out", "/proc/self/map.tif")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_an_output_folder_without_permission(refused, fill, here):
    (here / "locked").mkdir(mode=0o500)
    assert "cannot write into locked" in refused(6, *fill, "--out", "locked/map.tif")


@pytest.mark.parametrize("out", ["a" * 300 + ".tif", "a" * 250 + ".tif", "b" * 300 + "/map.tif"])
def test_a_name_too_long_for_the_disk(refused, fill, out):
    assert "name too long" in refused(6, *fill, "--out", out).lower()


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """Limit the size of any file, which stands in for a full disk; lifted before pytest writes its own output."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(refused, fill):
    with small_disk(2_000):
        line = refused(6, *fill, "--out", "new/map.tif")
    assert line.startswith("cannot write new/map.tif")
    assert "free some space" in line


def test_a_disk_that_is_full_at_the_end_costs_no_chunk(crgen, fill, here):
    with small_disk(90_000):
        outcome = crgen(*fill, "--out", "new/map.tif")
    assert outcome.code == 6
    assert "error: cannot write new/map_flood.gpkg" in outcome.err
    assert "free some space" in outcome.err
    assert "1 finished chunk kept in new/.map.tif.scratch: run the same command again to go on" in outcome.err
    assert [p.name for p in (here / "new").iterdir()] == [".map.tif.scratch"]
    assert "1 of 1 chunks were finished" in crgen(*fill, "--out", "new/map.tif").err
    assert {p.name for p in (here / "new").iterdir()} == PRODUCT
