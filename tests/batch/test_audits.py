"""Which maps of a folder are scored against what has come since, and when."""

import datetime
import json

import pytest

from crgen.batch.products import audits
from crgen.batch.products.audits import audit_products
from crgen.errors import OutputError, SourceError
from crgen.pipeline.audit import NotYetError
from crgen.pipeline.request import EarthEngine

TODAY = datetime.date(2021, 8, 3)


@pytest.fixture
def asked(monkeypatch):
    """What was asked to be scored, by name, with the day that it was scored against before."""
    names = []

    def audit(item, *, earth_engine, unless):
        names.append((item.stem, unless))
        raise NotYetError

    monkeypatch.setattr(audits, "audit", audit)
    return names


def test_maps_are_audited_once_a_day_while_later_images_may_still_come(make_product, tmp_path, asked) -> None:
    for name, t2 in (("old", "2021-07-12"), ("last", "2021-07-13"), ("new", "2021-08-02"), ("today", "2021-08-03")):
        make_product(tmp_path, name, t2)
    for _ in range(2):
        assert list(audit_products(tmp_path, EarthEngine(), TODAY)) == []
    assert asked == [("new", None), ("last", None)]
    list(audit_products(tmp_path, EarthEngine(), TODAY + datetime.timedelta(days=1)))
    assert [name for name, _ in asked] == ["new", "last", "today", "new"]


def test_a_map_is_scored_again_only_for_a_clearer_day_than_it_was(make_product, tmp_path, asked) -> None:
    paths = make_product(tmp_path, "map", "2021-07-22")
    paths.audit.write_text(json.dumps({"day": "2021-07-29"}))
    list(audit_products(tmp_path, EarthEngine(), TODAY))
    assert asked == [("map", datetime.date(2021, 7, 29))]


def test_a_map_that_has_learned_from_later_images_is_not_scored_against_them(make_product, tmp_path, asked) -> None:
    paths = make_product(tmp_path, "map", "2021-07-22")
    item = json.loads(paths.item.read_text())
    for after, scored in ((10, []), (0, [("map", None)])):
        item["properties"]["crgen:manifest"]["rules"] = {"past_before": 425, "past_after": after}
        paths.item.write_text(json.dumps(item))
        list(audit_products(tmp_path, EarthEngine(), TODAY + datetime.timedelta(days=-after)))
        assert asked == scored


def test_a_damaged_map_stops_no_other_audit_and_an_outage_is_retried(make_product, tmp_path, monkeypatch) -> None:
    for name in ("a", "b"):
        make_product(tmp_path, name, "2021-07-22")

    def damaged(item, **_):
        raise OutputError(f"{item.stem} is damaged")

    def away(item, **_):
        raise SourceError("no answer")

    monkeypatch.setattr(audits, "audit", away)
    for _ in range(2):
        with pytest.raises(SourceError):
            list(audit_products(tmp_path, EarthEngine(), TODAY))
    monkeypatch.setattr(audits, "audit", damaged)
    said = [result for _, result in audit_products(tmp_path, EarthEngine(), TODAY)]
    assert said == ["b is damaged", "a is damaged"]


def test_a_missing_folder_has_no_audits(tmp_path, asked) -> None:
    assert list(audit_products(tmp_path / "products", EarthEngine(), TODAY)) == []
