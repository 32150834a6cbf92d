"""Against the real Earth Engine, for whoever has an account: ``pytest -m live -rP`` (some small requests, a minute).

Each prints what it found: please send the output, whether it passes or not. What a test looks at is the first line of
its docstring, as docs/earth-engine.md lists it.

Needs credentials and a project as ``crgen doctor`` finds them. What these show, no local server can: the service's own
serialisation, resampling, masks and metadata.
"""

import datetime
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from crgen.errors import SourceError
from crgen.gee.choose.catalogue import Catalogue, search
from crgen.gee.choose.clear_share import CLEAR_FROM
from crgen.gee.choose.description import Asset
from crgen.gee.choose.outlines import as_geojson
from crgen.gee.connection.session import Settings, connect, disconnect
from crgen.gee.connection.usage import used_since
from crgen.gee.doctor import examine
from crgen.gee.fetch.compute import seconds_told, work_of
from crgen.gee.fetch.images import radar_image
from crgen.gee.fetch.tile import Tile, grid_of
from crgen.gee.manifest import Scene
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine.acquire import Acquired, acquire
from crgen.pipeline.source.earthengine.scenes import scenes_for, wanted_of
from crgen.pipeline.source.registration import radar_shift

pytestmark = pytest.mark.live

# Zhengzhou, on the seam of two radar slices where there is one; the flood of 20 July 2021.
AREA = "113.60,34.74,113.62,34.76"
CHANNELS = Channels(("VV", "VH"), ("B11", "B8", "B3"), 10.0, margin=0)


@pytest.fixture(autouse=True)
def _real_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CRGEN_EE_URL", raising=False)
    monkeypatch.setenv("CRGEN_CACHE", str(tmp_path))
    disconnect()


@pytest.fixture
def acquired() -> Acquired:
    days = {"t1": datetime.date(2021, 7, 10), "t2": datetime.date(2021, 7, 22)}
    return acquire(EarthEngine(observed_days=3, min_coverage=0.5), CHANNELS, aoi=AREA, crs=None, **days)


def test_doctor_finds_all_that_is_needed() -> None:
    """Whether accounts, scenes and their metadata are as documented."""
    checks = list(examine(Settings.from_environment()))
    assert not [check for check in checks if not check.ok], checks


def test_scenes_are_found_on_one_orbit_with_their_scores(acquired: Acquired) -> None:
    """Whether accounts, scenes and their metadata are as documented."""
    scenes = acquired.manifest.scenes
    orbits = [{(s.relative_orbit, s.direction) for s in scenes[name]} for name in ("s1_t1", "s1_t2")]
    assert orbits[0] == orbits[1]
    assert all(scene.score and scene.clear_over_area is not None for scene in scenes["s2_t1"])
    assert not [note for note in acquired.manifest.notes if "left out" in note], "metadata is as crgen expects it"


def test_pixels_come_in_the_units_of_the_stack(acquired: Acquired) -> None:
    """Whether pixels come in the units of the Stack, bands of 10 m untouched, and alike in a tile and in its parts."""
    stack = acquired.stack.compute()
    for name in ("s1_t1", "s1_t2"):
        values = stack[name].values
        assert np.isfinite(values).mean() > 0.99
        assert -25 < np.nanmedian(values[0]) < 0
        assert np.nanmin(values[0]) >= -30
        assert np.nanmin(values[1]) >= -35
        assert np.nanmedian(values[1]) < np.nanmedian(values[0]), "VH lies below VV"
    optical = stack["s2_t1"].values
    assert np.isfinite(optical).mean() > 0.99
    assert 0 < np.nanmedian(optical) < 1.2
    assert 0 <= float(stack["clear_t1"].min()) <= float(stack["clear_t1"].max()) <= 1


def catalogue(places: str, first: str, last: str, *, radar: bool = True, optical: bool = True) -> Catalogue:
    west, south, east, north = map(float, places.split(","))
    days = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last)
    session = connect(Settings.from_environment().standard)
    return search(session, (west, south, east, north), [days], radar=radar, optical=optical)


