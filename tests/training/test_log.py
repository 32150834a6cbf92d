"""What a run leaves to look at: whole rows, also after an interruption, and pictures when they are due."""

import builtins
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crgen.errors import OutputError, RequestError, TrainingError
from crgen.model.build import build_generator
from crgen.model.config import CORE, GeneratorConfig, preset
from crgen.training.contact_sheet import Row, paint, save_sheet
from crgen.training.log import TrainingLog
from crgen.training.recipe import Recipe
from crgen.training.train import Trainer
from tests.model.scenes import TINY_PAPER
from tests.training.patches import OMBRIA_LIKE, Patches

TINY = preset("tiny")
RECIPE = Recipe(steps=5, batch=2, crop=32, validate_every=2)


def training(folder: Path, config: GeneratorConfig = TINY, **options: object) -> Trainer:
    log = TrainingLog(folder / "log", [Patches()[0]], **options)
    generator = build_generator(config, 0)
    scores = iter({"PSNR": 20.0 + i, "SSIM": 0.5} for i in range(9))
    return Trainer(
        generator, RECIPE, Patches(), validate=lambda g: next(scores), checkpoint=folder / "run.pt",
        checkpoint_every=2, log=log,
    )  # fmt: skip


def steps(path: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]


def test_every_step_and_every_score_is_a_row(tmp_path: Path) -> None:
    training(tmp_path).run()
    log = tmp_path / "log"
    assert steps(log / "train.csv") == [1, 2, 3, 4, 5]
    assert (log / "train.csv").read_text().startswith("step,loss,learning_rate,generator_gradient,l1,ms_ssim,auxiliary")
    assert (log / "validation.csv").read_text().splitlines() == ["step,PSNR,SSIM", "2,20,0.5", "4,21,0.5", "5,22,0.5"]
    pictures = sorted(p.name for p in log.glob("*.png"))
    assert pictures == ["step-000003.png", "step-000005.png"], "each epoch of 3 steps, and at the end"


def stop(step: int, values: dict[str, float]) -> None:
    if step == 3:
        raise KeyboardInterrupt


def test_a_resumed_run_does_not_tell_a_step_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path).run(stop)
    assert steps(tmp_path / "log/train.csv") == [1, 2, 3]
    training(tmp_path).run()
    assert steps(tmp_path / "log/train.csv") == [1, 2, 3, 4, 5]
    assert steps(tmp_path / "log/validation.csv") == [2, 4, 5]
    (tmp_path / "run.pt").unlink()
    training(tmp_path)
    assert not (tmp_path / "log/train.csv").exists(), "a run that starts anew starts its log anew"


