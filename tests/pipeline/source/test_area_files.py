"""Areas as people draw and keep them: layers, archives, shapefiles, names in any script, both sides of 180°."""

import json
import re
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from crgen.errors import AreaError, RequestError
from crgen.files import told_after
from crgen.pipeline.product.stac import bounds_of, to_lonlat
from crgen.pipeline.source.area import read_area, with_layer
from crgen.pipeline.source.ground import crs_name, ground_pixel, meets

HERE, THERE = shapely.box(113.5, 34.7, 113.52, 34.72), shapely.box(114, 35, 114.02, 35.02)


def write(path: Path, layers: dict[str, list[shapely.Geometry]], kind: str = "Unknown", driver: str = "GPKG") -> Path:
    for name, shapes in layers.items():
        pyogrio.raw.write(
            path,
            shapely.to_wkb(np.array(shapes, object)) if shapes else np.array([], object),
            [],
            [],
            layer=name,
            geometry_type=kind,
            crs="EPSG:4326",
            driver=driver,
            append=path.exists(),
        )
    return path


def is_here(area) -> bool:
    return area.geobox == read_area("113.5,34.7,113.52,34.72").geobox


KML = """<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{}</Document></kml>"""
PLACE = "<Placemark><{0}>{1}</{0}></Placemark>"
POINT = PLACE.format("Point", "<coordinates>113,34</coordinates>")


def kml_polygon(shape: shapely.Polygon) -> str:
    ring = " ".join(f"{x},{y}" for x, y in shape.exterior.coords)
    rings = f"<outerBoundaryIs><LinearRing><coordinates>{ring}</coordinates></LinearRing></outerBoundaryIs>"
    return PLACE.format("Polygon", rings)


KML_FOLDERS = {
    "points first": f"<Folder><name>a</name>{POINT}</Folder><Folder><name>b</name>{kml_polygon(HERE)}</Folder>",
    "an empty folder first": f"<Folder><name>a</name></Folder><Folder><name>b</name>{kml_polygon(HERE)}</Folder>",
    "a folder in a folder": f"<Folder><name>a</name>{POINT}<Folder><name>b</name>{kml_polygon(HERE)}</Folder></Folder>",
}


@pytest.mark.parametrize("case", KML_FOLDERS)
def test_the_folder_of_a_kml_that_holds_polygons_is_read(tmp_path, case):
    (tmp_path / "area.kml").write_text(KML.format(KML_FOLDERS[case]))
    assert is_here(read_area(tmp_path / "area.kml"))


POINTS = [shapely.Point(113, 34)]
LAYERS = {
    "of any kind, points first": ({"a": POINTS, "b": [HERE]}, "Unknown"),
    "a mixed one": ({"a": POINTS, "b": [POINTS[0], HERE]}, "Unknown"),
    "an empty one of polygons first": ({"a": [], "b": [HERE]}, "Polygon"),
}


@pytest.mark.parametrize("case", LAYERS)
def test_the_layer_that_holds_polygons_is_read(tmp_path, case):
    area = read_area(write(tmp_path / "area.gpkg", *LAYERS[case]))
    assert is_here(area)
    assert "read layer 'b' of 2" in area.notes


def test_of_several_layers_with_polygons_one_is_named(tmp_path):
    path = write(tmp_path / "area.gpkg", {"old_draft": [THERE], "aoi": [HERE]}, "Polygon")
    with pytest.raises(AreaError, match="2 layers with polygons: 'old_draft', 'aoi'; choose one with --layer"):
        read_area(path)
    chosen = read_area(with_layer(str(path), "aoi"))
    assert is_here(chosen)
    assert chosen.name == "area_aoi"
    with pytest.raises(AreaError, match="no layer 'x' that holds polygons; those that do: 'old_draft', 'aoi'"):
        read_area(with_layer(str(path), "x"))
    with pytest.raises(RequestError, match=r"--layer aoi .* --aoi"):
        with_layer("113.5,34.7,113.52,34.72", "aoi")


def test_a_shapefile_alone_is_told_what_belongs_to_it(tmp_path):
    write(tmp_path / "map.shp", {"map": [HERE]}, "Polygon", "ESRI Shapefile")
    assert is_here(read_area(tmp_path / "map.shp"))
    (tmp_path / "map.prj").unlink()
    area = read_area(tmp_path / "map.shp")
    assert is_here(area)
    assert any("map.prj" in note for note in area.notes)
    (tmp_path / "map.shx").unlink()
    (tmp_path / "map.dbf").unlink()
    with pytest.raises(AreaError, match=r"put map\.shx and map\.dbf and map\.prj beside it"):
        read_area(tmp_path / "map.shp")


