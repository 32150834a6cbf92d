"""The STAC Item says what a product is, and other people's tools agree that it is valid.

The core schemas travel with pystac, so the core is validated offline. The extensions' schemas do not: their
fields are checked against the rules restated below, re-read through pystac's extension classes, and validated
in full where the schemas can be fetched.
"""

import json
import urllib.request
from datetime import UTC, date, datetime

import jsonschema
import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import AssetGeneralMLMExtension, MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.render import Render, RenderExtension
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from shapely.geometry import MultiPolygon, Polygon, box

from crgen.files import file_sha256, publish
from crgen.model.config import GeneratorConfig
from crgen.pipeline.cog.profile import RasterProfile, band_statistics
from crgen.pipeline.product.mlm import files_of
from crgen.pipeline.product.stac import ProductFile, build_item, to_lonlat, write_item
from crgen.pipeline.tiling.quality import COLOURS, Quality
from tests.pipeline.cog.rasters import write_cog

GEOBOX = GeoBox((60, 80), Affine(10, 0, 709_280, 0, -10, 3_850_000), "EPSG:32649")
COUNTS = {Quality.NODATA: 800, Quality.OBSERVED: 1000, Quality.GENERATED: 3000}
SCENES = {
    "s1_t1": [{"id": "COPERNICUS/S1_GRD/S1A_IW_20210710", "href": "https://example.org/S1A_IW_20210710"}],
    "s2_t1": [{"id": "COPERNICUS/S2_SR_HARMONIZED/20210710T030549"}],
}
NUMBER, INTEGER, TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
TASKS = ["regression", "classification", "segmentation", "semantic-segmentation", "generative", "super-resolution"]


def _described(held, required):
    """The rule for an input or output of the extension ``mlm``: what it must have, and its array."""
    shape = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": -1}}
    order = {"type": "array", "uniqueItems": True, "items": {"type": "string", "pattern": "^[a-z-_]+$"}}
    array = {"shape": shape, "dim_order": order, "data_type": {"enum": ["float32"]}}
    scaling = {"required": ["type", "minimum", "maximum"], "properties": {"type": {"const": "min-max"}}}
    return {
        "required": required,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "bands": {"type": "array", "items": TEXT},
            "tasks": {"type": "array", "items": {"enum": TASKS}},
            "value_scaling": {"type": "array", "minItems": 1, "items": scaling},
            held: {"required": list(array), "properties": array},
        },
    }


EXTENSION_FIELDS = {
    "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"},
    "proj:wkt2": {"type": ["string", "null"]},
    "proj:shape": {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2},
    "proj:transform": {"type": "array", "items": NUMBER, "minItems": 6, "maxItems": 6},
    "proj:bbox": {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4},
    "raster:scale": NUMBER,
    "raster:offset": NUMBER,
    "eo:common_name": {"enum": ["blue", "green", "red", "nir", "nir08", "swir16", "swir22", "rededge071"]},
    "eo:center_wavelength": {"type": "number", "exclusiveMinimum": 0.4, "exclusiveMaximum": 2.3},
    "file:checksum": {"type": "string", "pattern": "^1220[a-f0-9]{64}$"},
    "file:size": {"type": "integer", "minimum": 0},
    "mlm:name": {"type": "string", "pattern": "^[a-zA-Z][a-zA-Z0-9_.\\-\\s]+[a-zA-Z0-9]$"},
    "mlm:architecture": TEXT,
    "mlm:framework": {"type": "string", "minLength": 1},
    "mlm:framework_version": {"type": "string", "pattern": r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$"},
    "mlm:tasks": {"type": "array", "uniqueItems": True, "items": {"enum": TASKS}},
    "mlm:input": {"type": "array", "items": _described("input", ["name", "bands", "input"])},
    "mlm:output": {"type": "array", "items": _described("result", ["name", "tasks", "result"])},
    "mlm:artifact_type": {"type": "string", "minLength": 1},
    "processing:level": {"enum": ["L4"]},
    "processing:lineage": TEXT,
    "processing:software": {"type": "object", "additionalProperties": TEXT},
    "classification:classes": {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {
            "required": ["value", "name"],
            "properties": {
                "value": INTEGER,
                "name": {"type": "string", "pattern": "^[0-9A-Za-z_-]+$"},
                "color_hint": {"type": "string", "pattern": "^[0-9A-F]{6}$"},
                "percentage": {"type": "number", "minimum": 0, "maximum": 100},
                "count": INTEGER,
                "nodata": {"type": "boolean"},
            },
        },
    },
}


