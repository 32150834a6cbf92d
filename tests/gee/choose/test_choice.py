"""The choice of acquisitions, as properties of any catalogue."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from crgen.errors import StackError
from crgen.gee.choose.catalogue import Catalogue, merged, without_duplicates
from crgen.gee.choose.choice import Choice, Rules, Wanted, choose
from crgen.gee.choose.description import Asset, read_optical, read_radar, understood
from crgen.gee.choose.find import lonlat_bounds
from crgen.gee.choose.outlines import read_footprint
from crgen.gee.choose.shortfall import require_coverage, shortfall
from crgen.gee.manifest import Grid, Manifest
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.earthengine.settings import rules_of

# One degree by one degree on the equator, in a metric CRS in which a degree is a degree anywhere.
CRS = "EPSG:32631"
AREA = Grid.of("here", GeoBox((1000, 1000), Affine(100, 0, 500_000, 0, -100, 100_000), CRS), box(5e5, 0, 6e5, 1e5))
T1, T2 = date(2021, 7, 10), date(2021, 7, 22)
WANTED = (Wanted("t1", T1, mapped=False), Wanted("t2", T2, mapped=True))
POLS, BANDS = ("VV", "VH"), ("B11", "B8", "B3")
RULES = rules_of(EarthEngine())
"""Those of a request that names no others."""


def strip(west: float, east: float) -> shapely.Geometry:
    """A footprint from share ``west`` to share ``east`` of the area's width."""
    span = 0.8987  # the area's width in degrees
    return box(3 + west * span, -0.5, 3 + east * span, 1.5)


def radar(day: date, orbit: int, west: float = -0.1, east: float = 1.1, *, bands=(*POLS, "angle"), hour=10) -> Asset:
    time = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    absolute = orbit + 175 * (day - date(2020, 1, 1)).days
    return Asset(
        f"S1/{absolute}_{west}_{hour}", "S1A", time, orbit, absolute, "ASCENDING", tuple(bands), strip(west, east)
    )


def optical(
    day: date, orbit: int = 75, west=-0.1, east=1.1, *, cloudy: float | None = 0.3, clear=None, bands=BANDS
) -> Asset:
    time = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    name = f"S2/{day}_{orbit}_{west}"
    return Asset(
        name, "S2A", time, orbit, day.toordinal(), "DESCENDING", tuple(bands), strip(west, east), cloudy, clear, "31NAA"
    )


def chosen(*assets: Asset, rules: Rules | None = None, scored: frozenset[str] | None = None, pols=POLS) -> Choice:
    s1 = tuple(a for a in assets if a.id.startswith("S1"))
    s2 = tuple(a for a in assets if a.id.startswith("S2"))
    names = frozenset(a.index for a in s2) if scored is None else scored
    return choose(Catalogue(s1, s2, names), AREA, WANTED, pols=pols, bands=BANDS, rules=rules or RULES)


PAIR = (radar(T1, 40), radar(T2, 40))

days = st.integers(-8, 30).map(lambda n: T1 + timedelta(n))
edges = st.tuples(st.sampled_from([-0.1, 0.0, 0.3, 0.5]), st.sampled_from([0.4, 0.6, 0.8, 1.1])).filter(
    lambda e: e[0] < e[1]
)
radar_sets = st.lists(
    st.builds(lambda d, o, e: radar(d, o, *e), days, st.integers(1, 5), edges), max_size=14, unique_by=lambda a: a.id
)
optical_sets = st.lists(
    st.builds(lambda d, o, e, c: optical(d, o, *e, cloudy=c), days, st.integers(1, 4), edges, st.floats(0, 1)),
    max_size=10,
    unique_by=lambda a: a.id,
)