@pytest.mark.parametrize("lost", [None, {"type": "GeometryCollection", "geometries": None}, {"type": "Polygon"}])
def test_a_feature_whose_geometry_cannot_be_read_is_told(tmp_path, lost):
    """GDAL itself writes the second, of a collection that holds a point without coordinates beside polygons."""
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in (lost, lost)]
    (tmp_path / "lost.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(AreaError, match=r"lost.geojson' holds no feature with a geometry that can be read"):
        read_area(tmp_path / "lost.geojson")
    features.append({"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(HERE)})
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    area = read_area(tmp_path / "area.geojson")
    assert is_here(area)
    assert "2 features were left out, without a geometry that can be read; check the outline" in area.notes


def test_a_ring_that_is_not_closed_is_closed_without_a_word_of_gdal(tmp_path, recwarn):
    ring = [list(corner) for corner in HERE.exterior.coords][:-1]
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    area = read_area(tmp_path / "area.geojson")
    assert is_here(area)
    assert any("closed" in note for note in area.notes)
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_zips_with_folders_inside_are_read_and_bounded(tmp_path):
    for name, shape in (("here", HERE), ("there", THERE)):
        write(tmp_path / f"{name}.shp", {name: [shape]}, "Polygon", "ESRI Shapefile")
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as packed:
        for file in tmp_path.glob("here.*"):
            packed.write(file, f"from the office/2021/{file.name}")
        packed.writestr("__MACOSX/._here.shp", "x")
    assert is_here(read_area(tmp_path / "one.zip"))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as packed:
        for file in (*tmp_path.glob("here.*"), *tmp_path.glob("there.*")):
            packed.write(file, f"a/{file.name}")
    with pytest.raises(AreaError, match=r"'a/here\.shp/here', 'a/there\.shp/there'; choose one with --layer"):
        read_area(tmp_path / "two.zip")
    assert is_here(read_area(with_layer(str(tmp_path / "two.zip"), "a/here.shp/here")))
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("area.shp", "w") as file,
    ):
        for _ in range(2**10 + 1):
            file.write(bytes(2**20))
    with pytest.raises(AreaError, match=r"unpacks to 1\.1 GB"):
        read_area(tmp_path / "bomb.zip")
    (tmp_path / "none.zip").write_bytes((tmp_path / "one.zip").read_bytes()[:200])
    with pytest.raises(AreaError, match="vector file"):
        read_area(tmp_path / "none.zip")


REMOTE = {
    "area.vrt": "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/vsicurl/http://localhost:9/x</SrcDataSource>",
    "area.xml": "<OGRWFSDataSource><URL>http://localhost:9/wfs</URL></OGRWFSDataSource>",
    "area.geojson": "<OGRVRTDataSource><OGRVRTLayer name='x'></OGRVRTLayer></OGRVRTDataSource>",
}


@pytest.mark.parametrize("name", REMOTE)
def test_a_file_that_leads_elsewhere_is_not_followed(tmp_path, name):
    (tmp_path / name).write_text(REMOTE[name])
    with pytest.raises(AreaError, match="only names where"):
        read_area(tmp_path / name)
    for spec in ("/vsicurl/http://localhost:9/a.geojson", "http://localhost:9/a.geojson"):
        with pytest.raises(AreaError, match=r"no file|neither a file"):
            read_area(spec)


def test_names_in_any_script_are_distinct_and_fit_for_files(tmp_path):
    names = ["郑州", "開封", "Київ", "Харків", "बाढ़", "बाढ", "غزة", "日本 1", "🌊", "🔥", "My Area", "é" * 90, "é" * 91]
    made = []
    for name in names:
        path = tmp_path / f"{name}.geojson"
        path.write_text(json.dumps(shapely.geometry.mapping(HERE)))
        made.append(read_area(path).name)
    assert len(set(made)) == len(names)
    assert made[0] == "郑州"
    assert made[10] == "my_area"
    assert all(len(f"{name}_2021-07-10_2021-07-22_quality.tif".encode()) < 200 for name in made)
    assert not any(re.search(r"[\s/\\:*?\"<>|]", name) for name in made)


# Both sides of 180°


FIJI = shapely.box(179.95, -17.05, 180.05, -16.95)
WEST, EAST = shapely.box(179.95, -17.05, 180, -16.95), shapely.box(-180, -17.05, -179.95, -16.95)
ACROSS = {
    "as it jumps": [[[179.95, -17.05], [-179.95, -17.05], [-179.95, -16.95], [179.95, -16.95], [179.95, -17.05]]],
    "as it goes on": [[list(corner) for corner in FIJI.exterior.coords]],
}


def crossing(tmp_path: Path) -> list[str]:
    specs = ["179.95,-17.05,-179.95,-16.95", "179.95,-17.05,180.05,-16.95"]
    shapes = [{"type": "Polygon", "coordinates": rings} for rings in ACROSS.values()]
    shapes += [shapely.geometry.mapping(shapely.MultiPolygon([WEST, EAST]))]
    for i, shape in enumerate(shapes):
        (tmp_path / f"{i}.geojson").write_text(json.dumps(shape))
        specs.append(str(tmp_path / f"{i}.geojson"))
    to_utm = Transformer.from_crs(4326, 32760, always_xy=True)
    outline = shapely.transform(shapely.segmentize(FIJI, 0.01), lambda xy: np.column_stack(to_utm.transform(*xy.T)))
    file = tmp_path / "utm.gpkg"
    pyogrio.raw.write(file, np.array([shapely.to_wkb(outline)]), [], [], geometry_type="Polygon", crs="EPSG:32760")
    return [*specs, str(file)]


def test_an_area_across_180_degrees_is_one_raster_whose_item_is_cut_there(tmp_path):
    for spec in crossing(tmp_path):
        area = read_area(spec)
        assert area.geobox.crs.epsg in (32701, 32760), spec
        assert 1000 < area.geobox.shape.x < 1200, spec
        outline = to_lonlat(area.polygon, area.geobox)
        assert outline.geom_type == "MultiPolygon", spec
        assert outline.is_valid
        west, south, east, north = bounds_of(outline)
        assert (round(west, 2), round(east, 2)) == (179.95, -179.95), spec
        assert (round(south, 2), round(north, 2)) == (-17.05, -16.95)
        assert outline.symmetric_difference(shapely.MultiPolygon([WEST, EAST])).area < 1e-4 * FIJI.area, spec


def test_a_crs_that_is_cut_at_180_degrees_is_refused_for_such_an_area():
    with pytest.raises(AreaError, match="crosses 180°, where EPSG:3857 is cut"):
        read_area("179.95,-17.05,-179.95,-16.95", crs="EPSG:3857")


# Long outlines


def test_an_outline_of_many_corners_is_simplified_to_a_tenth_of_a_pixel(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 60_000, endpoint=False)
    radius = 0.02 + 1e-7 * np.random.default_rng(0).normal(size=angle.size)
    coast = shapely.Polygon(np.column_stack([113.5 + radius * np.cos(angle), 34.7 + radius * np.sin(angle)]))
    (tmp_path / "coast.geojson").write_text(json.dumps(shapely.geometry.mapping(coast)))
    area = read_area(tmp_path / "coast.geojson")
    to_utm = Transformer.from_crs(4326, 32649, always_xy=True)
    drawn = shapely.transform(coast, lambda xy: np.column_stack(to_utm.transform(*xy.T)))
    assert shapely.get_num_coordinates(area.polygon) < 2000
    assert shapely.hausdorff_distance(area.polygon, drawn) <= 1.0


CROWDED = {
    "spikes": lambda n, _: 0.006 + 0.005 * (np.arange(n) % 2),
    "noise": lambda n, rng: 0.01 + 0.001 * rng.normal(size=n),
}


@pytest.mark.parametrize("case", CROWDED)
def test_an_outline_whose_edges_crowd_is_traced_soon(tmp_path, case):
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 50_000, endpoint=False)
    radius = CROWDED[case](angle.size, rng)
    drawn = shapely.Polygon(np.column_stack([113.5 + radius * np.cos(angle), 34.7 + radius * np.sin(angle)]))
    (tmp_path / "coast.geojson").write_text(json.dumps(shapely.geometry.mapping(drawn)))
    started = time.process_time()
    area = read_area(tmp_path / "coast.geojson")
    outline = to_lonlat(area.polygon, area.geobox)
    assert time.process_time() - started < 20
    assert outline.is_valid
    assert shapely.get_num_coordinates(outline) < 25_000
    assert any("has 50,001 corners; it was simplified to" in note for note in area.notes)
    shapely.prepare(outline)
    corners = shapely.points(shapely.get_coordinates(drawn)[::50])
    assert shapely.distance(corners, outline).max() < 1e-5, "it reaches all that the outline reaches"
    assert np.allclose(outline.bounds, drawn.bounds, atol=2e-4)


def test_a_scribble_and_a_hole_of_crowded_edges_keep_what_they_reach_and_leave_out(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 0.004 + 0.002 * (np.arange(angle.size) % 2)
    hole = np.column_stack([113.5 + radius * np.cos(angle), 34.7 + radius * np.sin(angle)])
    drawn = shapely.Polygon(shapely.box(113.49, 34.69, 113.51, 34.71).exterior, [hole])
    (tmp_path / "hole.geojson").write_text(json.dumps(shapely.geometry.mapping(drawn)))
    area = read_area(tmp_path / "hole.geojson")
    outline = to_lonlat(area.polygon, area.geobox)
    assert not outline.covers(shapely.Point(113.5, 34.7))
    assert outline.covers(shapely.Point(113.491, 34.691))
    scribble = np.random.default_rng(0).uniform([113.49, 34.69], [113.51, 34.71], (5000, 2)).tolist()
    (tmp_path / "scribble.geojson").write_text(
        json.dumps({"type": "Polygon", "coordinates": [[*scribble, scribble[0]]]})
    )
    area = read_area(tmp_path / "scribble.geojson")
    outline = to_lonlat(area.polygon, area.geobox)
    shapely.prepare(outline)
    assert shapely.distance(shapely.points(scribble), outline).max() < 1e-5
    assert outline.covers(shapely.box(113.495, 34.695, 113.505, 34.705)), "where lines are dense no gap is left"


def test_thousands_of_parts_are_told_in_degrees_soon():
    corner = np.arange(10_000)
    west, south = 700_000 + corner % 100 * 50, 3_800_000 + corner // 100 * 50
    parts = shapely.MultiPolygon(list(shapely.box(west, south, west + 20, south + 20)))
    grid = GeoBox.from_bbox(parts.bounds, "EPSG:32649", resolution=10)
    started = time.process_time()
    outline = to_lonlat(parts, grid)
    assert time.process_time() - started < 5
    assert len(outline.geoms) == 10_000


def test_many_small_polygons_are_read_soon_and_said_to_be_simplified_only_if_they_were(tmp_path):
    """As of fields or buildings."""
    corner = np.arange(10_000)
    west, south = 113.5 + corner % 200 * 6e-5, 34.7 + corner // 200 * 6e-5
    fields = shapely.MultiPolygon(list(shapely.box(west, south, west + 5e-5, south + 5e-5)))
    (tmp_path / "fields.geojson").write_text(json.dumps(shapely.geometry.mapping(fields)))
    started = time.process_time()
    area = read_area(tmp_path / "fields.geojson")
    assert time.process_time() - started < 20
    assert len(shapely.get_parts(area.polygon)) == 10_000
    assert not area.notes, "none has a corner too many"


def test_who_waits_is_told_for_what(capsys):
    with told_after("waiting for the tide", seconds=0.01):
        time.sleep(0.2)
    assert capsys.readouterr().err == "note: waiting for the tide\n"
    with told_after("waiting for nothing", seconds=0.05):
        pass
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


# On the ground


def test_pixels_are_told_in_metres_on_the_ground_and_crss_by_their_short_name():
    at = shapely.Point(113.5, 34.7)
    for crs, size, metres in (
        ("EPSG:32649", 10, 10),
        ("EPSG:2263", 32.8084, 10),
        ("EPSG:4326", 9e-5, 9),
        ("EPSG:3857", 10, 8.2),
    ):
        point = (-74, 40.7) if crs == "EPSG:2263" else at.coords[0]
        x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(*point)
        grid = GeoBox.from_bbox((x, y, x + 100 * size, y + 100 * size), crs, resolution=size)
        assert ground_pixel(grid) == pytest.approx(metres, rel=0.02), crs
        assert crs_name(grid.crs.to_wkt()) == crs
        here = read_area(f"{point[0]},{point[1]},{point[0] + 0.001},{point[1] + 0.001}").geobox
        assert meets(grid, here)
        assert not meets(grid, GeoBox.from_bbox((0, 0, 1, 1), "EPSG:4326", resolution=0.1))


@pytest.mark.parametrize("name", ["a;b.geojson", "a!b.geojson"])
def test_a_name_that_the_reader_would_cut_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"type": "Polygon", "coordinates": [[[1, 1], [1.01, 1], [1, 1.01], [1, 1]]]}')
    with pytest.raises(AreaError, match="without ; and !"):
        read_area(tmp_path / name)
