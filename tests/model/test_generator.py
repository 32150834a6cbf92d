"""What the generators see, what they are blind to, and what missing pixels do."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from crgen.model.config import GeneratorConfig, preset
from crgen.model.generator import Generator, build_generator, standardise

BANDS12 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")


class Inputs(NamedTuple):
    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    s2_t2: Tensor


def inputs(config: GeneratorConfig, height: int = 32, width: int = 32, n: int = 1, seed: int = 0) -> Inputs:
    """A scene within all ranges, so that nothing is clipped; a part of t2 is seen."""
    rng = torch.Generator().manual_seed(seed)
    radar = [-18 + 10 * torch.rand(n, len(config.pols), height, width, generator=rng) for _ in range(2)]
    optical = [0.1 + 0.4 * torch.rand(n, len(config.bands), height, width, generator=rng) for _ in range(2)]
    optical[1][..., height // 2 :, :] = torch.nan
    return Inputs(radar[0], optical[0], radar[1], optical[1])


def trained(config: GeneratorConfig) -> Generator:
    """A generator whose every path carries something, as after training: no gamma of zero, no open gate."""
    torch.manual_seed(0)
    generator = build_generator(config).eval().requires_grad_(False)
    generator.get_parameter("fusion.gamma").fill_(0.5)
    if config.form == "gated":
        generator.get_parameter("gate.bias").zero_()
    return generator


@pytest.fixture(scope="module")
def gated() -> Generator:
    return trained(preset("tiny"))


@pytest.fixture(scope="module")
def paper() -> Generator:
    """The paper's form at the size of preset tiny."""
    return trained(replace(preset("tiny"), form="paper"))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 96), (128, 64)])
@pytest.mark.parametrize("form", ["gated", "paper"])
def test_windows_of_any_multiple_of_32(form: str, height: int, width: int, request: pytest.FixtureRequest) -> None:
    generator = request.getfixturevalue(form)
    made = generator(*inputs(generator.config, height, width))
    assert made.reflectance.shape == (1, 3, height, width)
    assert made.reflectance.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(31, 32), (64, 48), (100, 100), (33, 33)])
def test_other_windows_are_refused_by_name(gated: Generator, height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height} × {width} pixels: both sides must be multiples of 32"):
        gated(*inputs(gated.config, height, width))


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 3.0), (1.0, -4.0), (0.6, -5.0), (1.2, 2.0)])
def test_calibration_and_stretch_of_the_radar_do_not_matter(
    gated: Generator, variable: str, gain: float, offset: float
) -> None:
    given = inputs(gated.config)
    stretched = getattr(given, variable) * gain + offset
    assert -25 < stretched.min() < stretched.max() < 0, "nothing is clipped, or the test says nothing"
    before, after = gated(*given).reflectance, gated(*given._replace(**{variable: stretched})).reflectance
    assert (before - after).abs().max() < 2e-3
    other = inputs(gated.config, seed=1)
    unlike = gated(*given._replace(**{variable: getattr(other, variable)})).reflectance
    assert (before - unlike).abs().max() > 20 * (before - after).abs().max(), "the radar must matter at all"


def test_the_gated_form_sees_the_brightness_of_t1_and_the_papers_norms_take_it_away(gated: Generator) -> None:
    """Affine-free instance norms remove any constant from the optical input: why preset base is not the paper's.

    In our paper form brightness passes only by the projection beside the norms of the first block.
    """

    def change(generator: Generator) -> float:
        given = inputs(generator.config)
        brighter = given._replace(s2_t1=given.s2_t1 + 0.2)
        return float((generator(*given).reflectance - generator(*brighter).reflectance).abs().mean())

    paper = trained(replace(preset("tiny"), form="paper"))
    assert change(gated) > 10 * change(paper) > 1e-4
    paper.get_parameter("stem_t1.skip.weight").zero_()
    assert change(paper) < 1e-6


@pytest.mark.parametrize("form", ["gated", "paper"])
@pytest.mark.parametrize("where", ["a pixel", "half", "everything"])
@pytest.mark.parametrize("variable", [*Inputs._fields, "all"])
def test_missing_input_never_becomes_a_missing_or_infinite_result(
    form: str, where: str, variable: str, request: pytest.FixtureRequest
) -> None:
    generator = request.getfixturevalue(form)
    part = {"a pixel": slice(5, 6), "half": slice(0, 16), "everything": slice(None)}[where]
    given = Inputs(*(t.clone() for t in inputs(generator.config)))
    for name in Inputs._fields if variable == "all" else [variable]:
        getattr(given, name)[..., part, part] = torch.nan
    assert generator(*given).reflectance.isfinite().all()


