"""`crgen scenes`, `crgen pull` and `crgen fill` against a local Earth Engine, from the command line to files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import crgen as package
from crgen.cli.console import table
from crgen.gee.fetch.export import ExportState
from crgen.gee.fetch.images import layers
from crgen.gee.fetch.tile import Tile, grid_of, read_tile
from crgen.pipeline.product import pictures
from crgen.pipeline.pull import PullRequest
from crgen.pipeline.source.channels import Channels, channels_of
from crgen.pipeline.source.stack import manifest_of
from tests.cli.conftest import crgen, files_in, here  # noqa: F401
from tests.earthengine import faults
from tests.earthengine.server import EarthEngineServer
from tests.processes import Command

AREA = "113.56,34.70,113.563,34.703"
DATES = ("--t1", "2021-07-10", "--t2", "2021-07-22")
ASKED = ("--aoi", AREA, *DATES, "--observed-days", "1")


def test_what_was_pulled_gives_the_same_bytes_as_earth_engine(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tiny_weights: Path,
) -> None:
    weights = ("--weights", tiny_weights)
    assert crgen("fill", *ASKED, *weights, "--out", "live.tif").code == 0
    asked = len(service.tiles)
    for out in ("stack.zarr", "stack.nc", "folder"):
        assert crgen("pull", *ASKED, *weights, "--out", out).code == 0
    assert len(service.tiles) == asked + 1, "all else was on disk; t1 is clear: how often there was water was not asked"
    assert crgen("pull", *ASKED, *weights, "--dtype", "uint16", "--out", "integers.zarr").code == 0
    assert json.loads(Path("integers.zarr/s2_t1/.zarray").read_text())["dtype"] == "<u2"
    for out, aoi in (("stack.zarr", ()), ("folder", ("--aoi", AREA)), ("stack.nc", ()), ("integers.zarr", ())):
        outcome = crgen("fill", "--source", out, *aoi, *weights, "--out", "offline.tif", "--overwrite")
        assert outcome.code == 0, outcome.err
        assert "counts as observed then" in outcome.err
        for name in ("{}.tif", "{}_quality.tif"):
            assert Path(name.format("offline")).read_bytes() == Path(name.format("live")).read_bytes()


def test_a_product_says_how_to_make_it_again_and_that_makes_the_same_bytes(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tiny_weights: Path,
) -> None:
    options = ("--clip", "--clear-threshold", "0.5", "--dtype", "float32")
    assert crgen("fill", *ASKED, "--weights", tiny_weights, *options, "--out", "first.tif").code == 0
    item = json.loads(Path("first.json").read_text())
    derived = [link for link in item["links"] if link["rel"] == "derived_from"]
    assert any(
        link["href"].startswith(
            "https://earthengine.googleapis.com/v1/projects/earthengine-public/assets/COPERNICUS/S1_GRD_FLOAT/"
        )
        for link in derived
    )
    queries = len(service.requests)
    shutil.copy(tiny_weights, here)
    outcome = crgen("fill", "--manifest", "first.json", "--out", "second.tif")
    assert outcome.code == 0, outcome.err
    assert not [r for r in service.requests[queries:] if r.endpoint == "value:compute"], "no scene is chosen anew"
    assert Path("second.tif").read_bytes() == Path("first.tif").read_bytes()
    again = json.loads(Path("second.json").read_text())
    settings = item["properties"]["crgen:settings"]
    assert again["properties"]["crgen:settings"] == {**settings, "aoi": None}, "the manifest holds the area"
    assert again["geometry"] == item["geometry"]


def test_both_radar_days_are_said_printed_drawn_and_in_the_title(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    draw = pictures.draw_quicklook

    def spy(path: Path, **what) -> Path:
        drawn.extend(panel.title for panel in what["panels"])
        return draw(path, **what)

    monkeypatch.setattr(pictures, "draw_quicklook", spy)
    asked = ("--aoi", "114.050,34.700,114.053,34.703", "--t1", "2021-07-10", "--t2", "2021-07-24")
    asked = (*asked, "--weights", tiny_weights)
    said = "S1A of 2021-07-15 for t1 (2021-07-10), S1A of 2021-07-27 for t2 (2021-07-24)"
    for words in (("pull", "--out", "s.zarr"), ("fill", "--dry-run"), ("fill", "--out", "map.tif")):
        outcome = crgen(words[0], *asked, *words[1:])
        assert outcome.code == 0, outcome.err
        assert [line.split(maxsplit=1)[1] for line in outcome.out.splitlines() if line.startswith("radar ")] == [said]
    outcome = crgen("fill", "--source", "s.zarr", "--weights", tiny_weights, "--out", "offline.tif")
    assert said in outcome.out
    for name in ("map", "offline"):
        has = json.loads(Path(f"{name}.json").read_text())["properties"]
        assert has["title"].endswith("of 2021-07-24, radar of 2021-07-15 (t1) and 2021-07-27 (t2)")
        assert "from Sentinel-1 backscatter of 2021-07-15 and 2021-07-27" in has["processing:lineage"]
    assert drawn.count("t1 radar, 15 Jul 2021 for 10 Jul 2021") == 2
    assert drawn.count("t2 radar, 27 Jul 2021 for 24 Jul 2021") == 2


def test_a_dry_run_counts_and_writes_nothing(service: EarthEngineServer, crgen, here: Path) -> None:  # noqa: F811
    outcome = crgen("pull", *ASKED, "--past", "none", "--out", "stack.zarr", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "requests 4 for pixels" in outcome.out
    assert "compute  not known yet" in outcome.out
    assert "100.0 % of the area" in outcome.out
    assert not service.tiles
    assert files_in(here) == {}


def test_a_dry_run_of_fill_counts_all_but_what_it_may_not_need(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tiny_weights: Path,
) -> None:
    words = (*ASKED, "--weights", tiny_weights)
    pulled = crgen("pull", *words, "--out", "stack.zarr", "--dry-run").out.splitlines()
    filled = crgen("fill", *words, "--out", "map.tif", "--dry-run").out.splitlines()
    (line,) = (line for line in pulled if line.startswith("past"))
    assert line in filled
    for heading in ("tiles", "requests"):
        counts = [int(line.split()[1]) for lines in (pulled, filled) for line in lines if line.startswith(heading)]
        assert counts[0] == counts[1] + 1, "how often there was water"
    assert all(any(line.startswith("water    up to 1 tiles") for line in lines) for lines in (pulled, filled))
    assert not service.tiles
    assert files_in(here) == {}


def test_scenes_prints_all_candidates_and_makes_picture_and_manifest(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    outcome = crgen("scenes", *ASKED, "--picture", "map.png", "--manifest", "choice.json")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert sum(line.split()[1] == "yes" for line in lines if line.startswith(("s1", "s2")) and ":" not in line) == 4
    assert "adds nothing to nearer orbits" in outcome.out
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    assert not service.tiles
    outcome = crgen("pull", "--manifest", "choice.json", "--out", "stack.zarr", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert crgen("pull", "--manifest", "choice.json", *DATES, "--out", "stack.zarr").code == 2


def test_reasons_have_a_line_of_their_own_where_columns_are_few() -> None:
    rows = [("for", "day", "why not"), ("s1_t1", "2021-07-09", ""), ("s1_t1", "2021-07-12", "adds nothing")]
    assert table(rows, 80) == ["for    day         why not", "s1_t1  2021-07-09", "s1_t1  2021-07-12  adds nothing"]
    assert table(rows, 28)[1:] == ["s1_t1  2021-07-09", "s1_t1  2021-07-12", "       adds nothing"]


def test_an_area_at_sea_gets_a_picture_without_footprints(service: EarthEngineServer, crgen, here: Path) -> None:  # noqa: F811
    outcome = crgen("scenes", "--aoi", "150,-40,150.01,-39.99", *DATES, "--picture", "sea.png")
    assert outcome.code == 4
    assert outcome.out.splitlines() == [f"{name}: none" for name in ("s1_t1", "s1_t2", "s2_t1", "s2_t2")]
    assert "at sea and near the poles" in outcome.err.splitlines()[-1]
    assert set(files_in(here)) == {"sea.png"}


def test_a_picture_is_drawn_even_of_too_little(service: EarthEngineServer, crgen, here: Path) -> None:  # noqa: F811
    outcome = crgen(
        "scenes", "--aoi", "109.0,34.70,111.5,34.71", *DATES, "--picture", "map.png", "--manifest", "m.json"
    )
    assert outcome.code == 4
    assert "--min-coverage" in outcome.err.splitlines()[-1]
    assert set(files_in(here)) == {"map.png"}


def test_the_tiles_of_a_run_need_not_be_kept(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert crgen("pull", *ASKED, "--out", "stack.zarr", "--no-cache").code == 0
    assert not (tmp_path / "cache").exists()


def test_pull_from_python_takes_other_bands(service: EarthEngineServer, here: Path) -> None:  # noqa: F811
    stack = package.pull(
        aoi=AREA, t1="2021-07-10", t2="2021-07-22", out="s.zarr", bands=("B2", "B3", "B4"), pols=("VV", "VH")
    )
    assert list(stack.band.values) == ["B2", "B3", "B4"]
    assert list(stack.pol.values) == ["VV", "VH"]
    assert "s2_t2" not in stack
    assert manifest_of(stack)["t1"] == "2021-07-10"
    assert bool(np.isfinite(stack["s1_t1"]).all())


def test_pull_and_scenes_do_without_pytorch(service: EarthEngineServer, here: Path) -> None:  # noqa: F811
    """It takes 200 MB and seconds, and computes nothing there."""
    scenes = f"'scenes', '--aoi', '{AREA}', '--t1', '2021-07-10', '--t2', '2021-07-22'"
    code = (
        "import contextlib, io, sys, crgen; from crgen.cli.main import app\n"
        f"crgen.pull(aoi='{AREA}', t1='2021-07-10', t2='2021-07-22', out='s.zarr')\n"
        f"with contextlib.redirect_stdout(io.StringIO()): app([{scenes}], standalone_mode=False)\n"
        "print([name for name in ('torch', 'geemap', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert Path("s.zarr").exists()


def test_pull_takes_what_a_fill_reads_or_all(tiny_weights: Path) -> None:
    def fetched(**asked: object) -> Channels:
        return PullRequest(Path("s.zarr"), weights=str(tiny_weights), **asked).channels

    usual = channels_of(str(tiny_weights), None)
    assert fetched() == usual
    assert usual.bands == ("B2", "B3", "B4", "B8", "B11", "B12")
    assert (usual.pols, usual.needed_pols) == (("VV", "VH"), ("VV",))
    assert len(fetched(bands=("all",)).bands) == 10
    assert fetched(bands=("B4",)).bands == ("B4",)
    assert channels_of(str(tiny_weights), ("B4",)).bands == ("B3", "B4", "B8", "B11")
    assert fetched(pols=("VV", "VH")).held_pols(("VV",)) == ()
    assert fetched().held_pols(("VV",)) == ("VV",)
    assert fetched().held_pols(("VH",)) == ()


def test_one_date_alone_is_pulled_opened_and_not_mapped(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tiny_weights: Path,
) -> None:
    """Radar and optical image of t2, the pixels that they have in a pair; whoever maps needs a date before."""
    alone = ("--aoi", AREA, "--t2", "2021-07-22", "--observed-days", "1", "--weights", tiny_weights)
    assert crgen("pull", *ASKED, "--weights", tiny_weights, "--past", "none", "--out", "pair.zarr").code == 0
    asked = len(service.tiles)
    outcome = crgen("scenes", *alone, "--picture", "map.png", "--manifest", "t2.json")
    assert outcome.code == 0, outcome.err
    assert "_t1" not in outcome.out
    pair = package.open_stack("pair.zarr")
    for out, words in (("a.zarr", alone), ("b.nc", alone), ("c", ("--manifest", "t2.json", *alone[6:]))):
        outcome = crgen("pull", *words, "--out", out)
        assert outcome.code == 0, outcome.err
        assert "s1_t2    100.0 % of the area  2021-07-20" in outcome.out
        stack = package.open_stack(out)
        assert set(stack) == {"s1_t2", "s2_t2", "clear_t2"}
        for name in stack:
            np.testing.assert_array_equal(stack[name].values, pair[name].values)
        outcome = crgen("fill", "--source", out, "--weights", tiny_weights, "--out", "map.tif")
        assert outcome.code == 4
        assert outcome.err.splitlines()[-1].endswith(
            "is of one date: it has no s1_t1 and no s2_t1, which are needed too; pull or add those of t1"
        )
    assert len(service.tiles) == asked, "tiles of a pair serve one of its dates too"
    assert crgen("fill", "--manifest", "t2.json", "--weights", tiny_weights, "--out", "map.tif").code == 4
    stack = package.pull(aoi=AREA, t2="2021-07-22", out="radar.zarr", weights=str(tiny_weights))
    assert set(stack) == {"s1_t2"}, "of that very day there is no optical image"
    assert (stack["s1_t2"].values == pair["s1_t2"].values).all()


def test_one_date_alone_is_exported_and_not_taken_for_two(
    service: EarthEngineServer,
    ee_client: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    export = ("pull", "--out", "stack.zarr", "--export", "drive")
    alone = ("--aoi", AREA, "--t2", "2021-07-22", "--observed-days", "1")
    assert crgen(*export, *alone).code == 0
    assert len(service.exports.requests) == 2
    outcome = crgen(*export, *ASKED)
    assert outcome.code == 2
    assert "started with other t1" in outcome.err
    export_as_earth_engine_would(ExportState.read(Path("stack.zarr.exports.json")), Path("files"))
    outcome = crgen("pull", "--out", "stack.zarr", "--exported", "files")
    assert outcome.code == 0, outcome.err
    assert set(package.open_stack("stack.zarr")) == {"s1_t2", "s2_t2", "clear_t2"}


def test_exports_start_once_are_looked_at_and_failed_ones_start_again(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    words = ("pull", *ASKED, "--out", "stack.zarr", "--export", "drive", "--to", "flood")
    service.exports.held = True
    outcome = crgen(*words)
    assert outcome.code == 0, outcome.err
    assert "run the same command again" in outcome.err
    assert len(service.exports.requests) == 4
    request = service.exports.requests[0]
    assert request["fileExportOptions"]["driveDestination"]["folder"] == "flood"
    outcome = crgen(*words)
    assert outcome.out.count("pending") == 4
    assert len(service.exports.requests) == 4, "what is under way is not started again"
    Path("stack.zarr.exports.json").unlink()
    assert crgen(*words).code == 0
    assert len(service.exports.requests) == 4, "not even if the state file is lost"
    looked = sum(request.endpoint == "operations:get" for request in service.requests)
    state = ExportState.read(Path("stack.zarr.exports.json"))
    for export in state.exports[:3]:
        export.state = "SUCCEEDED"
    state.write(Path("stack.zarr.exports.json"))
    assert crgen(*words).code == 0
    again = sum(request.endpoint == "operations:get" for request in service.requests)
    assert again == looked + 1, "what is done is not looked at again"
    Path("stack.zarr.exports.json").unlink()
    assert crgen(*words).code == 0
    service.exports.held, service.exports.failure = False, "out of quota"
    for _ in range(3):
        outcome = crgen(*words)
    assert len(service.exports.requests) > 4
    assert crgen("pull", "--aoi", AREA, "--t1", "2021-07-11", "--t2", "2021-07-22", *words[-6:]).code == 2
    assert crgen(*words[:-1], "elsewhere").code == 7


@pytest.mark.parametrize(
    ("words", "differing"),
    [
        (("--t1", "2021-07-11"), "t1"),
        (("--bands", "B4"), "bands"),
        (("--pols", "VV"), "pols"),
        (("--search-days", "9"), "rules for scenes"),
        (("--manifest", "other.json"), "manifest"),
        (("--manifest", "other.json", "--pols", "VV"), "manifest and pols"),
    ],
)
def test_exports_under_way_are_not_taken_for_those_of_another_request(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    words: tuple[str, ...],
    differing: str,
) -> None:
    export = ("pull", "--out", "stack.zarr", "--export", "drive")
    for days, name in (("1", "same.json"), ("0", "other.json")):
        assert crgen("scenes", "--aoi", AREA, *DATES, "--observed-days", days, "--manifest", name).code == 0
    assert crgen(*export, "--manifest", "same.json").code == 0
    assert crgen(*export, "--manifest", "same.json").code == 0
    assert crgen(*export, *ASKED).code == 0
    asked = () if "--manifest" in words else ASKED
    outcome = crgen(*export, *asked, *words)
    assert outcome.code == 2
    assert (
        f"stack.zarr.exports.json is of exports that were started with other {differing}: give the same" in outcome.err
    )
    assert len(service.exports.requests) == 4


def test_how_far_exports_are_and_what_they_cost_is_printed(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    words = ("pull", *ASKED, "--out", "stack.zarr", "--export", "drive")
    seen = [crgen(*words).out for _ in range(4)]
    assert seen[2].count("running") == seen[2].count("50 % done, 1,234 EECU-seconds") == 4
    assert seen[3].count("succeeded") == 4
    assert "% done" not in seen[3]
    assert seen[3].count("1,234 EECU-seconds") == 4


def test_exports_can_be_waited_for_with_progress_and_failures_end_the_wait(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crgen.gee.fetch.export.EVERY", 0.01)
    monkeypatch.setattr("crgen.cli.console.LOG_EVERY", 0.0)
    words = ("pull", *ASKED, "--out", "stack.zarr", "--export", "drive", "--wait")
    outcome = crgen(*words)
    assert outcome.code == 0, outcome.err
    shown = [line for line in outcome.err.splitlines() if line.startswith("exporting: ")]
    assert [line.split()[1] for line in shown] == ["0/100", "50/100", "100/100"]
    assert [line.rpartition(", ")[2] for line in shown] == [f"{done} of 4 exports done" for done in (0, 0, 4)]
    assert outcome.out.count("succeeded") == 4
    assert "all done: download the files" in outcome.err
    looked = len(service.requests)
    assert crgen(*words).code == 0
    assert not [r for r in service.requests[looked:] if r.endpoint == "operations:get"], "what is done stays done"
    Path("stack.zarr.exports.json").unlink()
    service.exports.failure = "out of quota"
    outcome = crgen("pull", "--aoi", "113.57,34.70,113.573,34.703", *DATES, *words[-5:])
    assert outcome.code == 7
    said = outcome.err.splitlines()[-1]
    assert "3 of 3 exports ended without files (s1_t1 failed: out of quota): give the same command again" in said
    assert crgen("pull", *ASKED, "--out", "s.zarr", "--wait").code == 2


def test_a_service_account_is_not_left_to_export_to_a_drive_nobody_sees(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    service.tokens.service_account(here / "key.json")
    outcome = crgen("pull", *ASKED, "--out", "s.zarr", "--export", "drive", "--credentials", "key.json")
    assert outcome.code == 7
    assert "--export gcs --to BUCKET" in outcome.err
    assert not service.exports.requests


def test_downloaded_exports_become_the_same_stack(
    service: EarthEngineServer,
    ee_client: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
    tiny_weights: Path,
) -> None:
    words = (*ASKED, "--weights", tiny_weights)
    assert crgen("pull", *words, "--past", "none", "--out", "live.zarr").code == 0
    assert crgen("pull", *words, "--out", "stack.zarr", "--export", "gcs", "--to", "bucket/path").code == 0
    outcome = crgen("pull", "--out", "stack.zarr", "--exported", ".")
    assert outcome.code == 4
    assert "download all files of the export" in outcome.err
    export_as_earth_engine_would(ExportState.read(Path("stack.zarr.exports.json")), Path("files"))
    outcome = crgen("pull", "--out", "stack.zarr", "--exported", "files")
    assert outcome.code == 0, outcome.err
    live, stack = package.open_stack("live.zarr"), package.open_stack("stack.zarr")
    assert set(stack) == set(live)
    for name in live:
        np.testing.assert_array_equal(stack[name].values, live[name].values)


def export_as_earth_engine_would(state: ExportState, folder: Path) -> None:
    """Write each export as two GeoTIFFs of one data type, cut across the grid."""
    import ee

    folder.mkdir()
    geobox = state.grid.geobox
    files = {export.variable: export.files for export in state.exports}
    for layer in layers(state.manifest):
        split = geobox.shape[0] // 2
        for row, height in ((0, split), (split, geobox.shape[0] - split)):
            tile = Tile(row, 0, height, geobox.shape[1])
            image = ee.deserializer.fromJSON(layer.expression)
            answer = ee.data.computePixels({"expression": image, "fileFormat": "NPY", "grid": grid_of(geobox, tile)})
            pixels = read_tile(answer, layer, tile)
            with rasterio.open(
                folder / f"{files[layer.name]}-{row:010d}-0000000000.tif",
                "w",
                driver="GTiff",
                dtype="float32",
                count=len(layer.bands),
                height=height,
                width=geobox.shape[1],
                crs=str(geobox.crs),
                transform=geobox.affine * Affine.translation(0, row),
            ) as file:
                for number, (name, _) in enumerate(layer.bands, start=1):
                    file.write(pixels[name].astype("float32"), number)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bands", "B99"), "no band 'B99'"),
        (("--pols", "VV,VV"), "named twice"),
        (("--dry-run", "--export", "drive"), "give one of them"),
        (("--export", "gcs"), "--to BUCKET"),
        (("--dtype", "int16"), "--dtype"),
    ],
)
def test_pulls_that_make_no_sense(service: EarthEngineServer, crgen, here: Path, words, message) -> None:  # noqa: F811
    outcome = crgen("pull", *ASKED, "--out", "stack.zarr", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert files_in(here) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--t2", "2021-07-22", "--past", "1y"), "one date alone has no past"),
        (("--t2", "2021-07-22", "--after", "5"), "one date alone has no past"),
        (("--t1", "2021-07-10"), "give --t2, and for a map --t1 too"),
        (("--t2", "2011-07-22"), "t2 (2011-07-22) lies before Sentinel-1"),
    ],
)
def test_pulls_of_one_date_that_make_no_sense(service: EarthEngineServer, crgen, here: Path, words, message) -> None:  # noqa: F811
    outcome = crgen("pull", "--aoi", AREA, "--out", "stack.zarr", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert files_in(here) == {}


def test_ctrl_c_does_not_wait_for_earth_engine_and_the_next_run_goes_on(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    service.add(faults.storm(first=1000, retry_after=120))
    words = ("pull", *ASKED, "--out", "stack.zarr")
    process = Command(*words)
    deadline = time.monotonic() + 120
    while not service.tiles and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.process.pid, signal.SIGINT)
    code, _, errors = process.ended()
    assert code == 130, errors
    assert "interrupted" in errors.splitlines()[-1]
    assert files_in(here) == {}
    service.clear()
    done = crgen(*words)
    assert done.code == 0, done.err
