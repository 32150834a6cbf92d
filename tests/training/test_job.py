"""From a configuration and flags to a run, and from the run to weights whose card says what they are."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from crgen.errors import CrgenError, RequestError, WeightsError
from crgen.model.weights import load_model, save_weights
from crgen.training.job import prepare, read_training_file
from tests.training.noise import write_ombria

CONFIG = """
preset = "tiny"
validation_samples = 1
out = "{folder}/mine.safetensors"

[[data]]
path = "{folder}"
weight = 2

[[data]]
kind = "ombria"
path = "{folder}"
split = "test"

[recipe]
epochs = 1
batch = 2
crop = 32
warmup = 1
[recipe.losses]
charbonnier = 1.0
ssim = 0.5
[recipe.optimiser]
learning_rate = 5e-4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like OMBRIA with patches of training, test and validation events, and a configuration."""
    write_ombria(tmp_path, ("0001", "0002", "0007", "0342", "0020"))
    (tmp_path / "run.toml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def test_patches_that_are_trained_on_are_never_scored_as_held_out(folder: Path) -> None:
    config = folder / "run.toml"
    assert prepare(read_training_file(config, {})).validation is not None
    config.write_text(CONFIG.format(folder=folder).replace('"test"', '"validation"'))
    assert prepare(read_training_file(config, {})).validation is None


def test_flags_replace_single_fields_of_the_configuration(folder: Path) -> None:
    file = read_training_file(folder / "run.toml", {"recipe": {"optimiser": {"betas": [0.5, 0.9]}}, "workers": None})
    job = prepare(file)
    recipe = job.trainer.recipe
    assert (recipe.epochs, recipe.steps, job.trainer.steps) == (1, None, 2)
    assert recipe.optimiser.learning_rate == 5e-4
    assert recipe.optimiser.betas == (0.5, 0.9)
    assert recipe.losses == {"charbonnier": 1.0, "ssim": 0.5}
    job = prepare(read_training_file(folder / "run.toml", {"recipe": {"steps": 7}}))
    assert job.trainer.steps == 7
    assert [s.weight for s in job.specs] == [2.0, 1.0]
    assert not (folder / "mine.log").exists(), "nothing is written before the run"


def test_a_short_run_ends_in_weights_whose_card_says_what_they_are(folder: Path) -> None:
    job = prepare(read_training_file(folder / "run.toml", {"recipe": {"validate_every": 2}}))
    generator = job.trainer.run()
    save_weights(job.out, generator, job.card({"as it is": {}}))
    model = load_model(str(job.out))
    assert model.card.training["losses"] == {"charbonnier": 1.0, "ssim": 0.5}
    assert model.card.trained_on.startswith("OMBRIA (floods")
    assert "dB" in model.card.radiometry
    assert model.card.training["data licences"]["ombria"] == "none stated"
    assert model.card.training["painted events"].startswith("of the samples with calibrated radar 35% a flood")
    low, high = model.card.usual["B8"]
    assert 0 < low <= high <= 1, "what is usual there"
    assert all(torch.isfinite(t).all() for t in model.generator.state_dict().values())
    log = folder / "mine.log"
    assert (log / "train.csv").read_text().count("\n") == 1 + 2
    assert [row.split(",")[0] for row in (log / "validation.csv").read_text().splitlines()] == ["step", "2"]
    with Image.open(log / "step-000002.png") as picture:
        assert picture.size == (5 * 260, 274)

    again = read_training_file(folder / "run.toml", {"start": str(job.out), "out": folder / "finer.safetensors"})
    second = prepare(again).trainer
    assert second.origin == model.sha256
    assert all(torch.equal(t, model.generator.state_dict()[n]) for n, t in second.generator.state_dict().items())
    with pytest.raises(WeightsError, match="cannot start from it: its layers are others"):
        prepare(again.model_copy(update={"generator": {"widths": (12, 12, 16, 24, 24, 32)}}))


def test_a_band_that_no_data_hold_is_not_learned_from_nothing(folder: Path) -> None:
    """OMBRIA has B11, B8 and B3 alone; the default makes other bands of these, the paper's form does not."""
    given = {"preset": "paper", "perceptual": "none", "recipe": {"warmup": 0}}
    with pytest.raises(RequestError, match="the data hold no B4, B2, which would be learned from nothing"):
        prepare(read_training_file(folder / "run.toml", given))
    prepare(read_training_file(folder / "run.toml", {**given, "bands": ("B11", "B8", "B3")}))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"colour": "red"}, "colour"),
        ({"recipe": {"speed": 3}}, "recipe: speed"),
        ({"generator": {"wings": 2}}, "generator: wings"),
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"data": [{"kind": "ombria", "path": "x", "colour": "red"}]}, "option 'colour'"),
        ({"data": [{"kind": "ombria", "path": "x", "evenness": 2}]}, "option 'evenness': .*less than or equal to 1"),
        ({"data": [{"kind": "ombria"}]}, "needs a path"),
        ({"data": [{"kind": "jpeg", "path": "x"}]}, "no kind of data 'jpeg'"),
        ({"data": [{"kind": "ombria", "path": "x", "weight": "heavy"}]}, "weight is not a number"),
        ({"recipe": {"losses": {"perceptual": 1.0}}, "perceptual": "missing.pth"}, "no VGG-19 weights"),
        ({"tensorboard": "perhaps"}, "tensorboard"),
    ],
)
def test_configurations_that_cannot_be(folder: Path, flags: dict, problem: str) -> None:
    with pytest.raises(CrgenError, match=problem) as caught:
        prepare(read_training_file(folder / "run.toml", flags))
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_not_toml_is_named(folder: Path) -> None:
    (folder / "run.toml").write_text("steps: 3")
    with pytest.raises(RequestError, match=r"run\.toml is not TOML"):
        read_training_file(folder / "run.toml", {})