@pytest.mark.parametrize("variable", Inputs._fields)
@pytest.mark.parametrize("zero", ["smallest", "middle"])
def test_a_missing_pixel_is_not_a_dark_pixel(gated: Generator, variable: str, zero: str) -> None:
    """Neither the value that scales to -1 nor the one that scales to 0 looks like a pixel that is not there."""
    optical = variable.startswith("s2")
    value = {"smallest": 0.0, "middle": 0.5}[zero] if optical else {"smallest": -25.0, "middle": -12.5}[zero]
    given = inputs(gated.config)
    made = []
    for pixel in (value, torch.nan):
        changed = getattr(given, variable).clone()
        changed[..., 10, 10] = pixel
        made.append(gated(*given._replace(**{variable: changed})).reflectance)
    assert (made[0] - made[1]).abs().max() > 1e-4


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
def test_a_missing_radar_pixel_is_not_an_average_one(gated: Generator, variable: str) -> None:
    """Standardising makes missing pixels the window's mean: only the mask tells them apart."""
    given = inputs(gated.config)
    radar = getattr(given, variable).clone()
    radar[..., 10, 10] = torch.nan
    missing = gated(*given._replace(**{variable: radar})).reflectance
    average = gated(*given._replace(**{variable: radar.nan_to_num(float(radar.nanmean()))})).reflectance
    assert (missing - average).abs().max() > 1e-4


def test_a_closed_gate_lets_nothing_of_the_optical_t1_through() -> None:
    generator = trained(preset("tiny"))
    generator.get_parameter("gate.bias").fill_(-200.0)
    given, other = inputs(generator.config), inputs(generator.config, seed=3)
    assert torch.equal(generator(*given).reflectance, generator(*given._replace(s2_t1=other.s2_t1)).reflectance)
    assert not torch.equal(generator(*given).reflectance, generator(*given._replace(s1_t1=other.s1_t1)).reflectance)


def test_what_is_missing_at_t1_is_not_relied_on(gated: Generator) -> None:
    given = inputs(gated.config)
    s2_t1 = given.s2_t1.clone()
    s2_t1[:, 1, 10:20, 20:30] = torch.nan  # one band of three is enough
    reliability = gated(*given._replace(s2_t1=s2_t1)).reliability
    assert reliability is not None
    missing = torch.isnan(s2_t1).any(1, keepdim=True)
    assert (reliability[missing] == 0).all()
    assert (reliability[~missing] > 0).all()
    assert reliability.max() < 1


def test_nothing_seen_at_t2_is_the_same_as_no_image_of_t2(gated: Generator) -> None:
    given = inputs(gated.config)
    unseen = torch.full_like(given.s2_t2, torch.nan)
    nothing, none = gated(*given._replace(s2_t2=unseen)).reflectance, gated(*given[:3]).reflectance
    assert torch.equal(nothing, none)
    assert not torch.equal(gated(*given).reflectance, none)


def test_standardise_counts_valid_pixels_only() -> None:
    x = torch.tensor([[[[1.0, 3.0], [torch.nan, 5.0]]]])
    here = torch.isfinite(x).float()
    z = standardise(x, here)
    deviation = torch.tensor([1.0, 3.0, 5.0]).std(correction=0) + 1e-3
    torch.testing.assert_close(z, torch.tensor([[[[-2.0, 0.0], [0.0, 2.0]]]]) / deviation)


def test_the_same_window_gives_the_same_bits_wherever_it_stands_in_the_batch(gated: Generator) -> None:
    window, others = inputs(gated.config, n=1), inputs(gated.config, n=4, seed=7)
    results = []
    for place in (0, 2, 3):
        batch = [torch.cat([o[:place], w, o[place + 1 :]]) for w, o in zip(window, others, strict=True)]
        results.append(gated(*batch).reflectance[place])
    strangers = [torch.cat([w, w + 1, w * torch.nan, w.flip(-1)]) for w in window]
    results.append(gated(*strangers).reflectance[0])
    assert all(torch.equal(results[0], r) for r in results[1:])


def test_dropout_rests_outside_training() -> None:
    generator = trained(replace(preset("tiny"), dropout=0.5))
    given = inputs(generator.config)
    assert torch.equal(generator(*given).reflectance, generator(*given).reflectance)
    generator.train()
    assert not torch.equal(generator(*given).reflectance, generator(*given).reflectance)


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_presets_take_two_polarisations_and_twelve_bands(name: str) -> None:
    generator = build_generator(preset(name, pols=("VV", "VH"), bands=BANDS12)).eval()
    with torch.inference_mode():
        made = generator(*inputs(generator.config))
    assert made.reflectance.shape == (1, 12, 32, 32)
    assert made.reflectance.isfinite().all()
    assert (made.auxiliary is None, made.reliability is None) == ((True, False) if name == "tiny" else (False, True))


def test_the_papers_output_stays_in_the_range_of_reflectance(paper: Generator) -> None:
    made = paper(*inputs(paper.config))
    assert made.reflectance.min() >= 0
    assert made.reflectance.max() <= 1
