"""Ridge regression solved inside the scene: what clear pixels of t2 say about the hidden ones, in closed form.

Reflectance is a linear function of per-pixel features, whose coefficients have a normal prior. The pixels of a window
that were seen give their posterior mean exactly; gradients pass through the solve, so features, prior mean and
precision are learned for it. Nothing seen leaves the prior mean. The window's solution is then refined for its parts:
around each tile, once for every scale, the residual is regressed on the same features with the coarser solution as the
prior mean, so that a part with few seen pixels keeps the coarser one. What was seen in other windows may be lent: it
moves the prior as a limited number of pixels would.

Sources: Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019; Harrison et al.,
"Meta-learning priors for efficient online Bayesian regression" (ALPaCA), WAFR 2018; Fotheringham et al.,
"Geographically Weighted Regression", 2002, for the local weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

TILE = 32
"""Side in pixels of the tiles that have coefficients of their own; between their centres these are interpolated."""

PACE = 1e4
"""Change of a precision when its parameter changes by 1: they must move far at the pace of other weights."""

SLOW = 0.2
"""Change of a coefficient of the prior mean when its parameter changes by 1: at the pace of others it learns the few
scenes it is shown by heart."""

LENT = 300.0
"""Pixels for which what other windows lend counts at most: a window that sees more of its own goes by these."""


class Regression(NamedTuple):
    """What a :class:`SceneRidge` makes of a window, float32."""

    image: Tensor
    """The posterior mean of every pixel, ``(batch, band, y, x)``."""
    factor: Tensor
    """Cholesky factor of the precision of the window's coefficients, ``(batch, feature, feature)``."""

    def spread(self, features: Tensor) -> Tensor:
        """Return how far each pixel's features lie from the seen ones, ``(batch, 1, y, x)``.

        That is ``φᵀ(ΦᵀΦ + Λ)⁻¹φ``, the variance of the window's solution in units of the noise.
        """
        with torch.autocast(features.device.type, enabled=False):
            one = torch.eye(self.factor.shape[1], device=features.device)
            inverse: Tensor = torch.linalg.solve_triangular(self.factor, one.expand_as(self.factor), upper=False)
            white = inverse @ features.float().flatten(2)
            return white.square().sum(1).view(features[:, :1].shape)


