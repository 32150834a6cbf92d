"""From what a person names to a grid, and the refusals on the way."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from crgen.errors import AreaError
from crgen.pipeline.source.area import clip_mask, read_area
from tests.realdata import REPOSITORY

ZHENGZHOU = REPOSITORY / "examples" / "zhengzhou.geojson"


def square(x: float, y: float, size: float = 0.1) -> dict:
    ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def geojson(folder: Path, content: dict | str) -> str:
    file = folder / "My Area.geojson"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_the_example_lies_east_of_zhengzhou_on_the_utm_lattice():
    area = read_area(str(ZHENGZHOU))
    west, south, east, north = area.geobox.boundingbox
    assert (area.name, area.geobox.crs.epsg, area.notes) == ("zhengzhou", 32649, ())
    assert west < 735_000 < east
    assert south < 3_845_000 < north
    assert 8_000 < east - west < 10_000
    assert all(edge % 10 == 0 for edge in (west, south, east, north))


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-179, 178),
    st.floats(-83, 82.8),
    st.floats(0.001, 0.2),
    st.sampled_from([10.0, 20.0, 60.0]),
)
def test_every_grid_covers_its_area_and_is_anchored_to_the_crs(west, south, size, resolution):
    area = read_area(f"{west},{south},{west + size},{south + size}", resolution=resolution)
    left, bottom, right, top = area.geobox.boundingbox
    inner = area.polygon.bounds
    slack = 0.01 * resolution
    assert np.allclose(np.array([left, bottom, right, top]) % resolution, 0)
    assert left <= inner[0] + slack
    assert bottom <= inner[1] + slack
    assert right >= inner[2] - slack
    assert top >= inner[3] - slack
    assert right - left < inner[2] - inner[0] + 2 * resolution


def test_edges_are_followed_between_their_corners(tmp_path):
    # In zone 32 a parallel sags towards the meridian of 9° E, 100 m below the chord of this outline's corners.
    ring = [[8.5, 60], [9.5, 60], [9.5, 60.1], [8.5, 60.1], [8.5, 60]]
    area = read_area(geojson(tmp_path, {"type": "Polygon", "coordinates": [ring]}))
    _, lowest = Transformer.from_crs(4326, 32632, always_xy=True).transform(9, 60)
    assert area.geobox.boundingbox.bottom == pytest.approx(lowest, abs=10)


@pytest.mark.parametrize(
    ("spec", "epsg"),
    [("11.5,50,12.1,50.2", 32632), ("11.9,50,12.5,50.2", 32633), ("33,-0.2,33.1,0.05", 32736)],
)
def test_the_utm_zone_is_the_one_holding_most_of_the_area(spec, epsg):
    assert read_area(spec).geobox.crs.epsg == epsg


def test_the_zone_counts_area_not_the_middle_of_the_box(tmp_path):
    # The big field lies in zone 32, a speck far east pulls the box's middle into zone 33.
    parts = [square(11.0, 50, 0.5)["coordinates"], square(13.2, 50, 0.01)["coordinates"]]
    area = read_area(geojson(tmp_path, {"type": "MultiPolygon", "coordinates": parts}))
    assert area.geobox.crs.epsg == 32632
    assert area.name == "my_area"


def test_geometry_feature_and_collection_are_the_same_area(tmp_path):
    geometry = square(113.5, 34.7)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    grids = [
        read_area(geojson(tmp_path, content)).geobox
        for content in (geometry, feature, {"type": "FeatureCollection", "features": [feature]})
    ]
    assert grids[0] == grids[1] == grids[2] == read_area("113.5,34.7,113.6,34.8").geobox


def test_a_file_in_another_crs_is_read_where_it_lies(tmp_path):
    outline = shapely.box(735_000, 3_845_000, 736_000, 3_846_500)
    file = tmp_path / "field.gpkg"
    pyogrio.raw.write(file, np.array([shapely.to_wkb(outline)]), [], [], geometry_type="Polygon", crs="EPSG:32649")
    area = read_area(str(file))
    assert area.geobox.boundingbox.bbox == (735_000, 3_845_000, 736_000, 3_846_500)
    legacy = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32649"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(outline)}],
    }
    assert read_area(geojson(tmp_path, legacy)).geobox == area.geobox


def test_crs_may_be_chosen_but_must_be_in_metres():
    assert read_area("113.5,34.7,113.6,34.8", crs="EPSG:32650").geobox.crs.epsg == 32650
    for crs in ("EPSG:4326", "EPSG:2263", "nonsense"):
        with pytest.raises(AreaError, match="--crs"):
            read_area("113.5,34.7,113.6,34.8", crs=crs)


def test_a_polygon_that_crosses_itself_is_repaired_and_said_so(tmp_path):
    bow = [[[1, 1], [1.1, 1.1], [1.1, 1], [1, 1.1], [1, 1]]]
    area = read_area(geojson(tmp_path, {"type": "Polygon", "coordinates": bow}))
    assert area.polygon.is_valid
    assert "repaired" in area.notes[0]
    assert area.polygon.area == pytest.approx(area.polygon.convex_hull.area / 2, rel=0.01)


REFUSED_TEXT = {
    "nowhere.geojson": "no file",
    "": "no file",
    "1,2,3": "four numbers",
    "nan,0,1,1": "not finite",
    "113.5,34.8,113.6,34.7": "south",
    "1,1,1,2": "no width",
    "180,0,-180,1": "no width",
    "1,0,1.0000000000000002,1e-300": "no area",
    "113.6,34.7,113.5,34.8": "west .* beyond its east .*swap",
    "10,83.9,10.1,84.1": "84",
    "34.7,113.5,34.8,113.6": "swapped",
    "735000,3845000,736000,3846000": "metres",
    "-300,0,300,1": "more than half the globe",
    "-180,-80,180,80": "billion pixels.* GB of disk.* hours",
    "0,0,20,20": "billion pixels.* GB of disk.* hours",
}


@pytest.mark.parametrize("spec", REFUSED_TEXT)
def test_a_senseless_area_is_refused_in_one_line(spec):
    with pytest.raises(AreaError, match=REFUSED_TEXT[spec]) as refusal:
        read_area(spec)
    assert "\n" not in str(refusal.value)


REFUSED_FILES = {
    "empty file": ("", "empty"),
    "not JSON": ("hello", "not a vector file"),
    "cut off": ('{"type": "Polygon", "coordi', "not a vector file"),
    "no features": ({"type": "FeatureCollection", "features": []}, "no features"),
    "no geometry": ({"type": "Feature", "properties": {}, "geometry": None}, "no feature with a geometry"),
    "a point": ({"type": "Point", "coordinates": [1, 2]}, "only Point"),
    "no area": (
        {"type": "Polygon", "coordinates": [[[1, 1], [2, 2], [1, 1], [1, 1]]]},
        "without an area",
    ),
    "NaN": ('{"type": "Polygon", "coordinates": [[[1, 1], [NaN, 2], [2, 2], [1, 1]]]}', "not a finite"),
    "metres": (square(735_000, 3_845_000, 1000), "metres"),
    "swapped": (square(34.7, 113.5), "swapped"),
    "around the globe": (
        {"type": "Polygon", "coordinates": [[[-180, 10], [180, 10], [180, 11], [-180, 11], [-180, 10]]]},
        "billion pixels",
    ),
}


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_a_senseless_file_is_refused_in_one_line(case, tmp_path):
    content, words = REFUSED_FILES[case]
    with pytest.raises(AreaError, match=words) as refusal:
        read_area(geojson(tmp_path, content))
    assert "\n" not in str(refusal.value)
    assert "My Area.geojson" in str(refusal.value)


def test_the_size_limit_is_the_callers():
    with pytest.raises(AreaError, match="billion pixels"):
        read_area("113.5,34.7,113.6,34.8", max_pixels=1000)


# Corners on the edges, corners and centres of pixels, where rounding decides.
half_pixels = st.integers(-40, 140)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(half_pixels, half_pixels), min_size=3, max_size=7),
    st.tuples(st.integers(0, 60), st.integers(0, 60)),
    st.sampled_from([10.0, 0.7]),
)
def test_the_mask_of_a_window_is_a_window_of_the_mask(corners, offset, size):
    x, y = round(735_000 / size) * size, round(3_845_000 / size) * size
    outline = shapely.MultiPoint([(x + a * size / 2, y - b * size / 2) for a, b in corners]).convex_hull
    assume(outline.geom_type == "Polygon")
    whole = GeoBox((100, 100), Affine(size, 0, x - 20 * size, 0, -size, y + 20 * size), "EPSG:32649")
    mask = clip_mask(outline, whole)
    window = tuple(slice(start, start + 37) for start in offset)
    assert (clip_mask(outline, whole[window]) == mask[window]).all()
    columns, rows = np.meshgrid(np.arange(100) - 19.5, np.arange(100) - 19.5)
    centres = shapely.points(x + columns * size, y - rows * size)
    clearly = shapely.distance(outline.boundary, centres) > 1e-6
    assert (mask == shapely.contains(outline, centres))[clearly].all()
