"""The bands that follow from three: by the scene's own function, within reason, and never from a cloud."""

import pytest
import torch
from torch import Tensor

from crgen.model.adaptive.spectrum import CENTRE, SPREAD, Spectrum, quadratic
from crgen.model.config import CORE, preset

BANDS = preset("tiny").bands
IN_CORE = [BANDS.index(band) for band in CORE]
OTHERS = [i for i, band in enumerate(BANDS) if band not in CORE]


@pytest.fixture
def spectrum() -> Spectrum:
    """As after training: priors of land and water that are not the nearest band."""
    torch.manual_seed(0)
    made = Spectrum(BANDS).requires_grad_(False)
    made.land.mean_change.copy_(0.1 * torch.randn(made.land.mean.shape))
    made.water.mean_change.copy_(0.1 * torch.randn(made.water.mean.shape))
    return made


def scene(seed: int = 0, side: int = 32) -> tuple[Tensor, Tensor]:
    """A world in which other bands are a quadratic function of three: all bands, and its coefficients."""
    rng = torch.Generator().manual_seed(seed)
    core = torch.rand(1, 3, side, side, generator=rng) * 2 - 0.5
    law = 0.3 * torch.randn(10, len(OTHERS), generator=rng)
    image = torch.empty(1, len(BANDS), side, side)
    image[:, IN_CORE] = core
    image[:, OTHERS] = torch.einsum("bfyx,fk->bkyx", quadratic(core), law)
    return image * SPREAD + CENTRE, law


def centred(image: Tensor) -> Tensor:
    return (image[:, IN_CORE] - CENTRE) / SPREAD