def asked(image: Any, geobox: GeoBox) -> np.ndarray:
    """Pixels of an image on a small grid."""
    grid = grid_of(geobox, Tile(0, 0, *geobox.shape))
    session = connect(Settings.from_environment())
    ask = {"expression": image, "fileFormat": "NPY", "grid": grid}
    return session.call("pixels", lambda: np.load(io.BytesIO(ee.data.computePixels(ask))))


def around(lon: float, lat: float, side: int = 128) -> GeoBox:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32649", always_xy=True).transform(lon, lat)
    corner = Affine(10, 0, round(x, -1) - 5 * side, 0, -10, round(y, -1) + 5 * side)
    return GeoBox((side, side), corner, "EPSG:32649")


def test_power_and_decibel_are_the_same_scenes_and_power_is_there_sooner() -> None:
    """Whether `S1_GRD_FLOAT` holds the scenes of `S1_GRD` by the same names, sooner, and how low its values are."""
    scene = catalogue(AREA, "2021-07-20", "2021-07-20", optical=False).radar[0]
    there = around(113.61, 34.75)
    names = ["VV", "VH"]
    power = asked(ee.Image(scene.id).select(names).unmask(-1, False), there)
    decibel = asked(ee.Image(f"COPERNICUS/S1_GRD/{scene.index}").select(names).unmask(99, False), there)
    print("lowest power", [float(power[name].min()) for name in names], "not finite",
          [int((~np.isfinite(power[name])).sum()) for name in names])  # fmt: skip
    for name in names:
        bright = power[name] > 1e-3
        np.testing.assert_allclose(10 * np.log10(power[name][bright]), decibel[name][bright], atol=0.01)
    session = connect(Settings.from_environment().standard)
    for collection in ("COPERNICUS/S1_GRD_FLOAT", "COPERNICUS/S1_GRD"):
        recent = ee.ImageCollection(collection).filterDate(ee.Date(time.time() * 1000).advance(-5, "day"), "2100-01-01")
        newest = session.call("the newest", recent.aggregate_max("system:time_start").getInfo)
        print(collection, "newest", newest and datetime.datetime.fromtimestamp(newest / 1000, datetime.UTC))


def test_the_gap_between_slices_is_closed() -> None:
    """How wide the gap between slices of a pass is, and whether the mean of neighbours fills a masked pixel."""
    found = catalogue("113,33.5,114.5,35.5", "2021-07-20", "2021-07-20", optical=False).radar
    passes = [[scene for scene in found if scene.orbit == orbit] for orbit in {scene.orbit for scene in found}]
    slices = sorted(next(scenes for scenes in passes if len(scenes) > 1), key=lambda scene: scene.time)[:2]
    seam = slices[0].footprint.buffer(0.02).intersection(slices[1].footprint.buffer(0.02)).centroid
    there = around(seam.x, seam.y, 512)
    frozen = [a_scene(scene) for scene in slices]
    open_, closed = (
        asked(ee.ImageCollection([ee.Image(s.id).select("VV") for s in frozen]).mosaic().unmask(-1, False), there)["VV"]
        < 0,
        asked(radar_image(frozen, ("VV",)), there)["valid"] == 0,
    )
    print("pixels open per column", np.bincount(open_.sum(0))[:8], "left", int(closed.sum()))
    assert closed.sum() <= open_.sum()
    assert not closed[:, open_.sum(0) <= 2].any()


def test_where_the_lattices_of_scenes_lie_and_how_far_dates_lie_apart(acquired: Acquired) -> None:
    """Where the lattices of radar scenes lie, and how far apart the radar of two dates is."""
    for name in ("s1_t1", "s1_t2"):
        print(name, [(scene.platform, scene.lattice) for scene in acquired.manifest.scenes[name]])
        assert all(scene.lattice is not None for scene in acquired.manifest.scenes[name])
    shift = radar_shift(acquired.stack)
    print("shift", shift)
    assert shift is None or shift.length < 0.5


