"""Where an image shows water or dry ground it is believed; else the generator is; else there is no data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crgen.pipeline.tiling.quality import GENERATED_CLASSES, Quality
from crgen.pipeline.tiling.water import (
    NEW,
    OLD,
    OPEN,
    UNKNOWN,
    expected_pixels,
    in_per_cent,
    is_known,
    join_water,
    leaves_open,
    told_by_image,
)
from tests.pipeline.tiling.test_chunk import MARGIN, OPENED, PLACE, model, run, scene, whole, within  # noqa: F401

SHAPE = (2, 6, 7)
told_anyhow = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 100, UNKNOWN]))
masks = arrays(bool, SHAPE[1:])


@given(told=told_anyhow, p=arrays(float, SHAPE, elements=st.floats(0, 1)), computed=masks, valid=masks)
def test_every_pixel_is_told_by_its_image_or_generated_or_unknown(told, p, computed, valid) -> None:
    water = in_per_cent(join_water(told, p, computed, valid))
    for date in (0, 1):
        for pixel in np.ndindex(SHAPE[1:]):
            here = (date, *pixel)
            if not valid[pixel]:
                assert water[here] == UNKNOWN
            elif told[here] != UNKNOWN:
                assert water[here] == told[here]
            else:
                assert water[here] == (round(100 * p[here]) if computed[pixel] else UNKNOWN)


@given(water=arrays(float, SHAPE, elements=st.one_of(st.floats(0, 1), st.just(np.nan))))
def test_all_water_of_t2_is_expected_as_new_or_old_or_open_and_open_is_what_t1_does_not_tell(water) -> None:
    expected = expected_pixels(water)
    assert sum(expected.values()) == pytest.approx(np.nansum(water[1]), abs=1e-9)
    before = np.round(100 * water[0])
    telling = (before <= 10) | (before >= 90)
    assert expected[OPEN] == pytest.approx(np.nansum(water[1][~telling]), abs=1e-9)
    dry_before = np.where(np.isfinite(water[0]), 0.0, np.nan)
    assert expected_pixels(np.stack([dry_before, water[1]]))[OLD] == 0
    assert expected_pixels(np.ones(SHAPE))[NEW] == 0


@given(
    told=told_anyhow,
    p=arrays(float, SHAPE, elements=st.floats(0, 1)),
    occurrence=arrays(np.float32, SHAPE[1:], elements=st.one_of(st.floats(0, 1, width=32), st.just(np.nan))),
    computed=masks,
    valid=masks,
)
def test_only_where_neither_image_nor_radar_tells_of_t1_what_nearly_always_was_water_counts_as_water(
    told, p, occurrence, computed, valid
) -> None:
    alone, told_more = (join_water(told, p, computed, valid, more) for more in (None, occurrence))
    assert np.array_equal(alone[1], told_more[1], equal_nan=True), "t2 is left alone"
    unsure = valid & (told[0] == UNKNOWN) & (told[1] != 0) & ~is_known(in_per_cent(alone[0])) & (occurrence >= 0.9)
    assert np.array_equal(alone[0][~unsure], told_more[0][~unsure], equal_nan=True)
    assert np.array_equal(told_more[0][unsure], occurrence[unsure])
    before, after = expected_pixels(alone), expected_pixels(told_more)
    opened = np.nan_to_num(alone[1])[unsure]
    doubt = opened * (1 - occurrence[unsure].astype(float))
    assert after[NEW] == pytest.approx(before[NEW] + doubt.sum(), abs=1e-9), (
        "hardly ever a flood: a tenth of it at most"
    )
    assert doubt.sum() <= 0.1001 * opened.sum()
    assert after[OLD] == pytest.approx(before[OLD] + (opened - doubt).sum(), abs=1e-9)
    assert after[OPEN] == pytest.approx(before[OPEN] - opened.sum(), abs=1e-9)


@given(told=told_anyhow)
def test_the_generator_is_asked_unless_images_tell_dry_at_t2_or_water_and_what_was_before(told) -> None:
    closed = (told[1] == 0) | ((told[1] == 100) & (told[0] != UNKNOWN))
    assert (leaves_open(*told) == ~closed).all()


def test_an_image_tells_water_and_dry_ground_only_where_it_is_clear_and_sure() -> None:
    bands = ("B3", "B8", "B11")
    water, field, snow, shade = (0.08, 0.03, 0.02), (0.08, 0.35, 0.25), (0.7, 0.6, 0.2), (0.02, 0.04, 0.03)
    s2 = np.array([water, field, snow, shade, water], np.float32).T[:, None]
    clear = np.array([[True, True, True, True, False]])
    assert told_by_image(s2, clear, bands).tolist() == [[100, 0, UNKNOWN, UNKNOWN, UNKNOWN]]


def test_the_map_of_water_is_the_observation_where_t2_was_seen_and_the_generators_elsewhere(scene, whole) -> None:  # noqa: F811
    inside = within(scene, PLACE, 0)
    seen = whole.quality == Quality.OBSERVED
    told = told_by_image(inside["s2_t2"].values, seen, OPENED)
    assert (whole.water[1][told != UNKNOWN] == told[told != UNKNOWN]).all()
    assert {0, 100} <= set(np.unique(told))
    assert (whole.water[1] <= 100).all(), "what an image leaves open is asked of the generator"
    hidden = whole.water[1][~seen]
    assert ((hidden > 0) & (hidden < 100)).any()


def test_left_alone_the_generator_tells_of_water_everywhere(model, scene, whole) -> None:  # noqa: F811
    alone, _ = run(model, scene, PLACE, generate_all=True)
    assert (alone.water[1] <= 100).all()
    unseen = np.isin(whole.quality, GENERATED_CLASSES)
    assert (alone.water[1][unseen] == whole.water[1][unseen]).all()


def test_a_lake_that_was_nearly_always_there_is_no_flood_though_t1_was_clouded(model, scene) -> None:  # noqa: F811
    clouded = scene.assign(clear_t1=scene["clear_t1"] * 0)
    always = np.full(clouded["clear_t1"].shape, np.nan, np.float32)
    always[:, 200:] = 0.97
    told = clouded.assign(water_occurrence=clouded["clear_t1"].copy(data=always))
    plain, plain_tally = run(model, clouded, PLACE)
    image, tally = run(model, told, PLACE)
    cut, _ = run(model, told, PLACE, chunk=96)
    assert (image.water == cut.water).all()
    assert (image.water[1] == plain.water[1]).all()
    lake = np.isfinite(within(told, PLACE, 0)["water_occurrence"].values)
    assert (image.water[0][~lake] == plain.water[0][~lake]).all()
    assert (image.water[0][lake] != plain.water[0][lake]).any()
    unsure = lake & ~is_known(plain.water[0]) & (plain.water[0] != UNKNOWN)
    assert (image.water[0][unsure & (image.water[0] != plain.water[0])] == 97).all()
    assert tally.water[OPEN] < plain_tally.water[OPEN]
    clear, _ = run(model, told.assign(clear_t1=scene["clear_t1"] * 0 + 1), PLACE)
    shown = told_by_image(within(told, PLACE, 0)["s2_t1"].values, np.ones(PLACE.shape, bool), OPENED)
    assert (clear.water[0][shown != UNKNOWN] == shown[shown != UNKNOWN]).all(), "an image of t1 comes first"


@pytest.mark.parametrize("seen", [True, False])
def test_without_radar_there_is_no_data_but_where_t2_was_seen(model, scene, seen) -> None:  # noqa: F811
    blind = scene.assign(s1_t2=scene["s1_t2"] * np.float32(np.nan))
    image, _ = run(model, blind, PLACE, generate_all=not seen)
    told = image.water[1] != UNKNOWN
    assert told.any() == seen
    assert not told[image.quality == Quality.NODATA].any()
    assert set(np.unique(image.water[1][told])) <= {0, 100}