@given(radar_sets, optical_sets, st.integers(0, 10), st.integers(0, 3))
def test_whatever_there_is_the_rules_hold(s1: list[Asset], s2: list[Asset], search: int, observed: int) -> None:
    rules = replace(RULES, search_days=search, observed_days=observed)
    choice = chosen(*s1, *s2, rules=rules)
    scenes = choice.manifest.scenes
    radars = [
        list(dict.fromkeys((s.relative_orbit, s.direction) for s in scenes.get(n, ()))) for n in ("s1_t1", "s1_t2")
    ]
    assert radars[0] == radars[1], "the same orbits in the same order at both dates"
    assert not {s.id for s in scenes.get("s1_t1", ())} & {s.id for s in scenes.get("s1_t2", ())}
    for name, used in scenes.items():
        asked = choice.manifest.dates[name[-2:]]
        limit = observed if name == "s2_t2" and observed < search else search
        for scene in used:
            assert abs((scene.time.date() - asked).days) == scene.days_apart <= limit
    for name, share in choice.manifest.coverage.items():
        shapes = {c.overpass.orbit: c.overpass.shape for c in choice.candidates if c.variable == name and c.taken}
        if name.startswith("s1") and len(shapes) > 1:
            taken_radar = [c.overpass for c in choice.candidates if c.variable.startswith("s1") and c.taken]
            for overpass in taken_radar:
                shapes[overpass.orbit] = shapes[overpass.orbit].intersection(overpass.shape)
        elif name.startswith("s2"):
            shapes = dict(enumerate(c.overpass.shape for c in choice.candidates if c.variable == name and c.taken))
        assert share == pytest.approx(shapely.union_all(list(shapes.values())).area / AREA.polygon.area, abs=1e-3)
    for candidate in choice.candidates:
        assert candidate.taken != bool(candidate.why), "what was not taken says why"
    assert Manifest.model_validate_json(choice.manifest.to_json()) == choice.manifest


@given(radar_sets, optical_sets, st.randoms())
def test_the_order_of_the_catalogue_decides_nothing(s1: list[Asset], s2: list[Asset], random) -> None:
    assets = [*s1, *s2]
    shuffled = assets[:]
    random.shuffle(shuffled)
    assert chosen(*assets).manifest == chosen(*shuffled).manifest


def taken(choice: Choice, name: str) -> list[str]:
    return [scene.id for scene in choice.manifest.scenes.get(name, ())]


def test_an_orbit_without_a_pass_near_both_dates_is_not_used() -> None:
    choice = chosen(*PAIR, radar(T1, 7, hour=9))
    assert {s.relative_orbit for s in choice.manifest.scenes["s1_t1"]} == {40}
    (why,) = {c.why for c in choice.candidates if c.overpass.first.relative_orbit == 7}
    assert why == "its orbit has no pass near t2"


def test_a_pass_midway_between_the_dates_serves_neither() -> None:
    midway = T1 + timedelta(6)
    choice = chosen(radar(midway, 40))
    assert not choice.manifest.scenes
    assert {c.why for c in choice.candidates} == {"as near to t2, or nearer", "as near to t1, or nearer"}


#: What Sentinel-1A flew over Zhengzhou in 2021: relative orbit and days.
FLOWN = {
    113: (date(2021, 7, 8), date(2021, 7, 20), date(2021, 8, 1)),
    40: (date(2021, 7, 3), date(2021, 7, 15), date(2021, 7, 27)),
}


def radar_days(t1: date, t2: date, *assets: Asset) -> tuple[date, date]:
    """The days of the radar on top, for a map of ``t2``."""
    wanted = (Wanted("t1", t1, mapped=False), Wanted("t2", t2, mapped=True))
    held = assets or tuple(radar(day, orbit) for orbit, days in FLOWN.items() for day in days)
    choice = choose(Catalogue(held), AREA, wanted, pols=POLS, bands=BANDS, rules=RULES)
    return tuple(choice.manifest.scenes[name][0].time.date() for name in ("s1_t1", "s1_t2"))


@pytest.mark.parametrize(
    ("t2", "days"),
    [
        # Orbit 113 has fewer days in sum (2 and 4) than 40 (5 and 3), but passed on the day of the peak.
        (date(2021, 7, 24), (date(2021, 7, 15), date(2021, 7, 27))),
        (date(2021, 7, 23), (date(2021, 7, 8), date(2021, 7, 20))),
        (date(2021, 7, 22), (date(2021, 7, 8), date(2021, 7, 20))),
        (date(2021, 7, 27), (date(2021, 7, 15), date(2021, 7, 27))),
    ],
)
def test_the_radar_of_the_map_is_of_the_pass_nearest_to_its_date(t2: date, days: tuple[date, date]) -> None:
    assert radar_days(T1, t2) == days


