"""The paper's generator keeps to its formulas, and to its order of work."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from crgen.model.config import GeneratorConfig, preset
from crgen.model.generator import Generator, Prediction
from crgen.model.paper.blocks import ChannelAttention, SpatialAttention
from crgen.model.paper.network import PaperGenerator
from crgen.model.swin import SwinBlock
from tests.model.scenes import TINY_PAPER, Inputs, inputs, trained


@pytest.fixture(scope="module")
def paper() -> Generator:
    """The paper's form at the size of preset tiny."""
    return trained(TINY_PAPER)


def test_the_papers_output_stays_in_the_range_of_reflectance(paper: Generator) -> None:
    made = paper(*inputs(paper.config))
    assert made.reflectance.min() >= 0
    assert made.reflectance.max() <= 1


def test_water_may_have_an_output_of_its_own(paper: Generator) -> None:
    given = inputs(paper.config)
    assert paper(*given).water is None, "the paper has none"
    generator = trained(replace(TINY_PAPER, water=True))
    assert generator(*given).water.shape == (1, 2, 32, 32)
    bias = generator.get_parameter("water.bias")
    images = []
    for logit in (-200.0, 0.0, 200.0):
        bias[1] = logit
        made = generator(*given)
        images.append(made.reflectance)
        if logit:
            assert (made.water[:, 1] == (logit > 0)).all()
    land, between, water = images
    assert not torch.allclose(land, water)
    assert ((between >= torch.minimum(land, water) - 1e-6) & (between <= torch.maximum(land, water) + 1e-6)).all()


class Heard:
    """What the modules of a generator were given and returned, by name, in one pass over a scene."""

    def __init__(self, generator: Generator, given: Inputs) -> None:
        self.order: list[str] = []
        self.given: dict[str, tuple[Any, ...]] = {}
        self.returned: dict[str, Any] = {}
        hooks = [m.register_forward_hook(self._note(name)) for name, m in generator.named_modules() if name]
        self.made: Prediction = generator(*given)
        for hook in hooks:
            hook.remove()

    def _note(self, name: str) -> Any:
        def note(module: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
            self.order.append(name)
            self.given[name], self.returned[name] = given, returned

        return note


def test_radar_and_optical_of_t1_are_joined_before_the_radar_of_t2_is_aligned_with_them(paper: Generator) -> None:
    given = inputs(paper.config)
    heard = Heard(paper, given)
    (r1,), (r2,) = heard.given["stem_s1_t1"], heard.given["stem_s1_t2"]
    torch.testing.assert_close(r1, paper.scale_backscatter(given.s1_t1))
    torch.testing.assert_close(r2, paper.scale_backscatter(given.s1_t2))
    joined = torch.cat([heard.returned["stem_s1_t1"], paper.scale_reflectance(given.s2_t1)], 1)
    assert torch.equal(heard.given["stem_t1"][0], joined)
    assert torch.equal(heard.given["down_up"][0], heard.returned["stem_t1"])
    fused, radar = heard.given["fusion"]
    assert torch.equal(fused, heard.returned["down_up"])
    assert torch.equal(radar, heard.returned["stem_s1_t2"])
    assert torch.equal(heard.given["extended"][0], heard.returned["fusion"])


def test_the_stem_of_the_radar_of_t1_has_no_norm_and_the_others_are_blind_to_an_offset(paper: Generator) -> None:
    heard = Heard(paper, inputs(paper.config))
    assert isinstance(paper, PaperGenerator)
    assert [type(m) for m in paper.stem_s1_t1] == [nn.Conv2d, nn.Mish]
    with torch.no_grad():
        for stem in (paper.stem_t1, paper.stem_s1_t2):
            (x,) = heard.given["stem_t1" if stem is paper.stem_t1 else "stem_s1_t2"]
            torch.testing.assert_close(stem.body(x + 0.3), stem.body(x), atol=1e-4, rtol=1e-4)


def test_an_image_of_the_bands_is_all_the_tower_sees(paper: Generator) -> None:
    heard = Heard(paper, inputs(paper.config))
    image = heard.returned["extended"]
    assert image.shape[1] == len(paper.config.bands)
    assert isinstance(paper, PaperGenerator)
    with torch.no_grad():
        extreme = paper.extended(1e4 * heard.given["extended"][0])
    assert extreme.min() == -1, "the whole range of tanh"
    assert extreme.max() == 1
    assert torch.equal(heard.given["tower"][0], image)
    assert heard.made.auxiliary is not None
    torch.testing.assert_close(heard.made.auxiliary, (image + 1) / 2)
    after = heard.order[heard.order.index("extended") + 1 :]
    assert {name.split(".")[0] for name in after} == {
        "tower", "decoder", "dropout", "join_half", "join_full", "head",
    }, "nothing bypasses it"  # fmt: skip
    skips = heard.given["decoder"]
    assert len(skips) == 1
    assert skips[0] is heard.returned["tower"]


def test_the_decoder_climbs_from_channel_attention_to_spatial_attention(paper: Generator) -> None:
    heard = Heard(paper, inputs(paper.config, 64, 64))
    modules = dict(paper.named_modules())
    gates = [name for name in heard.order if isinstance(modules[name], ChannelAttention | SpatialAttention)]
    steps = [(type(modules[name]), heard.returned[name].shape[-1]) for name in gates]
    assert steps == [(ChannelAttention, 2), (ChannelAttention, 4), (SpatialAttention, 8), (SpatialAttention, 16)]
    scales: list[Tensor] = heard.returned["tower"]
    for i, skip in enumerate(scales[-2::-1]):
        joined = heard.given[f"decoder.joins.{i}"][0]
        assert torch.equal(joined[:, -skip.shape[1] :], skip), "every scale of the tower is a skip"


def test_swin_blocks_normalise_what_they_add_not_what_they_take(paper: Generator) -> None:
    """Post-norm: how large attention and MLP come out makes no difference. Of pre-norm blocks it would."""
    torch.manual_seed(0)
    generator, image = trained(TINY_PAPER), torch.rand(1, len(TINY_PAPER.bands), 64, 64) * 2 - 1
    assert isinstance(generator, PaperGenerator)
    blocks = [m for m in generator.tower.modules() if isinstance(m, SwinBlock)]
    assert len(blocks) == 4
    made = []
    for gain in (10.0, 100.0):
        for block in blocks:
            for last in (block.attention.proj, block.mlp[-1]):
                assert isinstance(last, nn.Linear)
                last.weight.mul_(gain)
                last.bias.mul_(gain)
        made.append(generator.tower(image))
    for before, after in zip(*made, strict=True):
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [TINY_PAPER, preset("paper")], ids=["small", "as it is"])
def test_the_axis_of_the_attentions_norm_can_be_switched(config: GeneratorConfig) -> None:
    axes: tuple[Literal["channel", "space"], ...] = ("channel", "space")
    images = []
    for axis in axes:
        generator = trained(replace(config, attention_axis=axis))
        images.append(generator(*inputs(config)).reflectance)
        assert images[-1].isfinite().all()
    assert (images[0] - images[1]).abs().max() > 1e-5
