"""The fusion attention of CRGenNet, which the paper's form and the default share.

Source: Duan, Belgiu & Stein, ISPRS J. Photogramm. Remote Sens. 236 (2026), doi 10.1016/j.isprsjprs.2026.03.042.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusionAttention(nn.Module):
    """Attention of t1 and t2 features under one shared weight matrix (the paper's equations 1 to 4).

    ``Q = L2(concat(Q1, Q2))``, ``K`` alike, ``W = softmax(QKᵀ/√d)``, ``y_i = x_i + γ·(W·V_i)`` with γ learned from 0.
    The softmax is replaced by its first-order expansion, ``exp(s) ≈ 1 + s``; the product then costs linear time and
    memory in the number of pixels. With the L2 norm over ``channel``, queries and keys have unit length in every
    pixel, so that ``|s| ≤ 1/√d`` and the expansion is close: at 64 channels (d = 16, ``|s| ≤ 0.25``) every weight lies
    within 4 % of the softmax's, and the output within 0.5 %. It is not close for scores beyond that (at ``|s|`` of 0.9
    weights miss by two thirds, beyond 1 they turn negative): the norm and 1/√d are what it stands on. Over ``space``
    (the authors' file) all scores shrink with the number of pixels, and the attention tends to a plain mean.
    """

    def __init__(self, channels: int, axis: Literal["channel", "space"] = "channel", *, reduction: int = 8) -> None:
        super().__init__()
        d = max(channels // reduction, 4)
        self.axis = axis
        self.query1, self.key1 = nn.Conv2d(channels, d, 1), nn.Conv2d(channels, d, 1)
        self.query2, self.key2 = nn.Conv2d(channels, d, 1), nn.Conv2d(channels, d, 1)
        self.value1, self.value2 = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def queries_keys(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries, divided by √d, and keys, L2-normalised along ``axis``, ``(batch, d, pixels)`` each."""
        q = torch.cat([self.query1(x1), self.query2(x2)], 1).flatten(2).float()
        k = torch.cat([self.key1(x1), self.key2(x2)], 1).flatten(2).float()
        dim = 1 if self.axis == "channel" else 2
        return F.normalize(q, dim=dim) / math.sqrt(q.shape[1]), F.normalize(k, dim=dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return ``W·V`` for values ``(batch, channel, pixels)`` in linear time.

        Row i of W is ``(1 + qᵢ·kⱼ) / (N + qᵢ·Σk)``: summing to one, and positive while every ``|qᵢ·kⱼ| < 1``.
        Computed in float32 always: the sums run over all pixels.
        """
        n = v.shape[-1]
        with torch.autocast(v.device.type, enabled=False):
            total = v.sum(-1, keepdim=True) + (v @ k.transpose(1, 2)) @ q
            weight = n + k.sum(-1)[:, None, :] @ q
            return total / weight

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return ``concat(y1, y2)`` with twice the channels."""
        q, k = self.queries_keys(x1, x2)
        v = torch.cat([self.value1(x1), self.value2(x2)], 1)
        out = self.attend(q, k, v.flatten(2).float()).view_as(v).to(v.dtype)
        return torch.cat([x1, x2], 1) + self.gamma * out
