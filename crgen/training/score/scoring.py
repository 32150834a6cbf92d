"""`crgen evaluate`: scores, costs, tables and pictures of one generator on one data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from crgen.errors import RequestError, TrainingError
from crgen.files import check_writable, write_whole
from crgen.model.generator import Generator
from crgen.training.contact_sheet import Row, save_sheet
from crgen.training.data.dataset import PatchDataset, Sample
from crgen.training.score.cost import operations, parameters, windows_per_second
from crgen.training.score.evaluate import COPY, Condition, Evaluation, Inputs, evaluate
from crgen.training.score.fid import Fid
from crgen.training.score.report import as_csv, as_markdown

PICTURES = 6
"""Most samples on the sheet, each under every condition."""


class Scoring:
    """One evaluation.

    Args:
        data: what to score on.
        conditions: how the inputs are varied.
        fid: Inception network for FID; left out if None.
        out: folder for ``scores.md``, ``scores.csv`` and ``samples.png``; nothing is written if None.

    Raises:
        RequestError: if a share is not from 0 to below 1, or FID's network is not what it should be.
        OutputError: if the folder cannot be written to.
    """

    def __init__(
        self, data: PatchDataset, conditions: tuple[Condition, ...], *, fid: Path | None, out: Path | None
    ) -> None:
        for condition in conditions:
            if not (0 <= condition.painted < 1 and 0 <= condition.seen < 1):
                raise RequestError(f"'{condition.name}': a share must be from 0 to below 1, e.g. 0.3")
        self.data, self.conditions, self.out = data, conditions, out
        self.fid = None if fid is None else Fid(fid, data.bands)
        self.rows: list[Row] = []
        self.skipped: list[str] = []
        """What the run said of missing and damaged samples."""
        self._scored, self._every = 0, -(-len(data) // PICTURES)
        if out is not None:
            check_writable(out)

    def run(self, generator: Generator, on_sample: Callable[[int, int], None]) -> str:
        """Score the generator and return the tables as Markdown.

        Raises:
            TrainingError: if no sample can be scored.
            OutputError: if the results cannot be written.
        """
        result = evaluate(generator, self.data, self.conditions, on_sample, self._look)
        self.skipped = result.skipped
        if not result.records:
            raise TrainingError(
                f"none of {len(result.cloudy) + len(result.skipped)} samples can be scored: {len(result.cloudy)} have "
                f"less than half of their target clear, {len(result.skipped)} are missing or damaged"
            )
        text = self._text(result, generator)
        if self.out is not None:
            self._write(result, text)
        return text

    def _look(
        self, condition: Condition, sample: Sample, inputs: Inputs, images: dict[str, Tensor], mask: Tensor
    ) -> None:
        if self.fid is not None:
            self.fid.add(condition, sample, inputs, images, mask)
        self._scored += condition is self.conditions[0]
        if self.out is not None and (self._scored - 1) % self._every == 0:
            made = {name: image[0].numpy() for name, image in images.items() if name != COPY}
            seen = inputs.s2_t2[0].numpy()
            title = f"{sample.name} {condition.name}"
            s1_t1, s2_t1, s1_t2 = (image[0].numpy() for image in inputs[:3])
            self.rows.append(Row(title, s1_t1, s2_t1, s1_t2, {"seen of t2": seen, **made}, sample.target))

    def _text(self, result: Evaluation, generator: Generator) -> str:
        device = next(generator.parameters()).device
        cost = (
            f"{parameters(generator) / 1e6:.2f} M parameters, {operations(generator.config) / 1e9:.2f} GFLOPs (2 × "
            f"multiply-add) and {windows_per_second(generator):.1f} windows/s at 256 × 256 px on {device.type}"
        )
        return f"{as_markdown(result, self.fid.scores() if self.fid else None)}\n\n{cost}"

    def _write(self, result: Evaluation, text: str) -> None:
        assert self.out is not None
        files = {"scores.csv": as_csv(result), "scores.md": text + "\n"}
        for name, content in files.items():
            write_whole(self.out / name, content.encode())
        if self.rows:
            save_sheet(self.out / "samples.png", self.rows, self.data.bands)
