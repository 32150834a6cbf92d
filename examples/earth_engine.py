"""Zhengzhou before and after the flood of 20 July 2021, straight from Earth Engine.

Once: ``earthengine authenticate``, and a Cloud project registered for Earth Engine (``crgen doctor`` checks both).
Then: ``python examples/earth_engine.py MY-PROJECT``.
"""

import sys
from pathlib import Path

import crgen

AREA = str(Path(__file__).parent / "zhengzhou.geojson")
T1, T2 = "2021-07-10", "2021-07-22"


def main(project: str, out: Path) -> None:
    # Fetched once, mapped as often as you like, also without a network.
    stack = out / "zhengzhou.zarr"
    if not stack.exists():
        print(crgen.pull(aoi=AREA, t1=T1, t2=T2, out=stack, project=project))
    result = crgen.fill(source=str(stack), out=out / "zhengzhou.tif", overwrite=True)
    for note in result.notes:
        print("note:", note)
    for path in result.paths.all:
        print(path)

    # In a notebook: t1 | result with a split control, radar, area and footprints.
    #   import crgen.gee
    #   crgen.gee.preview(result)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1], Path("out"))
