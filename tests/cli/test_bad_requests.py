"""A request that makes no sense ends in one line that says so, before anything is written."""

import pytest


def geojson(coordinates: str, kind: str = "Polygon") -> str:
    return f'{{"type": "{kind}", "coordinates": {coordinates}}}'


@pytest.mark.parametrize(
    ("aoi", "words"),
    [
        ("nowhere.geojson", "no file 'nowhere.geojson'"),
        ("", "''"),
        ("   ", ""),
        ("113.5,34.7,113.6", "four numbers"),
        ("113.5,34.7,east,34.8", "four numbers"),
        ("nan,34.7,113.6,34.8", "not finite"),
        ("113.5,34.7,1e999,34.8", "not finite"),
        ("113.6,34.7,113.5,34.8", "west (113.6) beyond its east (113.5)"),
        ("113.5,34.8,113.6,34.7", "south (34.8) at or above its north (34.7)"),
        ("34.7,113.5,34.8,113.6", "swapped"),
        ("735000,3840000,736000,3841000", "metres"),
        ("10,85,11,86", "84"),
        ("100,20,130,50", "billion pixels"),
        ("区域.geojson", "区域.geojson"),
    ],
)
def test_an_area_that_cannot_be_mapped(refused, fill, aoi, words):
    assert words in refused(3, *fill, "--aoi", aoi)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("{", "GDAL"),
        ('{"type": "FeatureCollection", "features": []}', "no features"),
        (geojson("[113.5, 34.7]", "Point"), "no polygon, only Point"),
        (geojson("[]"), ""),
        (geojson("[[[113.5, 34.7], [113.6, 34.7], [113.5, 34.7], [113.5, 34.7]]]"), "without an area"),
    ],
)
def test_an_area_file_without_an_area(refused, fill, here, content, words):
    (here / "my area.geojson").write_text(content)
    line = refused(3, *fill, "--aoi", "my area.geojson")
    assert "my area.geojson" in line
    assert words in line


def test_a_folder_is_no_area(refused, fill, here):
    (here / "folder").mkdir()
    assert "'folder'" in refused(3, *fill, "--aoi", "folder")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--t2", "2021-07-09"], "t2 (2021-07-09) must be after t1 (2021-07-10): swap them"),
        (["--t2", "2021-07-10"], "must be after t1"),
        (["--t1", "10.07.2021"], "t1 '10.07.2021' is not a day"),
        (["--t2", "2021-02-30"], "t2 '2021-02-30' is not a day"),
        (["--t2", ""], "t2 '' is not a day"),
        (["--t1", "2013-01-01"], "before Sentinel-1"),
        (["--device", "gpu"], "there is no device 'gpu'; choose auto, cuda, mps, cpu"),
        (["--dtype", "int8"], "--dtype"),
        (["--band", "B4"], "--band"),
        (["--out"], "--out"),
        (["--chunk", "0"], "must be positive"),
        (["--chunk", "big"], "--chunk"),
        (["--workers", "0"], "must be positive"),
        (["--clear-threshold", "0"], "clear threshold is 0"),
        (["--clear-threshold", "2"], "clear threshold is 2"),
        (["--clear-threshold", "nan"], "clear threshold is nan"),
        (["--s2-scale", "nan"], "Sentinel-2 scale is nan"),
        (["--s2-scale", "0"], "Sentinel-2 scale is 0"),
        (["--out", "map.jpg"], "'map.jpg' is not a .tif"),
        (["--out", ""], "is not a .tif"),
        (["--out", ".tif"], "is not a .tif"),
        (["--crs", ""], "crs is empty"),
        (["--source", ""], "source is empty"),
        (["--weights", ""], "weights is empty"),
        (["--out", "s3://maps/map.tif"], "map.tif' is a URL: make it on a disk, and copy it from there"),
        (["extra"], "extra"),
    ],
)
def test_an_option_that_makes_no_sense(refused, fill, options, words):
    assert words in refused(2, *fill, *options)


@pytest.mark.parametrize("crs", ["nonsense", "EPSG:4326", "EPSG:999999"])
def test_a_crs_that_is_no_grid_in_metres(refused, fill, crs):
    assert f"--crs '{crs}'" in refused(3, *fill, "--crs", crs)


def test_a_device_this_machine_lacks(refused, fill, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no usable 'cuda' device; use --device auto or cpu" in refused(2, *fill, "--device", "cuda")


def test_a_source_that_is_not_there(refused, fill):
    assert "no stack at 'elsewhere'" in refused(4, *fill, "--source", "elsewhere")


def test_earth_engine_options_that_make_no_sense(refused, fill):
    fill = (*fill, "--source", "gee")
    assert "from 0 to 366" in refused(2, *fill, "--search-days", "-1")
    assert "raise --search-days too" in refused(2, *fill, "--search-days", "3", "--observed-days", "5")
    assert "--min-coverage is 90.0; give a share from 0 to 1" in refused(2, *fill, "--min-coverage", "90")
    assert "lies in the future" in refused(2, *fill, "--t2", "2121-07-22")


def test_the_demo_needs_an_area_and_both_dates(refused, tiny_weights):
    fill = ("fill", "--source", "demo", "--weights", tiny_weights)
    assert "give --aoi" in refused(2, *fill)
    assert "give --t1 and --t2" in refused(2, *fill, "--aoi", "113.50,34.70,113.51,34.71")


def test_commands_that_do_not_exist(refused):
    assert "fil" in refused(2, "fil")
    assert "--nothing" in refused(2, "--nothing")
    assert "name" in refused(2, "models", "show")