def test_a_run_interrupted_and_resumed_tells_the_curve_of_one_that_was_not(tmp_path: Path) -> None:
    config = replace(TINY_PAPER, dropout=0.2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    training(whole, config).run()
    with pytest.raises(KeyboardInterrupt):
        training(parts, config).run(stop)
    resumed = training(parts, config)
    assert resumed.step == 2
    resumed.run()
    curve = (whole / "log/train.csv").read_text().splitlines()
    assert len(curve) == 6
    assert (parts / "log/train.csv").read_text().splitlines() == curve


def test_a_log_that_a_full_disk_lets_nobody_rewind_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    content = "step,loss\n" + "".join(f"{step},0.5\n" for step in range(1, 10_001))
    path.write_text(content)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        with pytest.raises(TrainingError, match=r"cannot write the log .*train\.csv .*free space") as caught:
            TrainingLog(tmp_path).rewind(9_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]
    assert path.read_text() == content
    TrainingLog(tmp_path).rewind(9_000)
    assert steps(path) == list(range(1, 9_001))


def test_a_line_that_a_full_disk_cut_short_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("step,loss\n99,0.5\n100,0.5\n1")
    (tmp_path / "validation.csv").write_text("step,PS")
    log = TrainingLog(tmp_path)
    log.rewind(100)
    log.step(101, {"loss": 0.4})
    log.scores(101, {"PSNR": 20.0})
    assert steps(tmp_path / "train.csv") == [99, 100, 101]
    assert (tmp_path / "validation.csv").read_text() == "step,PSNR\n101,20\n"


def test_pictures_every_so_many_steps(tmp_path: Path) -> None:
    training(tmp_path, picture_every=2).run()
    assert [p.name for p in sorted((tmp_path / "log").glob("*.png"))] == [f"step-00000{n}.png" for n in (2, 4, 5)]


def test_places_of_any_size_have_a_picture(tmp_path: Path) -> None:
    """As monthly composites of 100 px have, whose windows are padded."""
    log = TrainingLog(tmp_path, [Patches(side=50)[0]])
    log.pictures(1, 1, build_generator(TINY, 0).eval(), last=True)
    with Image.open(tmp_path / "step-000001.png") as picture:
        assert picture.size == (5 * 54, 68)


def test_floods_in_three_bands_are_shown_in_these(tmp_path: Path) -> None:
    """SWIR, NIR and green, the generated image too: red and blue are not known of them."""
    sample = replace(OMBRIA_LIKE, side=32)[1]
    bright = np.where(np.isin(OMBRIA_LIKE.bands, CORE)[:, None, None], sample.target, np.float32(0.9))
    row = Row("flood", sample.s1_t1, sample.s2_t1, sample.s1_t2, {"made": bright}, sample.target)
    save_sheet(tmp_path / "sheet.png", [row], OMBRIA_LIKE.bands)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image)
    before, made, truth = (pixels[14:46, at * 36 : at * 36 + 32] for at in (1, 3, 4))
    assert (made == truth).all()
    for shown in (before, truth):
        assert not (shown == (90, 90, 110)).all(-1).any()
    red, _, blue = (truth[..., i].astype(float) for i in range(3))
    dry = sample.target[OMBRIA_LIKE.bands.index("B11")] > 0.2
    assert (red > blue)[dry].all(), "land reflects more in B11 than in B3"


def test_tensorboard_writes_events_or_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard (extra 'train') is not installed")
    training(tmp_path, tensorboard=True).run()
    assert list((tmp_path / "log").glob("events.out.tfevents*"))


def test_without_tensorboard_asking_for_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if "tensorboard" in name:
            raise ImportError(name)
        return really(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match=r"TensorBoard is not installed: pip install 'crgen\[train\]'"):
        TrainingLog(tmp_path, tensorboard=True)


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(TrainingError, match="cannot write the log"):
        TrainingLog(tmp_path / "log").step(1, {"loss": 1.0})


def test_a_sheet_shows_rows_of_one_stretch_and_marks_what_is_missing(tmp_path: Path) -> None:
    sample = Patches(side=32, bands=("B11", "B8", "B3"))[1]
    sample.s2_t1[:, :8] = np.nan
    row = Row("place", sample.s1_t1, sample.s2_t1, sample.s1_t2, {"made": sample.target}, sample.target)
    save_sheet(tmp_path / "sheet.png", [row, row._replace(truth=sample.target * np.nan)], ("B11", "B8", "B3"))
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2 * (32 + 18), 5 * 36, 3)
    tiles = [pixels[14:46, at * 36 : at * 36 + 32] for at in range(5)]
    assert (tiles[1][:8] == (90, 90, 110)).all()
    assert (tiles[3] == tiles[4]).all(), "made and true under one stretch"
    assert (pixels[50 + 14 : 50 + 46, 4 * 36 : 4 * 36 + 32] == (90, 90, 110)).all()
    with pytest.raises(OutputError, match="cannot write picture"):
        save_sheet(tmp_path / "missing" / "sheet.png", [row], ("B11", "B8", "B3"))


def test_true_colour_is_red_green_blue_and_one_band_is_grey() -> None:
    image = np.stack([np.full((2, 2), v, np.float32) for v in (0.1, 0.2, 0.3, 0.4)])
    assert (paint(image, ("B2", "B3", "B4", "B8"), 0.0, 0.4)[0, 0] == [191, 127, 63]).all()
    assert (paint(image[:1], ("VV",), 0.0, 0.2)[0, 0] == 127).all()