class SceneRidge(nn.Module):
    """Regress seen pixels of t2 on features, and predict all pixels.

    Args:
        features: number of features; a constant should be among them.
        bands: number of bands.
        scales: deviation in pixels of the Gaussian weight around a tile, coarse to fine; one refinement each.
        precision: prior precision of every coefficient, in seen pixels, to start learning from.
        learn_mean: learn a prior mean; else it is 0.
        shared: 1 for features that mean the same in every window, 0 for others, whose coefficients nothing lent moves;
            None for all.
    """

    def __init__(
        self,
        features: int,
        bands: int,
        scales: tuple[float, ...] = (64.0, 32.0),
        precision: float = 30.0,
        *,
        learn_mean: bool,
        shared: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.scales = scales
        self.precision, self.local = precision, 3.0
        self.precision_change = nn.Parameter(torch.zeros(features))
        self.local_change = nn.Parameter(torch.zeros(len(scales)))
        """Learned, as powers of :data:`PACE`: the precision of a coefficient over ``precision``, and of each
        refinement over the window's solution, at first 3."""
        self.start = nn.Buffer(torch.zeros(features, bands), persistent=False)
        """The prior mean that learning starts from."""
        self.mean_change = nn.Parameter(torch.zeros(features, bands)) if learn_mean else None
        """Learned, in units of :data:`SLOW`."""
        self.shared = nn.Buffer(torch.ones(features) if shared is None else shared, persistent=False)

    @property
    def mean(self) -> Tensor:
        """The prior mean of the coefficients, ``(feature, band)``."""
        return self.start if self.mean_change is None else self.start + SLOW * self.mean_change

    @property
    def evidence_size(self) -> int:
        """Numbers in :meth:`evidence`."""
        features, bands = self.start.shape
        return 1 + features * (features + 1) // 2 + features * bands

    def evidence(self, features: Tensor, target: Tensor, seen: Tensor) -> Tensor:
        """Return what the seen pixels of a window say of the coefficients, ``(batch, evidence_size)``.

        That is their number, the upper triangle of ``ΦᵀΦ`` and ``Φᵀy``: of several windows it adds up. Arguments as
        :meth:`forward`'s.
        """
        with torch.autocast(features.device.type, enabled=False):
            pixels, weights, values = (a.float().flatten(2) for a in (features, seen, target))
            weighted = pixels * weights
            gram, moment = weighted @ pixels.transpose(1, 2), weighted @ values.transpose(1, 2)
            row, col = torch.triu_indices(*gram.shape[1:], device=gram.device)
            return torch.cat([weights.sum(2), gram[:, row, col], moment.flatten(1)], 1)

    def _moved(self, prior: Tensor, lent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prior's mean and precision, moved by what other windows lend, for each window."""
        size, bands = self.start.shape
        count, triangle, moment = torch.split(lent, [1, size * (size + 1) // 2, size * bands], 1)
        row, col = torch.triu_indices(size, size, device=lent.device)
        gram = lent.new_zeros(len(lent), size, size)
        gram[:, row, col] = triangle
        gram[:, col, row] = triangle
        share = (LENT / count.clamp(min=LENT))[..., None] * self.shared[:, None]
        precision = prior + share * gram * self.shared
        residual = share * (moment.view(-1, size, bands) - gram @ self.mean)
        return self.mean + torch.cholesky_solve(residual, torch.linalg.cholesky(precision)), precision

    def solution(self, features: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the coefficients of each window as a whole, ``(batch, feature, band)``. Arguments as the call's.

        Summed tile by tile: in one sum of all pixels single precision loses so much that of a flat, bright window no
        positive definite matrix is left.
        """
        with torch.autocast(features.device.type, enabled=False):
            down, across = features.shape[-2] // TILE, features.shape[-1] // TILE
            pixels, weights, values = (_tiles(a.float(), down, across) for a in (features, weight, target))
            weighted = pixels * weights
            gram, moment = weighted @ pixels.transpose(-1, -2), weighted @ values.transpose(-1, -2)
            return self._solved(gram.sum(1), moment.sum(1), self.mean, self.prior)[0]

    @property
    def prior(self) -> Tensor:
        """The prior precision of the coefficients, ``(feature, feature)``."""
        return torch.diag(self.precision * PACE**self.precision_change)

    @staticmethod
    def _solved(gram: Tensor, moment: Tensor, mean: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior mean of the coefficients, and the Cholesky factor of their precision."""
        factor = torch.linalg.cholesky(gram + precision)
        return mean + torch.cholesky_solve(moment - gram @ mean, factor), factor

    def forward(self, features: Tensor, target: Tensor, seen: Tensor, lent: Tensor | None = None) -> Regression:
        """Regress the seen pixels of each window, and predict all.

        Args:
            features: ``(batch, feature, y, x)``; height and width multiples of :data:`TILE`.
            target: what to regress, ``(batch, band, y, x)``; read where ``seen``, finite everywhere.
            seen: weight of each pixel, 0 to 1, ``(batch, 1, y, x)``.
            lent: sum of the :meth:`evidence` of other windows, ``(batch, evidence_size)``.
        """
        with torch.autocast(features.device.type, enabled=False):
            features, target, seen = features.float(), target.float(), seen.float()
            height, width = features.shape[-2:]
            down, across = height // TILE, width // TILE
            pixels, weights, values = (_tiles(a, down, across) for a in (features, seen, target))
            weighted = pixels * weights
            gram, moment = weighted @ pixels.transpose(-1, -2), weighted @ values.transpose(-1, -2)
            prior = self.prior
            mean, precision = (self.mean, prior) if lent is None else self._moved(prior, lent.float())
            window, factor = self._solved(gram.sum(1), moment.sum(1), mean, precision)
            solution = window[:, None].expand_as(moment)
            for scale, local in zip(self.scales, self.local * PACE**self.local_change, strict=True):
                near = _nearness(down, across, scale, gram.device).expand(gram.shape[0], -1, -1)
                gram_near = torch.bmm(near, gram.flatten(2)).view_as(gram)
                residual = torch.bmm(near, moment.flatten(2)).view_as(moment) - gram_near @ solution
                solution = solution + torch.cholesky_solve(residual, torch.linalg.cholesky(gram_near + local * prior))
            made = _apply(solution.view(-1, down, across, *self.start.shape), pixels)
            return Regression(_image(made, height, width, down), factor)


def _tiles(x: Tensor, down: int, across: int) -> Tensor:
    """``(B, C, H, W)`` → ``(B, tiles, C, pixels)``, for ``down`` × ``across`` tiles."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, down, h // down, across, w // across)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, down * across, c, -1)


def _image(tiles: Tensor, height: int, width: int, down: int) -> Tensor:
    """Inverse of :func:`_tiles`."""
    b, count, c, _ = tiles.shape
    x = tiles.view(b, down, count // down, c, height // down, -1)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(b, c, height, width)


def _nearness(down: int, across: int, scale: float, device: torch.device) -> Tensor:
    """Return the Gaussian weights between tile centres, ``(tiles, tiles)``."""

    def axis(n: int) -> Tensor:
        at = torch.arange(n, device=device, dtype=torch.float32) * TILE
        return torch.exp(-(at[:, None] - at).square() / (2 * scale**2))

    return torch.kron(axis(down), axis(across))


def _apply(coefficients: Tensor, pixels: Tensor) -> Tensor:
    """Multiply features by coefficients ``(B, down, across, feature, band)``, bilinear between tile centres.

    ``pixels`` are the features as :func:`_tiles` returns them; so is the result. Each tile is computed with its own
    coefficients and its eight neighbours', those beyond the border being its own, and the nine results are blended.
    """
    b, down, across, d, k = coefficients.shape
    rows = [0, *range(down), down - 1]
    cols = [0, *range(across), across - 1]
    framed = coefficients[:, rows][:, :, cols]
    nine = [framed[:, i : i + down, j : j + across] for i in range(3) for j in range(3)]
    around = torch.stack(nine, 3).transpose(-1, -2).reshape(b, down * across, 9 * k, d)
    values = (around @ pixels).view(b, down * across, 9, k, -1)
    beyond = (torch.arange(TILE, device=pixels.device) + 0.5) / TILE - 0.5
    share = torch.stack([-beyond.clamp(max=0), 1 - beyond.abs(), beyond.clamp(min=0)])
    blend = torch.einsum("iy,jx->ijyx", share, share).view(9, 1, -1)
    return (values * blend).sum(2)
