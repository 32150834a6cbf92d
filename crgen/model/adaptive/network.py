"""The default generator (preset ``base``): the paper's order of work, water of its own, and a regression of the scene.

As the paper does, it fuses radar and optical of t1 first (stems, DownUp), then aligns with the radar of t2 by attention
(FusionAttention) on the way into a tower, and decodes with skips. All of them are convolutions with batch norm, from
full resolution to a thirty-second: with a Swin tower and no norms it knew less of unseen floods after 4,250 steps than
so after 500. It departs where users need more:

- **Water has an output of its own.** The image is ``(1 - p) · land + p · water``, with p the probability of water at
  t2. The radar tells it; pixels of the window that were seen at t2 say how far it is off as a whole, one offset of its
  logit; what other windows or the past know moves ``land`` alone. Where t1 was under water and the image still shows
  water, it is water by at least the probability of t1: rivers and lakes are not lost where wind or mud hides them from
  the radar.
- **It sees levels.** Stems see radar standardised by window, blind to gain and offset; one small, bounded branch adds
  calibrated backscatter in dB, where the source has it.
- **It trusts t1 as far as t1 deserves.** DownUp tells per pixel how far S2 at t1 shows the ground, and makes what it
  does not show; pixels that show nothing are left out, and the rest is fused anew.
- **What is seen of t2 is regressed, never shown to the network**: shown seen pixels, it copied them, and its errors
  there told nothing of the hidden ones. They are regressed in closed form on the inputs and their local means
  (:mod:`crgen.model.adaptive.ridge`); the network chooses, pixel by pixel, between S2 at t1 under the light of t2, this
  estimate, and what it makes itself. What the seen pixels of the window still tell of that choice is regressed on a few
  features of the network, for land and for the colour of water apart; the colour, at last, on the inputs too.
- **Three bands carry it, the others follow** (:mod:`crgen.model.adaptive.spectrum`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crgen.model.adaptive.convolutions import Block, Decoder, Encoder, Join
from crgen.model.adaptive.ridge import SceneRidge
from crgen.model.adaptive.spectrum import CENTRE, SPREAD, Spectrum
from crgen.model.adaptive.surroundings import REACH, local_mean, local_sum
from crgen.model.config import CORE, GeneratorConfig
from crgen.model.fusion import FusionAttention
from crgen.model.generator import Generator, Prediction, present, standardise
from crgen.model.water import water_label

NEAR = (7, 31)
"""Sides in pixels of the surroundings in which seen pixels are counted, to tell how far to doubt."""
LEARNED = 8
"""Features of the network that what was seen is regressed on at last."""
NOTHING = 0.01
"""A pixel of t1 shows nothing where it shows the ground by much less: of a veil of 60 % more is left. Around it a pixel
is left out in part, so that rounding, as in bfloat16, decides nothing."""
STILL = 30.0
"""Seen pixels that hold the logit of water where it is."""
FURTHEST, HALVINGS = 16.0, 20
"""The largest offset, and how often the interval it lies in is halved."""
B = len(CORE)


class Radar(NamedTuple):
    """Backscatter of one date in the network's units, ``(batch, channel, y, x)``; missing pixels are 0."""

    standardised: Tensor
    here: Tensor
    """1 where a polarisation is present, of the same shape."""
    level: Tensor
    """Calibrated backscatter, clipped to ``db_range`` as [-1, 1], and ``here``; all 0 where it is not calibrated."""


class Ground(NamedTuple):
    """What is known of t1, and what the scene is regressed on."""

    maps: list[Tensor]
    """Features of t1, from full resolution downward."""
    shown: Tensor
    """How far S2 at t1 shows the ground, 0 to 1, 0 where it is missing, ``(batch, 1, y, x)``."""
    clean: Tensor
    """S2 at t1, core bands, what it does not show replaced by what DownUp makes."""
    water: Tensor
    """Logit of water at t1."""
    features: Tensor
    """What the scene is regressed on."""


def as_seen(logit: Tensor, label: Tensor) -> Tensor:
    """Return a logit of water, moved as a whole until it says of the seen pixels what they show.

    One offset a window, the likeliest about a normal prior that counts as :data:`STILL` pixels. A pixel counts the more
    the less certain its water is: so that snow in shade, which the label takes for water and the radar never would,
    turns no dry ground into water.

    Args:
        logit: of water at t2, ``(batch, 1, y, x)``.
        label: 1 water, 0 dry, NaN unknown or not seen, of the same shape.
    """
    known = torch.isfinite(label)
    if not known.any():
        return logit
    water, p = torch.where(known, label, 0.0), logit.detach().sigmoid()
    counts = 4 * p * (1 - p) * known
    low = torch.full_like(p[:, :, :1, :1], -FURTHEST)
    high = -low
    for _ in range(HALVINGS):
        offset = (low + high) / 2
        gap = ((water - (logit.detach() + offset).sigmoid()) * counts).sum((2, 3), keepdim=True) - STILL * offset
        low, high = torch.where(gap > 0, offset, low), torch.where(gap > 0, high, offset)
    some = known.any(2, keepdim=True).any(3, keepdim=True)
    return logit + torch.where(some, (low + high) / 2, 0.0)