def product(tmp_path, *, geobox=GEOBOX, float32=False, bands=("B2", "B3", "B4", "B8")):
    shape = geobox.shape
    image = np.random.default_rng(0).integers(1, 9999, (len(bands), *shape)).astype("uint16")
    reflectance = RasterProfile(geobox, bands, "uint16", 0, scale=1e-4, units="1")
    if float32:
        reflectance = RasterProfile(geobox, bands, "float32", float("nan"), units="1")
        image = (image * 1e-4).astype("float32")
    quality = RasterProfile(geobox, ("quality",), "uint8", 0, colours=COLOURS)
    write_cog(tmp_path / "fill.tif", reflectance, image)
    write_cog(tmp_path / "fill_quality.tif", quality, np.ones((1, *shape), "uint8"))
    (tmp_path / "fill.png").write_bytes(b"png")
    return {
        "data": ProductFile(tmp_path / "fill.tif", "fill.tif", "Reflectance", ("data",), reflectance),
        "quality": ProductFile(tmp_path / "fill_quality.tif", "fill_quality.tif", "Quality", ("metadata",), quality),
        "overview": ProductFile(tmp_path / "fill.png", "fill.png", "Quicklook", ("overview",)),
    }


def item_of(files, **changes):
    west, south, east, north = GEOBOX.boundingbox
    arguments = {
        "item_id": "zhengzhou_2021-07-22",
        "geobox": GEOBOX,
        "footprint": box(west + 100, south, east, north - 50),
        "t1": date(2021, 7, 10),
        "t2": date(2021, 7, 22),
        "files": files,
        "card": {
            "name": "base",
            "trained_on": "OMBRIA",
            "held_out": {"psnr": 24.1},
            "generator": GeneratorConfig().to_dict(),
            "window": 256,
        },
        "model_sha256": "ab" * 32,
        "manifest": {"source": "gee", "scenes": SCENES},
        "settings": {"dtype": "uint16", "generate_all": False},
        "counts": COUNTS,
        "unlike": {"B3 above": 0.25},
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return build_item(**(arguments | changes))


def read_back(item, tmp_path):
    path = tmp_path / "item.json"
    publish([(write_item(item, path), path)])
    return json.loads(path.read_text())


def validate_offline(item):
    """Validate the core by its schemas, and every extension's field by the rules above."""
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, item["stac_version"])
    bands = [band for asset in item["assets"].values() for band in asset.get("bands", [])]
    for holder in (item["properties"], *item["assets"].values(), *bands):
        for name, value in holder.items():
            if ":" in name and not name.startswith("crgen:"):
                jsonschema.validate(value, EXTENSION_FIELDS[name])
    used = {n.split(":")[0] for h in (item["properties"], *item["assets"].values(), *bands) for n in h if ":" in n}
    short = {"projection": "proj"}
    declared = {uri.split("/")[3] for uri in item["stac_extensions"]}
    assert {short.get(name, name) for name in declared} == used - {"crgen"}


@pytest.mark.parametrize("float32", [False, True])
def test_item_is_valid_stac(tmp_path, float32):
    item = read_back(item_of(product(tmp_path, float32=float32)), tmp_path)
    assert item["stac_version"] == "1.1.0"
    validate_offline(item)
    assert item["assets"]["data"]["bands"][0]["nodata"] == ("nan" if float32 else 0)


def test_the_offline_check_would_notice(tmp_path):
    item = read_back(item_of(product(tmp_path)), tmp_path)
    wrong = json.loads(json.dumps(item))
    wrong["properties"]["start_datetime"] = "22 July 2021"
    with pytest.raises(pystac.STACValidationError):
        validate_offline(wrong)
    item["assets"]["data"]["bands"][0]["eo:common_name"] = "violet"
    with pytest.raises(jsonschema.ValidationError):
        validate_offline(item)


def test_item_is_valid_by_every_extension_schema(tmp_path):
    item = item_of(product(tmp_path))
    for uri in item.stac_extensions:
        try:
            urllib.request.urlopen(uri, timeout=5).close()
        except OSError as error:
            pytest.skip(f"the schema {uri} cannot be fetched here: {error}")
    assert item.validate()


