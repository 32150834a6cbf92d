"""What a training run leaves to look at: losses and scores as CSV, TensorBoard events if asked, sample pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crgen.errors import RequestError, TrainingError
from crgen.files import replacing
from crgen.model.generator import Generator
from crgen.training.contact_sheet import Row, save_sheet
from crgen.training.data.dataset import Sample, collate
from crgen.training.score.evaluate import Inputs, method_of


class TrainingLog:
    """A folder with ``train.csv`` (one row per step), ``validation.csv`` and pictures, ``step-NNNNNN.png``.

    Args:
        folder: made when first written to.
        samples: places to make pictures of.
        picture_every: steps between pictures; None for one each epoch.
        tensorboard: also write TensorBoard events.

    Raises:
        RequestError: if TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        samples: Sequence[Sample] = (),
        *,
        picture_every: int | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.samples, self.picture_every = folder, samples, picture_every
        self.events: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise RequestError("TensorBoard is not installed: pip install 'crgen[train]' or leave it out") from None
            self.events = SummaryWriter(str(folder))

    def rewind(self, step: int) -> None:
        """Drop what an interrupted run wrote after the step it is resumed at, and lines it cut short.

        Raises:
            TrainingError: if a file cannot be rewritten; it stays as it was.
        """
        for path in (self.folder / "train.csv", self.folder / "validation.csv"):
            if path.exists():
                _rewrite(path, _head(path.read_text(), step))

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note the losses of one step."""
        self._append("train.csv", step, values)

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Note the scores of one validation."""
        self._append("validation.csv", step, values)

    def pictures(self, step: int, epoch_steps: int, generator: Generator, *, last: bool) -> None:
        """Make a picture of what the generator makes of the samples, where one is due."""
        if not self.samples or not (last or step % (self.picture_every or epoch_steps) == 0):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for sample in self.samples:
            batch = collate([sample])
            nothing = torch.full_like(batch.target, torch.nan)
            inputs = Inputs(batch.s1_t1, batch.s2_t1, batch.s1_t2, nothing, sample.s1_calibrated)
            made = method_of(generator)(inputs)[0].numpy()
            rows.append(Row(sample.name, sample.s1_t1, sample.s2_t1, sample.s1_t2, {"made": made}, sample.target))
        save_sheet(self.folder / f"step-{step:06d}.png", rows, generator.config.bands)

    def _append(self, name: str, step: int, values: Mapping[str, float]) -> None:
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(["step", *values])
                writer.writerow([step, *(f"{v:.6g}" for v in values.values())])
        except OSError as error:
            raise _unwritable(path, error) from None
        if self.events is not None:
            for key, value in values.items():
                self.events.add_scalar(f"{path.stem}/{key}", value, step)


def _head(text: str, step: int) -> str:
    """Return the title and the rows up to a step; nothing at step 0."""
    title, *rows = [line for line in text.splitlines(keepends=True) if line.endswith("\n")] or [""]
    kept = [row for row in rows if row.split(",", 1)[0].isdigit() and int(row.split(",", 1)[0]) <= step]
    return title + "".join(kept) if step else ""


def _rewrite(path: Path, text: str) -> None:
    """Replace a file's text by atomic rename, or remove the file where no text is left."""
    try:
        if text:
            with replacing(path) as part:
                part.write_text(text)
        else:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> TrainingError:
    return TrainingError(f"cannot write the log {path} ({error.strerror}); free space")