def test_of_passes_as_near_the_one_after_the_date_to_map_is_taken_then_the_nearer_to_t1_then_the_wider() -> None:
    def passes(orbit: int, before: int, apart: int, east: float = 1.1, hour: int = 10) -> list[Asset]:
        return [
            radar(T1 - timedelta(before), orbit, -0.1, east, hour=hour),
            radar(T2 + timedelta(apart), orbit, -0.1, east),
        ]

    def first(*assets: Asset) -> int:
        return chosen(*assets).manifest.scenes["s1_t2"][0].relative_orbit

    assert first(*passes(7, 0, -2), *passes(40, 5, 2)) == 40, "after t2, though further from t1"
    assert first(*passes(7, 5, 2), *passes(40, 3, 2)) == 40, "nearer to t1"
    assert first(*passes(7, 3, 2, 0.9), *passes(40, 3, 2)) == 40, "covers more"
    assert first(*passes(7, 0, -1), *passes(40, 5, 2)) == 7, "nearer to t2, though ahead of it"
    same_orbit = [radar(T1, 40), radar(T2 - timedelta(3), 40), radar(T2 + timedelta(3), 40)]
    assert taken(chosen(*same_orbit), "s1_t2") == [same_orbit[2].id]


def test_orbits_are_combined_nearest_on_top_where_one_swath_is_not_enough() -> None:
    near = [radar(d, 40, -0.1, 0.6) for d in (T1, T2)]
    far = [radar(d + timedelta(2), 113, 0.4, 1.1) for d in (T1, T2)]
    useless = [radar(d + timedelta(3), 9, 0.1, 0.5) for d in (T1, T2)]
    choice = chosen(*near, *far, *useless)
    assert [s.relative_orbit for s in choice.manifest.scenes["s1_t1"]] == [40, 113]
    assert choice.manifest.coverage["s1_t1"] == 1.0


def test_vv_alone_serves_only_weights_that_need_no_more_and_only_where_nothing_has_both() -> None:
    alone = [radar(d, 40, bands=("VV", "angle"), hour=9) for d in (T1, T2)]
    both = [radar(d + timedelta(3), 40) for d in (T1, T2)]
    assert taken(chosen(*alone, *both, pols=("VV",)), "s1_t1") == [both[0].id]
    assert taken(chosen(*alone, pols=("VV",)), "s1_t1") == [alone[0].id]
    choice = chosen(*alone)
    assert not choice.manifest.scenes
    assert {c.why for c in choice.candidates} == {"holds VV only"}


def test_the_clearer_of_two_passes_as_near_is_taken_and_ten_percent_of_cloud_weigh_a_day() -> None:
    cloudy, clear = optical(T1 - timedelta(1), 1, cloudy=0.8), optical(T1 + timedelta(1), 2, cloudy=0.1)
    assert taken(chosen(*PAIR, cloudy, clear), "s2_t1") == [clear.id]
    later = optical(T1 + timedelta(3), 3, cloudy=0.1)
    assert taken(chosen(*PAIR, optical(T1, 1, cloudy=0.3), later), "s2_t1") != [later.id]
    assert taken(chosen(*PAIR, optical(T1, 1, cloudy=0.5), later), "s2_t1") == [later.id]


def test_how_clear_the_area_is_comes_before_what_a_whole_scene_says() -> None:
    tile, area = optical(T1, 1, cloudy=0.1, clear=0.2), optical(T1, 2, cloudy=0.8, clear=0.9)
    assert taken(chosen(*PAIR, tile, area), "s2_t1") == [area.id]
    unknown = optical(T1, 1, cloudy=0.05)
    assert taken(chosen(*PAIR, unknown, area), "s2_t1") == [unknown.id], "metadata counts where no more is known"


def test_scenes_of_a_pass_weigh_what_they_show_of_the_area() -> None:
    large, small = optical(T1, west=-0.1, east=0.75, clear=0.8), optical(T1, west=0.75, east=1.1, cloudy=0.6)
    (candidate,) = (c for c in chosen(*PAIR, large, small).candidates if c.variable == "s2_t1")
    assert candidate.overpass.clear == pytest.approx(0.75 * 0.8 + 0.25 * 0.4, abs=0.01)
    assert candidate.overpass.clear_by == {"score", "scene"}
    scenes = chosen(*PAIR, large, small).manifest.scenes["s2_t1"]
    assert [(scene.clear, scene.clear_over_area) for scene in scenes] == [(0.7, 0.8), (0.4, None)]


