"""Everything that goes wrong on the way: the run ends with the same pixels, or stops with the right words.

And whatever happens, no tile that was kept is asked for again.
"""

import datetime
import time
from collections.abc import Callable
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from crgen.errors import CrgenWarning, SourceError, StackError
from crgen.gee.connection.session import connect, disconnect
from crgen.gee.fetch.tile import read_tile
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine import Acquired, EarthEngine, acquire, connection_settings
from tests.earthengine import faults
from tests.earthengine.faults import Fault
from tests.earthengine.server import EarthEngineServer

AREA = "113.555,34.700,113.570,34.712"
CHANNELS = Channels(("VV", "VH"), ("B11", "B8", "B3"), 10.0, margin=4)
T1, T2 = datetime.date(2021, 7, 10), datetime.date(2021, 7, 22)
SIDE = 128


@pytest.fixture(autouse=True)
def _small_tiles(service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles per variable, four requests at a time, and a line that is given up after seconds."""
    monkeypatch.setattr("crgen.pipeline.source.earthengine.open_pull.__kwdefaults__", {"largest": SIDE})
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", "4")
    monkeypatch.setenv("CRGEN_EE_READ_TIMEOUT", "30")


def open_area(options: EarthEngine | None = None) -> Acquired:
    return acquire(options or EarthEngine(), CHANNELS, aoi=AREA, t1=T1, t2=T2, crs=None)


def pull(options: EarthEngine | None = None) -> xr.Dataset:
    return open_area(options).stack.compute(scheduler="threads", num_workers=4)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, np.ndarray]:
    """Filled by the first test that pulls without faults."""
    return {}


@pytest.fixture
def right(
    undisturbed: dict[str, np.ndarray],
    service: EarthEngineServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[xr.Dataset], None]:
    """Checks a stack against the pixels of a run without faults."""
    if not undisturbed:
        with monkeypatch.context() as apart:
            apart.setenv("CRGEN_CACHE", str(tmp_path / "apart"))
            undisturbed |= {name: array.values for name, array in pull().data_vars.items()}
        disconnect()
        service.clear()

    def check(stack: xr.Dataset) -> None:
        assert set(stack.data_vars) == set(undisturbed)
        for name, array in stack.data_vars.items():
            np.testing.assert_array_equal(array.values, undisturbed[name])
        assert np.isfinite(stack["s1_t2"]).all()

    return check


SOON = 0.05
PASSING = {
    "429 storm": faults.storm(12, retry_after=SOON),
    "429 storm without Retry-After": faults.storm(12),
    "429 with a date": faults.storm(2, format_datetime(datetime.datetime.now(datetime.UTC), usegmt=True)),
    "429 of concurrency": faults.storm(5, message=faults.AGGREGATIONS),
    "429 of the concurrency quota": faults.storm(5, SOON, message=faults.QUOTA),
    "429 in restricted mode": faults.storm(4, SOON, message=faults.RESTRICTED),
    "403 of the rate": faults.error(403, faults.RATE, first=3),
    "400 of aggregations": faults.error(400, faults.AGGREGATIONS, first=3),
    "please try again": faults.error(400, "Internal error. Please try again.", first=2),
    "500 of what is too large": faults.error(500, "An internal error has occurred", above_pixels=64 * 64),
    "503 of what is too large": faults.error(503, faults.CAPACITY, above_pixels=64 * 128),
    "every third 500": faults.error(500, "An internal error has occurred", every=3),
    "503 at the start": faults.error(503, "The service is currently unavailable.", first=6),
    "memory capacity": faults.error(503, faults.CAPACITY, first=3),
    "a proxy's 502 in HTML": Fault("html", status=502, every=4),
    "dropped before the answer": faults.drop(every=3),
    "cut inside the answer": faults.cut(every=3),
    "half a tile": faults.truncate(every=3),
    "one row too few": faults.resize(every=3),
    "too large for memory": faults.memory_limit(above_pixels=64 * 64),
    "too long to compute": faults.timed_out(above_pixels=64 * 128),
}


@pytest.mark.parametrize("name", PASSING)
def test_the_run_ends_right(service: EarthEngineServer, right: Callable[[xr.Dataset], None], name: str) -> None:
    fault = Fault.from_json(PASSING[name].to_json())
    service.add(fault)
    right(pull())
    assert fault.struck > 0
    assert not service.served_twice()


def test_other_dtypes_are_narrowed_without_loss_or_asked_again(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None]
) -> None:
    service.add(fault := faults.retype(every=3))
    right(pull())
    assert fault.struck > 0


def test_while_a_tile_is_read_the_next_is_on_the_line(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", "1")
    service.wait_until_idle()  # what an earlier test gave up is under way still
    answered = []

    def read_slowly(*arrived):
        give_up = time.monotonic() + 60
        while not answered and len(service.tiles) < 2 and time.monotonic() < give_up:
            time.sleep(0.01)
        answered.append(len(service.tiles))
        return read_tile(*arrived)

    monkeypatch.setattr("crgen.gee.fetch.fetcher.read_tile", read_slowly)
    right(pull())
    assert answered[0] >= 2
    assert service.max_concurrency[faults.COMPUTE] == 1


def test_a_stall_is_cut_short_and_asked_again(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRGEN_EE_READ_TIMEOUT", "2")
    service.add(fault := faults.stall(6.0, nth=2))
    right(pull())
    assert fault.struck == 1


def test_the_services_own_limit_is_kept_to(service: EarthEngineServer, right: Callable[[xr.Dataset], None]) -> None:
    """Fewer requests at once than crgen would like: it finds out and still ends."""
    service.change(concurrency=2, latency=0.05, retry_after=SOON)
    right(pull())
    refused = [tile for tile in service.tiles if tile.status == 429]
    assert refused
    assert service.max_concurrency[faults.COMPUTE] == 2
    assert not service.served_twice()


def test_a_token_that_expires_in_the_middle_is_renewed(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], tmp_path: Path
) -> None:
    key = service.tokens.service_account(tmp_path / "key.json")
    service.tokens.required = True
    service.add(fault := faults.expire(nth=4))
    right(pull(EarthEngine(credentials=key)))
    assert fault.struck == 1
    assert 401 in [tile.status for tile in service.tiles]
    assert not service.served_twice()


STOPPING = {
    "daily limit": (
        faults.error(429, faults.DAILY),
        "the daily limit of compute that is set for project test-project is reached",
    ),
    "not eligible": (
        faults.error(403, faults.NOT_ELIGIBLE.format(project="test-project")),
        "may not use Earth Engine as it is registered",
    ),
    "a scene that was withdrawn": (
        faults.error(
            400,
            "Image.load: Image asset 'COPERNICUS/S1_GRD_FLOAT/S1A_x' not found (does not exist or caller does not "
            "have access).",
        ),
        "Earth Engine has no COPERNICUS/S1_GRD_FLOAT/S1A_x (any more)",
    ),
    "a scene that was withdrawn, as 404": (
        faults.error(404, "Asset 'COPERNICUS/S2_SR_HARMONIZED/x' not found."),
        "choose scenes anew, without --manifest",
    ),
    "not registered": (faults.error(403, faults.NOT_REGISTERED), "is not registered for Earth Engine: register it at"),
    "project not registered": (
        faults.error(403, faults.PROJECT_NOT_REGISTERED.format(project="test-project")),
        "is not registered for Earth Engine: register it at",
    ),
    "API not used": (
        faults.error(403, faults.API_NOT_USED.format(project="12345")),
        "the Earth Engine API is not enabled in project test-project: enable it at",
    ),
    "no permission": (
        faults.error(403, faults.NO_PERMISSION.format(project="test-project")),
        "no permission to use Earth Engine in project test-project",
    ),
    "a mistake in the request": (faults.error(400, "Image.select: Band pattern 'B99'"), "refused the request: Image"),
}


@pytest.mark.parametrize("name", STOPPING)
def test_the_run_stops_with_the_fix_and_goes_on_where_it_was(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], name: str
) -> None:
    fault, words = STOPPING[name]
    # From the fourth tile on: what came before is kept.
    service.add(Fault.from_json({**fault.to_json(), "after": 3}))
    with pytest.raises(SourceError) as stopped:
        pull()
    message = str(stopped.value)
    assert words in message
    assert "\n" not in message
    assert "test-project" in message
    service.faults.clear()
    disconnect()
    right(pull())
    assert not service.served_twice()


def test_what_is_on_the_line_when_a_run_fails_is_kept(service: EarthEngineServer, tmp_path: Path) -> None:
    service.change(latency=1.5)
    service.add(faults.error(403, faults.NOT_REGISTERED, nth=4))
    with pytest.raises(SourceError):
        pull()
    served = sum(tile.status == 200 for tile in service.tiles)
    assert served >= 3
    assert len(list((tmp_path / "cache").rglob("*.tile"))) == served


def test_what_may_be_too_large_is_not_taken_for_it_by_the_next_run(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], tmp_path: Path
) -> None:
    """500 says nothing: after three the tile is asked for in parts, but it is not remembered as too large."""
    service.add(fault := faults.error(500, "An internal error has occurred", above_pixels=64 * 64, first=3 * 16))
    right(pull())
    assert fault.struck >= 3
    assert not list((tmp_path / "cache").rglob("*.split"))


def test_a_month_that_is_used_up_is_slower_told_once_and_right(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None]
) -> None:
    service.change(restricted=True)
    with pytest.warns(CrgenWarning, match="test-project has used up its compute of this month.*slower") as told:
        right(pull())
    assert sum(issubclass(warned.category, CrgenWarning) for warned in told) == 1
    session = connect(connection_settings(EarthEngine()))
    assert session.transport.restricted
    assert session.gate.most == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_of_an_hour_ends_the_run_at_once_and_the_next_one_asks_again(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], status: int
) -> None:
    service.add(faults.error(status, "Quota exceeded", after=2, retry_after=3600))
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"asks to wait 60 min, until .* UTC, before s\d_t\d, .* is asked for again"):
        pull()
    assert time.monotonic() - begun < 60
    refused = sum(tile.status == status for tile in service.tiles)
    service.faults.clear()
    right(pull())
    assert 0 < refused < sum(tile.status == 200 for tile in service.tiles), "only what was under way was asked for"
    assert not service.served_twice()


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_wait_is_told(
    service: EarthEngineServer,
    right: Callable[[xr.Dataset], None],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr("crgen.gee.connection.transport.LONGEST_WAIT", 0.5)
    service.add(faults.error(status, "busy", first=1, retry_after=1))
    with pytest.warns(CrgenWarning, match="asks to wait 1 s, until .* and crgen does") as told:
        right(pull())
    assert sum(issubclass(warned.category, CrgenWarning) for warned in told) == 1


def test_a_proxys_page_says_its_own_status(service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRGEN_EE_PATIENCE", "0.2")
    service.add(Fault("html", status=502))
    with pytest.raises(SourceError, match="HTTP 502, Bad Gateway") as stopped:
        pull()
    assert "Ok" not in str(stopped.value)


def test_more_scenes_than_one_answer_holds_are_asked_for_by_slices_of_days(service: EarthEngineServer) -> None:
    whole = open_area().manifest
    asked = len(service.requests)
    service.change(elements=9)
    assert open_area().manifest == whole
    assert len(service.requests) > 2 * asked, "in halves, and halves of them"
    service.change(elements=0)
    with pytest.raises(
        SourceError, match=r"cannot list what was acquired on 2021-07-\d\d alone .*make the area smaller"
    ):
        open_area()


def test_alternatives_of_a_refusal_are_asked_for_by_slices_too(service: EarthEngineServer) -> None:
    service.change(elements=9)
    with pytest.raises(StackError, match="Nearest: 2021-08-01"):
        acquire(EarthEngine(), CHANNELS, aoi=AREA, t1=T1, t2=datetime.date(2021, 8, 20), crs=None)


def test_nothing_more_is_asked_after_the_run_has_failed(service: EarthEngineServer) -> None:
    """What would have been fetched ahead is dropped: a used-up quota is not knocked at once per tile."""
    service.add(faults.error(403, faults.NOT_REGISTERED))
    with pytest.raises(SourceError):
        pull()
    threads = 4
    assert len(service.tiles) <= 2 * threads
    asked = len(service.tiles)
    time.sleep(0.3)
    assert len(service.tiles) <= asked + threads
    assert {tile.status for tile in service.tiles} == {403}


@pytest.mark.parametrize("name", ["not registered", "project not registered", "API not used", "no permission"])
def test_a_refusal_at_the_door_says_the_same(service: EarthEngineServer, name: str) -> None:
    import ee

    ee.Reset()  # forgets the list of functions too: the first thing a new process asks for with its project
    fault, words = STOPPING[name]
    service.add(Fault.from_json({**fault.to_json(), "endpoint": "algorithms"}))
    with pytest.raises(SourceError) as stopped:
        open_area()
    assert words in str(stopped.value)


def test_patience_ends_with_what_was_kept(
    service: EarthEngineServer, right: Callable[[xr.Dataset], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRGEN_EE_PATIENCE", "0.5")
    service.add(faults.error(503, "The service is currently unavailable.", after=2))
    with pytest.raises(
        SourceError, match=r"did not deliver s\d_t\d, .* attempts \(last: HTTP 503.*run the same command"
    ):
        pull()
    service.faults.clear()
    disconnect()
    right(pull())
    assert not service.served_twice()


def test_even_the_smallest_tile_too_large_says_what_to_try(service: EarthEngineServer) -> None:
    service.add(faults.memory_limit(above_pixels=10))
    with pytest.raises(SourceError, match=r"cannot compute even s\d_t\d, .*User memory limit exceeded.*--search-days"):
        pull()


def test_a_split_is_remembered(service: EarthEngineServer, right: Callable[[xr.Dataset], None]) -> None:
    """A run that is interrupted after splitting does not ask for the large tile again."""
    service.add(faults.memory_limit(above_pixels=64 * 64))
    service.add(faults.error(403, faults.NOT_REGISTERED, after=20))
    with pytest.raises(SourceError):
        pull()
    too_large = {tile.key for tile in service.tiles if tile.status == 400}
    service.faults.clear()
    service.add(faults.memory_limit(above_pixels=64 * 64))
    before = len(service.tiles)
    disconnect()
    right(pull())
    assert not too_large & {tile.key for tile in service.tiles[before:]}
    assert not service.served_twice()


def test_nothing_is_retried_behind_crgens_back(service: EarthEngineServer) -> None:
    """The client's own retries are off: one failure, one more request."""
    service.add(faults.error(500, "An internal error has occurred", nth=1, endpoint="value:compute"))
    open_area()
    assert [asked.status for asked in service.requests if asked.endpoint == "value:compute"].count(500) == 1
    session = connect(connection_settings(EarthEngine()))
    assert session.retries["500"] == 1
