"""The local Earth Engine keeps the real client's contract, and its pixels agree with ``truth``."""

import io
from typing import Any

import numpy as np
import pytest

from tests.earthengine import catalogue
from tests.earthengine.server import EarthEngineServer

ee = pytest.importorskip("ee")


def grid(x: float, y: float, width: int, height: int, crs: str = "EPSG:32649", size: float = 10.0) -> dict[str, Any]:
    affine = {"scaleX": size, "shearX": 0, "translateX": x, "shearY": 0, "scaleY": -size, "translateY": y}
    return {"dimensions": {"width": width, "height": height}, "affineTransform": affine, "crsCode": crs}


def pixels(image: Any, where: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.load(io.BytesIO(ee.data.computePixels({"expression": image, "fileFormat": "NPY", "grid": where})))


def test_metadata_comes_as_earth_engine_sends_it(ee_client: EarthEngineServer) -> None:
    found = ee.ImageCollection(catalogue.S1).filterDate("2021-07-10", "2021-07-11").getInfo()
    assert (found["type"], found["id"]) == ("ImageCollection", catalogue.S1)
    scene = found["features"][0]
    assert scene["id"].startswith("COPERNICUS/S1_GRD/S1A_IW_GRDH_1SDH_20210710T")
    assert [band["id"] for band in scene["bands"]] == ["HH", "HV", "angle"]
    assert scene["bands"][0]["crs"] == "EPSG:32649"
    assert scene["bands"][0]["crs_transform"][:2] == [10, 0]
    assert scene["properties"]["system:footprint"]["type"] == "LinearRing"
    assert scene["properties"]["orbitProperties_pass"] == "ASCENDING"


def test_what_is_not_implemented_is_an_error(ee_client: EarthEngineServer) -> None:
    image = ee.Image.constant(1)
    with pytest.raises(ee.EEException, match=r"does not implement function 'Kernel\.square'"):
        image.entropy(ee.Kernel.square(3)).getInfo()
    with pytest.raises(ee.EEException, match=r"does not implement argument 'proj' of 'Image\.geometry'"):
        image.geometry(1, "EPSG:4326").getInfo()
