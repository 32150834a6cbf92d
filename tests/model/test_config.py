"""Presets and configurations: what they promise and what they refuse."""

import json
from dataclasses import replace

import pytest
from torch._subclasses import FakeTensorMode

from crgen.errors import RequestError
from crgen.model.build import build_generator
from crgen.model.config import CORE, PRESETS, preset
from crgen.training.score.cost import operations, parameters
from tests.model.scenes import BANDS12


def test_preset_paper_has_the_parameters_and_the_cost_the_paper_reports() -> None:
    """Table of the paper: 41.25 M parameters, 122.28 GFLOPs (2 × MAC) for 256² px. Counted without computing."""
    with FakeTensorMode():
        generator = build_generator(preset("paper"))
    assert parameters(generator) == pytest.approx(41.25e6, rel=0.03)
    assert operations(preset("paper")) == pytest.approx(122.28e9, rel=0.03)


@pytest.mark.parametrize(("pols", "bands"), [(("VV",), ("B4", "B3", "B2")), (("VV", "VH"), BANDS12)])
def test_preset_paper_stays_that_size_for_other_channels(pols: tuple[str, ...], bands: tuple[str, ...]) -> None:
    config = preset("paper", pols=pols, bands=bands)
    with FakeTensorMode():
        assert parameters(build_generator(config)) == pytest.approx(41.25e6, rel=0.03)
    assert operations(config) == pytest.approx(122.28e9, rel=0.1)


def test_preset_base_has_four_million_parameters_at_most_and_a_file_of_20_megabytes() -> None:
    with FakeTensorMode():
        count = parameters(build_generator(preset("base")))
    assert count < 4e6
    assert 4 * count < 20e6


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_other_channels(name: str) -> None:
    bands = ("B11", "B4", "B8", "B3")
    config = preset(name, pols=("VH",), bands=bands)
    assert (config.pols, config.bands, config.db_range) == (("VH",), bands, ((-40.0, -5.0),))
    assert json.loads(json.dumps(config.to_dict()))["pols"] == ["VH"]


@pytest.mark.parametrize("name", ["base", "tiny"])
def test_the_default_makes_three_bands_itself_and_the_others_follow_from_them(name: str) -> None:
    config = preset(name)
    assert len(config.bands) == 10
    assert config.core == CORE == ("B3", "B8", "B11")
    assert (config.pols, config.needed_pols) == (("VV", "VH"), ("VV",))
    assert all(low <= -35 for low, _ in config.db_range), "calm water is not cut off"
    paper = preset("paper")
    assert (paper.core, paper.needed_pols) == (paper.bands, paper.pols)
    assert preset("paper", bands=("B8",)).core == ("B8",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pols": ("VV",)}, "db_range"),
        ({"pols": (), "db_range": ()}, "polarisations"),
        ({"bands": ("B8", "B8")}, "bands"),
        ({"bands": ("B3", "B4", "B8")}, "form adaptive needs B3, B8, B11 among its bands"),
        ({"reflectance_range": (1.0, 0.0)}, "lower to a higher"),
        ({"head_dim": 5}, "multiple of head_dim"),
        ({"stem": 0}, "at least 1"),
        ({"down_kernel": 4}, "odd"),
    ],
)
def test_contradictions_are_refused(change: dict, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        replace(preset("tiny"), **change)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="no preset 'huge'; choose one of paper, base, tiny"):
        preset("huge")
    with pytest.raises(RequestError, match="no polarisation 'HH'; choose from VV, VH"):
        preset("tiny", pols=("HH",))


def test_the_papers_form_predicts_water_if_it_is_to_and_holds_the_bands_that_show_it() -> None:
    paper = preset("paper", bands=CORE)
    assert not paper.predicts_water
    assert replace(paper, water=True).predicts_water
    assert not replace(preset("paper"), water=True).predicts_water, "B4, B3 and B2 do not tell water from shade"
