"""Scores are what one would compute by hand, and the same every time."""

import math

import pytest
import torch

from crgen.model.config import preset
from crgen.model.data import collate
from crgen.model.evaluate import CONDITIONS, Condition, as_markdown, evaluate
from crgen.model.generator import Generator, Prediction, build_generator
from crgen.model.metrics import METRICS

from .patches import Patches

COUNT = 4
CLOUDY = 1


class Oracle(Generator):
    """Knows the answer, and notes what it was shown."""

    def __init__(self, data: Patches) -> None:
        super().__init__(preset("tiny"))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.truths = [torch.from_numpy(data[i].target) for i in range(len(data)) if i != CLOUDY]
        self.shown: list[torch.Tensor] = []

    def generate(self, s1_t1, s2_t1, s1_t2, s2_t2):  # type: ignore[no-untyped-def]
        self.shown.append(s2_t2)
        return Prediction(self.truths[(len(self.shown) - 1) // len(CONDITIONS)][None])


@pytest.fixture(scope="module")
def data() -> Patches:
    return Patches(count=COUNT, cloudy=(CLOUDY,))


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return build_generator(preset("tiny")).eval()


def test_the_copy_row_is_the_metrics_of_t1_against_the_target(data: Patches, generator: Generator) -> None:
    scores = evaluate(generator, data, (Condition("plain"),))["plain"]["copy S2_t1"]
    assert scores["samples"] == COUNT - 1, "a sample with less than half its target clear is left out"
    samples = [collate([data[i]]) for i in range(COUNT) if i != CLOUDY]
    for name, metric in METRICS.items():
        values = [metric(s.s2_t1, s.target, s.clear).item() for s in samples]
        assert scores[name] == pytest.approx(sum(values) / len(values), rel=1e-6)
    by_hand = [(s.s2_t1 - s.target)[s.clear.expand_as(s.target)].abs().mean().item() for s in samples]
    assert scores["MAE"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)


def test_a_generator_that_knows_the_truth_scores_perfectly_under_every_condition(data: Patches) -> None:
    oracle = Oracle(data)
    for rows in evaluate(oracle, data).values():
        assert rows["generator"]["PSNR"] == pytest.approx(120)
        assert rows["generator"]["SSIM"] == pytest.approx(1)
        assert rows["copy S2_t1"]["PSNR"] < 40
    seen = [float(s.isfinite().float().mean()) for s in oracle.shown[: len(CONDITIONS)]]
    assert seen[:2] == [0, 0]
    assert 0.03 < seen[2] < 0.11 < seen[3] < 0.31


def test_conditions_are_the_same_every_time_and_each_sample_its_own(data: Patches, generator: Generator) -> None:
    torch.manual_seed(1)
    first = evaluate(generator, data)
    torch.manual_seed(2)
    assert evaluate(generator, data) == first
    assert list(first) == [c.name for c in CONDITIONS]
    assert all(math.isfinite(v) for rows in first.values() for scores in rows.values() for v in scores.values())
    painted = CONDITIONS[1].name
    assert first[painted]["copy S2_t1"]["PSNR"] < first[CONDITIONS[0].name]["copy S2_t1"]["PSNR"] - 1
    oracle = Oracle(data)
    evaluate(oracle, data)
    shown = oracle.shown[3 :: len(CONDITIONS)]
    assert not torch.equal(shown[0].isnan(), shown[1].isnan())


def test_shown_pixels_do_not_count(data: Patches) -> None:
    class Copycat(Oracle):
        def generate(self, s1_t1, s2_t1, s1_t2, s2_t2):  # type: ignore[no-untyped-def]
            made = super().generate(s1_t1, s2_t1, s1_t2, s2_t2).reflectance
            return Prediction(torch.where(s2_t2.isnan(), made, 0.9))

    assert evaluate(Copycat(data), data)["30 % of t2 seen"]["generator"]["MAE"] == 0


def test_progress_counts_every_sample(data: Patches, generator: Generator) -> None:
    steps: list[tuple[int, int]] = []
    evaluate(generator, data, (Condition("plain"),), on_sample=lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, COUNT) for i in range(COUNT)]


def test_the_table_is_markdown(data: Patches, generator: Generator) -> None:
    lines = as_markdown(evaluate(generator, data)).splitlines()
    assert lines[0].startswith("| condition |")
    assert len(lines) == 2 + 2 * len(CONDITIONS)
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
