"""The paper's generator keeps to its formulas."""

import pytest

from crgen.model.generator import Generator

from .scenes import TINY_PAPER, inputs, trained


@pytest.fixture(scope="module")
def paper() -> Generator:
    """The paper's form at the size of preset tiny."""
    return trained(TINY_PAPER)


def test_the_papers_output_stays_in_the_range_of_reflectance(paper: Generator) -> None:
    made = paper(*inputs(paper.config))
    assert made.reflectance.min() >= 0
    assert made.reflectance.max() <= 1
