"""Is OMBRIA's reflectance what it is read as, DN / 255? Beside data sets whose reflectance is known.

    python benchmarks/radiometry.py ../shared/data

Prints the median reflectance of vegetation and of water, each told by ratios of bands alone, which a common gain leaves
as they are, over clear pixels of both dates, and the share of such pixels.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crgen.training.data.dataset import PatchDataset
from crgen.training.data.kinds import open_data, parse_table, table_spec
from crgen.training.data.ombria import BANDS, POLS

SETS = {
    "OMBRIA, ten wet events": "ombria:{}/ombria,split=all",
    "BioMassters": "biomassters:{}/biomassters",
    "WorldCereal, months": "worldcereal:{}/worldcereal,part=months",
    "WorldCereal, dates": "worldcereal:{}/worldcereal,part=dates",
}
DESERTS = ("yellow desert", "pink desert")
EVERY = 7


def pixels(data: PatchDataset) -> NDArray[np.float32]:
    """Return clear pixels of some samples, ``(band, pixel)``."""
    images = []
    for index in range(0, len(data), EVERY if len(data) > 200 else 1):
        sample = data[index]
        if sample.event not in DESERTS:
            images.append(sample.target[:, sample.clear[0]])
            if sample.clear_t1 is not None:
                images.append(sample.s2_t1[:, sample.clear_t1[0]])
    values = np.concatenate(images, 1)
    return values[:, np.isfinite(values).all(0)]


def main(data: Path) -> None:
    """Print the table."""
    print("| median reflectance, B11 / B8 / B3 | vegetation | share | water | share |\n|---|---|---|---|---|")
    for name, place in SETS.items():
        values = pixels(open_data(table_spec(parse_table(place.format(data))), POLS, BANDS))
        b11, b8, b3 = values.clip(1e-3)
        cells = []
        for which in ((b8 > 4 * b3) & (b8 > 1.3 * b11), (b3 > 1.5 * b11) & (b3 > b8)):
            some = " / ".join(f"{np.median(band[which]):.3f}" for band in values) if which.any() else ""
            cells += [some, f"{which.mean():.1%}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
