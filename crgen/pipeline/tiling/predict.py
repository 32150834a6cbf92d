"""Run a generator over the windows of a chunk, and add the windows up.

A window's result depends on its place and its pixels alone, see :mod:`crgen.pipeline.tiling.batches`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crgen.model.config import GeneratorConfig
from crgen.model.generator import Prediction
from crgen.model.mixing import mix, radar_changed
from crgen.model.past import Believed
from crgen.model.usual import unlike_windows
from crgen.model.weights import LoadedModel
from crgen.pipeline.box import Box
from crgen.pipeline.tiling.batches import batch_on, in_batches
from crgen.pipeline.tiling.lending import Lent, Origin
from crgen.pipeline.tiling.windows import Lattice

Array = NDArray[np.float32]
REFLECTANCE_SCALE = 10_000
"""Digital numbers to reflectance 1, and to probability 1."""
MAX_DN = 65_535
MAX_GENERATED = 2**15 - 1
"""The highest digital number that is generated, a reflectance of 3.3: sums over windows of 256 px fit 32 bits."""


def plane_count(config: GeneratorConfig, made: int) -> int:
    """Return how many integers are summed at each pixel, as :class:`Planes` has them, for so many bands of a result."""
    return made * (1 + config.predicts_variance) + 2 * config.predicts_water + 1 + config.predicts_reliability


class WindowInputs(NamedTuple):
    """What the generator sees of a rectangle, NaN where missing; arrays are ``(channel, y, x)`` over ``box``."""

    box: Box
    s1_t1: Array
    s2_t1: Array
    s1_t2: Array
    s2_t2: Array
    """Reflectance at t2 where it was seen clear, NaN elsewhere."""
    clear_t1: Array
    """Clear-sky score at t1, ``(y, x)``."""
    wanted: NDArray[np.bool_]
    """Pixels that need a generated value, ``(y, x)``: windows without any are skipped."""
    looks: Array | None = None
    """What was seen before t2, to be mixed in, ``(candidate, band, y, x)``; see :mod:`crgen.model.mixing`."""


Places = list[tuple[slice, slice]]


class Staged(NamedTuple):
    """Inputs ready for the device, and where windows have to be computed."""

    box: Box
    tensors: tuple[torch.Tensor, ...]
    """``s1_t1``, ``s2_t1``, ``s1_t2``, ``s2_t2``, ``clear_t1`` over ``box``, with the channels of the generator, and
    what was seen before, if that is mixed in, with the bands that are read; in pinned memory where the device is a
    GPU."""
    places: Places
    """Windows with a wanted pixel."""
    skipped: int
    """Windows without."""
    lent: torch.Tensor | None
    """The evidence that each of :attr:`places` is lent by other windows, ``(place, number)``."""
    past: Believed | None
    """What to believe of the place."""


class Planes(NamedTuple):
    """What is predicted of a rectangle."""

    reflectance: NDArray[Any]
    """``(band, y, x)``."""
    water: NDArray[Any] | None
    """Probability of water at t1 and at t2, ``(2, y, x)``."""
    deviation: NDArray[Any] | None
    """Standard deviation of the reflectance, of its shape."""
    unlike: NDArray[Any]
    """1 where the window is unlike the training, ``(y, x)``."""
    hidden: NDArray[Any] | None
    """How far S2 at t1 does not show the ground, 0 to 1, alike; None where the generator does not say."""


class Predictor:
    """A loaded model with the lattice its card asks for; threads that share it take turns on the device.

    Args:
        model: the generator and its card.
        device: where the generator is.
        opened: the bands that are read, in order; the generator's others are missing.
        made: the bands of the result.
        batch: windows computed at once, :func:`batch_on` if not given.
        precision: what to compute in, see :mod:`crgen.model.device`; decides the result too.
        calibrated: whether the radar is in true dB.
        clear_threshold: clear-sky score below which a pixel of t1 does not tell what the ground is like.
        on_windows: called with the number of windows just computed or found to need no work.
    """

    def __init__(
        self,
        model: LoadedModel,
        device: str,
        opened: tuple[str, ...],
        made: tuple[str, ...],
        batch: int | None = None,
        precision: str = "float32",
        calibrated: bool = True,
        clear_threshold: float = 0.0,
        on_windows: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.model, self.device, self.precision, self.on_windows = model, device, precision, on_windows
        bands = model.card.config.bands
        self.opened, self.calibrated, self.clear_threshold = opened, calibrated, clear_threshold
        self._opened = [bands.index(band) for band in opened]
        self._made = [opened.index(band) for band in made]
        self.batch = batch or batch_on(device, model.card.window)
        self.lattice = Lattice(model.card.window)
        self._sums = torch.int32 if MAX_GENERATED * self.lattice.total < 2**31 else torch.int64
        self._weights = torch.from_numpy(self.lattice.weights).to(device, self._sums)
        self._turn = threading.Lock()

    @property
    def predicts_water(self) -> bool:
        """Whether there are two planes with probabilities of water."""
        return self.model.card.config.predicts_water

    @property
    def predicts_variance(self) -> bool:
        """Whether there is a plane with the standard deviation of each band."""
        return self.model.card.config.predicts_variance

    @property
    def planes(self) -> int:
        """Integers summed at each pixel."""
        return plane_count(self.model.card.config, len(self._made))

    def planes_of(self, stacked: NDArray[Any]) -> Planes:
        """Return what stands in ``(plane, y, x)``."""
        bands = len(self._made)
        parts = iter(np.split(stacked, np.cumsum([bands, 2 * self.predicts_water, bands * self.predicts_variance, 1])))
        reflectance, water, deviation, unlike, hidden = parts
        return Planes(
            reflectance,
            water if len(water) else None,
            deviation if len(deviation) else None,
            unlike[0],
            hidden[0] if len(hidden) else None,
        )

    @property
    def evidence_size(self) -> int:
        """Numbers in the evidence of a window; 0 where the generator has none."""
        return self.model.generator.evidence_size

    def stage(
        self,
        inputs: WindowInputs,
        windows: list[Origin],
        lent: Lent | None = None,
        past: Believed | None = None,
    ) -> Staged:
        """Do what needs no device, so that it can be done ahead."""
        side = self.lattice.window
        places = {(r, c): Box(r, r + side, c, c + side).slices(inputs.box) for r, c in windows}
        wanted = {origin: place for origin, place in places.items() if inputs.wanted[place].any()}
        borrowed = torch.from_numpy(lent.at(list(wanted))) if lent is not None and wanted else None
        tensors: Iterator[torch.Tensor] = iter(())
        if wanted:
            s2_t1, s2_t2 = self.all_bands(inputs.s2_t1), self.all_bands(inputs.s2_t2)
            s1_t1, s1_t2 = self.all_pols(inputs.s1_t1), self.all_pols(inputs.s1_t2)
            arrays = [s1_t1, s2_t1, s1_t2, s2_t2, inputs.clear_t1[None]]
            if inputs.looks is not None:
                arrays.append(inputs.looks)
            tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        if self.device.startswith("cuda"):
            tensors = (tensor.pin_memory() for tensor in tensors)
        return Staged(inputs.box, tuple(tensors), list(wanted.values()), len(places) - len(wanted), borrowed, past)

    def all_bands(self, image: Array) -> Array:
        """Return the generator's bands of an image, missing but for those that were read."""
        whole = np.full((len(self.model.card.config.bands), *image.shape[1:]), np.nan, np.float32)
        whole[self._opened] = image
        return whole

    def all_pols(self, image: Array) -> Array:
        """Return the generator's polarisations of an image; its last ones may be missing."""
        lacking = len(self.model.card.config.pols) - len(image)
        return np.pad(image, ((0, lacking), (0, 0), (0, 0)), constant_values=np.nan) if lacking else image

    def predict(self, staged: Staged) -> NDArray[np.signedinteger]:
        """Return the weighted sum of the windows' digital numbers over the staged box, ``(plane, y, x)``.

        Where all windows of the lattice are added, dividing it by ``lattice.total · REFLECTANCE_SCALE`` gives
        reflectance, or a probability.
        """
        self.on_windows(staged.skipped)
        sums = torch.zeros((self.planes, *staged.box.shape), dtype=self._sums, device=self.device)
        if not staged.places:
            return np.asarray(sums.cpu().numpy())
        with self._turn:
            for some, made in self._all(staged, partial(self._digital_numbers, past=staged.past)):
                for place, dn in zip(some, made, strict=False):
                    sums[..., *place] += dn * self._weights
                self.on_windows(len(some))
            return np.asarray(sums.cpu().numpy())

    def windows(self, staged: Staged) -> Iterator[Planes]:
        """Yield what is predicted of each of :attr:`Staged.places` by itself; ``on_windows`` does not count these."""
        with self._turn:
            for some, made in self._all(staged, partial(self._digital_numbers, past=staged.past)):
                for _, dn in zip(some, made.cpu().numpy(), strict=False):
                    yield self.planes_of(dn / REFLECTANCE_SCALE)

    def evidence(self, staged: Staged) -> dict[Origin, NDArray[np.float64]]:
        """Return the evidence of t2 of each window of :attr:`Staged.places`, by its origin."""
        self.on_windows(staged.skipped)
        told: dict[Origin, NDArray[np.float64]] = {}
        if not staged.places:
            return told
        with self._turn:
            for some, made in self._all(staged, self.model.generator.evidence):
                for (rows, cols), numbers in zip(some, made.cpu().double().numpy(), strict=False):
                    told[rows.start + staged.box.r0, cols.start + staged.box.c0] = numbers
                self.on_windows(len(some))
        return told

    def over(self, function: Callable[..., torch.Tensor], *windows: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        """Return what a function of the generator's inputs returns for windows that are cut already, on the CPU.

        Args:
            function: called with some of the windows and some of ``more``, and with ``calibrated``.
            windows: ``(window, channel, y, x)``.
            more: with a first axis of windows too.
        """

        def compute(some: list[int]) -> torch.Tensor:
            inputs = (x[some].to(self.device) for x in windows)
            named = {name: x[some].to(self.device) for name, x in more.items()}
            return function(*inputs, **self._calibrated(), **named)

        with self._turn:
            made = [part[: len(some)].cpu() for some, part in self._in_batches(len(windows[0]), compute)]
        return torch.cat(made)

    def _calibrated(self) -> dict[str, torch.Tensor]:
        return {"calibrated": torch.full((self.batch,), self.calibrated).to(self.device)}

    def _all(self, staged: Staged, function: Callable[..., torch.Tensor]) -> Iterator[tuple[Places, torch.Tensor]]:
        """Yield the batches of places in order with what ``function`` makes of their windows."""
        places = staged.places
        inputs = [tensor.to(self.device, non_blocking=True) for tensor in staged.tensors]
        lent = None if staged.lent is None else staged.lent.to(self.device)

        def compute(some: list[int]) -> torch.Tensor:
            windows = [torch.stack([x[..., *places[i]] for i in some]) for x in inputs]
            extra = {"clear_t1": windows[4], **self._calibrated()}
            if len(windows) > 5:
                extra["looks"] = windows[5]
            if lent is not None:
                extra["lent"] = lent[some]
            return function(*windows[:4], **extra)

        for some, made in self._in_batches(len(places), compute):
            yield places[some.start : some.stop], made

    def _in_batches(
        self, count: int, compute: Callable[[list[int]], torch.Tensor]
    ) -> Iterator[tuple[range, torch.Tensor]]:
        return in_batches(count, self.batch, self.device, self.precision, compute)

    def _digital_numbers(
        self,
        *inputs: torch.Tensor,
        past: Believed | None = None,
        looks: torch.Tensor | None = None,
        lent: torch.Tensor | None = None,
        **more: torch.Tensor,
    ) -> torch.Tensor:
        """Return a batch of windows as integers, ``(batch, plane, y, x)``."""
        told = 0 if lent is None else lent[:, 0]
        if past is not None and past.evidence.numel():
            evidence = past.evidence.to(inputs[0].device).expand(self.batch, -1)
            lent = evidence if lent is None else lent + evidence
        made: Prediction = self.model.generator(*inputs, lent=lent, **more)
        reflectance = made.reflectance[:, self._opened].float()
        if past is not None and looks is not None:
            seen = torch.isfinite(inputs[3][:, self.model.generator.core]).all(1).flatten(1).sum(1) + told + past.near
            weights = torch.from_numpy(past.mixture.weights).float()[:, self._opened]
            changed = radar_changed(inputs[0], inputs[2])
            reflectance = mix(made._replace(reflectance=reflectance), looks, changed, seen, weights)
        dn = (reflectance[:, self._made] * REFLECTANCE_SCALE).round().clamp(1, MAX_GENERATED)
        if self.predicts_water:
            assert made.water is not None, "a form that predicts it"
            water = made.water.float()
            if (errors := self.model.card.water) is not None:
                water = errors.read(water)
            dn = torch.cat([dn, (water * REFLECTANCE_SCALE).round()], 1)
        if self.predicts_variance:
            assert made.variance is not None, "a form that predicts it"
            places = [self._opened[at] for at in self._made]
            deviation = made.variance[:, places].float().sqrt()
            if (widths := self.model.card.error) is not None and made.reliability is not None:
                deviation = widths.read(deviation, 1 - made.reliability.float())
            dn = torch.cat([dn, (deviation * REFLECTANCE_SCALE).round().clamp(max=MAX_GENERATED)], 1)
        told_of = self._unlike(inputs[1], inputs[2], more["clear_t1"])[:, None, None, None].expand_as(dn[:, :1]).float()
        if self.model.card.config.predicts_reliability:
            assert made.reliability is not None, "a form that predicts it"
            told_of = torch.cat([told_of, 1 - made.reliability.float()], 1)
        dn = torch.cat([dn, (told_of * REFLECTANCE_SCALE).round()], 1)
        integers: torch.Tensor = dn.to(self._sums)
        return integers

    def _unlike(self, s2_t1: torch.Tensor, s1_t2: torch.Tensor, clear_t1: torch.Tensor) -> torch.Tensor:
        """Return which windows of a batch are unlike the training, ``(batch,)``."""
        config = self.model.card.config
        planes = dict(zip(config.pols, s1_t2.unbind(1), strict=True)) if self.calibrated else {}
        cloudy = clear_t1[:, 0] < self.clear_threshold
        planes |= {band: s2_t1[:, i].masked_fill(cloudy, torch.nan) for i, band in enumerate(config.bands)}
        return unlike_windows(self.model.card.usual, planes).to(s2_t1.device)
