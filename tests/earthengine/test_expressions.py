"""The expression language: what the real client writes down is evaluated as Earth Engine would, or refused."""

from typing import Any

import ee
import pytest

from tests.earthengine import catalogue, truth
from tests.earthengine.images import EarthEngineError
from tests.earthengine.interpreter import evaluate
from tests.earthengine.server import EarthEngineServer


def test_metadata_comes_as_earth_engine_sends_it(ee_client: EarthEngineServer) -> None:
    found = ee.ImageCollection(catalogue.S1_DB).filterDate("2021-07-10", "2021-07-11").getInfo()
    assert (found["type"], found["id"]) == ("ImageCollection", catalogue.S1_DB)
    scene = found["features"][0]
    assert scene["id"].startswith("COPERNICUS/S1_GRD/S1A_IW_GRDH_1SDH_20210710T")
    assert [band["id"] for band in scene["bands"]] == ["HH", "HV", "angle"]
    assert scene["bands"][0]["crs"] == "EPSG:32649"
    assert scene["bands"][0]["crs_transform"][:2] == [10, 0]
    assert scene["properties"]["system:footprint"]["type"] == "LinearRing"
    assert scene["properties"]["orbitProperties_pass"] == "ASCENDING"


def test_every_filter_keeps_what_it_says(ee_client: EarthEngineServer) -> None:
    scenes = ee.ImageCollection(catalogue.S1).filterDate("2021-07-01", "2021-08-01")
    field = "relativeOrbitNumber_start"
    cases: list[tuple[Any, Any]] = [
        (ee.Filter.eq(field, 113), lambda orbit: orbit == 113),
        (ee.Filter.neq(field, 113), lambda orbit: orbit != 113),
        (ee.Filter.lt(field, 47), lambda orbit: orbit < 47),
        (ee.Filter.lte(field, 47), lambda orbit: orbit <= 47),
        (ee.Filter.gt(field, 47), lambda orbit: orbit > 47),
        (ee.Filter.gte(field, 47), lambda orbit: orbit >= 47),
        (ee.Filter.inList(field, [47, 142]), lambda orbit: orbit in (47, 142)),
        (ee.Filter.Or(ee.Filter.eq(field, 47), ee.Filter.eq(field, 113)), lambda orbit: orbit in (47, 113)),
        (ee.Filter.And(ee.Filter.gt(field, 40), ee.Filter.lt(field, 113)), lambda orbit: 40 < orbit < 113),
        (ee.Filter.eq(field, 47).Not(), lambda orbit: orbit != 47),
        (ee.Filter.rangeContains(field, 40, 47), lambda orbit: 40 <= orbit <= 47),
    ]
    orbits = scenes.aggregate_array(field).getInfo()
    assert set(orbits) == {142, 113, 40, 47, 29, 30, 6}
    for kept, expected in cases:
        assert scenes.filter(kept).aggregate_array(field).getInfo() == [orbit for orbit in orbits if expected(orbit)]
    both = scenes.filter(ee.Filter.listContains("transmitterReceiverPolarisation", "VH"))
    assert both.size().getInfo() < scenes.size().getInfo()
    assert scenes.filter(ee.Filter.eq("no such property", 1)).size().getInfo() == 0


def test_dates_include_their_start_and_exclude_their_end(ee_client: EarthEngineServer) -> None:
    scenes = ee.ImageCollection(catalogue.S1)
    first = scenes.aggregate_min("system:time_start")
    assert scenes.filterDate(first, ee.Date(first).advance(1, "second")).size().getInfo() == 1
    assert scenes.filterDate(ee.Date(first).advance(-1, "day"), first).size().getInfo() == 0


def test_bounds_are_the_footprints_not_the_rasters(ee_client: EarthEngineServer) -> None:
    scene = ee.ImageCollection(catalogue.S1).filter(ee.Filter.eq("relativeOrbitNumber_start", 113)).first()
    outline = ee.Image(scene).geometry().getInfo()["coordinates"][0]
    west, south = min(x for x, _ in outline), min(y for _, y in outline)
    corner = ee.Geometry.Point([west + 0.02, south + 0.02])
    found = ee.ImageCollection([scene])
    assert found.filterBounds(corner).size().getInfo() == 0
    assert found.filterBounds(ee.Geometry.Point(outline[0])).size().getInfo() == 1


def test_sort_limit_and_map_keep_order_and_index(ee_client: EarthEngineServer) -> None:
    scenes = ee.ImageCollection(catalogue.S2).filterDate("2021-07-09", "2021-07-12")
    clouds = scenes.sort("CLOUDY_PIXEL_PERCENTAGE", False).aggregate_array("CLOUDY_PIXEL_PERCENTAGE").getInfo()
    assert clouds == sorted(clouds, reverse=True)
    assert scenes.limit(3).size().getInfo() == 3
    indices = scenes.aggregate_array("system:index").getInfo()
    assert scenes.map(lambda image: image.select("B3").multiply(2)).aggregate_array("system:index").getInfo() == indices


