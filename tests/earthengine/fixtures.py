"""Fixtures around the local Earth Engine, for every test that wants one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.earthengine.server import EarthEngineServer


@pytest.fixture(scope="session")
def _earth_engine_process() -> Iterator["EarthEngineServer"]:
    # Imported here: most tests need neither Google's libraries nor the time they take to load.
    from tests.earthengine.server import EarthEngineServer

    with EarthEngineServer() as server:
        yield server


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
    earth_engine: "EarthEngineServer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator["EarthEngineServer"]:
    """The same, which crgen was never connected to, with an empty tile cache and short waits."""
    from crgen.gee.connection.session import disconnect
    from crgen.gee.fetch.fetcher import _fetchers

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
