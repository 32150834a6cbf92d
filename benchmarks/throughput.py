"""Windows per second of the bare generator and of the whole `fill`, and peak memory at two sizes, in one run.

    python benchmarks/throughput.py [SIDE SIDE ...]     (default 2048 6144 px, demo scene, shipped weights)

Each `fill` runs in a process of its own, so that its peak memory is its own; the bare generator is measured right
before and right after it, in the same process, and the mean of both is what it is compared with.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

WEST, NORTH = 730_000, 3_850_000


def one(side: int) -> None:
    """Measure one size; prints JSON."""
    import datetime

    from pyproj import Transformer

    from crgen.model.weights import load_model
    from crgen.pipeline.fill import run
    from crgen.pipeline.plan import measure
    from crgen.pipeline.predict import BATCH, Predictor
    from crgen.pipeline.request import FillRequest

    to_lonlat = Transformer.from_crs("EPSG:32649", "EPSG:4326", always_xy=True)
    corners = [
        (WEST, NORTH),
        (WEST + 10 * side, NORTH),
        (WEST + 10 * side, NORTH - 10 * side),
        (WEST, NORTH - 10 * side),
    ]
    ring = [to_lonlat.transform(x, y) for x, y in [*corners, corners[0]]]
    with tempfile.TemporaryDirectory() as folder:
        aoi = Path(folder) / "aoi.geojson"
        aoi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        predictor = Predictor(load_model(), "cpu", BATCH)
        before = measure(predictor, batches=4)
        request = FillRequest(
            aoi=str(aoi),
            t1=datetime.date(2021, 7, 10),
            t2=datetime.date(2021, 7, 22),
            source="demo",
            crs="EPSG:32649",
            out=Path(folder) / "out.tif",
            generate_all=True,
        )
        result = run(request)
        after = measure(predictor, batches=4)
    bare = (before + after) / 2
    whole = result.tally.windows / result.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    row = {"pixels": result.tally.inside, "windows": result.tally.windows, "bare": bare, "fill": whole, "peak": peak}
    print(json.dumps(row))


def main(sides: list[int]) -> None:
    print("| demo scene | windows | bare generator, windows/s | fill, windows/s | fill ÷ bare | peak memory, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    for side in sides:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(side)], capture_output=True, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {side} × {side} px | {row['windows']} | {row['bare']:.2f} | {row['fill']:.2f} "
            f"| {row['fill'] / row['bare']:.2f} | {row['peak']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]))
    else:
        main([int(side) for side in sys.argv[1:]] or [2048, 6144])
