"""Rows that need no network: the copy, means, regressions over all training pixels or over the seen ones, an oracle.

A row takes a sample's inputs and returns the image of t2; arrays are ``(band, y, x)`` or ``(pol, y, x)``, NaN where
missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.ensemble import HistGradientBoostingRegressor

from crgen.training.data.dataset import PatchDataset, Sample

Array = NDArray[np.float32]
TREES = {"max_iter": 150, "max_leaf_nodes": 31, "learning_rate": 0.1, "random_state": 0, "early_stopping": False}
PIXELS = 4000
"""Seen pixels a forest is fitted on, at most, drawn at random: more cost much and gain little."""


class View(NamedTuple):
    """What a row may see of a sample."""

    s1_t1: Array
    s2_t1: Array
    s1_t2: Array
    s2_t2: Array
    """S2 at t2 where seen, NaN elsewhere."""


Row = Callable[[View], Array]


def features(view: View) -> Array:
    """Return per pixel the inputs, their means over 7 and 21 px, squares and products, ``(31, y, x)``.

    Missing values are the channel's mean.
    """
    x = np.concatenate([(view.s1_t1 + 12) / 6, (view.s1_t2 + 12) / 6, (view.s2_t1 - 0.15) / 0.15])
    usual = np.nan_to_num(np.nanmean(x, (1, 2), keepdims=True)) if np.isfinite(x).any() else 0.0
    x = np.where(np.isfinite(x), x, usual).astype(np.float32)
    means = [uniform_filter(x, (0, side, side), mode="nearest") for side in (7, 21)]
    products = [x[i] * x[j] for i in range(len(x)) for j in range(i, len(x))]
    return np.concatenate([np.ones_like(x[:1]), x, *means, np.stack(products)]).astype(np.float32)


def seen_of(view: View) -> NDArray[np.bool_]:
    """Return where t2 was seen, ``(y, x)``."""
    return np.isfinite(view.s2_t2).all(0)


def copy(view: View) -> Array:
    """S2 at t1 as it is."""
    return np.nan_to_num(view.s2_t1)


class MeanColour:
    """The mean colour of the training targets everywhere."""

    def __init__(self, data: PatchDataset) -> None:
        sums, count = np.zeros(len(data.bands)), 0
        for sample in (data[i] for i in range(len(data))):
            sums += sample.target[:, sample.clear[0]].sum(1)
            count += int(sample.clear.sum())
        self.colour = (sums / count).astype(np.float32)

    def __call__(self, view: View) -> Array:
        return np.broadcast_to(self.colour[:, None, None], view.s2_t1.shape)


class Trees:
    """Gradient-boosted trees over clear pixels of all training patches, one forest a band."""

    def __init__(self, data: PatchDataset, per_patch: int = 400) -> None:
        rng = np.random.default_rng(0)
        xs, ys = [], []
        for sample in (data[i] for i in range(len(data))):
            rows, cols = np.nonzero(sample.clear[0])
            if len(rows) < per_patch:
                continue
            pick = rng.choice(len(rows), per_patch, replace=False)
            nothing = np.full_like(sample.target, np.nan)
            phi = features(View(sample.s1_t1, sample.s2_t1, sample.s1_t2, nothing))
            xs.append(phi[:, rows[pick], cols[pick]].T)
            ys.append(sample.target[:, rows[pick], cols[pick]].T)
        x, y = np.concatenate(xs), np.concatenate(ys)
        settings = {**TREES, "max_iter": 300}
        self.forests = [HistGradientBoostingRegressor(**settings).fit(x, y[:, band]) for band in range(y.shape[1])]

    def __call__(self, view: View) -> Array:
        phi = features(view)
        flat = phi.reshape(len(phi), -1).T
        return np.stack([f.predict(flat).reshape(phi.shape[1:]) for f in self.forests]).astype(np.float32)


def gain_and_offset(view: View) -> Array:
    """S2 at t1 with the gain and offset of each band that fit the seen pixels best."""
    seen = seen_of(view) & np.isfinite(view.s2_t1).all(0)
    return np.stack([_line(x, y, seen) for x, y in zip(copy(view), view.s2_t2, strict=True)])


def oracle(view: View, sample: Sample) -> Array:
    """S2 at t1 with the gain and offset of each band that fit all clear pixels of the target best."""
    clear = sample.clear[0] & np.isfinite(view.s2_t1).all(0)
    return np.stack([_line(x, y, clear) for x, y in zip(copy(view), sample.target, strict=True)])


def _line(x: Array, y: Array, where: NDArray[np.bool_]) -> Array:
    if where.sum() < 2:
        return x
    design = np.stack([x[where], np.ones(int(where.sum()), np.float32)], 1).astype(np.float64)
    gram = design.T @ design + np.diag([1e-3, 1e-6])
    gain, offset = np.linalg.solve(gram, design.T @ y[where].astype(np.float64))
    return (gain * x + offset).astype(np.float32)


def ridge(view: View, precision: float = 30.0) -> Array:
    """Ridge regression on the features, fitted on the seen pixels; the precision is the best of 1, 10, 30, 100."""
    seen = seen_of(view)
    if not seen.any():
        return copy(view)
    phi = features(view).astype(np.float64)
    x, y = phi[:, seen].T, view.s2_t2[:, seen].T.astype(np.float64)
    penalty = np.full(len(phi), precision)
    penalty[0] = 1e-3
    coefficients = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)
    return np.einsum("dyx,dk->kyx", phi, coefficients).astype(np.float32)


def seen_trees(view: View) -> Array:
    """Gradient-boosted trees on the features, fitted on the seen pixels."""
    seen = seen_of(view)
    if seen.sum() < 50:
        return copy(view)
    phi = features(view)[1:]
    rng = np.random.default_rng(0)
    rows, cols = np.nonzero(seen)
    pick = rng.choice(len(rows), min(PIXELS, len(rows)), replace=False)
    x, flat = phi[:, rows[pick], cols[pick]].T, phi.reshape(len(phi), -1).T
    image = [
        HistGradientBoostingRegressor(**TREES).fit(x, band[rows[pick], cols[pick]]).predict(flat).reshape(seen.shape)
        for band in view.s2_t2
    ]
    return np.stack(image).astype(np.float32)
