"""Windows per second of the bare generator and of the whole `fill`, and peak memory, in one run.

    python benchmarks/throughput.py [SIDE …]     (default 2048 4096 px, shipped weights)

For each size a local stack and the demo scene. Each `fill` runs in a process of its own, so that its peak memory is its
own; the bare generator, as PyTorch runs it by itself, is measured right before and right after it in the same process,
and the mean of both is what it is compared with.
"""

import datetime
import json
import sys
import tempfile
from pathlib import Path

from common import DAYS, Timed, apart, peak_mb, report, square, stack_on_disk


def one(source: str, side: int) -> None:
    """Measure one size; prints JSON."""
    from crgen.pipeline.fill import run
    from crgen.pipeline.request import FillRequest
    from crgen.pipeline.run.make_parts import Workshop
    from crgen.pipeline.tiling.predict import Predictor

    timed = Timed()
    Workshop.make_parts = timed("chunks", Workshop.make_parts)
    Predictor.predict = timed("generator", Predictor.predict)
    t1, t2 = (datetime.date.fromisoformat(day) for day in DAYS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if source == "demo":
            where = {"source": "demo", "aoi": str(square(side, folder)), "crs": "EPSG:32649"}
        else:
            where = {"source": str(stack_on_disk(side, folder))}
        before = bare(seconds=6)
        result = run(FillRequest(t1=t1, t2=t2, out=folder / "out.tif", generate_all=True, **where))
        after = bare(seconds=6)
    row = {
        "windows": result.tally.windows,
        "bare": (before + after) / 2,
        "fill": result.tally.windows / result.seconds,
        "device busy": timed.seconds["generator"] / timed.seconds["chunks"],
        "beside": result.seconds - timed.seconds["chunks"],
        "peak": peak_mb(),
    }
    print(json.dumps(row))


def bare(seconds: float) -> float:
    """Return windows per second as PyTorch alone makes them: batches of 4, all threads at one, a run's precision."""
    import torch

    from crgen.model.device import computing_in, pick_precision
    from crgen.model.weights import load_model
    from crgen.training.score.cost import windows_per_second

    model = load_model(device="cuda" if torch.cuda.is_available() else "cpu")
    precision = pick_precision("auto", model.generator, model.card.window)
    with computing_in(precision.name, model.generator.db_low.device.type):
        return windows_per_second(model.generator, model.card.window, seconds=seconds)


def main(sides: list[int]) -> None:
    rows, ratios = [], []
    for source in ("local stack", "demo scene"):
        for side in sides:
            row = apart(__file__, source.split()[0], side)
            ratios.append(row["fill"] / row["bare"])
            cells = f"{row['bare']:.2f}", f"{row['fill']:.2f}", f"{ratios[-1]:.2f}"
            rest = f"{100 * row['device busy']:.0f} %", f"{row['beside']:.1f}", f"{row['peak'] / 1e3:.2f}"
            rows.append((f"{source}, {side} × {side} px", row["windows"], *cells, *rest))
    header = (
        "`fill`",
        "windows",
        "bare generator, windows/s",
        "fill, windows/s",
        "fill ÷ bare",
        "generator busy",
        "s for start, evidence and picture",
        "peak memory, GB",
    )
    report("throughput", header, rows, {"fill ÷ bare": ratios})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(side) for side in sys.argv[1:]] or [2048, 4096])
