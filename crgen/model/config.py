"""What a generator is made of: one frozen configuration, and the presets that have names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from crgen.errors import RequestError


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that decides the generator's layers and its units.

    Defaults describe preset ``base``; :data:`PRESETS` says how the others differ.
    """

    pols: tuple[str, ...] = ("VV",)
    """Sentinel-1 polarisations, in channel order."""
    bands: tuple[str, ...] = ("B11", "B8", "B3")
    """Sentinel-2 bands, in channel order; also the bands generated."""
    db_range: tuple[tuple[float, float], ...] = ((-25.0, 0.0),)
    """Backscatter in dB mapped to [-1, 1], one pair per polarisation; values beyond are clipped."""
    reflectance_range: tuple[float, float] = (0.0, 1.0)
    """Reflectance mapped to [-1, 1]; values beyond are clipped."""

    form: Literal["gated", "paper"] = "gated"
    """``paper``: instance-normalised stems, an image as the bottleneck, tanh output.
    ``gated``: optical paths keep absolute radiometry, S2 at t1 passes a learned reliability gate,
    missing pixels are marked, and clear S2 at t2 may be given."""
    stem: int = 16
    """Channels of the stems, at full resolution."""
    width: int = 32
    """Channels of DownUpBlock and FusionAttention (``gated``: at half resolution)."""
    down_kernel: int = 3
    """Kernel of DownUpBlock's strided convolutions."""
    attention_axis: Literal["channel", "space"] = "channel"
    """Axis of the L2 norm of queries and keys in FusionAttention."""
    embed: tuple[int, int, int, int] = (64, 128, 192, 256)
    """Channels of the Swin tower's four scales."""
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Blocks of the Swin tower's four scales."""
    head_dim: int = 32
    """Channels of one attention head."""
    window: int = 8
    """Side of the Swin tower's attention windows, in tokens."""
    decoder: tuple[int, int, int, int] = (192, 128, 96, 48)
    """Channels of the decoder, coarsest scale first."""
    dropout: float = 0.0
    """Dropout probability in DownUpBlock and before the output (training only)."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GeneratorConfig:
        """Rebuild a configuration from :meth:`to_dict` after a trip through JSON."""

        def frozen(value: Any) -> Any:
            return tuple(frozen(v) for v in value) if isinstance(value, list) else value

        return cls(**{name: frozen(value) for name, value in values.items()})


_BASE = GeneratorConfig()

PRESETS: dict[str, GeneratorConfig] = {
    "paper": replace(
        _BASE,
        form="paper",
        pols=("VV", "VH"),
        bands=("B4", "B3", "B2"),
        db_range=((-25.0, 0.0), (-32.5, 0.0)),
        stem=64,
        width=64,
        down_kernel=7,
        embed=(96, 192, 384, 768),
        depths=(2, 2, 6, 2),
        decoder=(512, 256, 160, 64),
        dropout=0.1,
    ),
    "base": _BASE,
    "tiny": replace(
        _BASE,
        stem=4,
        width=8,
        embed=(16, 24, 32, 48),
        depths=(1, 1, 1, 1),
        head_dim=8,
        decoder=(32, 24, 16, 16),
    ),
}

DEFAULT_DB_RANGE = {"VV": (-25.0, 0.0), "VH": (-32.5, 0.0)}


def preset(name: str, *, pols: tuple[str, ...] | None = None, bands: tuple[str, ...] | None = None) -> GeneratorConfig:
    """Return preset ``name``, for other polarisations or bands if given.

    Raises:
        RequestError: if there is no such preset.
    """
    if name not in PRESETS:
        raise RequestError(f"there is no preset '{name}'; choose one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    if pols is not None:
        config = replace(config, pols=pols, db_range=tuple(DEFAULT_DB_RANGE[p] for p in pols))
    if bands is not None:
        config = replace(config, bands=bands)
    return config
