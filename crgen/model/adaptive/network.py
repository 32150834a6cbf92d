"""The default generator (preset ``base``): the paper's order of work, and a last layer solved inside the scene.

As the paper does, it fuses radar and optical of t1 first and then aligns with the radar of t2 by attention, on the way
into a Swin tower. It departs where the paper's form loses what users need:

- optical paths keep absolute radiometry, radar stems are blind to gain and offset, and missing pixels are marked;
- S2 at t1 passes a learned reliability per pixel, never an open skip, so clouds are not copied: where it cannot be
  relied on, it is filled by regressing what can on the radar, inside the scene;
- pixels of t2 that were seen clear decide the scene's radiometry: two ridge regressions on local means of the inputs,
  a linear one for each part of the window and one for the whole window on waves of them, are mixed to a first estimate.
  The network sees what that leaves, and its own features are regressed on the rest (:mod:`crgen.model.adaptive.ridge`).
  Where nothing was seen, the network's prior stands; where other windows lend what they saw, the first estimate does;
  where the window saw much, trees grown on it have the larger say in what is like it
  (:mod:`crgen.model.adaptive.forest`);
- where nothing was seen and the radar of both dates agrees, the result leans on S2 at t1: the few floods it was trained
  on make the network expect too much change. It leans when used, not in training, which would unlearn it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crgen.model.adaptive.convolutions import Residual, biased, convolution, down, join, stem, up
from crgen.model.adaptive.forest import forest, forest_share
from crgen.model.adaptive.gate import Reliability
from crgen.model.adaptive.ridge import LENT, SceneRidge, thinned
from crgen.model.adaptive.surroundings import REACH, local_mean, local_sum
from crgen.model.adaptive.waves import WaveRidge
from crgen.model.config import GeneratorConfig
from crgen.model.fusion import FusionAttention
from crgen.model.generator import Generator, Prediction, present, standardise
from crgen.model.swin import SwinTower

NEAR = (7, 31)
"""Sides in pixels over which residuals of seen pixels are spread to their surroundings."""
PERSISTENCE = 0.2
"""Share of S2 at t1 in a pixel whose radar did not change and that is unlike all seen ones."""
CHANGE = 0.3
"""Change of the local backscatter, in deviations of the window, at which that share has fallen to three fifths."""
LIKENESS = 0.1
"""Spread about the seen pixels (see :meth:`Regression.spread`) at which that share is half, as is that of trees."""
SMOOTH = 5
"""Side in pixels over which what trees change is averaged: few trees leave a grain."""
BLEND = 30.0
"""Change of what mixes the two regressions when its parameter changes by 1: it must move far at others' pace."""
CENTRE = SPREAD = 0.15
"""Reflectance of a usual land pixel, and its spread: optical values are centred and scaled by them inside."""


def lent_share(lent: Tensor, seen: Tensor) -> Tensor:
    """Return how much of what a window knows of t2 is lent to it, 0 to 1, ``(batch, 1, 1, 1)``."""
    count = lent[:, 0].clamp(max=LENT)
    return (count / (count + seen.sum((1, 2, 3))).clamp(min=1))[:, None, None, None]


class Prepared(NamedTuple):
    """Inputs in the network's units, missing pixels 0, and where they are present, ``(batch, channel, y, x)``."""

    r1: Tensor
    radar1: Tensor
    r2: Tensor
    radar2: Tensor
    o1: Tensor
    """S2 at t1, filled where it cannot be relied on."""
    o2: Tensor
    seen: Tensor
    reliability: Tensor
    """Of S2 at t1; 0 where it is missing."""
    features: Tensor
    """What the first estimate is regressed on."""