def test_pystac_reads_back_what_was_written(tmp_path):
    files = product(tmp_path)
    read_back(item_of(files), tmp_path)
    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    projection = ProjectionExtension.ext(item)
    assert projection.code == "EPSG:32649"
    assert projection.shape == [60, 80]
    assert projection.transform == [10, 0, 709_280, 0, -10, 3_850_000]
    assert item.common_metadata.gsd == 10
    for key, file in files.items():
        asset = item.assets[key]
        assert FileExtension.ext(asset).checksum == file_sha256(file.path)
        assert FileExtension.ext(asset).size == file.path.stat().st_size
        assert asset.get_absolute_href() == str(file.path)
    classes = {c.name: c for c in ClassificationExtension.ext(item.assets["quality"]).classes}
    assert [c.value for c in classes.values()] == [int(q) for q in Quality]
    assert (classes["generated"].count, classes["generated"].percentage) == (3000, 62.5)
    assert classes["observed"].color_hint == "2C7BB6"
    assert classes["nodata"].nodata


def test_renders_are_declared_and_kept(tmp_path):
    renders = {"water": Render.create(assets=["quality"], rescale=[[0, 100]])}
    item = read_back(item_of(product(tmp_path), renders=renders), tmp_path)
    assert "https://stac-extensions.github.io/render/v2.0.0/schema.json" in item["stac_extensions"]
    assert RenderExtension.ext(pystac.Item.from_dict(item)).renders["water"].rescale == [[0, 100]]


