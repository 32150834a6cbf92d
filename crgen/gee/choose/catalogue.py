"""What was acquired over an area: one query per collection, and each acquisition once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any, TypeVar

from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from crgen.errors import SourceError
from crgen.gee.choose.description import OPTICAL, RADAR, Asset, Kind, understood
from crgen.gee.connection.retry import TooMuch
from crgen.gee.connection.session import Session
from crgen.gee.manifest import CLOUD_SCORE

T = TypeVar("T")
COVERED = 0.001
"""Share of a footprint that may stick out of others which cover it."""
DUPLICATE_SECONDS = 1.0
"""Sensing times of one tile closer than this are the same acquisition: processed more than once, or in two parts."""


@dataclass(frozen=True)
class Catalogue:
    """What was acquired over an area in some stretches of time."""

    radar: tuple[Asset, ...] = ()
    optical: tuple[Asset, ...] = ()
    scored: frozenset[str] = frozenset()
    """Names of the Sentinel-2 images that Cloud Score+ has a score for."""
    notes: tuple[str, ...] = ()


def search(
    session: Session,
    bounds: tuple[float, float, float, float],
    stretches: Sequence[tuple[date, date]],
    *,
    radar: bool = True,
    optical: bool = True,
) -> Catalogue:
    """Ask for the metadata of all acquisitions, in one request per collection, or a few if that is too much.

    Args:
        session: the connection.
        bounds: west, south, east, north of the area in degrees.
        stretches: first and last days, UTC.
        radar: whether to ask for Sentinel-1.
        optical: whether to ask for Sentinel-2 and Cloud Score+.

    Raises:
        SourceError: if Earth Engine cannot be asked, or answers with something else.
    """
    import ee

    def collection(name: str, stretches: Sequence[tuple[date, date]]) -> Any:
        west, south, east, north = bounds
        within = ee.Geometry.Rectangle([west, south, east, north], "EPSG:4326", False)
        days = [ee.Filter.date(first.isoformat(), (last + timedelta(days=1)).isoformat()) for first, last in stretches]
        return ee.ImageCollection(name).filterBounds(within).filter(days[0] if len(days) == 1 else ee.Filter.Or(*days))

    def ask(name: str, asked: Any) -> list[dict[str, Any]]:
        answer = session.call(f"the acquisitions of {name}", lambda: ee.data.computeValue(asked))
        try:
            return list(answer["features"])
        except (TypeError, KeyError):
            raise SourceError(
                f"Earth Engine described {name} in a way crgen does not understand; update crgen"
            ) from None

    def describe(kind: Kind, stretches: Sequence[tuple[date, date]]) -> list[dict[str, Any]]:
        # What the service makes of a brief description no local server can show: if it does not serve, the whole does.
        held = collection(kind.name, stretches)
        try:
            found = [kind.unbriefed(one) for one in ask(kind.name, held.map(kind.brief))]
        except SourceError as error:
            if error.transient:
                raise
            return ask(kind.name, held)
        served = not found or understood(found, kind.read, centre)[0]
        return found if served else ask(kind.name, held)

    def images(kind: Kind) -> tuple[list[Asset], list[str]]:
        return understood(in_slices(partial(describe, kind), days), kind.read, centre)

    def scores(stretches: Sequence[tuple[date, date]]) -> list[str]:
        names = collection(CLOUD_SCORE, stretches).aggregate_array("system:index")
        return list(session.call(f"the names of {CLOUD_SCORE}", lambda: ee.data.computeValue(names)))

    days = merged(stretches)
    centre = (bounds[0] + bounds[2]) / 2
    s1, left_out = images(RADAR) if radar else ([], [])
    s2, more = images(OPTICAL) if optical else ([], [])
    scored = frozenset(in_slices(scores, days) if s2 else ())
    return Catalogue(tuple(s1), tuple(without_duplicates(s2, scored)), scored, (*left_out, *more))


def in_slices(ask: Callable[[Sequence[tuple[date, date]]], list[T]], days: Sequence[tuple[date, date]]) -> list[T]:
    """Return what is there in some stretches of days, asked for in halves where it is too much for one answer.

    Raises:
        SourceError: if one day is too much, or Earth Engine refuses.
    """
    try:
        return ask(days)
    except TooMuch as error:
        (first, last), *_ = days
        if len(days) > 1:
            halves = [days[: len(days) // 2], days[len(days) // 2 :]]
        elif first < last:
            middle = first + (last - first) // 2
            halves = [[(first, middle)], [(middle + timedelta(1), last)]]
        else:
            raise SourceError(
                f"Earth Engine cannot list what was acquired on {first} alone ({error}); make the area smaller"
            ) from None
    return [found for half in halves for found in in_slices(ask, half)]


def merged(stretches: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Return the days of all stretches as few stretches that do not touch."""
    joined: list[tuple[date, date]] = []
    for first, last in sorted(stretches):
        if joined and first <= joined[-1][1] + timedelta(days=1):
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def without_duplicates(assets: Iterable[Asset], scored: Collection[str] = ()) -> list[Asset]:
    """Leave out images that were processed more than once: those that a better one of the same tile and time covers.

    A tile that two datastrips share comes in two images, each of a part: both stay. Better is what has a Cloud Score+
    score, then the later processor, then the later processing.
    """

    def better(asset: Asset) -> tuple[Any, ...]:
        return asset.index in scored, asset.baseline, asset.processed, asset.id

    kept: list[Asset] = []
    together: list[Asset] = []
    for asset in sorted(assets, key=lambda a: (a.tile or "", a.platform, a.time, a.id)):
        if together and not _same_acquisition(together[0], asset):
            kept += _needed(sorted(together, key=better, reverse=True))
            together = []
        together.append(asset)
    return kept + _needed(sorted(together, key=better, reverse=True))


def _same_acquisition(a: Asset, b: Asset) -> bool:
    apart = (b.time - a.time).total_seconds()
    return (a.tile, a.platform) == (b.tile, b.platform) and apart < DUPLICATE_SECONDS


def _needed(best_first: Sequence[Asset]) -> list[Asset]:
    """Return the images that those before them do not cover, ranked."""
    needed: list[Asset] = []
    covered: BaseGeometry = Polygon()
    for asset in best_first:
        if not needed or asset.footprint.difference(covered).area > COVERED * asset.footprint.area:
            needed.append(replace(asset, rank=len(needed)))
            covered = covered.union(asset.footprint)
    return needed
