"""What was seen is hidden and predicted, so that every map says how wrong it is; intervals follow from that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crgen.model.card import ErrorWidths
from crgen.pipeline.tiling.ahead import check, look, prepare_check
from crgen.pipeline.tiling.hidden import (
    EVERY,
    FEWEST,
    NORMAL,
    Hidden,
    Seen,
    choose,
    compare,
    hidden_part,
    middle,
    widths,
)
from crgen.pipeline.tiling.quality import GENERATED_CLASSES, Quality
from tests.pipeline.tiling.test_chunk import PLACE, model, predictor_of, run, run_of, scene, whole  # noqa: F401

some_cells = st.dictionaries(
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(lambda at: (256 * at[0], 256 * at[1])),
    st.sampled_from([0, 0.1, 0.6, 1.0]),
)


def seen_block(rng: np.random.Generator, bands: int = 2, side: int = 40) -> Seen:
    t2, t1 = rng.uniform(0, 0.5, (2, bands, side, side)).astype(np.float32)
    t1[:, rng.random((side, side)) < 0.1] = np.nan
    known = rng.random((side, side)) < 0.8
    return Seen(t2, t1, known, rng.choice([0, 100, 255], (side, side)).astype(np.uint8))


@given(seen=some_cells, windows=st.integers(0, 5000), seed=st.integers(0, 9))
def test_few_cells_are_hidden_the_same_in_any_order_and_those_of_which_much_was_seen_first(seen, windows, seed) -> None:
    groups = choose(seen, windows)
    chosen = [cell for group in groups for cell in group]
    assert all(seen[cell] for cell in chosen)
    most = max(FEWEST, windows // EVERY)
    assert len(set(chosen)) == len(chosen) == min(sum(share > 0 for share in seen.values()), most)
    if any(seen[cell] < 0.5 for cell in chosen):
        assert all(cell in chosen for cell, share in seen.items() if share >= 0.5)
    cells = list(seen)
    mixed = {cells[i]: seen[cells[i]] for i in np.random.default_rng(seed).permutation(len(cells))}
    assert choose(mixed, windows) == groups


def test_in_every_other_cell_all_is_hidden_and_in_the_rest_the_middle() -> None:
    shares = [hidden_part((row, col), 64).mean() for row in (0, 64, -64) for col in (0, 64)]
    assert shares == [1, 0.25, 0.25, 1, 0.25, 1]
    assert all(hidden_part(cell, 64)[middle(64)].all() for cell in ((0, 0), (0, 64)))


def test_scores_are_of_pixels_that_were_seen_at_both_dates() -> None:
    rng = np.random.default_rng(0)
    seen = seen_block(rng)
    made = seen.reflectance + rng.normal(0.01, 0.02, seen.reflectance.shape)
    water = rng.random(seen.known.shape)
    found = compare(seen, made, np.full(made.shape, 0.02), water)
    both = seen.known & np.isfinite(seen.copy).all(0)
    assert found.pixels == both.sum()
    error, copied = (made - seen.reflectance)[:, both], (seen.copy - seen.reflectance)[:, both]
    np.testing.assert_allclose(found.errors, [error.sum(1), copied.sum(1)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.squares, [(error**2).sum(1), (copied**2).sum(1)], rtol=1e-5)
    assert (found.ratios.sum(1) == seen.known.sum()).all()
    called, told = water >= 0.5, seen.told
    assert found.water["hits"] == (called & (told == 100) & seen.known).sum()
    assert found.water["false"] == (called & (told == 0) & seen.known).sum()
    assert found.water["missed"] == (~called & (told == 100) & seen.known).sum()


def test_what_is_found_adds_up_and_survives_json() -> None:
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(3):
        seen = seen_block(rng)
        parts.append(compare(seen, seen.reflectance + 0.01, np.full(seen.reflectance.shape, 0.01), None))
    total = Hidden(2)
    for part in parts:
        total.add(Hidden.from_json(part.to_json()))
    assert total.blocks == 3
    assert total.pixels == sum(part.pixels for part in parts)
    assert (total.ratios == sum(part.ratios for part in parts)).all()


@settings(max_examples=10)
@given(factor=st.floats(0.2, 5), seed=st.integers(0, 99))
def test_intervals_hold_nine_of_ten_pixels_however_far_the_stated_deviation_is_off(factor, seed) -> None:
    rng = np.random.default_rng(seed)
    found = Hidden(2)
    for _ in range(200):
        seen = seen_block(rng, side=16)
        stated = rng.uniform(0.005, 0.05, seen.reflectance.shape)
        made = seen.reflectance + factor * stated * rng.standard_t(4, stated.shape)
        found.add(compare(seen, made, stated, None))
    width = widths([found], ("B3", "B8"), ErrorWidths(bands={"B3": 1, "B8": 1}, blocks=0.1))
    seen = seen_block(rng, side=200)
    stated = rng.uniform(0.005, 0.05, seen.reflectance.shape)
    error = np.abs(factor * stated * rng.standard_t(4, stated.shape))
    assert (error <= width[:, None, None] * stated).mean() == pytest.approx(0.9, abs=0.01)


def test_where_few_blocks_were_seen_the_card_counts_more() -> None:
    known = ErrorWidths(bands={"B3": 3.0}, blocks=8)
    assert widths([Hidden(2)], ("B3", "B8"), known).tolist() == pytest.approx([3.0, NORMAL])
    assert widths([Hidden(1)], ("B8",), None).tolist() == pytest.approx([NORMAL])
    seen = seen_block(np.random.default_rng(2), bands=1)
    before = 3.0
    for blocks in (1, 4, 64):
        found = compare(seen, seen.reflectance + 0.01, np.full(seen.reflectance.shape, 0.01), None)
        found.blocks = blocks
        (width,) = widths([found], ("B3",), known)
        assert 1 < width < before
        before = width


def test_the_places_past_is_believed_more_than_the_card_and_less_than_the_scene() -> None:
    seen = seen_block(np.random.default_rng(3), bands=1)

    def off_by(error: float, blocks: int) -> Hidden:
        found = compare(seen, seen.reflectance + error, np.full(seen.reflectance.shape, 0.01), None)
        found.blocks = blocks
        return found

    known = ErrorWidths(bands={"B3": 1.0}, blocks=4)
    past, here = off_by(0.04, 12), off_by(0.02, 12)
    alone = widths([past], ("B3",), known)[0]
    assert alone == pytest.approx(4 ** (12 / 16), rel=0.02)
    assert widths([past, Hidden(1)], ("B3",), known)[0] == alone
    assert widths([past, here], ("B3",), known)[0] == pytest.approx(2 ** (12 / 16) * alone ** (4 / 16), rel=0.02)


def test_where_something_was_seen_the_card_says_another_width_than_where_nothing_was() -> None:
    known = ErrorWidths(bands={"B3": 1.0}, seen={"B3": 2.0}, blocks=1e9)
    seen = seen_block(np.random.default_rng(2), bands=1)
    found = compare(seen, seen.reflectance + 0.01, np.full(seen.reflectance.shape, 0.01), None)
    assert widths([Hidden(1)], ("B3",), known) == pytest.approx([1.0])
    assert widths([found], ("B3",), known) == pytest.approx([2.0])


def hidden_of(model, scene):  # noqa: F811
    work = run_of(model, scene)
    told: dict[tuple[int, int], float] = {}
    look(work, work.grid, lambda chunk, found: told.update(found.middles), 1)
    found: dict[int, Hidden] = {}
    check(work, enumerate(choose(told, 0)), found.__setitem__, 2)
    return found[0]


def test_hidden_cells_are_predicted_without_what_was_seen_there(model, scene) -> None:  # noqa: F811
    """What is hidden changes nothing of what is predicted in its place."""
    found = hidden_of(model, scene)
    assert found.pixels > 100
    hidden = np.zeros(scene["clear_t2"].shape, bool)
    inside = run_of(model, scene)
    told: dict[tuple[int, int], float] = {}
    look(inside, inside.grid, lambda chunk, found: told.update(found.middles), 1)
    assert 0 < found.blocks == sum(share > 0 for share in told.values()) <= FEWEST
    cells = choose(told, 0)[0]
    first = cells[0]
    box = inside.reader.box
    part = hidden_part(first, 64)
    row, col = first[0] - box.r0, first[1] - box.c0
    hidden[row : row + 64, col : col + 64] = part
    other = scene.copy(deep=True)
    other["s2_t2"].values[:, hidden] += np.float32(0.2)
    planes = []
    for stack in (scene, other):
        work = run_of(model, stack)
        staged, _ = prepare_check(work, [first])
        planes.append(next(work.predictor.windows(staged)))
    assert (planes[0].reflectance == planes[1].reflectance).all()
    assert (planes[0].water == planes[1].water).all()


def test_half_widths_stand_where_pixels_were_generated_and_fade_with_the_share_of_observation(whole) -> None:  # noqa: F811
    generated = np.isin(whole.quality, GENERATED_CLASSES)
    blended = whole.quality == Quality.BLENDED
    assert (np.isfinite(whole.error).all(0) == (generated | blended)).all()
    assert (whole.error[:, generated] > 0).all()
    assert whole.error[:, blended].mean() < whole.error[:, generated].mean()


def test_the_width_scales_the_stated_deviation(model, scene, whole) -> None:  # noqa: F811
    work = run_of(model, scene, widths=lambda: np.array([1.0, 2.0, 3.0]))
    chunk = next(iter(work.grid))
    wide = {}
    work.fill(lambda chunk, computed, incoming: wide.update({chunk.at: work.compose(computed, incoming)[0].error}), 1)
    rows, cols = (slice(0, chunk.box.shape[0]), slice(0, chunk.box.shape[1]))
    expected = whole.error[:, rows, cols] / NORMAL * np.array([1, 2, 3])[:, None, None]
    np.testing.assert_allclose(wide[chunk.at], expected, rtol=1e-5)


def test_where_t1_does_not_show_the_ground_the_width_is_what_the_card_says(model, scene, whole) -> None:  # noqa: F811
    card = model.card.model_copy(update={"error": ErrorWidths(bands={}, hidden=4, blocks=8)})
    work = run_of(model._replace(card=card), scene)
    chunk = next(iter(work.grid))
    wide = {}
    work.fill(lambda chunk, computed, incoming: wide.update({chunk.at: work.compose(computed, incoming)[0].error}), 1)
    rows, cols = (slice(0, chunk.box.shape[0]), slice(0, chunk.box.shape[1]))
    times = wide[chunk.at] / whole.error[:, rows, cols]
    times = times[np.isfinite(times)]
    assert times.min() > 1
    assert times.max() < 4.1
