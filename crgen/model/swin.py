"""The Swin V2 tower: scaled cosine attention, shifted windows, continuous relative position bias, residual post-norm.

Source: Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", CVPR 2022. Maps are
``(batch, height, width, channel)`` inside the tower.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX_LOGIT_SCALE = math.log(100.0)


def _partition(x: Tensor, window: int) -> Tensor:
    """``(B, H, W, C)`` → ``(B · windows, window², C)``."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def _merge(x: Tensor, window: int, b: int, h: int, w: int) -> Tensor:
    """Inverse of :func:`_partition`."""
    x = x.view(b, h // window, w // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)


def _regions(h: int, w: int, height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Label the tokens of a shifted, padded map: only tokens with one label may attend to each other."""
    label = torch.zeros(1, height, width, 1, device=device)
    label[:, h:], label[:, :, w:] = -1, -1
    if shift:
        label = torch.roll(label, (-shift, -shift), (1, 2))
        edges = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
        for i, rows in enumerate(edges):
            for j, cols in enumerate(edges):
                part = label[:, rows, cols]
                label[:, rows, cols] = torch.where(part < 0, part, 3 * i + j)
    return _partition(label, window)[..., 0]


class WindowAttention(nn.Module):
    """Multi-head scaled cosine attention inside windows, with a continuous relative position bias."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.position_mlp = nn.Sequential(nn.Linear(2, 128), nn.Mish(), nn.Linear(128, heads, bias=False))

    def position_bias(self, side: int) -> Tensor:
        """Return the bias ``(heads, side², side²)`` from log-spaced offsets; ``side`` may be below ``window``."""
        device = self.qkv.weight.device
        offset = torch.arange(1 - side, side, dtype=torch.float32, device=device) * (8 / max(self.window - 1, 1))
        spaced = offset.sign() * torch.log2(1 + offset.abs()) / math.log2(8)
        table = self.position_mlp(torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), -1))
        at = torch.arange(side, device=device)
        delta = at[:, None] - at[None, :] + side - 1
        bias: Tensor = table[delta[:, None, :, None], delta[None, :, None, :]]
        return 16 * torch.sigmoid(bias.reshape(side**2, side**2, self.heads).permute(2, 0, 1))

    def forward(self, x: Tensor, side: int, mask: Tensor | None) -> Tensor:
        """Attend within windows ``x`` of ``(windows, side², C)``; ``mask`` is additive per window of one image."""
        n, tokens, c = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scale = self.logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp()
        q, k = (
            (F.normalize(q.float(), dim=-1) * scale).to(v.dtype),
            F.normalize(k.float(), dim=-1).to(v.dtype),
        )
        bias = self.position_bias(side)[None]
        if mask is not None:
            bias = bias + mask[:, None].repeat(n // mask.shape[0], 1, 1, 1)
        bias = bias.to(v.dtype).expand(n, -1, -1, -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        y: Tensor = self.proj(out.transpose(1, 2).reshape(n, tokens, c))
        return y


class SwinBlock(nn.Module):
    """Window attention and MLP, each followed by its norm and added to its input (residual post-norm)."""

    def __init__(self, dim: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.attention = WindowAttention(dim, heads, window)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, dim))

    def _attend(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        window = min(self.window, h, w)
        shift = self.shift if min(h, w) > window else 0
        bottom, right = -h % window, -w % window
        padded = F.pad(x, (0, 0, 0, right, 0, bottom))
        height, width = h + bottom, w + right
        mask = None
        if shift or bottom or right:
            label = _regions(h, w, height, width, window, shift, x.device)
            mask = torch.zeros(label.shape[0], window**2, window**2, device=x.device)
            mask.masked_fill_(label[:, :, None] != label[:, None, :], -torch.inf)
        if shift:
            padded = torch.roll(padded, (-shift, -shift), (1, 2))
        y = _merge(self.attention(_partition(padded, window), window, mask), window, b, height, width)
        if shift:
            y = torch.roll(y, (shift, shift), (1, 2))
        return y[:, :h, :w]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H, W, C)`` to the same shape."""
        x = x + self.norm1(self._attend(x))
        y: Tensor = x + self.norm2(self.mlp(x))
        return y


class PatchMerging(nn.Module):
    """Halve height and width: four neighbours' channels, one linear map, a norm."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, out, bias=False)
        self.norm = nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H, W, C)`` to ``(B, H/2, W/2, out)``."""
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        y: Tensor = self.norm(self.reduction(torch.cat(parts, -1)))
        return y


class SwinTower(nn.Module):
    """Four scales of Swin V2 blocks after a patch embedding.

    Args:
        cin: channels of the input map.
        embed: channels of the four scales.
        depths: blocks of the four scales; every second one shifts its windows by half.
        head_dim: channels of one head.
        window: side of the attention windows, clamped to the map where the map is smaller.
        patch: side of the patches embedded as one token.
    """

    def __init__(
        self,
        cin: int,
        embed: tuple[int, ...],
        depths: tuple[int, ...],
        head_dim: int,
        window: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(cin, embed[0], patch, patch)
        self.embed_norm = nn.LayerNorm(embed[0])
        self.merges = nn.ModuleList([nn.Identity(), *(PatchMerging(a, b) for a, b in pairwise(embed))])
        self.stages = nn.ModuleList(
            nn.Sequential(*(SwinBlock(dim, dim // head_dim, window, window // 2 if i % 2 else 0) for i in range(depth)))
            for dim, depth in zip(embed, depths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the four scales' maps, finest first, as ``(B, C, H, W)``."""
        x = self.embed_norm(self.embed(x).permute(0, 2, 3, 1))
        scales = []
        for merge, stage in zip(self.merges, self.stages, strict=True):
            x = stage(merge(x))
            scales.append(x.permute(0, 3, 1, 2))
        return scales