def test_a_pass_across_the_equator_has_one_track() -> None:
    """Orbit numbers across the equator, and tiles that come twice."""
    found = catalogue("37,-2,38,2", "2021-07-01", "2021-07-12", optical=False).radar
    numbers: dict[str, set[tuple[int, str]]] = {}
    for scene in found:
        numbers.setdefault(f"{scene.platform} {scene.direction} {scene.day}", set()).add(scene.geometry)
        print(scene.time, scene.direction, scene.relative_orbit, scene.track, scene.footprint.bounds[1::2])
    assert all(len(tracks) == 1 for tracks in numbers.values())


def test_how_often_a_tile_is_there_twice_at_one_time() -> None:
    """Orbit numbers across the equator, and tiles that come twice."""
    found = catalogue(AREA, "2021-01-01", "2021-12-31", radar=False)
    print(len(found.optical), "images,", len(found.scored), "scores, ranks", {scene.rank for scene in found.optical})
    assert all(scene.processed and scene.baseline for scene in found.optical), "metadata is as crgen expects it"


@pytest.mark.parametrize(("radar", "expected"), [(True, 1), (False, 2)], ids=["radar", "optical"])
def test_the_brief_description_of_images_serves(radar: bool, expected: int) -> None:
    """Whether the brief description of images serves."""
    session = connect(Settings.from_environment().standard)
    before = session.transport.counts["requests"]
    found = catalogue(AREA, "2021-07-01", "2021-07-31", radar=radar, optical=not radar)
    asked = session.transport.counts["requests"] - before
    held = found.radar or found.optical
    print(len(held), "images in", asked, "requests,", expected, "if the brief description serves, notes", found.notes)
    assert asked == expected
    assert held


def test_masks_at_the_edge_of_a_score(acquired: Acquired) -> None:
    """Whether Cloud Score+ masks are ever fractional, and whether its clear share is that of the pixels."""
    scene = acquired.manifest.scenes["s2_t1"][0]
    image = ee.Image(scene.score).select("cs_cdf")
    mask = asked(image.mask().toFloat(), around(113.61, 34.75))["cs_cdf"]
    print("shares of the mask of cs_cdf", np.unique(mask)[:10])


def test_how_masked_neighbours_weigh_and_integers_are_rounded(acquired: Acquired) -> None:
    """How masked neighbours weigh when the service resamples, and how it rounds to integers."""
    scene = acquired.manifest.scenes["s2_t1"][0]
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32649", always_xy=True).transform(113.61, 34.75)
    corner = round(x, -2), round(y, -2)  # on the lattice of 20 m, as of 10 m
    coarse, fine = (
        GeoBox((n, n), Affine(s, 0, corner[0], 0, -s, corner[1]), "EPSG:32649") for n, s in ((34, 20), (68, 10))
    )
    stored = ee.Image(scene.id).select(["B11"], ["held"])
    raw = asked(stored, coarse)["held"].astype(float)
    limit = float(np.median(raw))
    masked = stored.updateMask(stored.lt(limit)).resample("bilinear")
    halves = ee.Image.constant([0.5, 1.5, 2.5, 0.49]).rename(["a", "b", "c", "d"])
    rounded = halves.round().rename(["ra", "rb", "rc", "rd"])
    both = masked.unmask(-1, False).toFloat().addBands(masked.mask().toFloat().rename(["share"]))
    found = asked(both.addBands(halves.toUint16()).addBands(rounded.toUint16()), fine)
    at = np.arange(2, 66)  # away from the rim, whose neighbours were not asked for
    low, weight = (at - 1) // 2, np.where(at % 2, 0.25, 0.75)

    def bilinear(plane: np.ndarray) -> np.ndarray:
        """On the pixels of 10 m, whose centres lie a quarter of a pixel of 20 m from its own."""
        rows = plane[low] * (1 - weight[:, None]) + plane[low + 1] * weight[:, None]
        return rows[:, low] * (1 - weight) + rows[:, low + 1] * weight

    valid = (raw < limit).astype(float)
    shares, sums = bilinear(valid), bilinear(valid * raw)
    inner = slice(2, 66), slice(2, 66)
    value, share = found["held"][inner], found["share"][inner]
    edge = (shares > 0) & (shares < 1) & (share > 0)
    print("shares of masks", np.unique(share.round(4))[:12], "expected", np.unique(shares.round(4))[:12])
    for how, expected in (("mean of the others", sums / np.maximum(shares, 1e-9)), ("masked ones as 0", sums)):
        print("off beside masked pixels by the", how, np.abs(value - expected)[edge].max(initial=0))
    for how, names in (("as integers", "abcd"), ("rounded first", ("ra", "rb", "rc", "rd"))):
        print("0.5, 1.5, 2.5, 0.49", how, [int(found[name][0, 0]) for name in names])
    whole = (shares == 1) & (share >= 0.99)
    np.testing.assert_allclose(value[whole], sums[whole], atol=0.51)


