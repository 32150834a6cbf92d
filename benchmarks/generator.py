"""Speed of the generators: the article's form against ours at the same width and windows, and the shipped default.

    python benchmarks/generator.py [SECONDS] [--compiled]     (default 20 s a row; a GPU too where there is one)

An article about the paper gives a sketch in PyTorch. Its form is written here from its description, repaired where it
does not run: constant width in the encoder, attention over every pair of pixels in FusionAttention and in the tower,
whose scales start at full resolution. Its matrix of scores, 17 GB at 256², is made in strips, which changes no number
and only helps it. It takes 3,569 GFLOP; the sketch, repaired, 3,635.

On a CPU one window at a time on one core; on a GPU 16 (article: one). Every time is the best of those that fit into
SECONDS, at least one. Norms, activations and resampling are not counted as operations. The peak is the best matrix
product of the same device and precision. With --compiled `base` runs by torch.compile too, which takes minutes before
the first window.
"""

import copy
import math
import sys
import time
from itertools import pairwise

import torch
import torch.nn.functional as F
from common import report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.device import computing_in, fixed_windows, measure_drift, native_precision
from crgen.model.generator import Generator
from crgen.model.weights import load_model
from crgen.training.score.cost import operations

SIDE = 256
STRIP = 1024
"""Rows of the article's score matrix held at once."""


def block(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    """Return the article's ConvMishBlock: replicated border, convolution 3 × 3, instance norm, Mish."""
    pad = nn.ReplicationPad2d(1)
    return nn.Sequential(pad, nn.Conv2d(cin, cout, 3, stride), nn.InstanceNorm2d(cout), nn.Mish())


class Attention(nn.Module):
    """ARTICLE: softmax(QKᵀ/√d)·V over all pixels, queries and keys of full width, one matrix for both dates."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(6))
        self.gamma = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        q1, q2, k1, k2, v1, v2 = (layer(x).flatten(2) for layer, x in zip(self.maps, (x1, x2) * 3, strict=True))
        q, k = (F.normalize(torch.cat(pair, 1), dim=1) for pair in ((q1, q2), (k1, k2)))
        v = torch.cat([v1, v2], 1).transpose(1, 2)
        strips = []
        for rows in q.transpose(1, 2).split(STRIP, 1):
            strips.append((rows @ k / math.sqrt(q.shape[1])).softmax(-1) @ v)
        seen = torch.cat(strips, 1).transpose(1, 2).unflatten(2, x1.shape[2:])
        return torch.cat([x1, x2], 1) + self.gamma * seen


class GlobalBlock(nn.Module):
    """ARTICLE: the tower's block, whose "window" attention spans the whole map, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(tokens)).chunk(3, -1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        strips = [(10 * rows @ k.transpose(1, 2)).softmax(-1) @ v for rows in q.split(STRIP, 1)]
        tokens = tokens + self.out(torch.cat(strips, 1))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class Article(nn.Module):
    """ARTICLE: its sketch, repaired so that it runs: strided skips, sizes that meet, one output."""

    def __init__(self, pols: int, bands: int, width: int) -> None:
        super().__init__()
        w = width
        self.stem_s1 = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(pols, w, 3), nn.Mish())
        self.stem_t1 = nn.Sequential(block(w + bands, w), block(w, w))
        self.stem_t2 = nn.Sequential(block(pols, w), block(w, w))
        self.down_up = nn.Sequential(
            block(w, w, 2), block(w, w, 2),
            nn.ConvTranspose2d(w, w, 2, 2), nn.InstanceNorm2d(w), nn.Mish(),
            nn.ConvTranspose2d(w, w, 2, 2), nn.InstanceNorm2d(w), nn.Mish(),
            block(w, w), block(w, w), nn.Conv2d(w, w, 1),
        )  # fmt: skip
        self.fusion = Attention(w)
        self.extended = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(2 * w, w, 3), nn.Mish(), nn.Conv2d(w, w, 1))
        widths = (w, 2 * w, 4 * w, 8 * w)
        self.merges = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(GlobalBlock(c) for c in widths)
        self.joins = nn.ModuleList(block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(w, bands, 3), nn.Tanh())

    def forward(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor) -> Tensor:
        t1 = self.stem_t1(torch.cat([self.stem_s1(s1_t1), s2_t1], 1))
        x = torch.tanh(self.extended(self.fusion(t1 + self.down_up(t1), self.stem_t2(s1_t2))))
        scales = [self.blocks[0](x)]
        for merge, attend in zip(self.merges, self.blocks[1:], strict=True):
            scales.append(attend(merge(scales[-1])))
        x = scales[-1]
        for join, skip in zip(self.joins, scales[-2::-1], strict=True):
            x = join(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), skip], 1))
        return self.head(x)


