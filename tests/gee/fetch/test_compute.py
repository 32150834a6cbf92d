"""What requests take of Earth Engine's compute is kept as it tells, and what others will take is estimated by that."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from crgen.gee.fetch.compute import Meter, compute_text, seconds_told, work_of
from crgen.gee.fetch.images import Layer
from crgen.gee.fetch.tile import Tile
from tests.earthengine import faults
from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import open_area

# As ee.profilePrinting() shows it.
PROFILE = """ EECU·s PeakMem Count  Description
  1.250     59k     6  Algorithm Image.resample
 12.000    571k    86  Loading assets: COPERNICUS/S2_SR_HARMONIZED/20210709T030551_20210709T031348_T49SGU
      -    385k   951  (plumbing)
  0.250    211k   252  Reprojecting pixels from EPSG:32649 to 3 others
"""


def test_a_profile_tells_the_sum_of_its_first_column() -> None:
    assert seconds_told(PROFILE) == 13.5
    assert seconds_told(PROFILE.splitlines()[0]) == 0
    assert seconds_told("") is None
    assert seconds_told("<html>502</html>") is None


def test_every_second_time_as_late_a_profile_is_wanted_by_kind(tmp_path: Path) -> None:
    meter = Meter(tmp_path, "https://service")
    radar, optical = (Layer(name, "{}", (("a", "f4"), ("valid", "u1"))) for name in ("s1_t1", "s2_t1"))
    assert [n for n in range(1, 101) if meter.due(radar)] == [1, 2, 4, 8, 16, 32, 64]
    assert meter.due(optical)


def kept(meter: Meter, kinds: int) -> dict[str, float]:
    """EECU-seconds by kind, once so many kinds are told."""
    until = time.monotonic() + 20
    while len(told := {kind: seconds for kind, _, seconds in meter._kept()}) < kinds and time.monotonic() < until:
        time.sleep(0.05)
    return told


def test_what_tiles_took_is_what_others_like_them_are_thought_to_take(service: EarthEngineServer) -> None:
    service.change(profile=PROFILE)
    first = open_area()
    meter = first.pull.fetcher.meter
    jobs = [(job.layer, job.tile) for job in first.pull.missing()]
    assert meter.estimate(jobs) is None
    assert "not known yet" in compute_text(meter.estimate(jobs))
    first.stack.compute()
    assert kept(meter, 2) == {"s1, 3 bands": 13.5, "s2, 5 bands": 13.5}
    other = open_area(aoi="113.60,34.71,113.603,34.713").pull.missing()
    estimate = meter.estimate((job.layer, job.tile) for job in other)
    assert estimate is not None
    told = list(meter._kept())
    expected = 0.0
    for job in other:
        alike = [(work, seconds) for kind, work, seconds in told if kind.startswith(job.layer.name[:2])]
        rate = sum(seconds for _, seconds in alike) / sum(work for work, _ in alike)
        expected += rate * job.layer.scenes * job.tile.width * job.tile.height / 1e6
    assert estimate.hours == pytest.approx(expected / 3600)
    assert estimate.tiles == len(told)
    assert "estimated from" in compute_text(estimate)
    assert Meter(first.pull.folder, "https://another").estimate(jobs) is None, "another service computes otherwise"


def test_the_work_of_a_tile_is_its_pixels_times_its_scenes() -> None:
    layer, tile = Layer("s1_t1", "{}", (("VV", "f4"), ("valid", "u1")), scenes=3), Tile(0, 0, 1000, 500)
    assert work_of(layer, tile) == 1.5
    assert work_of(replace(layer, scenes=1), tile) == 0.5


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_profile_that_is_refused_costs_no_pixel(service: EarthEngineServer, status: int) -> None:
    right = open_area()
    service.change(profile=PROFILE)
    service.add(faults.error(status, "no profiles here", endpoint="value:compute"))
    stack = right.stack.compute()
    assert set(stack) >= {"s1_t1", "s2_t1"}
    assert len(service.tiles) == len(right.pull)
    assert not kept(right.pull.fetcher.meter, 0)