def test_of_passes_that_cost_the_same_the_nearer_lies_on_top() -> None:
    near, far = optical(T1, 1, cloudy=0.5), optical(T1 - timedelta(5), 2, cloudy=0.0)
    assert taken(chosen(*PAIR, far, near), "s2_t1") == [near.id]


def test_only_the_day_itself_counts_as_observed_unless_asked() -> None:
    same, next_day = optical(T2), optical(T2 + timedelta(1))
    assert taken(chosen(*PAIR, same, next_day), "s2_t2") == [same.id]
    choice = chosen(*PAIR, next_day)
    assert "s2_t2" not in choice.manifest.scenes
    choice = chosen(*PAIR, next_day, rules=replace(RULES, observed_days=1))
    assert taken(choice, "s2_t2") == [next_day.id]
    assert any("counts as observed then" in note for note in choice.manifest.notes)


def test_that_nothing_of_the_date_to_map_was_seen_is_said() -> None:
    notes = chosen(*PAIR, optical(T1), optical(T2 - timedelta(1))).manifest.notes
    assert f"there is no optical image of t2 ({T2}): nothing of it can be observed" in notes
    assert not any("nothing of it" in n for n in chosen(*PAIR, optical(T1), optical(T2)).manifest.notes)


def test_a_scene_without_the_bands_is_left_out_and_its_pass_goes_on() -> None:
    whole = optical(T1, west=-0.1, east=0.6)
    lacking = optical(T1, west=0.4, east=1.1, bands=("B3", "B8"))
    choice = chosen(*PAIR, whole, lacking)
    assert taken(choice, "s2_t1") == [whole.id]
    assert choice.manifest.coverage["s2_t1"] == pytest.approx(0.6, abs=0.01)
    (candidate,) = (c for c in chosen(*PAIR, lacking).candidates if c.variable == "s2_t1")
    assert candidate.why == "lacks B11"


def test_a_scene_without_a_score_is_named_and_never_clear() -> None:
    choice = chosen(*PAIR, optical(T2), optical(T1), scored=frozenset())
    assert all(s.score is None for name in ("s2_t1", "s2_t2") for s in choice.manifest.scenes[name])
    assert any("so nothing of them counts as clear" in note for note in choice.manifest.notes)


def test_nothing_at_all_is_said_with_what_to_do() -> None:
    choice = chosen()
    assert shortfall(choice, RULES) == ["s1_t1", "s2_t1", "s1_t2"]
    with pytest.raises(StackError, match="none within 45 days: at sea"):
        require_coverage(choice, RULES, Catalogue())
    alternatives = Catalogue(radar=(radar(T1 - timedelta(9), 40), radar(T1 + timedelta(20), 7)))
    with pytest.raises(StackError, match=r"Nearest: 2021-07-01 \(S1A orbit 40, 100 % of the area\), 2021-07-30"):
        require_coverage(choice, RULES, alternatives)


def test_too_little_names_the_share_that_would_be_accepted() -> None:
    choice = chosen(*(radar(d, 40, -0.1, 0.4567) for d in (T1, T2)), optical(T1))
    with pytest.raises(StackError, match=r"covers only 45\.7 % .*Accept it with --min-coverage 0\.45"):
        require_coverage(choice, RULES, Catalogue(radar=PAIR))
    assert not shortfall(choice, replace(RULES, min_coverage=0.45))
    nearly = chosen(*(radar(d, 40, -0.1, 0.997) for d in (T1, T2)), optical(T1))
    with pytest.raises(StackError, match=r"covers only 99\.[678] % .*Accept it with --min-coverage 0\.99"):
        require_coverage(nearly, replace(RULES, min_coverage=1.0), Catalogue(radar=PAIR))