def test_what_refusals_say(acquired: Acquired) -> None:
    """The wording of refusals, by which crgen tells "wait" from "daily limit reached" and "not eligible".

    Limits cannot be met by a small request: whoever meets one, please send the line that crgen prints.
    """
    with pytest.raises(SourceError) as gone:
        asked(ee.Image("COPERNICUS/S1_GRD_FLOAT/S1A_withdrawn").select("VV"), around(113.61, 34.75, 8))
    print("a scene that is not there:", gone.value)
    disconnect()
    stranger = replace(Settings.from_environment(), project="crgen-nobody-registered-this")
    with pytest.raises(SourceError) as refused:
        connect(stranger).call("a number", ee.Number(1).getInfo)
    print("a project that is not registered:", refused.value)
    disconnect()
    session = connect(Settings.from_environment())
    session.call("a number", ee.Number(1).getInfo)
    print("restricted mode:", session.transport.restricted)


def test_what_exports_tell_while_they_run() -> None:
    """How far exports are, and what they have cost, as the service tells it.

    Starts none.
    """
    session = connect(Settings.from_environment().standard)
    operations = session.call("exports of this project", ee.data.listOperations)
    print(len(operations), "operations")
    for operation in operations[:3]:
        told = operation.get("metadata", {})
        print(
            {name: told[name] for name in ("type", "state", "progress", "batchEecuUsageSeconds") if name in told},
            sorted(told),
        )
    assert all("state" in operation.get("metadata", {}) for operation in operations)


def test_border_noise_has_gone_from_later_scenes() -> None:
    """Whether scenes from 13 March 2018 on hold no border noise, and 5 km hold it all before."""
    for day in ("2017-07-17", "2019-07-19"):
        found = catalogue("112.5,34.2,114.5,35.2", day, str(datetime.date.fromisoformat(day) + datetime.timedelta(6)))
        if not found.radar:
            continue
        scene = found.radar[0]
        east = max(scene.footprint.exterior.coords)
        vv = asked(ee.Image(scene.id).select("VV").unmask(-1, False), around(*east[:2], 512))["VV"]
        x, y = (np.array(scene.footprint.centroid.coords[0]) - east[:2]) * (
            111_320 * np.cos(np.deg2rad(east[1])),
            110_570,
        )
        share = 8_000 / np.hypot(x, y)  # 8 km towards the middle
        inner = np.array(east[:2]) + share * (np.array(scene.footprint.centroid.coords[0]) - east[:2])
        within = asked(ee.Image(scene.id).select("VV").unmask(-1, False), around(*inner, 512))["VV"]
        for where, power in (("beside its edge", vv), ("8 km inside", within)):
            there = power >= 0
            print(
                scene.index,
                where,
                f"{100 * (there & (power < 1e-3)).mean():.2f} % under -30 dB, {100 * there.mean():.0f} % there",
            )


def test_how_clear_a_wide_area_is_comes_in_one_request() -> None:
    """Whether clear shares of hundreds of images come in one request for areas of hundreds of kilometres."""
    days = {"t1": datetime.date(2021, 7, 10), "t2": datetime.date(2021, 7, 22)}
    area, wanted = wanted_of(CHANNELS, aoi="112,33,116,36.5", crs="EPSG:32649", **days)
    begun = time.monotonic()
    choice = scenes_for(EarthEngine(), CHANNELS, area, wanted, strict=False)
    print(f"{time.monotonic() - begun:.0f} s", {name: len(held) for name, held in choice.manifest.scenes.items()})
    print([note for note in choice.manifest.notes if "how clear" in note], choice.manifest.coverage)
    session = connect(Settings.from_environment().standard)
    print("restricted mode:", session.transport.restricted, "asked again:", dict(session.retries))


