"""Data sets by name: how each is opened, which channels it holds, and what a model card says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, validate_call

from crgen.errors import RequestError, TrainingError
from crgen.training.data import biomassters, ombria, patches, series, terramind, worldcereal
from crgen.training.data.dataset import PatchDataset


@dataclass(frozen=True)
class Kind:
    """One kind of data set."""

    open: Callable[..., PatchDataset]
    """Called with the path, ``pols`` and ``bands`` where they can be chosen, and the options a person gave."""
    about: str
    """For the model card: what it shows."""
    radiometry: str
    """For the model card: what its numbers mean."""
    licence: str = "not told"
    """For the model card."""
    limits: tuple[str, ...] = ()
    """For the model card: what weights trained on it cannot do."""
    channels: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Polarisations and bands, where they cannot be chosen."""
    held_out: Mapping[str, Any] | None = None
    """Options that open the part kept for scoring, where there is one."""


@validate_call
def open_ombria(
    path: Path,
    pols: tuple[str, ...],
    bands: tuple[str, ...],
    *,
    split: ombria.Split = "train",
    evenness: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> PatchDataset:
    """Open OMBRIA, see :class:`crgen.training.data.ombria.Ombria`."""
    return ombria.Ombria(path, split, pols=pols, bands=bands, evenness=evenness)


KINDS: dict[str, Kind] = {
    "ombria": Kind(
        open_ombria,
        "OMBRIA (floods; Sentinel-1 VV, Sentinel-2 B11, B8, B3)",
        ombria.RADIOMETRY,
        "none stated",
        (
            "floods are known in one polarisation without level and in B11, B8 and B3 alone",
            "cloud shadows were not masked in the training target and may appear in the result",
        ),
        held_out={"split": "validation"},
    ),
    "biomassters": Kind(
        biomassters.BioMassters,
        "BioMassters (Finnish forest through the year; months as dates)",
        biomassters.RADIOMETRY,
        "CC BY 4.0",
    ),
    "worldcereal": Kind(
        worldcereal.WorldCereal,
        "WorldCereal test imagery (Belgian fields through the year)",
        worldcereal.RADIOMETRY,
        "MIT",
    ),
    "series": Kind(
        series.Series,
        "series of ordinary places (WorldCereal, BioMassters)",
        series.RADIOMETRY,
        "MIT (WorldCereal), CC BY 4.0 (BioMassters)",
        held_out={"part": "held out"},
    ),
    "terramind": Kind(
        terramind.TerraMind,
        "TerraMind's examples (five places at one date)",
        terramind.RADIOMETRY,
        "Apache-2.0",
        ("half of what is called flood in VH, in absolute dB and in bands beyond B11, B8 and B3 was painted",),
    ),
    "patches": Kind(patches.PairedPatches, "paired patches", "paired patches: scaled as given for the data"),
}


@dataclass(frozen=True)
class DataSpec:
    """A data set as a person names it."""

    kind: str
    path: Path
    options: Mapping[str, Any]
    weight: float = 1.0

    @property
    def place(self) -> tuple[str, Path, Mapping[str, Any]]:
        """What is opened, whatever its weight."""
        return self.kind, self.path, self.options

    def __str__(self) -> str:
        return f"{self.kind} {', '.join(f'{k}={v}' for k, v in self.options.items())}".strip()


def guess_kind(path: Path) -> str:
    """Return the kind of the data in a folder, by its layout.

    Raises:
        TrainingError: if it is none that is known.
    """
    if (path / "OmbriaS1").is_dir():
        return "ombria"
    if any(path.glob("*_S2_??.tif")):
        return "biomassters"
    if (path / worldcereal.MONTHS).exists():
        return "worldcereal"
    raise TrainingError(f"'{path}' is no data set that crgen knows by its layout; name its kind: {', '.join(KINDS)}")


def parse_table(text: str) -> dict[str, Any]:
    """Read ``[KIND:]PATH[,option=value…]`` as a table, e.g. ``ombria:../OMBRIA,split=train,weight=2``.

    Values stay text here; what opens the data reads them, those of several items with ``+`` between.

    Raises:
        RequestError: if an option has no value.
    """
    place, *pairs = text.split(",")
    kind, colon, path = place.partition(":")
    table: dict[str, Any] = {"kind": kind, "path": path} if colon and kind in KINDS else {"path": place}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"data '{text}': '{pair}' is no option=value")
        table[name.strip()] = value.strip()
    return table


def table_spec(table: Mapping[str, Any]) -> DataSpec:
    """Read a data set from a configuration file: ``kind``, ``path``, ``weight`` and the kind's options.

    Raises:
        RequestError: if the path is missing or the kind unknown.
    """
    options = dict(table)
    if not isinstance(path := options.pop("path", None), str):
        raise RequestError("a data set in the configuration needs a path")
    kind = options.pop("kind", None) or guess_kind(Path(path))
    if kind not in KINDS:
        raise RequestError(f"there is no kind of data '{kind}'; choose from {', '.join(KINDS)}")
    try:
        weight = float(options.pop("weight", 1.0))
    except (TypeError, ValueError):
        raise RequestError(f"data '{path}': the weight is not a number") from None
    return DataSpec(kind, Path(path), options, weight)


def held_out_spec(text: str) -> DataSpec:
    """Read ``[KIND:]PATH[,option=value…]`` as data to score on: the held-out part where there is one, unless said."""
    spec = table_spec(parse_table(text))
    return replace(spec, options={**(KINDS[spec.kind].held_out or {}), **spec.options})


def open_data(spec: DataSpec, pols: tuple[str, ...], bands: tuple[str, ...]) -> PatchDataset:
    """Open a data set with the channels asked for, or with its own where they cannot be chosen.

    Raises:
        RequestError: if an option is unknown or does not fit.
        TrainingError: if the data are missing or damaged.
    """
    kind = KINDS[spec.kind]
    chosen = {} if kind.channels else {"pols": pols, "bands": bands}
    try:
        return kind.open(spec.path, **{**chosen, **spec.options})
    except ValidationError as error:
        first = error.errors()[0]
        option, *place = first["loc"]
        item = "".join(f", item {int(index) + 1}" for index in place)
        raise RequestError(f"data '{spec.kind}': option '{option}'{item}: {first['msg']}") from None
