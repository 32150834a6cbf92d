"""A local Earth Engine that crgen was never connected to, with an empty tile cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crgen.gee import fetch
from crgen.gee.session import disconnect
from tests.earthengine.server import EarthEngineServer


@pytest.fixture
def service(
    earth_engine: EarthEngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EarthEngineServer]:
    monkeypatch.setenv("CRGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("crgen.gee.patience.FIRST_WAIT", 0.01)
    disconnect()
    yield earth_engine
    # Requests of a test that failed, or of one that ended early, are none of the next one's.
    for fetcher in fetch._fetchers.values():
        fetcher.stop()
        for thread in fetcher._threads:
            thread.join()
    fetch._fetchers.clear()
    disconnect()
