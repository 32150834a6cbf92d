"""Fixtures around the local Earth Engine, for every test that wants one."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.earthengine.server import EarthEngineServer

KEPT, LARGEST = 400, 500_000
"""Tiles, and bytes of one."""


@pytest.fixture(scope="session")
def _earth_engine_process() -> Iterator["EarthEngineServer"]:
    # Imported here: most tests need neither Google's libraries nor the time they take to load.
    from tests.earthengine.server import EarthEngineServer

    with EarthEngineServer() as server:
        yield server


@pytest.fixture(scope="session")
def _compute_once() -> Callable[..., bytes]:
    """Pixels of the local Earth Engine, of which the last small tiles are kept: most tests ask for the same ones.

    For tests of crgen, which leave its images as they are; the catalogue and the lake some of them change.
    """
    from tests.earthengine import catalogue, ground, pixels
    from tests.earthengine.requests import key_of

    compute, answers = pixels.compute, OrderedDict[object, bytes]()

    def compute_once(body: Mapping[str, Any], flat: bool = False) -> bytes:
        key = key_of(body), body.get("fileFormat"), flat, catalogue.collections, ground.LAKE
        answer = answers.get(key)
        if answer is None:
            answer = compute(body, flat)
            if len(answer) < LARGEST:
                answers[key] = answer
            while len(answers) > KEPT:
                answers.popitem(last=False)
        return answer

    return compute_once


@pytest.fixture
def earth_engine(
    _earth_engine_process: "EarthEngineServer", monkeypatch: pytest.MonkeyPatch
) -> Iterator["EarthEngineServer"]:
    """A local Earth Engine that nothing was asked yet, and which crgen takes for Earth Engine (``CRGEN_EE_URL``)."""
    server = _earth_engine_process
    server.reset()
    monkeypatch.setenv("CRGEN_EE_URL", server.url)
    monkeypatch.setenv("EE_PROJECT_ID", "test-project")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield server
    mistakes = server.mistakes
    server.reset()
    assert not mistakes, mistakes[0]


@pytest.fixture
def service(
    earth_engine: "EarthEngineServer",
    _compute_once: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator["EarthEngineServer"]:
    """The same, which crgen was never connected to, with an empty tile cache and short waits."""
    from crgen.gee.connection.session import disconnect
    from crgen.gee.fetch.fetcher import _fetchers

    monkeypatch.setattr("tests.earthengine.pixels.compute", _compute_once)
    monkeypatch.setenv("CRGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("crgen.gee.connection.retry.FIRST_WAIT", 0.01)
    disconnect()
    yield earth_engine
    # Requests of a test that failed, or of one that ended early, are none of the next one's.
    for fetcher in _fetchers.values():
        fetcher.stop()
        for thread in fetcher._threads:
            thread.join()
    _fetchers.clear()
    disconnect()


@pytest.fixture
def ee_client(earth_engine: "EarthEngineServer", monkeypatch: pytest.MonkeyPatch) -> Iterator["EarthEngineServer"]:
    """The same, with the plain ``ee`` client initialised against it."""
    import ee
    from google.auth.credentials import AnonymousCredentials

    # Initialize opens a catalogue page of Google's, without a timeout.
    monkeypatch.setattr("ee.deprecation._FetchDataCatalogStac", lambda: {})
    ee.Reset()
    ee.Initialize(AnonymousCredentials(), project="test-project", url=earth_engine.url)
    # The client would retry errors on its own and hide what the server answered.
    ee.data.setMaxRetries(0)
    yield earth_engine
    ee.Reset()