def test_what_a_tile_took_and_what_the_project_has_used_is_told(acquired: Acquired) -> None:
    """What a profile and Cloud Monitoring tell of compute units, and how long a tile takes.

    Without the role Monitoring Viewer, or the API of Cloud Monitoring, the second is refused: please say so.
    """
    profiles: list[str] = []
    job = next(acquired.pull.jobs(range(len(acquired.pull))))
    image = ee.deserializer.fromJSON(job.layer.expression)
    ask = {"expression": image, "fileFormat": "NPY", "grid": job.grid}
    session = connect(Settings.from_environment())
    begun = time.monotonic()
    with ee.data.profiling(profiles.append):
        answer = session.call("pixels", lambda: ee.data.computePixels(ask))
    print(f"{len(answer) / 1e6:.2f} MB in {time.monotonic() - begun:.1f} s")
    asked = ee.ApiFunction.lookup("Profile.getProfiles").call(ids=profiles)
    told = session.call("a profile", lambda: ee.data.computeValue(asked))
    print(told, "\nEECU-seconds", seconds_told(told), "megapixels of scenes", work_of(job.layer, job.tile))
    assert seconds_told(told) is not None
    print(used_since(Settings.from_environment(), datetime.datetime.now(datetime.UTC).date().replace(day=1)))


def a_scene(asset: Asset) -> Scene:
    return Scene(
        id=asset.id,
        href="",
        platform=asset.platform,
        time=asset.time,
        days_apart=0,
        relative_orbit=asset.relative_orbit,
        track=asset.track,
        orbit=asset.orbit,
        direction=asset.direction,
        coverage=1.0,
        footprint=as_geojson(asset.footprint),
    )


def test_the_clear_share_is_that_of_the_pixels(acquired: Acquired) -> None:
    """Whether Cloud Score+ masks are ever fractional, and whether its clear share is that of the pixels."""
    shares = [scene.clear_over_area for scene in acquired.manifest.scenes["s2_t1"]]
    if len(shares) > 1:
        pytest.skip("the image of t1 is a mosaic")
    seen = float((acquired.stack["clear_t1"].values >= CLEAR_FROM).mean())
    assert shares[0] == pytest.approx(seen, abs=0.05)


def test_a_tile_and_its_parts_hold_the_same_pixels(acquired: Acquired) -> None:
    """Whether pixels come in the units of the Stack, bands of 10 m untouched, and alike in a tile and in its parts."""
    job = next(acquired.pull.jobs(range(len(acquired.pull))))
    whole = acquired.pull.fetcher.get(job)
    for part in job.tile.halves():
        pixels = acquired.pull.fetcher.get(replace(job, tile=part))
        rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
        np.testing.assert_array_equal(pixels, whole[rows, cols])


def test_ten_metre_bands_of_the_same_zone_are_passed_on_untouched(acquired: Acquired) -> None:
    """Whether pixels come in the units of the Stack, bands of 10 m untouched, and alike in a tile and in its parts.

    The grid is the scene's own: reflectance must be the asset's digital numbers, whatever resampling does.
    """
    (layer,) = (layer for layer in acquired.pull.layers if layer.name == "s2_t1")
    job = next(job for job in acquired.pull.jobs(range(len(acquired.pull))) if job.layer.name == layer.name)
    scene = acquired.manifest.scenes["s2_t1"][0]
    if scene.tile is None or not scene.tile.startswith("49"):
        pytest.skip("the nearest scene is of another UTM zone")
    there = acquired.pull.geobox[
        job.tile.row : job.tile.row + job.tile.height, job.tile.col : job.tile.col + job.tile.width
    ]
    raw = asked(ee.Image(scene.id).select(["B8", "B3"]), there)
    pixels = acquired.pull.fetcher.get(job)
    inside = pixels["valid"] == 1
    for band in ("B8", "B3"):
        np.testing.assert_array_equal(pixels[band][inside], raw[band][inside])
