"""How clear images are over an area: the number, what the choice makes of it, and what happens without it."""

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from crgen.errors import SourceError
from crgen.gee.choose.catalogue import Asset, search
from crgen.gee.choose.clear_share import CLEAR_FROM, PIXELS, scale_for, with_clear_shares
from crgen.gee.choose.find import lonlat_bounds
from crgen.gee.connection.session import connect
from crgen.gee.manifest import Grid, Manifest
from crgen.pipeline.request import FillRequest
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine import Acquired, EarthEngine, acquire, connection_settings
from tests.cli.conftest import crgen, here  # noqa: F401
from tests.earthengine import catalogue, faults, sentinel2, truth
from tests.earthengine.faults import Fault
from tests.earthengine.server import EarthEngineServer

#: On 2021-07-04 half of the tile is cloudy and all of this area clear; on 2021-07-09 30 % of it, and all of this area.
AREA = "113.164,34.700,113.174,34.710"
CHANNELS = Channels(("VV",), ("B11", "B8", "B3"), 10.0, margin=0)
DAYS = {"t1": datetime.date(2021, 7, 10), "t2": datetime.date(2021, 7, 22)}
#: The fourth question is how clear the images are, after three collections.
FOURTH = {"endpoint": "value:compute", "nth": 4}


def open_area(aoi: str = AREA) -> Acquired:
    return acquire(EarthEngine(min_coverage=0.5), CHANNELS, aoi=aoi, crs=None, **DAYS)


def measured(aoi: str, crs: str | None = None) -> tuple[Grid, list[Asset]]:
    """The area, and all optical images of July 2021 with their clear share over it."""
    area = read_area(aoi, crs=crs, resolution=10.0)
    grid = Grid.of(area.name, area.geobox, area.polygon)
    session = connect(connection_settings(EarthEngine()))
    found = search(session, lonlat_bounds(grid), [(datetime.date(2021, 7, 1), datetime.date(2021, 7, 31))], radar=False)
    return grid, list(with_clear_shares(session, found, grid, found.optical).optical)


def counter(area: Grid, metres: float, parts: int = 16) -> Callable[[Asset], float | None]:
    """Counts the clear share of pixels of this size on the CRS's lattice, each as much as of its ``parts`` × ``parts``
    points lie in the area."""
    outline = shapely.segmentize(area.polygon, 1000)
    west, south, east, north = (np.array(outline.bounds) / metres).round(9)
    left, top, right, bottom = np.floor(west), np.ceil(north), np.ceil(east), np.floor(south)
    shape = int(top - bottom), int(right - left)
    place = Affine(metres, 0, left * metres, 0, -metres, top * metres)
    columns, rows = np.meshgrid(
        (np.arange(parts * shape[1]) + 0.5) / parts, (np.arange(parts * shape[0]) + 0.5) / parts
    )
    inside = shapely.contains_xy(outline, *(place * (columns, rows)))
    within = inside.reshape(shape[0], parts, shape[1], parts).mean((1, 3))

    def counted(asset: Asset) -> float | None:
        score = truth.nearest(f"{catalogue.CLOUD_SCORE}/{asset.index}", "cs_cdf", area.crs, place, shape)
        weight = within * np.isfinite(score)
        return float((weight * (np.nan_to_num(score) >= 0.6)).sum() / weight.sum()) if weight.any() else None

    return counted


@pytest.mark.parametrize(
    ("aoi", "crs"),
    [
        ("113.56,34.69,113.585,34.715", None),
        ("114.00,34.65,114.02,34.67", "EPSG:32650"),
        ("POLYGON ((113.27 34.60, 113.31 34.61, 113.30 34.63, 113.28 34.615, 113.27 34.60))", None),
    ],
    ids=["one zone", "the other zone's grid", "a polygon across two tiles"],
)
def test_the_share_is_that_of_the_areas_clear_pixels(service: EarthEngineServer, tmp_path: Path, aoi, crs) -> None:
    if aoi.startswith("POLYGON"):
        path = tmp_path / "area.geojson"
        path.write_text(shapely.to_geojson(shapely.from_wkt(aoi)))
        aoi = str(path)
    area, assets = measured(aoi, crs)
    assert scale_for(area) == 10.0
    scored = [asset for asset in assets if asset.index != sentinel2.WITHOUT_SCORE]
    assert len(scored) >= 7
    counted = counter(area, 10.0)
    for asset in scored:
        assert asset.clear_over_area == pytest.approx(counted(asset), abs=1e-3), asset.id
    shares = [asset.clear_over_area for asset in scored]
    assert max(shares) - min(shares) > 0.5
    assert {asset.clear_over_area for asset in assets if asset not in scored} <= {None}


def test_of_a_large_area_few_pixels_are_read_and_tell_the_same(service: EarthEngineServer) -> None:
    area, assets = measured("113.0,34.3,114.2,35.0")
    assert PIXELS / 4 < area.polygon.area / scale_for(area) ** 2 <= PIXELS
    assert sum(request.endpoint == "value:compute" for request in service.requests) == 3
    counted = counter(area, 200.0, parts=2)
    for asset in assets:
        if asset.index != sentinel2.WITHOUT_SCORE and asset.day.isoformat() in ("2021-07-09", "2021-07-11"):
            expected = counted(asset)
            assert asset.clear_over_area == (None if expected is None else pytest.approx(expected, abs=0.02)), asset.id


