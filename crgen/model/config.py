"""What a generator is made of: one frozen configuration, and the presets that have names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from crgen.errors import RequestError

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
"""What to compute in, see :mod:`crgen.model.device`."""

CORE = ("B3", "B8", "B11")
"""The bands that form ``adaptive`` makes itself: those in which floods are known (OMBRIA)."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that decides the generator's layers and its units.

    Defaults describe preset ``base``; :data:`PRESETS` says how the others differ.

    Raises:
        RequestError: if the fields contradict each other.
    """

    pols: tuple[str, ...] = ("VV", "VH")
    """Sentinel-1 polarisations, in channel order. ``adaptive``: all but the first may be missing."""
    bands: tuple[str, ...] = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
    """Sentinel-2 bands, in channel order; also the bands generated. ``adaptive``: B3, B8 and B11 must be among them,
    and others may be missing at t1."""
    db_range: tuple[tuple[float, float], ...] = ((-35.0, 0.0), (-40.0, -5.0))
    """Backscatter in dB mapped to [-1, 1], one pair per polarisation; values beyond are clipped."""
    reflectance_range: tuple[float, float] = (0.0, 1.0)
    """Reflectance mapped to [-1, 1]; values beyond are clipped."""

    form: Literal["adaptive", "paper"] = "adaptive"
    """``paper``: instance-normalised stems, an image as the bottleneck, tanh output.
    ``adaptive``: water has an output of its own, optical paths keep absolute radiometry, S2 at t1 is trusted as far as
    it shows the ground, missing pixels are marked, and the scene is regressed on the clear pixels of t2."""
    widths: tuple[int, ...] = (16, 32, 64, 96, 128, 160)
    """``adaptive``: channels at full resolution, a half, a quarter, … a thirty-second."""
    attention_axis: Literal["channel", "space"] = "channel"
    """Axis of the L2 norm of queries and keys in FusionAttention."""
    stem: int = 64
    """``paper``: channels of the stems; so are all fields below the paper's form's alone."""
    width: int = 64
    """Channels of FusionAttention and what surrounds it."""
    down_kernel: int = 7
    """Kernel of DownUpBlock's strided convolutions."""
    embed: tuple[int, ...] = (96, 192, 384, 768)
    """Channels of the Swin tower's scales, from a quarter of the resolution downward."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks of the Swin tower's scales."""
    head_dim: int = 32
    """Channels of one attention head."""
    window: int = 8
    """Side of the Swin tower's attention windows, in tokens."""
    decoder: tuple[int, ...] = (768, 320, 160, 80)
    """Channels of the decoder, coarsest scale first."""
    dropout: float = 0.0
    """Dropout probability in DownUpBlock and before the output (training only)."""
    water: bool = False
    """Whether water has an output of its own, as ``adaptive`` always has."""

    def __post_init__(self) -> None:
        ranges = (*self.db_range, self.reflectance_range)
        sizes = (*self.widths, self.stem, self.width, self.head_dim, self.window)
        if not self.pols or len(set(self.pols)) < len(self.pols) or len(self.db_range) != len(self.pols):
            raise RequestError("a generator needs polarisations, each named once and with its own db_range")
        if not self.bands or len(set(self.bands)) < len(self.bands):
            raise RequestError("a generator needs bands, each named once")
        if any(not low < high for low, high in ranges):
            raise RequestError("db_range and reflectance_range must each go from a lower to a higher value")
        if (
            min(*sizes, *self.embed, *self.depths, *self.decoder) < 1
            or self.down_kernel < 1
            or self.down_kernel % 2 == 0
            or not 0 <= self.dropout < 1
        ):
            raise RequestError("widths must be at least 1, down_kernel odd, and dropout from 0 to below 1")
        if not set(self.core) <= set(self.bands):
            raise RequestError(f"a generator of form {self.form} needs {', '.join(self.core)} among its bands")
        if len(self.widths) != 6:
            raise RequestError("a generator of form adaptive has 6 scales: give widths for each")
        if {len(self.embed), len(self.depths), len(self.decoder)} != {4}:
            raise RequestError("a generator of form paper has 4 scales: give embed, depths, decoder for each")
        if any(width % self.head_dim for width in self.embed):
            raise RequestError("every width in embed must be a multiple of head_dim")

    @property
    def core(self) -> tuple[str, ...]:
        """Bands that are made from the inputs themselves, and needed; others follow from them."""
        return CORE if self.form == "adaptive" else self.bands

    @property
    def needed_pols(self) -> tuple[str, ...]:
        """Polarisations that must be there."""
        return self.pols[:1] if self.form == "adaptive" else self.pols

    @property
    def predicts_water(self) -> bool:
        """Whether a prediction holds probabilities of water, for which B3, B8 and B11 are read."""
        return self.form == "adaptive" or (self.water and set(CORE) <= set(self.bands))

    @property
    def predicts_reliability(self) -> bool:
        """Whether a prediction says how far S2 at t1 shows the ground."""
        return self.form == "adaptive"

    @property
    def predicts_variance(self) -> bool:
        """Whether a prediction holds a variance of the reflectance."""
        return self.form == "adaptive"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, ready for JSON."""
        return asdict(self)


_BASE = GeneratorConfig()

PRESETS: dict[str, GeneratorConfig] = {
    "paper": replace(_BASE, form="paper", bands=("B4", "B3", "B2"), dropout=0.1),
    "base": _BASE,
    "tiny": replace(_BASE, widths=(8, 12, 16, 24, 24, 32)),
}

DEFAULT_DB_RANGE = {"VV": (-35.0, 0.0), "VH": (-40.0, -5.0)}


def preset(name: str, *, pols: tuple[str, ...] | None = None, bands: tuple[str, ...] | None = None) -> GeneratorConfig:
    """Return preset ``name``, for other polarisations or bands if given.

    Raises:
        RequestError: if there is no such preset or polarisation.
    """
    if name not in PRESETS:
        raise RequestError(f"there is no preset '{name}'; choose one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    if pols is not None:
        if unknown := [p for p in pols if p not in DEFAULT_DB_RANGE]:
            raise RequestError(f"there is no polarisation '{unknown[0]}'; choose from {', '.join(DEFAULT_DB_RANGE)}")
        config = replace(config, pols=pols, db_range=tuple(DEFAULT_DB_RANGE[p] for p in pols))
    if bands is not None:
        config = replace(config, bands=bands)
    return config
