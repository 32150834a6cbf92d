"""HTTP: limits, records, faults, tokens, exports, listings and control of the local server."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import requests
from affine import Affine
from google.oauth2 import service_account

from tests.earthengine import catalogue, faults
from tests.earthengine.client import grid, pixels
from tests.earthengine.faults import Fault
from tests.earthengine.images import FLOAT, UINT16, Band, EarthEngineError, Grid, Image, Projection
from tests.earthengine.pixels import check_limits
from tests.earthengine.server import EarthEngineServer

PLACE = "EPSG:32649", Affine(10, 0, 730_000, 0, -10, 3_850_000)


def ask(server: EarthEngineServer, side: int = 8, shift: float = 0.0, timeout: float = 10) -> requests.Response:
    """One computePixels of two float bands, past the ee client and its retries."""
    image = ee.Image.constant([1, 2]).toFloat()
    crs, transform = PLACE
    body = {
        "expression": ee.serializer.encode(image),
        "fileFormat": "NPY",
        "grid": grid(crs, transform * Affine.translation(shift, 0), (side, side)),
    }
    return requests.post(f"{server.url}/v1alpha/projects/p/image:computePixels", json=body, timeout=timeout)


@pytest.mark.parametrize(
    ("bands", "dtype", "side"), [(2, "f4", 2243), (3, "u2", 2364), (12, "u2", 1182), (12, "f4", 915)]
)
def test_a_tile_holds_48_mb_of_values_and_masks(bands: int, dtype: str, side: int) -> None:
    kind = FLOAT if dtype == "f4" else UINT16
    image = Image(tuple(Band(f"B{i}", kind, lambda grid: pytest.fail("no pixel is needed")) for i in range(bands)))
    check_limits(image, Grid(Projection(), side, side))
    with pytest.raises(EarthEngineError, match=r"Total request size .* must be less than or equal to 50331648"):
        check_limits(image, Grid(Projection(), side + 1, side + 1))


def test_too_large_a_tile_is_refused(ee_client: EarthEngineServer) -> None:
    refused = ask(ee_client, 2244)
    assert refused.status_code == 400
    assert refused.json()["error"] == {
        "code": 400,
        "message": "Total request size (50355360 bytes) must be less than or equal to 50331648 bytes.",
        "status": "INVALID_ARGUMENT",
    }


def test_sides_and_bands_are_limited(ee_client: EarthEngineServer) -> None:
    image = ee.Image.constant(1).toByte()
    with pytest.raises(ee.EEException, match=r"Pixel grid dimensions \(32769x1\) must be less than or equal to 32768"):
        pixels(image, *PLACE, (1, 32_769))
    many = ee.Image.constant([1] * 1025).toByte()
    with pytest.raises(ee.EEException, match=r"Number of bands \(1025\)"):
        pixels(many, *PLACE, (1, 1))


def test_more_than_the_allowed_concurrency_is_refused(ee_client: EarthEngineServer) -> None:
    ee_client.change(concurrency=3, latency=0.3, retry_after=7)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda shift: ask(ee_client, shift=shift), range(8)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 5
    assert {answer.headers["Retry-After"] for answer in refused} == {"7"}
    assert refused[0].json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert ee_client.max_concurrency[faults.COMPUTE] == 3


def test_more_than_the_allowed_rate_is_refused(ee_client: EarthEngineServer) -> None:
    ee_client.clear()
    ee_client.change(per_minute=4)
    assert [ask(ee_client).status_code for _ in range(6)] == [200] * 4 + [429] * 2


def test_latency_is_the_time_a_tile_takes_at_least(ee_client: EarthEngineServer) -> None:
    ee_client.change(latency=0.2)
    begun = time.monotonic()
    ask(ee_client)
    assert 0.2 <= time.monotonic() - begun < 0.4


def test_what_was_asked_is_told_apart_by_expression_and_grid(ee_client: EarthEngineServer) -> None:
    ee_client.clear()
    for shift in (0, 1, 0):
        ask(ee_client, shift=shift)
    ask(ee_client, side=16)
    assert len(ee_client.tiles) == 4
    assert len({tile.key for tile in ee_client.tiles}) == 3
    assert ee_client.served_twice() == [ee_client.tiles[0].key]


def test_faults_strike_the_requests_they_name(ee_client: EarthEngineServer) -> None:
    def statuses(*added: Fault, sides: tuple[int, ...] = (8,) * 6) -> list[int]:
        ee_client.clear()
        ee_client.add(*added)
        return [ask(ee_client, side, shift=i).status_code for i, side in enumerate(sides)]

    assert statuses(faults.error(503, "", nth=2)) == [200, 503, 200, 200, 200, 200]
    assert statuses(faults.storm(3)) == [429, 429, 429, 200, 200, 200]
    assert statuses(faults.error(403, "", after=4)) == [200, 200, 200, 200, 403, 403]
    assert statuses(faults.error(500, "", every=2)) == [200, 500] * 3
    assert statuses(faults.memory_limit(100), sides=(8, 11, 10)) == [200, 400, 200]
    third = faults.error(500, "", origin=(730_020, 3_850_000))
    assert statuses(third) == [200, 200, 500, 200, 200, 200]
    assert third.struck == 1
    assert statuses(faults.error(500, "", endpoint="value:compute")) == [200] * 6


def test_connections_break_before_and_inside_the_answer(ee_client: EarthEngineServer) -> None:
    ee_client.add(faults.drop(nth=1), faults.cut(nth=2))
    with pytest.raises(requests.ConnectionError):
        ask(ee_client)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        ask(ee_client, 64)
    assert ask(ee_client).status_code == 200
    assert [tile.status for tile in ee_client.tiles] == [0, 0, 200]


def test_a_stall_outlasts_a_timeout(ee_client: EarthEngineServer) -> None:
    ee_client.add(faults.stall(1.0, nth=1))
    with pytest.raises(requests.Timeout):
        ask(ee_client, timeout=0.2)


def test_damaged_tiles_are_whole_answers(ee_client: EarthEngineServer) -> None:
    sound = ask(ee_client).content
    ee_client.add(faults.truncate(nth=1), faults.resize(nth=2), faults.retype(nth=3), Fault("html", nth=4, status=502))
    assert sound.startswith(ask(ee_client).content)
    shrunk, retyped = (np.load(io.BytesIO(ask(ee_client).content)) for _ in range(2))
    assert shrunk.shape == (7, 8)
    assert retyped.dtype[0] == np.float64
    page = ask(ee_client)
    assert (page.status_code, page.headers["Content-Type"]) == (502, "text/html")


def test_faults_travel_as_json() -> None:
    fault = faults.error(429, faults.QUOTA, first=2, retry_after=3, origin=(1, 2))
    assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault
    with pytest.raises(ValueError, match="has no nht"):
        Fault.from_json({"action": "drop", "nht": 1})
    with pytest.raises(ValueError, match="action must be"):
        Fault("explode")


def credentials(server: EarthEngineServer, path: Path, scopes: list[str]) -> service_account.Credentials:
    key = server.tokens.service_account(path / "key.json")
    return service_account.Credentials.from_service_account_file(str(key), scopes=scopes)


def test_a_service_account_signs_in_and_renews_a_voided_token(
    earth_engine: EarthEngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ee.deprecation._FetchDataCatalogStac", lambda: {})
    earth_engine.tokens.required = True
    refused = requests.get(f"{earth_engine.url}/v1alpha/projects/p/algorithms", timeout=10)
    assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    ee.Reset()
    ee.Initialize(credentials(earth_engine, tmp_path, ee.oauth.SCOPES), project="test-project", url=earth_engine.url)
    granted = earth_engine.tokens.granted
    earth_engine.add(faults.expire(nth=2, endpoint="value:compute"))
    assert [ee.Number(1).add(i).getInfo() for i in range(3)] == [1, 2, 3]
    assert earth_engine.tokens.granted == granted + 1
    assert [asked.status for asked in earth_engine.requests if asked.endpoint == "value:compute"] == [
        200,
        401,
        200,
        200,
    ]
    ee.Reset()


def test_a_token_without_the_scope_is_refused(earth_engine: EarthEngineServer, tmp_path: Path) -> None:
    ee.Reset()
    with pytest.raises(Exception, match="Invalid OAuth scope"):
        ee.Initialize(credentials(earth_engine, tmp_path, []), project="test-project", url=earth_engine.url)
    ee.Reset()


def export(description: str) -> Any:
    region = ee.Geometry.Rectangle([113.5, 34.6, 113.7, 34.8])
    image = ee.Image.constant(1).toFloat()
    transform = [10, 0, 730_000, 0, -10, 3_850_000]
    return ee.batch.Export.image.toDrive(
        image, description, folder="crgen", region=region, crs="EPSG:32649", crsTransform=transform
    )


def test_exports_start_run_and_end(ee_client: EarthEngineServer) -> None:
    task = export("first")
    task.start()
    assert [task.status()["state"] for _ in range(3)] == ["READY", "RUNNING", "COMPLETED"]
    ee_client.exports.failure = "User memory limit exceeded."
    failing = export("second")
    failing.start()
    states = [failing.status() for _ in range(3)]
    assert (states[-1]["state"], states[-1]["error_message"]) == ("FAILED", "User memory limit exceeded.")
    assert [entry["metadata"]["description"] for entry in ee.data.listOperations()] == ["first", "second"]
    third = export("third")
    third.start()
    third.cancel()
    assert third.status()["state"] in ("CANCELLED", "CANCEL_REQUESTED")
    assert len(ee_client.exports.requests) == 3


def test_images_can_be_listed(ee_client: EarthEngineServer) -> None:
    found = ee.data.listImages(
        {
            "parent": catalogue.S2,
            "startTime": "2021-07-09T00:00:00Z",
            "endTime": "2021-07-10T00:00:00Z",
            "region": {"type": "Point", "coordinates": [113.6, 34.7]},
            "properties": ["MGRS_TILE=49SGU"],
        }
    )["images"]
    assert [image["id"].split("_T")[-1] for image in found] == ["49SGU", "49SGU"]
    assert ee.data.getAsset(catalogue.S1)["type"] == "IMAGE_COLLECTION"
    with pytest.raises(ee.EEException, match="not found"):
        ee.data.getAsset("COPERNICUS/S9")


@pytest.fixture
def process() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.earthengine", "--latency", "0.05"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as started:
        assert started.stdout is not None
        yield started.stdout.readline().strip()
        started.kill()


def test_as_a_process_with_faults_and_counters_from_outside(process: str) -> None:
    def ask_process() -> int:
        constant = {
            "functionInvocationValue": {"functionName": "Image.constant", "arguments": {"value": {"constantValue": 1}}}
        }
        expression = {"result": "0", "values": {"0": constant}}
        body = {"expression": expression, "fileFormat": "NPY", "grid": grid(*PLACE, (2, 2))}
        return requests.post(f"{process}/v1alpha/projects/p/image:computePixels", json=body, timeout=10).status_code

    requests.post(f"{process}/control/faults", json=[faults.storm(1).to_json()], timeout=10)
    assert [ask_process(), ask_process()] == [429, 200]
    counters = requests.get(f"{process}/control/counters", timeout=10).json()
    assert (counters["tiles"], counters["tiles_served"], counters["faults_struck"]) == (2, 1, [1])
    requests.post(f"{process}/control/settings", json={"concurrency": 0}, timeout=10)
    assert ask_process() == 429