class AdaptiveGenerator(Generator):
    """The default generator. Predicts a variance too."""

    parts = MappingProxyType({"reliability": ("reliability",), "estimate": ("estimate", "fill", "waves", "blend")})

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        p, b = len(config.pols), len(config.bands)
        s, w, n = config.stem, config.width, config.features
        coarse, middle, fine = config.decoder
        self.reliability = Reliability(p, b, config.gate)
        once = [0] * 2 * p + [1] * b  # radar is scaled by window, reflectance is absolute
        shared = torch.tensor([1, 1] + once * (1 + len(REACH)) + once + [0] * p * b)
        self.estimate = SceneRidge(len(shared), b, learn_mean=True, shared=shared.float())
        with torch.no_grad():
            self.estimate.start[2 + 2 * p : 2 + 2 * p + b] = torch.eye(b)
        self.fill = SceneRidge(1 + 8 * p, b, learn_mean=True)
        self.waves = WaveRidge((2 + len(REACH)) * (2 * p + b), config.waves, b)
        self.blend = nn.Parameter(torch.zeros(2))
        self.stem_t1 = stem(p + 1 + b + 1, s)
        self.stem_t2 = stem(p + 1 + 2 * b + 2 + len(NEAR) * (b + 1), s)
        self.down_t1 = nn.Sequential(down(s, w), Residual(w))
        self.down_t2 = nn.Sequential(down(s, w), Residual(w))
        self.fusion = FusionAttention(w, config.attention_axis)
        self.extended = join(2 * w, w)
        self.tower = SwinTower(w, config.embed, config.depths, config.head_dim, config.window, patch=2)
        self.up_16 = up(config.embed[2], coarse)
        self.join_16 = join(coarse + config.embed[1], coarse)
        self.up_8 = up(coarse, middle)
        self.join_8 = join(middle + config.embed[0], middle)
        self.up_4 = up(middle, w)
        self.join_4 = join(2 * w, w)
        self.up_2 = up(w, s)
        self.join_2 = join(3 * s, fine)
        self.head = nn.Sequential(convolution(fine, 4 * (n + 3 * b)), nn.PixelShuffle(2))
        self.adapt = SceneRidge(1 + 2 * b + n, b, precision=10.0, learn_mean=False)
        self.doubt = nn.Sequential(nn.Conv2d(b + 1 + len(NEAR), 16, 1), nn.SiLU(), biased(nn.Conv2d(16, b, 1), -1.0))

    @property
    def evidence_size(self) -> int:  # type: ignore[override]
        """See :class:`Generator`."""
        return self.estimate.evidence_size

    def evidence(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor) -> Tensor:
        """See :meth:`Generator.evidence`."""
        x = self.prepared(s1_t1, s2_t1, s1_t2, s2_t2)
        return self.estimate.evidence(x.features, x.o2, x.seen)

    def generate(
        self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor, lent: Tensor | None = None
    ) -> Prediction:
        """See :meth:`Generator.forward`."""
        r1, radar1, r2, radar2, o1, o2, seen, reliability, features = self.prepared(s1_t1, s2_t1, s1_t2, s2_t2)
        told = self.textures(features)
        first, spread = self.first_estimate(features, told, o2, seen, lent)
        left = (o2 - first) * seen
        near = []
        for side in NEAR:
            density = local_sum(seen, side)
            near += [local_sum(left, side) / (density + 0.02), density]

        t1 = self.stem_t1(torch.cat([r1, radar1, o1, reliability], 1))
        t2 = self.stem_t2(torch.cat([r2, radar2, first, left, seen, spread.clamp(max=4), *near], 1))
        y = self.extended(self.fusion(self.down_t1(t1), self.down_t2(t2)))
        scale_8, scale_16, scale_32 = self.tower(y)
        x = self.join_16(torch.cat([self.up_16(scale_32), scale_16], 1))
        x = self.join_8(torch.cat([self.up_8(x), scale_8], 1))
        x = self.join_4(torch.cat([self.up_4(x), y], 1))
        x = self.join_2(torch.cat([self.up_2(x), t1, t2], 1))
        n, b = self.config.features, len(self.config.bands)
        features, made, kept, doubt = self.head(x).float().split([n, b, b, b], 1)

        prior = made + torch.sigmoid(kept + 1) * first
        features = torch.cat([torch.ones_like(seen), first, prior, features], 1)
        change = self.adapt(features, o2 - prior, seen)
        image = prior + change.image
        if lent is not None:
            image = torch.lerp(image, first, lent_share(lent, seen))
        if not self.training:
            image = self.with_trees(image, told, first, o2, seen, reliability * LIKENESS / (spread + LIKENESS))
            trust = torch.lerp(reliability.mean((2, 3), keepdim=True), torch.ones_like(seen), reliability)
            image = torch.lerp(image, o1, self.persistence(r2 - r1, radar1 * radar2, spread) * trust)
        deviation = self.doubt(torch.cat([doubt, (change.spread(features) + 1e-4).log(), *near[1::2]], 1)).float()
        return Prediction(
            image * SPREAD + CENTRE,
            reliability=reliability,
            variance=(SPREAD * F.softplus(deviation)).square() + 1e-6,
            prior=prior * SPREAD + CENTRE,
        )

    def prepared(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor) -> Prepared:
        """Return the inputs in the network's units, and what the first estimate is regressed on."""
        radar1, optical1, radar2, seen = (present(x) for x in (s1_t1, s2_t1, s1_t2, s2_t2))
        r1, r2 = self.blind_backscatter(s1_t1, radar1), self.blind_backscatter(s1_t2, radar2)
        o1, o2 = self.centred(s2_t1, optical1), self.centred(s2_t2, seen)
        reliability = self.reliability(r1, radar1, o1, optical1)
        radar, here = torch.cat([r1, r2], 1), torch.cat([radar1.expand_as(r1), radar2.expand_as(r2)], 1)
        means = [local_mean(radar, here, side) for side in REACH]
        o1 = self.filled(o1, reliability, radar, means)
        features = self.features(radar, o1, means, reliability)
        return Prepared(r1, radar1, r2, radar2, o1, o2, seen, reliability, features)

    def relied_on(self, s1_t1: Tensor, s2_t1: Tensor) -> Tensor:
        """See :meth:`Generator.relied_on`."""
        radar1, optical1 = present(s1_t1), present(s2_t1)
        r1, o1 = self.blind_backscatter(s1_t1, radar1), self.centred(s2_t1, optical1)
        relied: Tensor = self.reliability(r1, radar1, o1, optical1)
        return relied

    def estimated(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor, every: int) -> Tensor:
        """See :meth:`Generator.estimated`."""
        x = self.prepared(s1_t1, s2_t1, s1_t2, s2_t2)
        image, _ = self.first_estimate(x.features, self.textures(x.features), x.o2, x.seen, every=every)
        return image * SPREAD + CENTRE

    def blind_backscatter(self, s1: Tensor, here: Tensor) -> Tensor:
        """Return backscatter with the window's mean and deviation taken out; missing pixels are 0."""
        return standardise(s1 / 6, here)

    def centred(self, s2: Tensor, here: Tensor) -> Tensor:
        """Return reflectance, clipped, centred and scaled; missing pixels are 0."""
        low, high = self.config.reflectance_range
        return torch.where(here > 0, (s2.clamp(low, high) - CENTRE) / SPREAD, 0.0)

    def filled(self, o1: Tensor, reliability: Tensor, radar: Tensor, radar_means: list[Tensor]) -> Tensor:
        """Return S2 at t1, as far as it cannot be relied on replaced by a regression of what can on the radar."""
        about = torch.cat([torch.ones_like(reliability), radar, *radar_means, radar_means[0].square() / 2], 1)
        return torch.lerp(self.fill(about, o1, reliability).image, o1, reliability)

    def first_estimate(
        self, features: Tensor, told: Tensor, o2: Tensor, seen: Tensor, lent: Tensor | None = None, every: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return S2 at t2 by regressions alone, and how far a pixel lies from the seen ones.

        How much of either regression is taken goes by the number of pixels seen.

        Args:
            features: what the linear regression goes by.
            told: what waves are made of, see :meth:`textures`.
            o2: S2 at t2.
            seen: where it was seen.
            lent: see :meth:`Generator.forward`.
            every: see :func:`thinned`.
        """
        linear = self.estimate(features, o2, seen, lent)
        waves = thinned(linear.prior, every) + self.waves(told, o2 - linear.prior, seen, every)
        several, more = BLEND * self.blend
        share = torch.sigmoid(several + more * (seen.sum((1, 2, 3)) / 1000 + 0.03).log())
        image = torch.lerp(thinned(linear.image, every), waves, share[:, None, None, None])
        return image, linear.spread(thinned(features, every))

    def features(self, radar: Tensor, o1: Tensor, radar_means: list[Tensor], reliability: Tensor) -> Tensor:
        """Return what the first estimate is regressed on: the inputs, their local means, and products of these.

        Args:
            radar: backscatter of t1 and t2.
            o1: S2 at t1, filled.
            radar_means: local means of ``radar``, one for each of :data:`REACH`.
            reliability: of S2 at t1.
        """
        everywhere = torch.ones_like(reliability)
        optical_means = [local_mean(o1, everywhere, side) for side in REACH]
        means = [mean for pair in zip(radar_means, optical_means, strict=True) for mean in pair]
        later = radar_means[0][:, radar.shape[1] // 2 :]
        products = [radar_means[0].square(), o1.square(), (later[:, :, None] * optical_means[0][:, None]).flatten(1, 2)]
        halved = [product / 2 for product in products]
        return torch.cat([everywhere, 1 - reliability, radar, o1, *means, *halved], 1)

    def with_trees(self, image: Tensor, told: Tensor, first: Tensor, o2: Tensor, seen: Tensor, like: Tensor) -> Tensor:
        """Return the image, mixed with trees grown on the seen pixels as far as these are many.

        What they change is averaged over :data:`SMOOTH`.

        Args:
            image: what to mix them with.
            told: what they go by, see :meth:`textures`.
            first: the first estimate, told them too.
            o2: S2 at t2.
            seen: where it was seen.
            like: how far a pixel is like those that were seen clear at both dates, 0 to 1: from what they never met,
                as from filled S2 at t1, trees lead anywhere. They are grown where this is over a half.
        """
        sure = seen * (like > 0.5)
        change = forest_share(sure) * like * (forest(torch.cat([told, first], 1), o2, sure) - image)
        return image + local_mean(change, torch.ones_like(seen), SMOOTH)

    def persistence(self, radar_change: Tensor, here: Tensor, spread: Tensor) -> Tensor:
        """Return the share of S2 at t1 in each pixel of the result, where that can be relied on.

        What is filled is relied on as far as the window: little to learn from fills badly.

        Args:
            radar_change: backscatter of t2 less that of t1.
            here: where both are present.
            spread: how far each pixel lies from the seen ones.
        """
        change = local_mean(radar_change, here, REACH[0]).square().mean(1, keepdim=True)
        return PERSISTENCE * here * torch.exp(-change / (2 * CHANGE**2)) * spread / (spread + LIKENESS)

    def textures(self, features: Tensor) -> Tensor:
        """Return the inputs and means among the features, and how far pixels deviate from the means about them."""
        inputs = torch.split(features[:, 2:].float(), self.waves.inputs // (2 + len(REACH)), 1)
        near = inputs[0] - inputs[1]
        deviation = (local_mean(near.square(), torch.ones_like(near[:, :1]), REACH[0]) + 1e-4).sqrt()
        return torch.cat([*inputs[: 1 + len(REACH)], deviation], 1)
