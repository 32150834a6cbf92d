"""What the generators take and give in any form, and what missing pixels do."""

from dataclasses import replace

import pytest
import torch

from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator, standardise
from tests.model.scenes import BANDS12, TINY_PAPER, Inputs, inputs, trained


@pytest.fixture(scope="module")
def adaptive() -> Generator:
    return trained(preset("tiny"))


@pytest.fixture(scope="module")
def paper() -> Generator:
    """The paper's form at the size of preset tiny."""
    return trained(TINY_PAPER)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 96), (128, 64)])
@pytest.mark.parametrize("form", ["adaptive", "paper"])
def test_windows_of_any_multiple_of_32(form: str, height: int, width: int, request: pytest.FixtureRequest) -> None:
    generator = request.getfixturevalue(form)
    made = generator(*inputs(generator.config, height, width))
    assert made.reflectance.shape == (1, len(generator.config.bands), height, width)
    assert made.reflectance.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(31, 32), (64, 48), (100, 100), (33, 33)])
def test_other_windows_are_refused_by_name(adaptive: Generator, height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height} × {width} pixels: both sides must be multiples of 32"):
        adaptive(*inputs(adaptive.config, height, width))


def test_the_adaptive_form_sees_the_brightness_of_t1_and_the_papers_norms_take_it_away(adaptive: Generator) -> None:
    """Affine-free instance norms remove any constant from the optical input: why preset base is not the paper's.

    In our paper form brightness passes only by the projection beside the norms of the first block.
    """

    def change(generator: Generator) -> float:
        given = inputs(generator.config)
        brighter = given._replace(s2_t1=given.s2_t1 + 0.2)
        return float((generator(*given[:3]).reflectance - generator(*brighter[:3]).reflectance).abs().mean())

    paper = trained(TINY_PAPER)
    assert change(adaptive) > 10 * change(paper) > 1e-4
    paper.get_parameter("stem_t1.skip.weight").zero_()
    assert change(paper) < 1e-6


@pytest.mark.parametrize("form", ["adaptive", "paper"])
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
    assert all(t.isfinite().all() for t in generator(*given) if t is not None)


def test_standardise_counts_valid_pixels_only() -> None:
    x = torch.tensor([[[[1.0, 3.0], [torch.nan, 5.0]]]])
    here = torch.isfinite(x).float()
    z = standardise(x, here)
    deviation = torch.tensor([1.0, 3.0, 5.0]).std(correction=0)
    torch.testing.assert_close(z, torch.tensor([[[[-2.0, 0.0], [0.0, 2.0]]]]) / deviation)


def test_the_same_window_gives_the_same_bits_wherever_it_stands_in_the_batch(adaptive: Generator) -> None:
    window, others = inputs(adaptive.config, n=1), inputs(adaptive.config, n=4, seed=7)
    results = []
    for place in (0, 2, 3):
        batch = [torch.cat([o[:place], w, o[place + 1 :]]) for w, o in zip(window, others, strict=True)]
        results.append(adaptive(*batch).reflectance[place])
    strangers = [torch.cat([w, w + 1, w * torch.nan, w.flip(-1)]) for w in window]
    results.append(adaptive(*strangers).reflectance[0])
    assert all(torch.equal(results[0], r) for r in results[1:])


def test_dropout_rests_outside_training() -> None:
    generator = trained(replace(TINY_PAPER, dropout=0.5))
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
    of_the_default = (made.reliability, made.variance, made.water, made.clean_t1)
    assert (made.auxiliary is None) == (name == "tiny")
    assert all((part is None) == (name == "paper") for part in of_the_default)
