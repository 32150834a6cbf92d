"""Regression trees grown inside the scene: sharp limits and places, which no smooth function of the inputs tells.

Each tree splits the seen pixels of t2 at limits drawn at random, the best of several; the mean of many such trees is a
regression of its own, whose errors are unlike those of a linear one and of waves (:mod:`crgen.model.adaptive.ridge`).
Trees have no gradient: they are grown when used, not in training.

Source: Geurts, Ernst & Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006, as scikit-learn has it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

TREES = 16
"""Eight lose .03 dB, more bring less: what they change is smoothed."""
PIXELS = 6000
"""Seen pixels that trees are grown on, at most, drawn at random."""
LEAF = 3
"""Least pixels in a leaf."""
TRIED = 0.5
"""Share of the inputs of which the best limit is taken at each split."""
HALF = 8000.0
"""Seen pixels at which the trees' share in the result is half."""
FEWEST = 1000
"""Seen pixels below which no trees are grown: they would have little say, and take as long."""
DIRECTIONS = 8
"""Directions along which place is told, so that no tree need cut along rows and columns."""


def forest_share(seen: Tensor) -> Tensor:
    """Return the share of the trees in the result, for each window, ``(batch, 1, 1, 1)``; 0 where there are none."""
    count = seen.sum((1, 2, 3))[:, None, None, None]
    return count / (count + HALF) * (count >= FEWEST)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def forest(inputs: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Grow trees on the seen pixels of each window, and predict all pixels, ``(batch, band, y, x)`` float32.

    A window of which less than :data:`FEWEST` pixels were seen is 0.

    Args:
        inputs: ``(batch, input, y, x)``; each pixel's place is told beside them.
        target: what to regress, ``(batch, band, y, x)``; read where ``seen``, finite everywhere.
        seen: 1 where a pixel was seen, else 0, ``(batch, 1, y, x)``.
    """
    image = torch.zeros_like(target, dtype=torch.float32)
    for window in (seen.sum((1, 2, 3)) >= FEWEST).nonzero()[:, 0].tolist():
        image[window] = _grown(inputs[window].float(), target[window].float(), seen[window, 0])
    return image


def _grown(inputs: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    from sklearn.ensemble import ExtraTreesRegressor

    height, width = seen.shape
    told = torch.cat([inputs, _place(height, width, inputs.device)]).flatten(1).T.contiguous().cpu().numpy()
    at = seen.flatten().nonzero()[:, 0].cpu().numpy()
    if len(at) > PIXELS:
        at = np.random.default_rng(0).choice(at, PIXELS, replace=False)
    values = np.squeeze(target.flatten(1).T.cpu().numpy()[at])
    trees = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, max_features=TRIED, random_state=0).fit(told[at], values)
    made = trees.predict(told).reshape(len(told), -1).T
    return torch.from_numpy(made.astype(np.float32)).view(target.shape).to(target.device)


def _place(height: int, width: int, device: torch.device) -> Tensor:
    """Return how far each pixel lies along :data:`DIRECTIONS` of the half circle, ``(direction, y, x)``."""
    angle = torch.arange(DIRECTIONS, device=device) * (math.pi / DIRECTIONS)
    y, x = (torch.arange(n, device=device, dtype=torch.float32) for n in (height, width))
    return angle.sin()[:, None, None] * y[:, None] + angle.cos()[:, None, None] * x