def test_dates_without_a_common_orbit_are_told_as_such() -> None:
    choice = chosen(radar(T1, 40), radar(T2, 7), optical(T1))
    with pytest.raises(StackError, match="no orbit of Sentinel-1 covers the area near every date"):
        require_coverage(choice, RULES, Catalogue(radar=(radar(T1, 40),)))


def test_two_orbits_cover_together_what_each_covers_at_both_dates() -> None:
    """Where an orbit is missing at one date nothing of it shows at the other, and nothing else may stand for it."""
    first = [radar(T1, 40, -0.1, 0.8), radar(T2, 40, -0.1, 0.5)]
    second = [radar(T1 + timedelta(1), 113, 0.7, 1.1), radar(T2 + timedelta(1), 113, 0.4, 1.1)]
    coverage = chosen(*first, *second).manifest.coverage
    assert coverage["s1_t1"] == coverage["s1_t2"] == pytest.approx(0.5 + 0.3, abs=0.01)
    assert chosen(*first).manifest.coverage["s1_t1"] == pytest.approx(0.8, abs=0.01), "one orbit masks nothing"


def by(platform: str, asset: Asset) -> Asset:
    return replace(asset, id=f"{asset.id}_{platform}", platform=platform)


@pytest.mark.parametrize("platform", ["S1A", "S1C"])
def test_of_passes_as_near_that_of_the_same_satellite_is_taken(platform: str) -> None:
    both = [by(p, radar(T1 + timedelta(days), 40)) for p, days in (("S1A", -3), ("S1C", 3))]
    choice = chosen(*both, by(platform, radar(T2, 40)))
    assert {s.platform for name in ("s1_t1", "s1_t2") for s in choice.manifest.scenes[name]} == {platform}
    assert choice.manifest.platforms["s1_t1"] == [platform]
    nearer = by("S1D", radar(T1 + timedelta(2), 40))
    assert taken(chosen(*both, nearer, by(platform, radar(T2, 40))), "s1_t1") == [nearer.id]
    mixed = [by("S1A", radar(T1, 7)), by("S1C", radar(T2, 7, hour=9))]
    alike = [by("S1A", radar(T1, 40)), by("S1A", radar(T2, 40))]
    assert taken(chosen(*mixed, *alike), "s1_t2") == [alike[1].id]


def test_no_radar_of_before_the_event_stands_for_the_date_to_map() -> None:
    before, after = radar(T2 - timedelta(1), 7), radar(T2 + timedelta(4), 40)
    assets = [radar(T1, 7), before, radar(T1, 40), after]
    assert taken(chosen(*assets), "s1_t2")[0] == before.id
    rules = replace(RULES, radar_not_before=T2)
    choice = chosen(*assets, rules=rules)
    assert taken(choice, "s1_t2") == [after.id]
    assert taken(choice, "s1_t1") == [assets[2].id], "t1 lies before the event"
    (why,) = {c.why for c in choice.candidates if c.variable == "s1_t2" and not c.taken}
    assert why == f"before {T2} (--radar-not-before)"
    assert choice.manifest.rules["radar_not_before"] == str(T2)
    assert Manifest.model_validate_json(choice.manifest.to_json()) == choice.manifest
    with pytest.raises(StackError, match="no usable Sentinel-1"):
        require_coverage(chosen(*assets[:3], optical(T1), rules=rules), rules, Catalogue(tuple(assets)))


def processed(
    when: str, milliseconds: int = 0, tile: str = "31NAA", part: tuple[float, float] = (0, 1), baseline: float = 3.01
) -> Asset:
    return Asset(
        f"S2/{when}_{milliseconds}_{tile}_{part}_{baseline}",
        "S2A",
        datetime(2021, 7, 9, 3, tzinfo=UTC) + timedelta(milliseconds=milliseconds),
        75,
        1,
        "DESCENDING",
        BANDS,
        strip(*part),
        0.1,
        None,
        tile,
        baseline,
        when,
    )


def test_of_one_tile_and_moment_only_the_latest_processing_is_kept() -> None:
    old, new, later = processed("20210709T060000"), processed("20210801T060000", 40), processed("20210709T060000", 5000)
    other = processed("20210709T060000", 0, "31NAB")
    assert without_duplicates([new, other, later, old]) == [new, later, other]
    newer_software = processed("20210709T070000", baseline=5.0)
    assert without_duplicates([old, new, newer_software]) == [newer_software]
    assert without_duplicates([old, new, newer_software], {old.index}) == [old], "a score is worth more"


