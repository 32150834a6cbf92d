"""An evaluation as Markdown tables and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import pairwise

from crgen.training.metrics import METRICS
from crgen.training.score.evaluate import REGIONS, Evaluation, Scores

COVER_BINS = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Edges of the bins of cloud cover at t1."""


def as_markdown(evaluation: Evaluation, fid: Mapping[tuple[str, str], float] | None = None) -> str:
    """Return the tables: overall, by region, by cloud cover at t1, and by event where there are several.

    Args:
        evaluation: the scores.
        fid: by condition and method, where it was computed.
    """
    parts = [_overall(evaluation, fid), _regions(evaluation), _covers(evaluation), _events(evaluation)]
    notes = []
    if evaluation.cloudy:
        notes.append(f"{len(evaluation.cloudy)} samples with less than half of the target clear were left out.")
    if skipped := list(dict.fromkeys(evaluation.skipped)):
        notes.append(f"Skipped as missing or damaged: {len(skipped)} ({'; '.join(skipped)})")
    return "\n\n".join(part for part in (*parts, *notes) if part)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _cells(scores: Scores) -> list[str]:
    digits = {"PSNR": 2, "SAM": 2}
    return [f"{scores[m]:.{digits.get(m, 4)}f}" for m in METRICS] + [f"{scores['samples']:.0f}"]


def _short(scores: Scores | None) -> str:
    return "" if scores is None else f"{scores['PSNR']:.2f} / {scores['SSIM']:.3f} ({scores['samples']:.0f})"


def _overall(evaluation: Evaluation, fid: Mapping[tuple[str, str], float] | None) -> str:
    means = evaluation.means(region="all")
    rows = [
        [condition, method, *_cells(scores), *([f"{fid[condition, method]:.1f}"] if fid else [])]
        for condition, methods in means.items()
        for method, scores in methods.items()
    ]
    return _table(["condition", "", *METRICS, "samples", *(["FID"] if fid else [])], rows)


def _methods(evaluation: Evaluation) -> list[str]:
    return list(dict.fromkeys(record.method for record in evaluation.records))


def _regions(evaluation: Evaluation) -> str:
    means = {region: evaluation.means(region=region) for region in REGIONS}
    rows = [
        [condition, method, *(_short(means[r].get(condition, {}).get(method)) for r in REGIONS)]
        for condition in means["all"]
        for method in _methods(evaluation)
    ]
    return "PSNR / SSIM (samples) by region:\n\n" + _table(["condition", "", *REGIONS], rows)


def _covers(evaluation: Evaluation) -> str:
    bins = list(pairwise(COVER_BINS))
    columns = []
    for low, high in bins:
        inside = [r for r in evaluation.records if r.region == "all" and low <= r.cover < (high if high < 1 else 1.01)]
        columns.append(Evaluation(inside).means())
    conditions = dict.fromkeys(record.condition for record in evaluation.records)
    rows = [
        [condition, method, *(_short(column.get(condition, {}).get(method)) for column in columns)]
        for condition in conditions
        for method in _methods(evaluation)
    ]
    heads = [f"{low:.0%} – {high:.0%}" for low, high in bins]
    return "PSNR / SSIM (samples) by cloud cover of S2 at t1:\n\n" + _table(["condition", "", *heads], rows)


def _events(evaluation: Evaluation) -> str:
    events = list(dict.fromkeys(record.event for record in evaluation.records))
    if len(events) < 2:
        return ""
    means = {event: evaluation.means(region="all", event=event) for event in events}
    methods = _methods(evaluation)
    rows = [
        [event or "(none)", condition, *(_short(scores.get(method)) for method in methods)]
        for event in events
        for condition, scores in means[event].items()
    ]
    return "PSNR / SSIM (samples) by event:\n\n" + _table(["event", "condition", *methods], rows)


def as_csv(evaluation: Evaluation) -> str:
    """Return one line per record."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "event", "condition", "method", "region", "cover", "pixels", *METRICS])
    for *names, cover, pixels, scores in evaluation.records:
        writer.writerow([*names, f"{cover:.4f}", pixels, *(f"{scores[m]:.6g}" for m in METRICS)])
    return text.getvalue()
