"""What a place's own past teaches, found on one block of the area before any window is computed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crgen.model import mixing, past
from crgen.model.days import shown_by
from crgen.model.generator import Prediction
from crgen.model.looks import Look, looked_at, outdated
from crgen.model.mixing import Mixture
from crgen.model.past import Believed, Proof
from crgen.pipeline.box import Box
from crgen.pipeline.source.past import Day, block_of
from crgen.pipeline.tiling.hidden import Hidden, binned
from crgen.pipeline.tiling.predict import Predictor
from crgen.pipeline.tiling.reader import StackReader

Array = NDArray[np.float32]
OFFSET = 0.05
"""Reflectance by which all bands of a look differ from t1's, even where both are darkest, as only haze does, or the
offset of 0.1 that came with processing baseline 04.00 and was not taken away."""


@dataclass(frozen=True)
class Learned:
    """What is believed of a place, and what a person should know of it."""

    believed: Believed
    bands: dict[str, int]
    """Those of the proof, each with its place among the generator's."""
    ratios: NDArray[np.int64]
    """Pixels of the earlier pairs by band and by bin of error over stated deviation, ``(band, bin)``, each pair left
    out of what its map was mixed by; see :class:`~crgen.pipeline.tiling.hidden.Hidden`."""
    blocks: int
    """Windows of these pairs."""
    outdated: float = 0.0
    """Share of the block that changed since its older looks, which are not shown there."""
    left_out: tuple[datetime.date, ...] = ()
    """Days of the Stack's past that nothing is taken of."""
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether copying would have been better on the place's own past."""
        proof = self.believed.proof
        return proof is not None and _overall(proof.rmse) > _overall(proof.copy_rmse)

    @property
    def line(self) -> str:
        """What the mixture scored on the place's own past, in words; empty if nothing could be scored."""
        proof = self.believed.proof
        if proof is None:
            return ""
        made, copied = _overall(proof.rmse), _overall(proof.copy_rmse)
        pairs = f"{len(proof.days)} earlier pair{'s' if len(proof.days) > 1 else ''}"
        since = f"; {self.outdated:.0%} changed since and goes by the nearest look" if self.outdated else ""
        if self.worse:
            return f"copying was better on this place's past: RMSE {copied:.3f} against {made:.3f} over {pairs}{since}"
        bias = f"bias {proof.bias.mean():+.3f}"
        return f"on this place's past: RMSE {made:.3f}, {bias}, over {pairs}; copying {copied:.3f}{since}"

    def described(self) -> dict[str, Any]:
        """Return what a product's Item says of it: scores by band, and what was believed of each candidate."""
        proof = self.believed.proof
        if proof is None:
            return {"pairs": 0}
        days = [datetime.date.fromordinal(day).isoformat() for day in proof.days]
        scores = {name: getattr(proof, name) for name in ("rmse", "bias", "copy_rmse", "copy_bias")}
        mean = self.believed.mixture.weights[:, [*self.bands.values()]].mean(1)
        return {
            "pairs": len(days),
            "days": days,
            "bands": list(self.bands),
            **{name: [round(float(v), 5) for v in values] for name, values in scores.items()},
            "outdated": round(self.outdated, 3),
            "believed": {
                f"radar {kind}": {name: round(float(w), 3) for name, w in zip(mixing.CANDIDATES, weights, strict=True)}
                for kind, weights in zip(("unchanged", "changed"), mean, strict=True)
            },
        }

    def hidden(self, bands: Sequence[str]) -> Hidden:
        """Return how wide errors spread on the place's past, as if the later looks were hidden blocks of the scene."""
        found = Hidden(len(bands), self.blocks)
        for at, band in enumerate(bands):
            if band in self.bands:
                found.ratios[at] = self.ratios[[*self.bands].index(band)]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it, but for the evidence."""
        proof = self.believed.proof
        return {
            "weights": self.believed.mixture.weights.tolist(),
            "near": self.believed.near,
            "proof": None if proof is None else {n: np.asarray(v).tolist() for n, v in proof._asdict().items()},
            "bands": self.bands,
            "ratios": self.ratios.tolist(),
            "blocks": self.blocks,
            "outdated": self.outdated,
            "left_out": [day.isoformat() for day in self.left_out],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, held: dict[str, Any], evidence: NDArray[np.float32] | None) -> Learned:
        """Return what :meth:`to_json` was called on."""
        proof, scores = None, held["proof"]
        if scores is not None:
            moments = {name: np.array(values) for name, values in scores.items() if name != "days"}
            proof = Proof(tuple(scores["days"]), **moments)
        return cls(
            Believed(
                Mixture(np.array(held["weights"])),
                torch.zeros(0) if evidence is None else torch.from_numpy(evidence),
                held["near"],
                proof,
                np.zeros((0, 0), np.float32),
            ),
            held["bands"],
            np.array(held["ratios"]),
            held["blocks"],
            held["outdated"],
            tuple(map(datetime.date.fromisoformat, held["left_out"])),
            tuple(held["notes"]),
        )


@dataclass(frozen=True)
class PastOf:
    """The past of a Stack, as a run reads it.

    Args:
        reader: the Stack.
        predictor: the generator.
        output: the rectangle of the result.
        days: of the Stack's past, in order.
        t1: day of the earlier images.
        t2: day to map.
        clear_threshold: clear-sky score from which a pixel counts as clear.
    """

    reader: StackReader
    predictor: Predictor
    output: Box
    days: tuple[datetime.date, ...]
    t1: datetime.date
    t2: datetime.date
    clear_threshold: float

    def learn(self) -> Learned:
        """Return what the past teaches; reads all its dates over the block."""
        block, origins = block_of(self.output, self.predictor.lattice.window)
        now = self.reader.read(block, [n for n in ("s1_t1", "s2_t1", "clear_t1") if n in self.reader])
        then = self.reader.read(block, [n for n in ("s1_past", "s2_past", "clear_past") if n in self.reader])
        inside = np.zeros(block.shape, bool)
        if common := block.intersect(self.output):
            inside[common.slices(block)] = True
        first = self._look(self.t1, now.get("s1_t1"), now["s2_t1"], now.get("clear_t1"), block, origins, inside)
        looks, left_out, notes = [first], [], []
        seen_now = self._clear(now.get("clear_t1", np.full(block.shape, np.nan, np.float32))) & inside
        lacking = [self._lacks(s2) for s2 in then["s2_past"]]
        for at, day in enumerate(self.days):
            s2, score = then["s2_past"][at], then["clear_past"][at]
            lacks = lacking[at]
            if lacks is None:
                continue  # shows nothing of the block
            if lacks and () in lacking:
                notes.append(f"the look of {day} lacks {', '.join(lacks)}: it is left out of the past")
                left_out.append(day)
            elif off := _offset(now["s2_t1"], s2, self._clear(score) & seen_now):
                notes.append(
                    f"the look of {day} is {'brighter' if off > 0 else 'darker'} than t1 by {abs(off):.2f} in every "
                    "band, as haze or another processing baseline makes it: it is left out of the past"
                )
                left_out.append(day)
            else:
                radar = then["s1_past"][at] if "s1_past" in then else None
                looks.append(self._look(day, radar, s2, score, block, origins, inside))
        believed = past.learn(
            looks, self.t1.toordinal(), self.t2.toordinal(), generate=self._generate, evidence=self._evidence
        )
        bands = self.predictor.model.card.config.bands
        held = {band: at for at, (band, one) in enumerate(zip(bands, past.held_by(looks), strict=False)) if one}
        if believed.proof is None:
            notes.append(f"the place's past teaches nothing: {_why_nothing(looks[1:])}; the generator stands alone")
        elif without := [band for band in self.predictor.opened if band not in held]:
            notes.append(f"the place's past lacks {', '.join(without)}: made without it")
        pairs = 0 if believed.proof is None else len(believed.proof.days)
        return Learned(
            believed,
            held,
            binned(believed.ratios),
            pairs * len(origins),
            outdated(looks, self.t1.toordinal(), self.t2.toordinal()),
            tuple(left_out),
            tuple(notes),
        )

    def looks(self, box: Box, s2_t1: Array, clear_t1: Array | None, left_out: Sequence[datetime.date] = ()) -> Array:
        """Return what may be copied over a rectangle, ``(candidate, band, y, x)``.

        Args:
            box: the rectangle.
            s2_t1: reflectance of t1 over it.
            clear_t1: its clear-sky score, if there is one.
            left_out: days that nothing is taken of.
        """
        days = [Day(self.t1.toordinal())]
        days += [Day(day.toordinal(), at) for at, day in enumerate(self.days)]
        without = [day.toordinal() for day in left_out]
        shown = [one for one in shown_by(days, self.t1.toordinal(), self.t2.toordinal()) if one.day not in without]
        times = [one.at for one in shown if one.at >= 0]
        read = self.reader.read(box, ("s2_past", "clear_past"), times) if times else {}
        images = np.stack([s2_t1 if one.at < 0 else read["s2_past"][times.index(one.at)] for one in shown])
        nothing = np.full(box.shape, np.nan, np.float32)
        now = nothing if clear_t1 is None else clear_t1
        scores = [now if one.at < 0 else read["clear_past"][times.index(one.at)] for one in shown]
        clear = self._clear(np.stack(scores))
        ages = [self.t2.toordinal() - one.day for one in shown]
        return np.asarray(looked_at(torch.from_numpy(images), torch.from_numpy(clear), ages).numpy())

    def _clear(self, score: Array) -> NDArray[np.bool_]:
        return np.asarray(np.nan_to_num(score, nan=0.0) >= self.clear_threshold)

    def _look(
        self,
        day: datetime.date,
        s1: Array | None,
        s2: Array,
        score: Array | None,
        block: Box,
        origins: Sequence[tuple[int, int]],
        inside: NDArray[np.bool_],
    ) -> Look:
        side = self.predictor.lattice.window

        def cut(image: NDArray[Any]) -> Tensor:
            places = [Box(r, r + side, c, c + side).slices(block) for r, c in origins]
            return torch.from_numpy(np.stack([image[..., *place] for place in places]))

        nothing = np.full(block.shape, np.nan, np.float32)
        if score is None:
            score = nothing
        if s1 is None:
            s1 = nothing[None]
        clear = self._clear(score) & inside
        return Look(
            day.toordinal(),
            cut(self.predictor.all_pols(s1)),
            cut(self.predictor.all_bands(s2)),
            cut(clear[None]),
            cut(score[None]),
        )

    def _lacks(self, s2: Array) -> tuple[str, ...] | None:
        """Return the bands that a look does not show at all; None where it shows nothing."""
        missing = ~np.isfinite(s2).any((1, 2))
        return None if missing.all() else tuple(np.array(self.predictor.opened)[missing])

    def _generate(self, a: Look, b: Look, lent: Tensor | None) -> Prediction:
        nothing = torch.full_like(a.s2, torch.nan)
        more = {"clear_t1": a.score if a.score is not None else torch.full_like(a.s2[:, :1], torch.nan)}
        if lent is not None:
            more["lent"] = lent.expand(len(a.s1), -1)
        bands = a.s2.shape[1]

        def made(*inputs: Tensor, **extra: Tensor) -> Tensor:
            prediction: Prediction = self.predictor.model.generator(*inputs, **extra)
            planes = [prediction.reflectance.float()]
            variance, widths = prediction.variance, self.predictor.model.card.error
            if variance is not None and widths is not None and prediction.reliability is not None:
                variance = widths.read(variance.float().sqrt(), 1 - prediction.reliability.float()).square()
            planes += [plane.float() for plane in (variance, prediction.water) if plane is not None]
            return torch.cat(planes, 1)

        planes = self.predictor.over(made, a.s1, a.s2, b.s1, nothing, **more)
        stated = bands * (1 + self.predictor.predicts_variance)
        return Prediction(
            planes[:, :bands],
            variance=planes[:, bands:stated] if self.predictor.predicts_variance else None,
            water=planes[:, stated:] if self.predictor.predicts_water else None,
        )

    def _evidence(self, a: Look, b: Look) -> Tensor:
        seen = torch.where(b.clear, b.s2, torch.nan)
        score = a.score if a.score is not None else torch.full_like(a.s2[:, :1], torch.nan)
        generator = self.predictor.model.generator
        return self.predictor.over(generator.evidence, a.s1, a.s2, b.s1, seen, clear_t1=score).double().sum(0)


def _overall(rmse: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(rmse).mean()))


def _why_nothing(looks: Sequence[Look]) -> str:
    """Say why nothing could be learned from looks."""
    if not looks:
        return "none of its looks shows the middle of the area in the bands that are read"
    if not any(bool(look.clear.any()) for look in looks):
        return "none of it is clear over the middle of the area"
    if not any(bool(torch.isfinite(look.s1).any()) for look in looks):
        return "no radar of the orbits of t1 and t2 goes with it"
    return "no two of its looks show the same ground clear"


def _offset(s2_t1: Array, s2: Array, clear: NDArray[np.bool_]) -> float:
    """Return by how much a look is brighter than t1 in all bands; 0 if it is not in all, or by little.

    It must be so of the darkest ground and of the median: a new reservoir moves only one of them, a season the other.
    """
    differences = []
    for before, after in zip(s2_t1[:, clear], s2[:, clear], strict=True):
        both = np.isfinite(before) & np.isfinite(after)
        if both.any():
            was, now = (np.percentile(values[both], (2, 50)) for values in (before, after))
            differences += [float(d) for d in now - was]
    least = min(differences, key=abs, default=0.0)
    same = all(np.sign(d) == np.sign(least) for d in differences)
    return least if same and abs(least) > OFFSET else 0.0