def test_two_parts_of_a_tile_are_both_kept_and_what_sticks_out_lies_below() -> None:
    parts = [processed("20210709T060000", part=(0, 0.4)), processed("20210709T060500", part=(0.4, 1))]
    assert set(asset.id for asset in without_duplicates(parts)) == {asset.id for asset in parts}
    again = processed("20230101T000000", part=(0, 0.9), baseline=5.0)
    kept = without_duplicates([*parts, again])
    assert [(asset.id, asset.rank) for asset in kept] == [(again.id, 0), (parts[1].id, 1)]
    assert taken(chosen(*PAIR, *kept), "s2_t1")[0] == again.id


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=8))
def test_stretches_of_days_are_joined_without_losing_or_adding_one(parts: list[tuple[int, int]]) -> None:
    stretches = [(T1 + timedelta(a), T1 + timedelta(a + n)) for a, n in parts]

    def days_of(some):
        return {first + timedelta(n) for first, last in some for n in range((last - first).days + 1)}

    joined = merged(stretches)
    assert days_of(joined) == days_of(stretches)
    assert all(b[0] > a[1] + timedelta(1) for a, b in pairwise(joined))


@pytest.mark.parametrize("centre", [179.9, -179.9])
def test_footprints_across_the_antimeridian_stay_in_one_piece(centre: float) -> None:
    ring = [[179, -17], [-179.5, -17], [-179.5, -16], [179, -16], [179, -17]]
    for geometry in ({"type": "Polygon", "coordinates": [ring]}, {"type": "LinearRing", "coordinates": ring}):
        shape = read_footprint(geometry, centre)
        assert shape.area == pytest.approx(1.5)
        assert shape.contains(shapely.Point(centre, -16.5))


def test_metadata_that_lacks_something_leaves_out_one_image_only() -> None:
    good = {
        "id": "COPERNICUS/S1_GRD/x",
        "bands": [{"id": "VV"}, {"id": "VH"}],
        "properties": {
            "platform_number": "C",
            "system:time_start": 1_752_000_000_000,
            "relativeOrbitNumber_start": 40,
            "orbitNumber_start": 1234,
            "orbitProperties_pass": "ASCENDING",
            "instrumentMode": "IW",
            "resolution_meters": 10,
            "system:footprint": {"type": "Polygon", "coordinates": [[[3, 0], [4, 0], [4, 1], [3, 0]]]},
        },
    }
    bad = {"id": "COPERNICUS/S1_GRD/y", "bands": [], "properties": {}}
    assets, notes = understood([good, bad], read_radar, 3.0)
    assert [a.platform for a in assets] == ["S1C"]
    assert notes[0].startswith("COPERNICUS/S1_GRD/y was left out")
    assert understood([bad], read_optical, 3.0)[0] == []


@pytest.mark.parametrize(("crs", "easting", "side"), [("EPSG:32701", 181_500, -180), ("EPSG:32760", 817_500, 180)])
def test_the_search_ends_at_the_antimeridian(crs: str, easting: float, side: int) -> None:
    outline = box(easting, 8_120_000, easting + 1000, 8_121_000)
    area = Grid.of("there", GeoBox((100, 100), Affine(10, 0, easting, 0, -10, 8_121_000), crs), outline)
    west, south, east, north = lonlat_bounds(area, 3000.0)
    assert side in (west, east)
    assert east - west < 0.1
    assert -17.1 < south < north < -16.9


def test_scenes_that_reach_only_the_margin_are_used_but_not_counted() -> None:
    both = [optical(T1, west=-0.1, east=1.0005), optical(T1, west=1.0005, east=1.5)]
    without = chosen(*PAIR, *both)
    assert taken(without, "s2_t1") == [both[0].id]
    catalogue = Catalogue(PAIR, tuple(both))
    choice = choose(catalogue, AREA, WANTED, pols=POLS, bands=BANDS, rules=RULES, margin=2640.0)
    assert set(taken(choice, "s2_t1")) == {a.id for a in both}
    assert choice.manifest.coverage == without.manifest.coverage