def test_the_model_is_told_as_the_extension_for_models_asks(tmp_path):
    item = read_back(item_of(product(tmp_path)), tmp_path)
    required = {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"}
    assert required <= item["properties"].keys()
    models = [asset for asset in item["assets"].values() if "mlm:model" in asset["roles"]]
    assert [asset["mlm:artifact_type"] for asset in models] == ["safetensors"]
    assert [asset["href"] for asset in models] == ["urn:crgen:weights:base:" + "ab" * 32]
    inputs = item["properties"]["mlm:input"]
    assert [len(one["value_scaling"]) for one in inputs] == [one["input"]["shape"][1] for one in inputs]
    read = pystac.Item.from_dict(item)
    model = MLMExtension.ext(read)
    assert (model.mlm_name, model.framework, model.tasks[0]) == ("CRGenNet base", "PyTorch", "generative")
    assert model.input[2].bands == list(GeneratorConfig().bands)
    assert model.output[1].name == "probability of water at t1 and t2"
    assert AssetGeneralMLMExtension.ext(read.assets["model"]).artifact_type == "safetensors"


@pytest.mark.parametrize("name", ["w", "über weights!", "<script>", "_"])
def test_weights_of_any_name_have_one_that_the_extension_admits(tmp_path, name):
    card = {"name": name, "generator": GeneratorConfig().to_dict(), "window": 256}
    validate_offline(read_back(item_of(product(tmp_path), card=card), tmp_path))


def test_bands_carry_what_turns_stored_values_into_reflectance(tmp_path):
    files = product(tmp_path)
    item = read_back(item_of(files), tmp_path)
    band = item["assets"]["data"]["bands"][3]
    assert (band["name"], band["eo:common_name"], band["eo:center_wavelength"]) == ("B8", "nir", 0.8328)
    assert (band["data_type"], band["nodata"], band["unit"]) == ("uint16", 0, "1")
    assert (band["raster:scale"], band["raster:offset"]) == (1e-4, 0)
    assert band["statistics"] == band_statistics(files["data"].path)[3]


def test_item_says_what_was_generated_and_how_to_repeat_it(tmp_path):
    properties = read_back(item_of(product(tmp_path)), tmp_path)["properties"]
    assert properties["title"] == "Cloud-free Sentinel-2 reflectance of 2021-07-22", "radar of unknown days"
    assert "backscatter of 2021-07-10 and 2021-07-22" in properties["processing:lineage"]
    assert "25.0 % of the valid pixels were observed" in properties["processing:lineage"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2021-07-22T00:00:00Z"
    assert properties["end_datetime"] == "2021-07-22T23:59:59Z"
    assert properties["crgen:t1"] == "2021-07-10"
    assert properties["crgen:counts"]["generated"] == 3000
    assert properties["crgen:manifest"]["scenes"] == SCENES
    assert properties["crgen:settings"] == {"dtype": "uint16", "generate_all": False}
    model = {"name": "base", "window": 256, "trained_on": "OMBRIA", "held_out": {"psnr": 24.1}, "sha256": "ab" * 32}
    assert properties["crgen:model"] == model
    assert set(properties["processing:software"]) == {"crgen", "torch", "GDAL"}


@pytest.mark.parametrize(
    ("manifest", "inputs"),
    [
        (
            {"source": "gee", "scenes": SCENES},
            [
                "https://example.org/S1A_IW_20210710",
                "urn:crgen:scene:COPERNICUS%2FS2_SR_HARMONIZED%2F20210710T030549",
            ],
        ),
        ({"source": "demo", "t1": "2021-07-10"}, ["urn:crgen:source:demo"]),
        ({"source": "local", "path": "my stack.zarr"}, ["urn:crgen:source:local:my%20stack.zarr"]),
        (
            {"source": "local", "path": "a.zarr", "stored": {"source": "gee", "scenes": {"s1_t1": [{"id": "S1"}]}}},
            ["urn:crgen:scene:S1"],
        ),
    ],
)
def test_every_input_is_a_derived_from_link(tmp_path, manifest, inputs):
    item = read_back(item_of({}, manifest=manifest, footprint=box(*GEOBOX.boundingbox)), tmp_path)
    assert [link["href"] for link in item["links"] if link["rel"] == "derived_from"] == inputs


def test_nothing_in_the_item_points_outside_its_folder(tmp_path):
    text = json.dumps(read_back(item_of(product(tmp_path)), tmp_path))
    assert str(tmp_path) not in text
    assert [a["href"] for a in files_of(json.loads(text)).values()] == [
        "./fill.tif",
        "./fill_quality.tif",
        "./fill.png",
    ]


def test_outline_follows_the_projection_and_is_valid():
    wide = GeoBox((6000, 30_000), Affine(10, 0, 300_000, 0, -10, 7_000_000), "EPSG:32631")
    footprint = box(*wide.boundingbox)
    outline = to_lonlat(footprint, wide)
    assert outline.is_valid
    assert outline.exterior.is_ccw
    straight = Polygon(to_lonlat(box(*wide.boundingbox), wide).minimum_rotated_rectangle.exterior.coords)
    assert outline.area < straight.area
    area = abs(Geod(ellps="WGS84").geometry_area_perimeter(outline)[0])
    assert area == pytest.approx(footprint.area, rel=2e-3)


def test_several_polygons_with_a_hole_stay_several_polygons_with_a_hole(tmp_path):
    west, south, east, north = GEOBOX.boundingbox
    holed = Polygon(
        box(west, south, west + 300, north).exterior,
        [box(west + 50, south + 50, west + 90, south + 90).exterior],
    )
    footprint = MultiPolygon([holed, box(east - 200, south, east, north)])
    item = read_back(item_of({}, footprint=footprint), tmp_path)
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.is_valid
    assert len(outline.geoms) == 2
    assert sum(len(p.interiors) for p in outline.geoms) == 1
    assert item["bbox"] == list(outline.bounds)


def test_a_grid_without_an_epsg_code_is_described_by_wkt(tmp_path):
    albers = "+proj=aea +lat_1=25 +lat_2=47 +lat_0=36 +lon_0=105 +datum=WGS84 +units=m"
    geobox = GeoBox((60, 80), Affine(10, 0, 709_280, 0, -10, 10_000), albers)
    item = read_back(
        item_of(product(tmp_path, geobox=geobox), geobox=geobox, footprint=box(*geobox.boundingbox)), tmp_path
    )
    validate_offline(item)
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"].startswith("PROJCRS")


def test_the_model_is_read_by_the_library_of_the_extension_for_models(tmp_path):
    """The extension's schema travels with no package; the pydantic models of its authors do."""
    schema = pytest.importorskip("stac_model.schema", reason="the library is not installed (pip install stac-model)")
    item = read_back(item_of(product(tmp_path)), tmp_path)
    told = schema.MLModelProperties.model_validate(item["properties"])
    assert told.name == item["properties"]["mlm:name"]
    assert set(map(str, told.tasks)) == set(item["properties"]["mlm:tasks"])
    assert [len(one.bands) for one in told.input] == [len(one["bands"]) for one in item["properties"]["mlm:input"]]
    assert [one.result.shape for one in told.output] == [o["result"]["shape"] for o in item["properties"]["mlm:output"]]
