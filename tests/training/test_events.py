"""Painted events: water that is water in every band and both polarisations, and negatives that are none."""

import pytest
import torch
from torch import Tensor

from crgen.model.config import preset
from crgen.model.water import water_label
from crgen.training import events
from crgen.training.augment import water_labels
from crgen.training.events import CLEAR, MUDDY, WATER_DB, Pair, mixed, outline, paint_events, water_colour
from tests.training.patches import Patches, batch_of

POLS, BANDS = preset("tiny").pols, preset("tiny").bands
COUNT = 48
EVERY = torch.ones(COUNT, dtype=torch.bool)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Pairs without change, dry but for a lake in a corner, with a strip of missing data at either date."""
    batch = batch_of(Patches(count=COUNT))
    s1, s2 = batch.s1_t1, batch.s2_t1.clamp(min=0.05)
    lake = torch.tensor([CLEAR[band] for band in BANDS]).view(1, -1, 1, 1)
    s2[..., :8, :8] = lake
    later = s2.clone()
    s1[..., 60:], later[..., :4, 30:] = torch.nan, torch.nan
    batch = batch._replace(s1_t1=s1, s2_t1=s2, s1_t2=s1, target=later, clear=torch.ones_like(batch.clear))
    return Pair(s1, s2, s1, later, *water_labels(batch, BANDS))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> object:
    """Paint one kind of event alone, on every sample."""

    def paint(pair: Pair, seed: int = 0, **shares: float) -> Pair:
        for name in ("EVENT", "NEGATIVE", "LAKE"):
            monkeypatch.setattr(events, name, shares.get(name.lower(), 0.0))
        return paint_events(pair, POLS, BANDS, EVERY, rng(seed))

    return paint


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(-99), b.nan_to_num(-99))


@pytest.mark.parametrize("bands", [BANDS, ("B11", "B8", "B3")])
def test_every_mix_of_clear_and_muddy_water_is_what_the_label_calls_water(bands: tuple[str, ...]) -> None:
    share = torch.linspace(0, 1.2, 121)
    clear, muddy = (torch.tensor([table[band] for band in bands])[None, :, None, None] for table in (CLEAR, MUDDY))
    assert (water_label(clear + (muddy - clear) * share, bands) == 1).all()
    painted = water_colour(bands, 64, 32, 32, rng())
    assert (water_label(painted, bands) == 1).float().mean() > 0.999, "with its noise, too"
    assert set(CLEAR) == set(MUDDY) == set(BANDS)


def test_samples_without_calibrated_radar_stay_untouched(pair: Pair) -> None:
    some = torch.arange(COUNT) % 2 == 0
    painted = paint_events(pair, POLS, BANDS, some, rng())
    for before, after in zip(pair, painted, strict=True):
        assert same(before[~some], after[~some])
    changed = (pair.s1_t2 != painted.s1_t2).nan_to_num().flatten(1).float().mean(1) > 0.07  # beyond what is missing
    assert 0.4 < float(changed[some].float().mean()) < 0.9, "floods, negatives, and nothing at all"
    assert all(same(a, b) for a, b in zip(pair, paint_events(pair, POLS, BANDS, some & False, rng()), strict=True))


def test_a_flood_is_dark_in_both_polarisations_and_water_in_every_band(pair: Pair, only: object) -> None:
    painted = only(pair, event=1.0)
    assert same(painted.s1_t1, pair.s1_t1)
    assert same(painted.s2_t1, pair.s2_t1)
    assert same(painted.water_t1, pair.water_t1)
    new = (painted.water_t2 == 1) & (pair.water_t2 == 0)
    assert 0.05 < float(new.float().mean()) < 0.6
    assert (new.flatten(1).any(1)).float().mean() > 0.85, "but for flooded vegetation"
    looks = water_label(painted.target, BANDS)
    assert (looks[new & looks.isfinite()] == 1).float().mean() > 0.95, "half-covered edges are brighter"
    fall = (painted.s1_t2 - pair.s1_t2).permute(1, 0, 2, 3)
    for pol, at in zip(POLS, range(2), strict=True):
        under = fall[at][new[:, 0]]
        assert (under[under.isfinite()] < 0).float().mean() > 0.85
        level = painted.s1_t2[:, at][new[:, 0]].nanmedian()
        assert WATER_DB[pol][0] - 3 < level < WATER_DB[pol][1] + 3
    gone = (pair.water_t2 == 1) & (painted.water_t2 != 1)
    assert gone.float().mean() < 0.01, "a flood leaves water water but at its edge"


def test_only_pixels_mostly_under_water_are_called_water_and_edges_are_unknown(pair: Pair, only: object) -> None:
    painted = only(pair, event=1.0)
    touched = (painted.target != pair.target).any(1, keepdim=True) & pair.target.isfinite().all(1, keepdim=True)
    assert same(painted.water_t2[~touched & pair.target.isfinite().all(1, keepdim=True)],
                pair.water_t2[~touched & pair.target.isfinite().all(1, keepdim=True)])  # fmt: skip
    edge = painted.water_t2.isnan() & (pair.water_t2 == 0)
    assert 0 < float(edge.float().mean()) < 0.3
    assert edge.flatten(1).any(1).float().mean() > 0.7, "of nearly every flood"
    dry = (painted.water_t2 == 0) & touched
    moved = (painted.target - pair.target).abs().amax(1, keepdim=True)[dry]
    assert moved.max() < 0.1 * 0.5, "a tenth of cover at most is still dry"


def test_a_lake_is_under_water_at_both_dates(pair: Pair, only: object) -> None:
    painted = only(pair, lake=1.0)
    lake = (painted.water_t2 == 1) & (pair.water_t2 == 0)
    assert lake.float().mean() > 0.05
    assert (painted.water_t1[lake] == 1).all(), "so none of it is new"
    assert torch.equal(painted.s2_t1[lake.expand_as(painted.s2_t1)], painted.target[lake.expand_as(painted.target)])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negatives_never_create_water(pair: Pair, only: object, seed: int) -> None:
    painted = only(pair, seed, negative=1.0)
    assert (pair.water_t2[painted.water_t2 == 1] == 1).all()
    assert (painted.water_t2[pair.water_t2 == 0] == 0).all(), "dry ground stays known to be dry"
    assert same(painted.water_t1, pair.water_t1)
    assert same(painted.s2_t1, pair.s2_t1)
    assert (water_label(painted.target, BANDS)[pair.water_t2 == 0] != 1).all(), "nor does the image look like it"
    at_t1, at_t2 = (b - a for a, b in ((pair.s1_t1, painted.s1_t1), (pair.s1_t2, painted.s1_t2)))
    at_both, later = at_t1 < -2, (at_t1 == 0) & (at_t2 < -1)
    assert at_both.flatten(1).any(1).float().mean() > 0.2, "runways and sand: dark at both dates"
    assert later.flatten(1).any(1).float().mean() > 0.1, "wet or harvested ground: darker at t2"
    assert at_t2[at_t1 == 0].min() > -5, "never as much as a flood"


def test_missing_pixels_stay_missing_and_nothing_else_becomes_so(pair: Pair) -> None:
    painted = paint_events(pair, POLS, BANDS, EVERY, rng(3))
    for name in ("s1_t1", "s2_t1", "s1_t2", "target"):
        assert torch.equal(getattr(painted, name).isnan(), getattr(pair, name).isnan()), name


def test_backscatter_mixes_by_power_not_by_decibels() -> None:
    land, water = torch.tensor([-10.0]), torch.tensor([-20.0])
    for cover, expected in ((0.0, -10.0), (0.5, -12.596), (0.9, -17.212), (1.0, -20.0)):
        assert float(mixed(land, water, torch.tensor([cover]))) == pytest.approx(expected, abs=1e-3)
    assert mixed(land * torch.nan, water, torch.tensor([0.5])).isnan().all()


def test_outlines_have_any_size_and_sharp_or_soft_edges() -> None:
    s1 = batch_of(Patches(count=COUNT)).s1_t1
    cover = outline(s1, rng())
    assert cover.shape == (COUNT, 1, 64, 64)
    assert cover.min() == 0
    assert cover.max() == 1
    share = (cover > 0.5).float().mean((1, 2, 3))
    assert 0.01 < share.min() < 0.1
    assert 0.5 < share.max() < 0.62
    soft = ((cover > 0) & (cover < 1)).float().mean((1, 2, 3))
    assert soft.max() > 4 * soft.min()


def test_some_outlines_follow_dark_ground() -> None:
    s1 = batch_of(Patches(count=COUNT)).s1_t1[:, :1]
    cover, near = outline(s1, rng()), torch.nn.functional.avg_pool2d(s1, 7, 1, 3, count_include_pad=False)
    inside = (near * cover).sum((1, 2, 3)) / cover.sum((1, 2, 3))
    darker = near.mean((1, 2, 3)) - inside
    assert darker.mean() > 0.05
    assert darker.max() > 0.5


def test_painted_water_has_the_grain_of_the_radar_around_it() -> None:
    noise = torch.randn(8, 2, 64, 64, generator=rng(1))
    fine, coarse = (events.water_backscatter(-10 + size * noise, POLS, rng(2)) for size in (0.4, 2.0))
    assert events.grain(coarse).mean() > 3 * events.grain(fine).mean()
    for at, pol in enumerate(POLS):
        low, high = WATER_DB[pol]
        means = fine[:, at].mean((1, 2))
        assert low - 1 < means.min() < means.max() < high + 1