class AdaptiveGenerator(Generator):
    """The default generator. Predicts water and a variance too."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        p, widths = len(config.pols), config.widths
        full, half, quarter, *tower = widths
        self.level = nn.Sequential(nn.Conv2d(2 * p, full, 3, padding=1, bias=False), nn.Tanh())
        self.stem_t1 = Block(2 * p + B + 1 + 2, full)
        self.down_up = nn.Sequential(OrderedDict(down=Encoder(widths[:-1]), up=Decoder(widths[:-1])))
        self.leave_t1 = nn.Conv2d(full, 2 + B, 1)
        once = [0] * 2 * p + [1] * B  # radar is scaled by window, reflectance is absolute
        shared = torch.tensor([1, 1] + once * (1 + len(REACH)) + once + [0] * p * B)
        self.scene = SceneRidge(len(shared), B, learn_mean=True, shared=shared.float())
        with torch.no_grad():
            self.scene.start[2 + 2 * p : 2 + 2 * p + B] = torch.eye(B)
        self.stem_t2 = Block(2 * p, full)
        self.down_t2 = Encoder((full, half, quarter))
        self.fusion = FusionAttention(quarter, config.attention_axis)
        self.fused = Block(2 * quarter, quarter)
        self.tower = Encoder((quarter, *tower))
        self.light = nn.Linear(tower[-1], 2 * B)
        self.decoder = Decoder((quarter, *tower))
        self.join_half = Join(quarter, 2 * half, half)
        self.join_full = Join(half, 2 * full, full)
        self.head_water = nn.Conv2d(full, 1 + B, 1)
        self.stem_scene = nn.Conv2d(B + 1, full, 3, padding=1)
        self.join_scene = Block(2 * full, full)
        self.head_land = nn.Conv2d(full, 3 + 2 * B + LEARNED, 1)
        self.land = SceneRidge(1 + 2 * B + LEARNED, B, precision=10.0, learn_mean=False)
        self.colour = SceneRidge(1 + B, B, scales=(), precision=10.0, learn_mean=False)
        self.shades = SceneRidge(len(shared), B, scales=(64.0,), precision=300.0, learn_mean=False)
        self.doubt = nn.Sequential(nn.Conv2d(B + 2 + len(NEAR), 16, 1), nn.SiLU(), nn.Conv2d(16, B, 1))
        self.spectrum = Spectrum(config.bands)
        nn.init.zeros_(self.light.weight)
        nn.init.zeros_(self.light.bias)

    @property
    def evidence_size(self) -> int:  # type: ignore[override]
        """See :class:`Generator`."""
        return self.scene.evidence_size

    def evidence(
        self,
        s1_t1: Tensor,
        s2_t1: Tensor,
        s1_t2: Tensor,
        s2_t2: Tensor,
        *,
        clear_t1: Tensor | None = None,
        calibrated: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Generator.evidence`."""
        r1, r2 = self.radar(s1_t1, calibrated), self.radar(s1_t2, calibrated)
        o2, seen = self.centred(s2_t2)
        return self.scene.evidence(self.ground(r1, r2, s2_t1, clear_t1).features, o2, seen)

    def generate(
        self,
        s1_t1: Tensor,
        s2_t1: Tensor,
        s1_t2: Tensor,
        s2_t2: Tensor,
        *,
        clear_t1: Tensor | None = None,
        calibrated: Tensor | None = None,
        lent: Tensor | None = None,
    ) -> Prediction:
        """See :meth:`Generator.forward`."""
        r1, r2 = self.radar(s1_t1, calibrated), self.radar(s1_t2, calibrated)
        o2, seen = self.centred(s2_t2)
        t1 = self.ground(r1, r2, s2_t1, clear_t1)
        t2 = self.stem_t2(torch.cat([r2.standardised, r2.here], 1)) + self.level(r2.level)
        full, half, quarter = self.down_t2(t2)
        scales = self.tower(self.fused(self.fusion(t1.maps[2], quarter)))
        gain, offset = self.light(scales[-1].mean((2, 3)))[..., None, None].float().split(B, 1)
        x = self.join_full(self.join_half(self.decoder(scales)[0], t1.maps[1], half), t1.maps[0], full)
        water, colour = self.head_water(x).float().split([1, B], 1)
        label = water_label(s2_t2, self.config.bands)
        p = as_seen(water, label).sigmoid()
        colour = 2 * colour.sigmoid() - 1  # water reflects from 0 to 2 · CENTRE

        scene = self.scene(t1.features, o2, seen, lent)
        spread = scene.spread(t1.features).clamp(max=4)
        about = self.stem_scene(torch.cat([scene.image, spread], 1))
        head = self.head_land(self.join_scene(torch.cat([x, about.relu()], 1))).float()
        choice, made, doubt, learned = head.split([3, B, B, LEARNED], 1)
        kept, estimated, own = choice.softmax(1).split(1, 1)
        again = gain.tanh().exp() * (t1.clean + 1) - 1 + offset.tanh()  # S2 at t1 under the light of t2
        land = kept * again + estimated * scene.image + own * made
        one = torch.ones_like(p)
        # What the seen pixels of this window tell of what the network made, of land and of the colour of water.
        about_land = torch.cat([one, scene.image, land, learned.tanh()], 1)
        land = land + self.land(about_land, o2 - land, seen * (1 - p.detach())).image
        wet = seen * torch.where(torch.isfinite(label), label, p.detach())
        colour = (colour + self.colour(torch.cat([one, colour], 1), o2 - colour, wet).image).clamp(-1, 1)
        colour = (colour + self.shades(t1.features, o2 - colour, seen * p.detach().square()).image).clamp(min=-1)
        known = [doubt, (spread + 1e-4).log(), t1.shown, *(local_sum(seen, side) for side in NEAR)]
        deviation = SPREAD * F.softplus(self.doubt(torch.cat(known, 1)).float())

        before = t1.water.sigmoid()
        with torch.autocast(land.device.type, enabled=False):
            reflectance = self.spectrum(land, colour, p, before, kept * t1.shown, t1.clean, s2_t1, t1.shown, s2_t2)
        still = before * (water_label(reflectance, self.config.bands) == 1)
        return Prediction(
            reflectance,
            reliability=t1.shown,
            variance=self.spectrum.variance(deviation.square() + 1e-6),
            water=torch.cat([before, torch.maximum(p, still)], 1),
            clean_t1=t1.clean * SPREAD + CENTRE,
        )

    def radar(self, s1: Tensor, calibrated: Tensor | None) -> Radar:
        """Return backscatter in the network's units.

        Args:
            s1: dB, ``(batch, pol, y, x)``, NaN where missing.
            calibrated: 1 where the level means something, else 0, ``(batch,)``; None for everywhere.
        """
        here = torch.isfinite(s1).to(s1.dtype)
        level = torch.cat([torch.where(here > 0, self.scale_backscatter(s1), 0.0), here], 1)
        if calibrated is not None:
            level = level * calibrated.to(level.dtype)[:, None, None, None]
        return Radar(standardise(s1 / 6, here), here, level)

    def centred(self, s2: Tensor) -> tuple[Tensor, Tensor]:
        """Return the core bands, clipped, centred and scaled, missing pixels 0, and where they are present."""
        s2 = s2[:, self.core]
        here = present(s2)
        low, high = self.config.reflectance_range
        return torch.where(here > 0, (s2.clamp(low, high) - CENTRE) / SPREAD, 0.0), here

    def ground(self, r1: Radar, r2: Radar, s2_t1: Tensor, clear_t1: Tensor | None) -> Ground:
        """Fuse radar and optical of t1, and return what is known of it.

        A pixel that shows next to nothing of the ground is left out, and the rest fused anew: beside a thick cloud,
        features of what it is not would be decoded. In training every pixel stays and teaches what it shows.
        """
        o1, here = self.centred(s2_t1)
        score = torch.full_like(here, torch.nan) if clear_t1 is None else clear_t1
        scored = torch.isfinite(score).to(o1.dtype)
        optical = torch.cat([o1, here, torch.where(scored > 0, score - 0.5, 0.0), scored], 1)
        maps, shown, water, made = self._fused_t1(r1, optical)
        shown = shown * here
        hidden = here * (1.5 - shown / NOTHING).clamp(0, 1)
        if not self.training and hidden.any():
            maps, again, water, made = self._fused_t1(r1, optical * (1 - hidden))
            shown = torch.lerp(again * here, shown, hidden)
        clean = torch.lerp(made, o1, shown)
        return Ground(maps, shown, clean, water, self.features(r1, r2, clean, shown))

    def _fused_t1(self, r1: Radar, optical: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Return features of t1, how far it shows the ground, the logit of its water, and the core bands made."""
        fused = self.stem_t1(torch.cat([r1.standardised, r1.here, optical], 1))
        maps: list[Tensor] = self.down_up(fused + self.level(r1.level))
        shown, water, made = self.leave_t1(maps[0]).float().split([1, 1, B], 1)
        return maps, shown.sigmoid(), water, made

    def features(self, r1: Radar, r2: Radar, o1: Tensor, shown: Tensor) -> Tensor:
        """Return what the scene is regressed on: the inputs, their local means, and products of these."""
        radar = torch.cat([r1.standardised, r2.standardised], 1)
        radar_here = torch.cat([r1.here, r2.here], 1)
        everywhere = torch.ones_like(shown)
        means = []
        for side in REACH:
            means += [local_mean(radar, radar_here, side), local_mean(o1, everywhere, side)]
        near_radar, near_optical = means[:2]
        later = near_radar[:, radar.shape[1] // 2 :]
        products = [near_radar.square(), o1.square(), (later[:, :, None] * near_optical[:, None]).flatten(1, 2)]
        return torch.cat([everywhere, 1 - shown, radar, o1, *means, *(product / 2 for product in products)], 1)