def test_clear_means_here_what_it_means_to_fill() -> None:
    assert FillRequest.clear_threshold == CLEAR_FROM


def clear_pixels(acquired: Acquired) -> float:
    """What t1 really shows clear, by its pixels."""
    return float((acquired.stack["clear_t1"].values >= CLEAR_FROM).mean())


def days_of(acquired: Acquired) -> set[str]:
    return {scene.time.date().isoformat() for scene in acquired.manifest.scenes["s2_t1"]}


def test_a_cloudy_tile_that_is_clear_over_the_area_comes_before_a_clear_tile_that_is_not(
    service: EarthEngineServer, tmp_path: Path
) -> None:
    better = open_area()
    assert [request.endpoint for request in service.requests].count("value:compute") == 4
    assert days_of(better) == {"2021-07-04"}
    (scene,) = better.manifest.scenes["s2_t1"]
    assert (scene.clear, scene.clear_over_area) == (0.5, 1.0)
    assert clear_pixels(better) == 1.0
    path = tmp_path / "run.json"
    path.write_text(better.manifest.to_json())
    assert Manifest.read(path).scenes == better.manifest.scenes

    service.add(faults.error(400, faults.TIMED_OUT, **FOURTH))
    by_metadata = open_area()
    assert days_of(by_metadata) == {"2021-07-09"}
    (scene,) = by_metadata.manifest.scenes["s2_t1"]
    assert (scene.clear, scene.clear_over_area) == (0.7, None)
    assert clear_pixels(by_metadata) == 0.0


def test_a_scene_without_a_score_is_judged_by_its_metadata(service: EarthEngineServer) -> None:
    """Of the two tiles that the area touches, one has no score on 2021-07-04."""
    _, assets = measured("113.20,34.70,113.22,34.71")
    (without,) = (asset for asset in assets if asset.index == sentinel2.WITHOUT_SCORE)
    assert (without.clear_over_area, without.clear) == (None, 0.5)
    assert all(asset.clear_over_area is not None for asset in assets if asset is not without)


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(400, faults.TIMED_OUT, **FOURTH),
        faults.error(400, faults.MEMORY, **FOURTH),
        faults.error(500, faults.TIMED_OUT, **FOURTH),
        faults.error(400, "Image.reduceRegion: Too many pixels in the region.", **FOURTH),
    ],
    ids=["too long", "too much", "too long, told as 500", "refused"],
)
def test_what_cannot_be_computed_is_said_and_metadata_decides(service: EarthEngineServer, fault: Fault) -> None:
    service.add(fault)
    acquired = open_area()
    assert days_of(acquired) == {"2021-07-09"}
    notes = [note for note in acquired.manifest.notes if "how clear the area is" in note]
    assert notes == [
        f"Earth Engine did not compute how clear the area is ({fault.message.rstrip('.')}): the scenes' metadata "
        "decided instead"
    ]


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(503, "The service is currently unavailable.", **FOURTH),
        faults.error(400, faults.AGGREGATIONS, **FOURTH),
    ],
    ids=["unavailable", "too many aggregations"],
)
def test_a_busy_service_is_asked_again(service: EarthEngineServer, fault: Fault) -> None:
    service.add(fault)
    assert days_of(open_area()) == {"2021-07-04"}
    assert fault.struck == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.error(429, faults.DAILY, **FOURTH), "daily limit of compute that is set for project test-project"),
        (faults.error(403, faults.NOT_REGISTERED, **FOURTH), "is not registered for Earth Engine"),
    ],
    ids=["quota", "permission"],
)
def test_what_concerns_every_request_ends_the_run(service: EarthEngineServer, fault: Fault, says: str) -> None:
    service.add(fault)
    with pytest.raises(SourceError, match=says):
        open_area()


def test_scenes_says_how_clear_the_area_is_and_by_whom(
    service: EarthEngineServer,
    crgen,  # noqa: F811
    here: Path,  # noqa: F811
) -> None:
    asked = ("scenes", "--t1", DAYS["t1"], "--t2", DAYS["t2"], "--min-coverage", "0.5", "--aoi")

    def told(outcome) -> dict[str, list[str]]:
        assert outcome.code == 0, outcome.err
        rows = [line.split() for line in outcome.out.splitlines() if line.startswith("s2_t1 ")]
        return {row[2]: row[9:12] for row in rows}

    outcome = crgen(*asked, AREA)
    assert told(outcome)["2021-07-04"] == ["100", "%", "score"]
    assert told(outcome)["2021-07-09"] == ["0", "%", "score"]
    assert "s2_t1: 100.0 % of the area, 100 % clear by Cloud Score+" in outcome.out
    assert told(crgen(*asked, "113.56,34.70,113.57,34.71"))["2021-07-04"] == ["50", "%", "scene"]
    assert told(crgen(*asked, "113.20,34.70,113.22,34.71"))["2021-07-04"][-1] == "both"
    service.add(faults.error(400, faults.TIMED_OUT, **FOURTH))
    outcome = crgen(*asked, AREA)
    assert told(outcome)["2021-07-09"] == ["70", "%", "scene"]
    assert "s2_t1: 100.0 % of the area, 70 % clear by the scenes' metadata" in outcome.out