def peak(device: str, precision: str) -> float:
    """Return the most operations a second that a matrix product reaches."""
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    best = math.inf
    for _ in range(8):
        start = clock(device)
        a @ b
        best = min(best, clock(device) - start)
    return 2 * side**3 / best


def clock(device: str) -> float:
    """Return seconds: of this thread's CPU time, which other programs do not lengthen; on a GPU of its clock."""
    if device != "cuda":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def counted(module: nn.Module, inputs: list[Tensor]) -> float:
    """Return the operations (2 × multiply-add) of one window, without computing it."""
    if isinstance(module, Generator):
        return operations(module.config, SIDE)
    module, inputs = copy.deepcopy(module).to("meta"), [tensor[:1].to("meta") for tensor in inputs]
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def forms(device: str):
    """Yield the rows: name, module, its inputs, precision."""
    config = preset("paper")
    paper = build_generator(config, 0)
    base = load_model()
    shown = [tensor[1:].to(device) for tensor in fixed_windows(paper, SIDE)]
    known = [tensor.nan_to_num(0.2) for tensor in shown[:3]]
    yield "article", Article(len(config.pols), len(config.bands), config.width), known, "float32"
    low = native_precision(torch.device(device))
    for name, module, inputs in (
        ("`paper`", paper, shown),
        ("`base`", base.generator, [tensor[1:].to(device) for tensor in fixed_windows(base.generator, SIDE)]),
    ):
        for precision in ("float32", *([low] if low else [])):
            yield name, module, inputs, precision


def fastest(module: nn.Module, inputs: list[Tensor], precision: str, device: str, seconds: float) -> float:
    """Return the best time of those that fit into ``seconds``."""
    with torch.inference_mode(), computing_in(precision, device):
        best, until = math.inf, time.perf_counter() + seconds
        while time.perf_counter() < until or not math.isfinite(best):
            start = clock(device)
            module(*inputs)
            best = min(best, clock(device) - start)
    return best


def measure(device: str, seconds: float, compiled: bool) -> list[tuple[str, ...]]:
    """Return the table of one device."""
    rows, batch = [], 1 if device == "cpu" else 16
    rates: dict[tuple[str, str], float] = {}
    for name, module, inputs, precision in forms(device):
        module = module.to(device).eval().requires_grad_(False)
        if name != "article":
            module.to(memory_format=torch.channels_last)
        many = batch if name != "article" else 1
        inputs = [tensor.expand(many, -1, -1, -1).contiguous() for tensor in inputs]
        flops, rate = counted(module, inputs), many / fastest(module, inputs, precision, device, seconds)
        rates[name, precision] = rate
        drift = "" if precision == "float32" else str(measure_drift(module, precision, SIDE))
        rows.append((
            f"{name}, {precision}, {device}",
            f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f}",
            f"{flops / 1e9:,.0f}",
            f"{rate:.3g}",
            f"{rate / rates['article', 'float32']:.1f}",
            f"{100 * flops * rate / peak(device, precision):.0f} %",
            drift,
        ))  # fmt: skip
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
        if compiled and name == "`base`":
            start, faster = time.perf_counter(), torch.compile(module)
            fastest(faster, inputs, precision, device, 0)
            took, gain = time.perf_counter() - start, many / fastest(faster, inputs, precision, device, seconds) / rate
            print(f"compiled: {gain:.2f} times as fast, after {took:.0f} s", flush=True)
    return rows


def main(seconds: float, compiled: bool) -> None:
    torch.set_num_threads(1)
    rows = measure("cpu", seconds, compiled)
    if torch.cuda.is_available():
        rows += measure("cuda", seconds, compiled)
    header = (
        "generator, windows of 256² px",
        "parameters, M",
        "GFLOP a window",
        "windows/s (one core, or one GPU)",
        "÷ article",
        "of matrix-product peak",
        "drift of reflectance against float32",
    )
    print()
    report("generator", header, rows, {})


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--compiled"]
    main(float(words[0]) if words else 20.0, "--compiled" in sys.argv)
