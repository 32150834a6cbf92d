"""Scores are what one would compute by hand, and the same every time."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crgen.errors import TrainingError
from crgen.model.config import CORE, preset
from crgen.model.generator import Generator, Prediction
from crgen.training.data.dataset import DamagedPatch, Part, Sample, collate
from crgen.training.metrics import METRICS
from crgen.training.score.evaluate import (
    CONDITIONS,
    REGIONS,
    Condition,
    Evaluation,
    Inputs,
    Record,
    arrange,
    evaluate,
    method_of,
    validation_scores,
)
from crgen.training.score.report import as_csv, as_markdown
from tests.model.scenes import inputs as scene
from tests.model.scenes import trained
from tests.training.patches import OMBRIA_LIKE, Patches

COUNT = 4
CLOUDY = 1


class Oracle(Generator):
    """Knows the answer, and notes what it was shown."""

    def __init__(self, data: Patches) -> None:
        super().__init__(preset("tiny"))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.truths = [torch.from_numpy(data[i].target) for i in range(len(data)) if i != CLOUDY]
        self.shown: list[torch.Tensor] = []

    def generate(self, s1_t1, s2_t1, s1_t2, s2_t2, **known):  # type: ignore[no-untyped-def]
        self.shown.append(s2_t2)
        return Prediction(self.truths[(len(self.shown) - 1) // len(CONDITIONS)][None])


@pytest.fixture(scope="module")
def data() -> Patches:
    return Patches(count=COUNT, cloudy=(CLOUDY,))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return trained(preset("tiny"))


def test_the_copy_row_is_the_metrics_of_t1_against_the_target(data: Patches, generator: Generator) -> None:
    scores = evaluate(generator, data, (Condition("plain"),)).means(region="all")["plain"]["copy S2_t1"]
    assert scores["samples"] == COUNT - 1, "a sample with less than half its target clear is left out"
    samples = [collate([data[i]]) for i in range(COUNT) if i != CLOUDY]
    for name, metric in METRICS.items():
        values = [metric(s.s2_t1, s.target, s.clear).item() for s in samples]
        assert scores[name] == pytest.approx(sum(values) / len(values), rel=1e-6)
    by_hand = [(s.s2_t1 - s.target)[s.clear.expand_as(s.target)].abs().mean().item() for s in samples]
    assert scores["MAE"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)


def test_a_generator_that_knows_the_truth_scores_perfectly_under_every_condition(data: Patches) -> None:
    oracle = Oracle(data)
    for rows in evaluate(oracle, data).means(region="all").values():
        assert rows["generator"]["PSNR"] == pytest.approx(120)
        assert rows["generator"]["SSIM"] == pytest.approx(1)
        assert rows["copy S2_t1"]["PSNR"] < 40
    seen = [float(s.isfinite().float().mean()) for s in oracle.shown[: len(CONDITIONS)]]
    assert seen[:2] == [0, 0]
    assert 0.03 < seen[2] < 0.11 < seen[3] < 0.31


def test_conditions_are_the_same_every_time_and_each_sample_its_own(data: Patches, generator: Generator) -> None:
    torch.manual_seed(1)
    first = evaluate(generator, data).means(region="all")
    torch.manual_seed(2)
    assert evaluate(generator, data).means(region="all") == first
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
        def generate(self, s1_t1, s2_t1, s1_t2, s2_t2, **known):  # type: ignore[no-untyped-def]
            made = super().generate(s1_t1, s2_t1, s1_t2, s2_t2).reflectance
            return Prediction(torch.where(s2_t2.isnan(), made, 0.9))

    assert evaluate(Copycat(data), data).means(region="all")["30 % of t2 seen"]["generator"]["MAE"] == 0


def test_progress_counts_every_sample(data: Patches, generator: Generator) -> None:
    steps: list[tuple[int, int]] = []
    evaluate(generator, data, (Condition("plain"),), on_sample=lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, COUNT) for i in range(COUNT)]


class Places(Patches):
    """Three quarters of t1 are cloudy in ``patch-0``, half is flooded, and ``patch-2`` is damaged."""

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise DamagedPatch("patch-2 is damaged")
        sample = super().__getitem__(index)
        clear_t1, flooded = np.ones_like(sample.clear), np.zeros_like(sample.clear)
        clear_t1[:, :48] = index != 0
        flooded[:, :, 32:] = True
        return sample._replace(clear_t1=clear_t1, flooded=flooded, event=f"event {index % 2}")


def test_occluded_observed_and_flooded_pixels_are_scored_apart() -> None:
    data = Places(count=4)

    def wrong_under_clouds(inputs: Inputs) -> Tensor:
        truth = torch.from_numpy(Patches()[0].target)[None]
        return torch.cat([truth[:, :, :48] + 0.1, truth[:, :, 48:]], 2)

    part = Part(data, [0])
    result = evaluate({"ours": wrong_under_clouds}, part, (Condition("plain"),))
    means = {region: result.means(region=region)["plain"]["ours"] for region in REGIONS}
    assert {region: round(scores["MAE"], 4) for region, scores in means.items()} == {
        "all": 0.075, "occluded": 0.1, "observed": 0.0, "flooded": 0.075,
    }  # fmt: skip
    pixels = {r.region: r.pixels for r in result.records}
    assert pixels == {"all": 56 * 64, "occluded": 48 * 56, "observed": 16 * 56, "flooded": 32 * 64}


def test_painted_clouds_and_missing_pixels_are_occluded(data: Patches) -> None:
    sample = data[0]
    sample.s2_t1[:, :5] = np.nan
    inputs, occluded = arrange(sample, data.bands, Condition("painted", painted=0.3), torch.Generator().manual_seed(0))
    assert occluded[..., :5, :].all()
    untouched = ~occluded.expand_as(inputs.s2_t1)
    torch.testing.assert_close(
        inputs.s2_t1[untouched], torch.from_numpy(sample.s2_t1)[None][untouched], atol=0.06, rtol=0
    )
    assert 0.3 < occluded.float().mean() < 0.7, "clouds and their shadows"


def test_damaged_samples_are_named_and_cloudy_ones_counted(generator: Generator) -> None:
    result = evaluate(generator, Places(count=4, cloudy=(CLOUDY,)), (Condition("plain"),))
    assert result.skipped == ["patch-2 is damaged"]
    assert result.cloudy == ["patch-1"]
    assert {r.sample for r in result.records} == {"patch-0", "patch-3"}


def test_windows_of_any_size_are_made(generator: Generator) -> None:
    given = scene(generator.config, 64, 96)
    x, y = given.s1_t1[..., :50, :70], given.s2_t1[..., :50, :70]
    made = method_of(generator)(Inputs(x, y, x, y * torch.nan))
    assert made.shape == y.shape
    assert made.isfinite().all()
    whole = [F.pad(t, (0, 26, 0, 14), value=torch.nan) for t in (x, y, x)]
    with torch.inference_mode():
        torch.testing.assert_close(made, generator(*whole).reflectance[..., :50, :70].clamp(0, 1))


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_generator_is_told_whether_the_radar_has_a_level(generator: Generator, calibrated: bool) -> None:
    class Darker(Patches):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample._replace(s1_t2=sample.s1_t2 - 6)

    here, darker = (
        evaluate(generator, data(count=1, calibrated=calibrated), (Condition("plain"),)).means(region="all")["plain"]
        for data in (Patches, Darker)
    )
    change = abs(here["generator"]["MAE"] - darker["generator"]["MAE"])
    assert change > 1e-5 if calibrated else change < 1e-6


def test_bands_that_a_data_set_lacks_are_not_scored() -> None:
    ten, three = OMBRIA_LIKE, replace(OMBRIA_LIKE, bands=CORE)
    painted = (Condition("plain"), Condition("half seen", seen=0.5))

    def zero(inputs: Inputs) -> Tensor:
        return 0 * inputs.s2_t1.nan_to_num()

    scores = [evaluate({"zero": zero}, data, painted).means(region="all") for data in (ten, three)]
    for condition in painted:
        for method in ("zero", "copy S2_t1"):
            assert scores[0][condition.name][method] == pytest.approx(scores[1][condition.name][method], rel=1e-5)


def test_validation_scores_are_the_mean_over_conditions(data: Patches, generator: Generator) -> None:
    means = evaluate(generator, data).means(region="all")
    expected = sum(rows["generator"]["PSNR"] for rows in means.values()) / len(means)
    assert validation_scores(generator, data, COUNT)["PSNR"] == pytest.approx(expected)
    assert validation_scores(generator, data, 2) != validation_scores(generator, data, COUNT)
    with pytest.raises(TrainingError, match="none of 1 validation samples has 50% of its target clear"):
        validation_scores(generator, Part(data, [CLOUDY]), 1)


def test_the_tables_and_the_file(generator: Generator) -> None:
    result = evaluate(generator, Places(count=4, cloudy=(3,)))
    text = as_markdown(result, {(c.name, m): 12.34 for c in CONDITIONS for m in ("copy S2_t1", "generator")})
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert [len(t.splitlines()) - 2 for t in tables] == [8, 8, 8, 8]
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| 12.3 |" in tables[0]
    assert "observed" in tables[1]
    assert "60% – 100%" in tables[2]
    assert "event 1" in tables[3]
    assert "1 samples with less than half" in text
    assert "patch-2 is damaged" in text
    rows = list(csv.DictReader(as_csv(result).splitlines()))
    assert len(rows) == len(result.records)
    assert {row["region"] for row in rows} == {"all", "occluded", "observed", "flooded"}
    assert float(rows[0]["PSNR"]) == pytest.approx(result.records[0].scores["PSNR"], rel=1e-4)


def cells(text: str, title: str) -> dict[tuple[str, str], dict[str, str]]:
    """The table under ``title``: by its first two columns, then by heading."""
    head, _, *rows = text.split(f"{title}:\n\n")[1].split("\n\n")[0].splitlines()
    names = [name.strip() for name in head.strip("|").split("|")]
    table = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {(row[0], row[1]): dict(zip(names[2:], row[2:], strict=True)) for row in table}


def test_rows_by_cover_and_event_are_the_means_of_their_samples() -> None:
    """An error of 10^-k everywhere is a PSNR of 20 k dB: places 0 and 4 make event 0, and t1 is cloudy in place 0."""
    data, errors = Places(count=6), {0: 0.1, 1: 0.01, 3: 0.01, 4: 0.01, 5: 0.001}
    truths = {index: torch.from_numpy(data[index].target)[None] for index in errors}
    radars = {index: torch.from_numpy(data[index].s1_t2)[None] for index in errors}

    def wrong(inputs: Inputs) -> Tensor:
        (index,) = (index for index, radar in radars.items() if torch.equal(radar, inputs.s1_t2))
        return truths[index] + errors[index]

    result = evaluate({"ours": wrong}, data, (Condition("plain"),))
    assert {record.sample: record.cover for record in result.records}["patch-0"] == 0.75
    text = as_markdown(result)
    covers = cells(text, "by cloud cover of S2 at t1")["plain", "ours"]
    assert covers["0% – 10%"].split(" / ")[0] == "45.00", "(40 + 40 + 40 + 60) / 4"
    assert covers["0% – 10%"].endswith("(4)")
    assert (covers["10% – 30%"], covers["30% – 60%"]) == ("", "")
    assert covers["60% – 100%"].split(" / ")[0] == "20.00"
    assert covers["60% – 100%"].endswith("(1)")
    events = cells(text, "by event")
    assert set(events) == {("event 0", "plain"), ("event 1", "plain")}
    assert events["event 0", "plain"]["ours"].split(" / ")[0] == "30.00", "(20 + 40) / 2"
    assert events["event 1", "plain"]["ours"].split(" / ")[0] == "46.67", "(40 + 40 + 60) / 3"
    assert events["event 1", "plain"]["ours"].endswith("(3)")


def test_a_cover_on_an_edge_belongs_to_the_bin_above_and_a_whole_one_to_the_last() -> None:
    covers = (0.0, 0.0999, 0.1, 0.3, 0.5999, 0.6, 1.0)
    records = [
        Record(f"{i}", "", "plain", "ours", region, cover, 64, dict.fromkeys(METRICS, 0.0) | {"PSNR": 10.0 * i})
        for i, cover in enumerate(covers)
        for region in REGIONS  # in other regions a sample must not count again
    ]
    row = cells(as_markdown(Evaluation(records)), "by cloud cover of S2 at t1")["plain", "ours"]
    assert list(row.values()) == ["5.00 / 0.000 (2)", "20.00 / 0.000 (1)", "35.00 / 0.000 (2)", "55.00 / 0.000 (2)"]
