"""What a project has used of Earth Engine's compute is asked of Cloud Monitoring; where it is not told, the fix is."""

from datetime import date
from pathlib import Path

import pytest

from crgen.errors import SourceError
from crgen.gee.connection.session import Settings
from crgen.gee.connection.usage import used_since
from tests.earthengine.server import EarthEngineServer

FIRST = date(2026, 11, 1)


def test_the_hours_of_all_days_and_series_are_told_with_one_request(service: EarthEngineServer) -> None:
    service.change(used=5400.0)
    assert used_since(Settings.from_environment(), FIRST) == ("test-project", 1.5)
    assert len(service.requests) == 1


def test_a_project_that_did_nothing_has_used_none(service: EarthEngineServer) -> None:
    assert used_since(Settings.from_environment(), FIRST).hours == 0


def test_it_is_asked_with_the_account_that_asks_for_pixels(service: EarthEngineServer, tmp_path: Path) -> None:
    service.tokens.required = True
    with pytest.raises(SourceError, match="cannot be asked") as caught:
        used_since(Settings.from_environment(), FIRST)
    assert not caught.value.transient
    service.tokens.service_account(tmp_path / "key.json")
    settings = Settings.from_environment(credentials=str(tmp_path / "key.json"))
    assert used_since(settings, FIRST).hours == 0


def test_a_refusal_names_the_role_and_the_api_and_is_final(service: EarthEngineServer) -> None:
    service.change(used=None)
    with pytest.raises(SourceError, match="Monitoring Viewer") as caught:
        used_since(Settings.from_environment(), FIRST)
    assert "enable monitoring.googleapis.com" in str(caught.value)
    assert "test-project" in str(caught.value)
    assert not caught.value.transient


def test_a_service_that_cannot_be_reached_is_asked_again_later(service: EarthEngineServer) -> None:
    with pytest.raises(SourceError, match="cannot be asked") as caught:
        used_since(Settings(project="p", url="http://127.0.0.1:9"), FIRST)
    assert caught.value.transient
