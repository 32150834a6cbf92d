"""What is believed of a place: the best mixture on its own past, never of water, the generator alone without a past."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from crgen.model import mixing, past
from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Prediction
from crgen.model.looks import COPY, LOOKS, MEAN, SEASON, Look, as_they_are_now, looked_at
from crgen.model.mixing import ALONE, CANDIDATES, TAUGHT, Errors
from crgen.model.past_learned import LEARNED

C, BANDS, SIDE = len(CANDIDATES), 3, 32
LAND = {"changed": torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool), "seen": torch.zeros(1)}


def errors_of(deviations: list[float], seed: int = 0, missing: int | None = None) -> Errors:
    """Return the moments of independent errors of the candidates, alike in all bands and both classes."""
    rng = np.random.default_rng(seed)
    truth = torch.from_numpy(rng.uniform(0.1, 0.3, (1, BANDS, SIDE, SIDE)))
    made = truth[:, None] + torch.tensor(deviations)[:, None, None, None] * torch.from_numpy(
        rng.normal(size=(1, C, BANDS, SIDE, SIDE))
    )
    if missing is not None:
        made[:, missing] = torch.nan
    changed = torch.from_numpy(rng.random((1, 1, SIDE, SIDE)) < 0.4)
    return mixing.moments(made, truth, changed, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(0.005, 0.2), min_size=C, max_size=C), min_size=1, max_size=4), st.integers(0, 99))
def test_weights_are_not_negative_and_sum_to_one_and_one_generator_at_most_takes_part(deviations, seed) -> None:
    lessons = [(1.0, errors_of(d, seed + i)) for i, d in enumerate(deviations)]
    weights = mixing.believe(lessons, BANDS).weights
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1)
    assert not (weights[..., ALONE].any() and weights[..., TAUGHT].any())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_no_other_such_weights_have_less_error(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size, size + 2))
    moments = factor @ factor.T
    best = mixing._best(moments)
    found = minimize(
        lambda w: w @ moments @ w,
        np.full(size, 1 / size),
        bounds=[(0, 1)] * size,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    assert best @ moments @ best <= found.fun * (1 + 1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_bands_solved_together_get_the_weights_that_each_gets_alone(seed: int, size: int) -> None:
    factor = np.random.default_rng(seed).normal(size=(2, 3, size, size + 1))
    moments = factor @ factor.swapaxes(-1, -2)
    together = mixing._best(moments)
    for at in np.ndindex(2, 3):
        np.testing.assert_allclose(together[at], mixing._best(moments[at]), atol=1e-9)


def test_the_candidate_that_was_right_on_many_lessons_is_believed() -> None:
    for right in (COPY, SEASON, ALONE, TAUGHT):
        deviations = [0.1] * C
        deviations[right] = 0.004
        lessons = [(10.0, errors_of(deviations, seed)) for seed in range(80)]
        assert mixing.believe(lessons, BANDS).weights[..., right].min() > 0.8, CANDIDATES[right]


def test_without_a_lesson_the_generator_stands_alone() -> None:
    for lessons in ([], [(0.0, errors_of([0.1] * C))]):
        weights = mixing.believe(lessons, BANDS).weights
        assert (weights[..., ALONE] == 1).all()
        assert not mixing.believe(lessons, BANDS).copies


def test_a_candidate_that_no_lesson_has_counts_as_on_the_training_series() -> None:
    lessons = [(1.0, errors_of([0.1] * C, seed, missing=SEASON)) for seed in range(3)]
    mixture = mixing.believe(lessons, BANDS)
    assert np.isfinite(mixture.weights).all()
    squared, bias = mixture.score(lessons[0][1])
    assert np.isfinite(squared).all()
    assert np.isfinite(bias).all()
    untaught = [(1.0, errors_of([0.1] * C, seed, missing=TAUGHT)) for seed in range(3)]
    assert mixing.believe(untaught, BANDS).generator == ALONE


def test_moments_give_the_error_and_the_bias_of_a_mixture() -> None:
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.uniform(0.1, 0.3, (2, BANDS, SIDE, SIDE)))
    made = truth[:, None] + torch.from_numpy(rng.normal(0.02, 0.05, (2, C, BANDS, SIDE, SIDE)))
    changed = torch.from_numpy(rng.random((2, 1, SIDE, SIDE)) < 0.5)
    weights = np.zeros((2, BANDS, C))
    weights[0, :, COPY], weights[0, :, ALONE], weights[1, :, MEAN] = 0.3, 0.7, 1.0
    clear = torch.from_numpy(rng.random((2, 1, SIDE, SIDE)) < 0.7)
    squared, bias = mixing.Mixture(weights).score(mixing.moments(made, truth, changed, clear))
    mixed = torch.where(changed, made[:, MEAN], 0.3 * made[:, COPY] + 0.7 * made[:, ALONE])
    error = (mixed - truth).numpy()
    where = clear[:, 0].numpy()
    for band in range(BANDS):
        assert squared[band] == pytest.approx((error[:, band][where] ** 2).mean())
        assert bias[band] == pytest.approx(error[:, band][where].mean())


def mixed(water: float, looks: torch.Tensor, weights: np.ndarray, seen: float = 0) -> torch.Tensor:
    image = torch.full((1, BANDS, SIDE, SIDE), 0.1)
    probability = torch.zeros(1, 2, SIDE, SIDE)
    probability[:, 1] = water
    made = Prediction(image, water=probability)
    return mixing.mix(made, looks, LAND["changed"], torch.tensor([seen]), torch.from_numpy(weights))


def half_copied() -> np.ndarray:
    weights = np.zeros((2, BANDS, C))
    weights[..., COPY] = weights[..., ALONE] = 0.5
    return weights


def test_water_is_never_mixed_away_and_land_is_mixed() -> None:
    looks = torch.full((1, 3, BANDS, SIDE, SIDE), 0.3)
    for called in (0.5, 0.7, 1.0):
        assert mixed(called, looks, half_copied()).allclose(torch.tensor(0.1))
    assert mixed(0.25, looks, half_copied()).allclose(torch.tensor(0.15))
    assert mixed(0.0, looks, half_copied()).allclose(torch.tensor(0.2))


def test_what_no_look_shows_is_the_generators() -> None:
    looks = torch.full((1, 3, BANDS, SIDE, SIDE), torch.nan)
    assert mixed(0.0, looks, half_copied()).allclose(torch.tensor(0.1))
    looks[:, MEAN] = 0.3  # of no weight here
    assert mixed(0.0, looks, half_copied()).allclose(torch.tensor(0.1))


def test_the_more_of_t2_is_seen_the_less_is_copied() -> None:
    looks = torch.full((1, 3, BANDS, SIDE, SIDE), 0.3)
    images = [float(mixed(0.0, looks, half_copied(), seen).mean()) for seen in (0, LEARNED.seen, 1e9)]
    assert images == pytest.approx([0.2, 0.15, 0.1], abs=1e-5)


def test_each_pixel_is_copied_from_the_nearest_look_that_is_clear_there() -> None:
    images = torch.arange(1.0, 5.0)[:, None, None, None].expand(4, BANDS, 2, 3).clone()
    clear = torch.ones(4, 2, 3, dtype=torch.bool)
    clear[0, 0], clear[1, 0, 0], clear[3] = False, False, False
    nearest, mean, season = looked_at(images, clear, [12, 20, 300, 365])
    assert nearest[0].tolist() == [[3, 2, 2], [1, 1, 1]]
    assert season[0].tolist() == [[3, 3, 3], [3, 3, 3]]
    share = 0.5 ** (8 / LEARNED.half_life)
    assert mean[0, 1, 0] == pytest.approx((1 + 2 * share) / (1 + share))
    assert mean[0, 0, 0].isnan()


def test_a_quarry_that_was_dug_since_is_not_filled_again_and_the_season_may_change() -> None:
    rng = np.random.default_rng(0)
    ground = torch.from_numpy(rng.uniform(0.1, 0.3, (BANDS, SIDE, SIDE))).float()
    noise = torch.from_numpy(rng.normal(0, 0.005, (3, BANDS, SIDE, SIDE))).float()
    looks = (ground + noise)[None].clone()
    looks[:, SEASON] += 0.05
    looks[:, COPY, :, 10:20, 10:20] = 0.4
    now = as_they_are_now(looks)
    assert now[:, :, :, 10:20, 10:20].allclose(torch.tensor(0.4))
    steady = (now[:, SEASON] == looks[:, SEASON]).float().mean()
    assert steady > 0.85
    missing = torch.full_like(looks, torch.nan)
    assert as_they_are_now(missing).isnan().all()


def test_what_is_lent_moves_no_water() -> None:
    generator = build_generator(preset("tiny"), seed=0).eval()
    rng = torch.Generator().manual_seed(0)
    bands = len(generator.config.bands)
    s1 = [torch.normal(-12.0, 2.0, (1, len(generator.config.pols), 64, 64), generator=rng) for _ in range(2)]
    s2 = [0.1 + 0.2 * torch.rand(1, bands, 64, 64, generator=rng) for _ in range(2)]
    with torch.inference_mode():
        evidence = generator.evidence(s1[0], s2[0], s1[1], s2[1])
        alone = generator(s1[0], s2[0], s1[1])
        taught = generator(s1[0], s2[0], s1[1], lent=evidence)
    assert not torch.equal(alone.reflectance, taught.reflectance)
    assert torch.equal(alone.water, taught.water)


def test_a_change_of_the_whole_radar_is_none_and_a_field_that_changed_is_one() -> None:
    rng = np.random.default_rng(0)
    before = torch.from_numpy(rng.normal(-12, 1, (1, 2, 64, 64))).float()
    after = before + 3
    assert not mixing.radar_changed(before, after).any()
    after[..., 20:40, 20:40] -= 6
    changed = mixing.radar_changed(before, after)[0, 0]
    assert changed[26:34, 26:34].all()
    assert not changed[:10].any()


def look(day: int, level: float, clear: bool = True, radar: bool = True) -> Look:
    shape = (1, BANDS, SIDE, SIDE)
    texture = torch.linspace(0, 0.1, SIDE).expand(shape)
    s1 = torch.full((1, 2, SIDE, SIDE), -12.0 if radar else torch.nan)
    return Look(day, s1, level + texture, torch.full((1, 1, SIDE, SIDE), clear))


def test_each_later_look_is_a_lesson_with_the_earlier_one_about_as_far_from_it_as_t1_from_t2() -> None:
    looks = [look(day, 0.1) for day in (700, 688, 660, 676, 340)]
    lessons = past.lessons_for(looks, 700, 712)
    assert [(one.a.day, one.b.day) for one in lessons] == [(340, 660), (660, 676), (676, 688), (688, 700)]
    assert lessons[-1].weight > lessons[1].weight
    nothing_clear = past.lessons_for([look(688, 0.1), look(700, 0.1, clear=False)], 700, 712)
    assert nothing_clear == []
    assert past.lessons_for([look(688, 0.1, radar=False), look(700, 0.1)], 700, 712) == []


def test_the_past_shows_whether_to_copy_and_the_proof_leaves_each_lesson_out() -> None:
    """A place that never changes, and a generator that is off by a tenth."""
    looks = [look(day, 0.1) for day in range(600, 712, 12)]

    def generate(a: Look, b: Look, lent: torch.Tensor | None) -> Prediction:
        return Prediction(a.s2 + 0.1)

    believed = past.learn(looks, 708, 720, generate=generate, evidence=lambda a, b: torch.zeros(0))
    assert believed.proof is not None
    assert believed.mixture.weights[0, :, list(LOOKS)].sum(0).min() > 0.6
    assert (believed.proof.copy_rmse < 1e-6).all()
    assert (believed.proof.rmse < 0.05).all()
    assert len(believed.proof.days) == 9


def test_the_past_shows_how_far_the_stated_deviation_is_off() -> None:
    looks = [look(day, 0.1) for day in range(600, 712, 12)]

    def ratios(stated: float | None) -> np.ndarray:
        rng = torch.Generator().manual_seed(0)

        def generate(a: Look, b: Look, lent: torch.Tensor | None) -> Prediction:
            made = b.s2 + torch.normal(0.0, 0.03, b.s2.shape, generator=rng)
            return Prediction(made, variance=None if stated is None else torch.full_like(made, stated**2))

        return past.learn(looks, 708, 720, generate=generate, evidence=lambda a, b: torch.zeros(0)).ratios

    assert ratios(0.03).shape == (BANDS, 9 * (SIDE // past.EVERY) ** 2)
    np.testing.assert_allclose(ratios(0.01), 3 * ratios(0.03), rtol=1e-4)
    assert 0 < np.median(ratios(0.03)) <= 0.6745  # the median of a normal error's size, as far as it is believed
    assert ratios(None).size == 0


def test_a_mixture_scores_its_pixels_as_its_moments() -> None:
    rng = np.random.default_rng(5)
    errors = rng.normal(0, 0.05, (C, BANDS, 200)).astype(np.float32)
    changed = rng.random(200) < 0.3
    weights = rng.dirichlet(np.ones(C), (2, BANDS))
    weights[..., TAUGHT] = 0
    mixture = mixing.Mixture(weights / weights.sum(-1, keepdims=True))
    ratios = mixture.ratios(mixing.Sample(errors, changed, np.full((2, BANDS, 200), 0.5, np.float32)))
    candidates, where = torch.from_numpy(errors)[None, ..., None], torch.from_numpy(changed)[None, None, :, None]
    found = mixing.moments(candidates, torch.zeros(1, BANDS, 200, 1), where, torch.ones_like(where))
    np.testing.assert_allclose(np.square(0.5 * ratios).mean(1), mixture.score(found)[0], rtol=1e-4)


def test_what_is_believed_beside_the_copy_is_to_be_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    lessons = [(1.0, errors_of([0.1, 0.1, 0.1, 0.08, 0.1], seed)) for seed in range(30)]
    copied = []
    for caution in (0.0, 0.3):
        monkeypatch.setattr(mixing.past_learned, "LEARNED", LEARNED._replace(caution=caution))
        few, many = (mixing.believe(lessons[:count], BANDS).weights[..., COPY].mean() for count in (1, 30))
        copied.append((few, many))
    (few, many), (few_cautious, many_cautious) = copied
    assert few_cautious > few + 0.1
    assert abs(many_cautious - many) < abs(few_cautious - few)


def test_the_evidence_of_a_lesson_is_not_lent_to_itself() -> None:
    looks = [look(day, 0.1) for day in (676, 688, 700)]
    lent: dict[tuple[int, int], torch.Tensor] = {}

    def generate(a: Look, b: Look, evidence: torch.Tensor | None) -> Prediction:
        if evidence is not None:
            lent[a.day, b.day] = evidence
        return Prediction(a.s2)

    def evidence(a: Look, b: Look) -> torch.Tensor:
        pixels = float(b.clear.sum())
        return torch.tensor([pixels, pixels * (b.day == 688), pixels * (b.day == 700)])

    believed = past.learn(looks, 700, 712, generate=generate, evidence=evidence)
    assert lent[676, 688][1] == 0
    assert lent[688, 700][2] == 0
    assert lent[676, 688][0] == pytest.approx(LEARNED.counts)
    assert believed.evidence.numel() == 0, "the generator does no better with it"


def test_what_is_seen_near_t2_is_evidence_of_t2_the_less_the_further_away() -> None:
    def evidence(a: Look, b: Look) -> torch.Tensor:
        assert a.day == 700
        return torch.tensor([float(b.clear.sum()), float(b.clear.sum()) * b.day])

    def near(*days: int, **how: bool) -> tuple[torch.Tensor, float]:
        looks = [look(700, 0.1), look(688, 0.1), *(look(day, 0.1, **how) for day in days)]
        return past.near_evidence(looks, 700, 712, evidence)

    one, pixels = near(715)
    assert one[0] == pytest.approx(pixels)
    assert one[1] == pytest.approx(715 * pixels), "of that look alone"
    assert 0 < pixels <= LEARNED.counts
    assert near(712)[1] == near()[1] == 0, "what was seen on t2 itself is told by its windows"
    assert near(715, clear=False)[1] == near(715, radar=False)[1] == 0
    few = look(715, 0.1)._replace(clear=torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool))
    few.clear[..., :2, :5] = True
    counts = [
        past.near_evidence([look(700, 0.1), few._replace(day=day)], 700, 712, evidence)[1] for day in (713, 717, 732)
    ]
    assert 10 > counts[0] > counts[1] > counts[2] > 0