def test_features_of_properties(ee_client: EarthEngineServer) -> None:
    scenes = ee.ImageCollection(catalogue.S1).limit(2)
    table = ee.FeatureCollection(
        scenes.map(lambda image: ee.Feature(image.geometry(), image.toDictionary(["platform_number"])))
    ).getInfo()
    assert [feature["properties"]["platform_number"] for feature in table["features"]] == ["A", "A"]
    assert table["features"][0]["geometry"]["type"] == "Polygon"
    rows = scenes.reduceColumns(ee.Reducer.toList(2), ["system:index", "orbitNumber_start"]).get("list").getInfo()
    assert [row[1] for row in rows] == scenes.aggregate_array("orbitNumber_start").getInfo()


def test_orbit_numbers_belong_to_their_relative_orbits() -> None:
    offsets = {"A": 73, "B": 27, "C": 172}
    for scene in catalogue.collections()[catalogue.S1]:
        absolute, relative = scene.properties["orbitNumber_start"], scene.properties["relativeOrbitNumber_start"]
        assert (absolute - offsets[scene.properties["platform_number"]]) % 175 + 1 == relative


def test_what_is_not_implemented_is_an_error(ee_client: EarthEngineServer) -> None:
    image = ee.Image.constant(1)
    with pytest.raises(ee.EEException, match=r"does not implement function 'Kernel\.square'"):
        image.entropy(ee.Kernel.square(3)).getInfo()
    with pytest.raises(ee.EEException, match=r"does not implement argument 'proj' of 'Image\.geometry'"):
        image.geometry(1, "EPSG:4326").getInfo()
    with pytest.raises(ee.EEException, match=r"does not implement Image\.resample with 'bicubic'"):
        image.resample("bicubic").getInfo()


def invoke(name: str, **arguments: Any) -> Any:
    given = {key: {"constantValue": value} for key, value in arguments.items()}
    return evaluate(
        {"result": "0", "values": {"0": {"functionInvocationValue": {"functionName": name, "arguments": given}}}}
    )


def test_broken_graphs_are_errors() -> None:
    with pytest.raises(EarthEngineError, match=r"Unknown function: 'Image\.improve'"):
        invoke("Image.improve")
    with pytest.raises(EarthEngineError, match="Unrecognized argument 'colour'"):
        invoke("Image.constant", value=1, colour="red")
    with pytest.raises(EarthEngineError, match="Parameter 'value' is required and may not be null"):
        invoke("Image.constant")
    with pytest.raises(EarthEngineError, match=r"'id': Invalid type\. Expected type: String"):
        invoke("Image.load", id=3)
    with pytest.raises(EarthEngineError, match="'COPERNICUS/S9' not found"):
        invoke("ImageCollection.load", id="COPERNICUS/S9")
    with pytest.raises(EarthEngineError, match="a value '7' that does not exist"):
        evaluate({"result": "7", "values": {}})
    with pytest.raises(EarthEngineError, match="Argument 'x' is not bound"):
        evaluate({"result": "0", "values": {"0": {"argumentReference": "x"}}})


def test_bands_are_chosen_named_and_matched(ee_client: EarthEngineServer) -> None:
    image = ee.Image(ee.ImageCollection(catalogue.S2).first())
    assert image.select("B[23]").bandNames().getInfo() == ["B2", "B3"]
    assert image.select(["B8", 0], ["nir", "coast"]).bandNames().getInfo() == ["nir", "coast"]
    assert image.select("B2").addBands(image.select("B2")).bandNames().getInfo() == ["B2", "B2_1"]
    with pytest.raises(ee.EEException, match="Band pattern 'B99' did not match any bands"):
        image.select("B99").bandNames().getInfo()
    with pytest.raises(ee.EEException, match="cannot be matched"):
        image.select(["B2", "B3"]).add(image.select(["B2", "B3", "B4"])).bandNames().getInfo()
    mixed = ee.ImageCollection([image.select("B2"), image.select("B3")]).mosaic()
    with pytest.raises(ee.EEException, match="Expected a homogeneous image collection"):
        mixed.bandNames().getInfo()


def test_a_region_is_reduced_to_means_of_what_is_not_masked(ee_client: EarthEngineServer) -> None:
    def mean(image: ee.Image, scale: float = 10, **more: Any) -> dict[str, float | None]:
        box = ee.Geometry.Rectangle([113.5, 34.6, 113.51, 34.61], None, False)
        return image.reduceRegion(ee.Reducer.mean(), box, scale, "EPSG:32649", **more).getInfo()

    steps = ee.Image.constant([1, 3]).rename(["a", "b"])
    stacked = ee.ImageCollection.fromImages([steps, steps.select(["b"])]).toBands()
    assert mean(stacked) == pytest.approx({"0_a": 1, "0_b": 3, "1_b": 3})
    assert mean(steps.updateMask(steps.gt(2))) == {"a": None, "b": pytest.approx(3)}
    score = ee.Image(truth.find(catalogue.CLOUD_SCORE, "20210709", "49SGU")[0]).select("cs_cdf")
    with pytest.raises(
        ee.EEException, match=r"Too many pixels in the region\. Found \d+, but maxPixels allows only 99"
    ):
        mean(score, maxPixels=99)
    assert mean(score, bestEffort=True, maxPixels=999)["cs_cdf"] == pytest.approx(mean(score)["cs_cdf"], abs=0.01)
    assert mean(score, tileScale=4) == mean(score)
    with pytest.raises(ee.EEException, match=r"does not implement reduceRegion with Reducer\.max"):
        score.reduceRegion(ee.Reducer.max(), ee.Geometry.Point([113.5, 34.6]), 10, "EPSG:32649").getInfo()
