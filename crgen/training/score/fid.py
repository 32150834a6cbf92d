"""Fréchet inception distance between generated and true images (Heusel et al. 2017).

Needs Inception weights on disk: the TorchScript file ``inception-2015-12-05.pt`` of NVIDIA's StyleGAN metrics, which
maps images ``(n, 3, y, x)`` of 0 to 255 to 2,048 features. Nothing is downloaded and nothing stands in for it. With
fewer images than features the distance is biased upward: compare only over the same images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from crgen.errors import RequestError
from crgen.training.contact_sheet import rgb_positions
from crgen.training.data.dataset import Sample
from crgen.training.score.evaluate import Condition, Inputs


class Fid:
    """Gathers features over an evaluation: give :meth:`add` as its ``on_images``.

    Args:
        weights: the TorchScript file.
        bands: the bands of the images. Of those that the first true image holds, red, green and blue are looked at
            where they are there, else the first three.
        white: reflectance shown as 255.

    Raises:
        RequestError: if the weights are missing or are something else.
    """

    def __init__(self, weights: Path, bands: tuple[str, ...], white: float = 0.4) -> None:
        self.bands, self.white = bands, white
        self.picks: list[int] | None = None
        try:
            self.network = torch.jit.load(str(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            self._features(torch.zeros(1, 3, 32, 32))
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RequestError(
                f"FID needs the Inception network inception-2015-12-05.pt (TorchScript), and '{weights}' is not it "
                f"({reason[:80]}); give the file or leave FID out"
            ) from None
        self.made: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
        self.true: dict[str, list[NDArray[np.float64]]] = {}

    def add(
        self, condition: Condition, sample: Sample, inputs: Inputs, images: dict[str, Tensor], mask: Tensor
    ) -> None:
        """Note one sample's images; pixels that do not count show the truth."""
        if self.picks is None:
            held = [at for at in range(len(self.bands)) if np.isfinite(sample.target[at]).any()]
            self.picks = [held[at] for at in rgb_positions(tuple(self.bands[at] for at in held))]
        truth = torch.nan_to_num(torch.from_numpy(sample.target))[None]
        self.true.setdefault(condition.name, []).append(self._features(truth[:, self.picks]))
        for method, image in images.items():
            shown = torch.where(mask, image, truth)[:, self.picks]
            self.made.setdefault((condition.name, method), []).append(self._features(shown))

    def scores(self) -> dict[tuple[str, str], float]:
        """Return the distance by condition and method; NaN for fewer than two samples."""
        return {key: distance(np.stack(made), np.stack(self.true[key[0]])) for key, made in self.made.items()}

    def _features(self, image: Tensor) -> NDArray[np.float64]:
        shown = (image / self.white).clamp(0, 1) * 255
        with torch.inference_mode():
            features = self.network(shown.to(torch.uint8), return_features=True)
        return np.asarray(features[0].double().numpy())


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return ``‖μa - μb‖² + tr(Σa + Σb - 2·√(Σa·Σb))`` of two sets of features ``(n, feature)``."""
    if min(len(a), len(b)) < 2:
        return float("nan")
    left, right = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr √(Σa·Σb) by the eigenvalues of √Σa · Σb · √Σa, which is symmetric.
    values, vectors = linalg.eigh(left)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(linalg.eigvalsh(root @ right @ root), 0, None)).sum()
    total = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(left) + np.trace(right) - 2 * cross
    return max(float(total), 0.0)