def made_by(
    spectrum: Spectrum, t1: Tensor, t2: Tensor, *, p: float = 0.0, kept: float = 0.0, shown: float = 1.0,
    before: float = 0.0, seen: Tensor | None = None, clean: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The bands of ``t2`` from its core bands."""
    one = torch.ones_like(t1[:, :1])
    nothing = torch.full_like(t2, torch.nan)
    colour = torch.full_like(t1[:, :3], -0.6)
    made: Tensor = spectrum(
        centred(t2), colour, p * one, before * one, kept * one, centred(t1) if clean is None else clean, t1,
        shown * one, nothing if seen is None else seen,
    )  # fmt: skip
    return made


def test_the_three_bands_are_passed_on_in_their_places(spectrum: Spectrum) -> None:
    t1, t2 = scene(0)[0], scene(1)[0]
    made = made_by(spectrum, t1, t2)
    assert made.shape == t2.shape
    torch.testing.assert_close(made[:, IN_CORE], t2[:, IN_CORE])
    order = ("B11", "B3", "B8")
    alone = Spectrum(order)
    swapped = t2[:, [BANDS.index(band) for band in order]]
    one = torch.ones_like(t2[:, :1])
    torch.testing.assert_close(
        alone(centred(t2), centred(t2), 0 * one, 0 * one, one, centred(t2), swapped, one, swapped), swapped
    )


def test_the_scenes_own_law_is_found_in_t1(spectrum: Spectrum) -> None:
    t1, law = scene(0, 64)
    core = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    t2 = torch.empty_like(t1)
    t2[:, IN_CORE] = core * SPREAD + CENTRE
    t2[:, OTHERS] = torch.einsum("bfyx,fk->bkyx", quadratic(core), law) * SPREAD + CENTRE
    found = (made_by(spectrum, t1, t2) - t2).abs().mean()
    prior = (made_by(spectrum, t1, t2, shown=0.0) - t2).abs().mean()
    assert found < 0.1 * prior


def test_what_was_seen_of_t2_counts_beside_t1(spectrum: Spectrum) -> None:
    hidden, _ = scene(0, 64)
    t2, _ = scene(1, 64)  # another law than that of t1
    part = t2.clone()
    part[..., 32:] = torch.nan
    blind, told = (
        made_by(spectrum, hidden, t2, shown=0.0, seen=seen) for seen in (torch.full_like(t2, torch.nan), part)
    )
    errors = [(made - t2)[:, OTHERS, :, 32:].abs().mean() for made in (blind, told)]
    assert errors[1] < 0.2 * errors[0]


def test_under_full_cloud_the_prior_alone_says_the_other_bands(spectrum: Spectrum) -> None:
    t2 = scene(1)[0]
    clean = centred(scene(2)[0])
    overcast = [made_by(spectrum, scene(s)[0] + 0.4, t2, shown=0.0, clean=clean) for s in (3, 4)]
    prior = torch.einsum("bfyx,fk->bkyx", quadratic(centred(t2)), spectrum.land.mean) * SPREAD + CENTRE
    for made in overcast:
        torch.testing.assert_close(made[:, OTHERS], prior, atol=1e-5, rtol=1e-5)
    missing = made_by(spectrum, torch.full_like(t2, torch.nan), t2, shown=0.0, clean=clean)
    torch.testing.assert_close(missing[:, OTHERS], prior, atol=1e-5, rtol=1e-5)


def test_bands_that_t1_lacks_are_the_priors(spectrum: Spectrum) -> None:
    t1, t2 = scene(0)[0], scene(1)[0]
    t1[:, OTHERS] = torch.nan
    prior = torch.einsum("bfyx,fk->bkyx", quadratic(centred(t2)), spectrum.land.mean) * SPREAD + CENTRE
    made = made_by(spectrum, t1, t2, kept=1.0)
    torch.testing.assert_close(made[:, OTHERS], prior, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_what_a_pixel_had_beside_the_law_it_keeps_as_far_as_t1_is_kept(spectrum: Spectrum, kept: float) -> None:
    """A field whose red edge is unlike its neighbours' stays so; where t1 is not kept, it does not."""
    t1, _ = scene(0)
    unlike = t1.clone()
    at = BANDS.index("B6")
    unlike[:, at, 8:10, 8:10] += 0.2
    spectrum.kept.fill_(200.0)
    made = made_by(spectrum, unlike, t1, kept=kept)[:, at, 8:10, 8:10]
    assert float((made - t1[:, at, 8:10, 8:10]).mean()) == pytest.approx(0.2 * kept, abs=0.01)
    if kept == 1:
        torch.testing.assert_close(made_by(spectrum, unlike, unlike, kept=1.0), unlike, atol=1e-5, rtol=0)


def test_water_has_a_law_of_its_own_whatever_the_land_is(spectrum: Spectrum) -> None:
    made = [made_by(spectrum, scene(s)[0], scene(s + 1)[0], p=1.0, kept=1.0) for s in (0, 5)]
    torch.testing.assert_close(made[0], made[1])
    of_water = spectrum.water.mean[0] - 0.6 * spectrum.water.mean[1:].sum(0)
    expected = (of_water * SPREAD + CENTRE)[None, :, None, None].expand(1, -1, 32, 32)
    torch.testing.assert_close(made[0][:, OTHERS], expected)


@pytest.mark.parametrize("date", ["t1", "t2"])
def test_water_that_is_seen_at_either_date_tells_its_law(spectrum: Spectrum, date: str) -> None:
    """Mud is white in one scene and brown in another: the three bands alone do not tell."""
    unseen, water = scene(0)[0] + torch.nan, torch.full((1, len(BANDS), 32, 32), 0.02)
    water[:, OTHERS] = 0.11
    water[:, IN_CORE] = (CENTRE - 0.6 * SPREAD) + 0.02 * torch.rand(1, 3, 32, 32)
    at_t1 = date == "t1"
    made = made_by(
        spectrum, water if at_t1 else unseen, scene(1)[0], p=1.0, before=1.0, seen=unseen if at_t1 else water,
        shown=float(at_t1), clean=centred(scene(2)[0]),
    )  # fmt: skip
    prior = made_by(spectrum, unseen, scene(1)[0], p=1.0)
    off = [(image[:, OTHERS] - 0.11).abs().mean() for image in (made, prior)]
    assert off[0] < 0.4 * off[1]


def test_ice_tells_nothing_of_water(spectrum: Spectrum) -> None:
    ice, unseen = torch.full((1, len(BANDS), 32, 32), 0.5), scene(0)[0] + torch.nan
    prior, made = (made_by(spectrum, t1, scene(1)[0], p=1.0, before=1.0, shown=1.0) for t1 in (unseen, ice))
    torch.testing.assert_close(made[:, OTHERS], prior[:, OTHERS])


def test_a_value_out_of_range_counts_as_the_ranges_end_in_the_other_bands(spectrum: Spectrum) -> None:
    """So that no cloud at t1 and no wild value of the image runs away in seven bands."""
    t1, t2 = scene(0)[0], scene(1)[0]

    def with_pixel(image: Tensor, value: float) -> Tensor:
        changed = image.clone()
        changed[:, IN_CORE, 5, 5] = value
        return changed

    for beyond, end in ((30.0, CENTRE + 4 * SPREAD), (-30.0, CENTRE - SPREAD)):
        image, cloud = (
            [made_by(spectrum, *pair) for pair in pairs]
            for pairs in (
                [(t1, with_pixel(t2, value)) for value in (beyond, end)],
                [(with_pixel(t1, value), t2) for value in (beyond, end)],
            )
        )
        torch.testing.assert_close(image[0][:, OTHERS], image[1][:, OTHERS])
        torch.testing.assert_close(cloud[0], cloud[1])


def test_the_variance_of_other_bands_is_that_of_the_three_and_the_laws_own_error(spectrum: Spectrum) -> None:
    core = torch.rand(1, 3, 8, 8) + 0.1
    made = spectrum.variance(core)
    assert torch.equal(made[:, IN_CORE], core)
    excess = made[:, OTHERS] - core.mean(1, keepdim=True)
    assert (excess > 0).all()
    assert Spectrum(("B11", "B3", "B8")).variance(core).equal(core[:, [2, 0, 1]])
