"""How busy a GPU would be kept: the real pipeline, with a sleep of a GPU's duration in the generator's place.

    python benchmarks/simulated_gpu.py [RATE [SIDE [WORKERS …]]]     (default 50 windows/s, 6144 px, 1 2 4 8 workers)

Reading (a local stack) and encoding are the real ones, on this machine's cores; only the generator sleeps, so that the
cores are free as they would be beside a GPU. What a faster GPU needs follows from the CPU seconds per window.
"""

import datetime
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from common import DAYS, Timed, apart, cpu_seconds, report, stack_on_disk


def one(rate: float, side: int, workers: int, stacks: str) -> None:
    """Measure one number of workers; prints JSON."""
    import numpy as np

    from crgen.pipeline.fill import run
    from crgen.pipeline.request import FillRequest
    from crgen.pipeline.run.make_parts import Workshop
    from crgen.pipeline.tiling.chunk import Run
    from crgen.pipeline.tiling.predict import Predictor

    def sleeping(self, staged):
        time.sleep(len(staged.places) / rate)
        return np.full((self.planes, *staged.box.shape), 1500 * self.lattice.total // 4, np.int32)

    timed = Timed()
    Predictor.predict = timed("device", sleeping)
    Run.prepare = timed("readers", Run.prepare)
    Workshop.finish = timed("encoders", Workshop.finish)
    Workshop.make_parts = timed("all", Workshop.make_parts)
    t1, t2 = (datetime.date.fromisoformat(day) for day in DAYS)
    with tempfile.TemporaryDirectory() as name:
        source = stack_on_disk(side, Path(stacks))
        before = cpu_seconds()
        request = FillRequest(
            t1=t1, t2=t2, source=str(source), out=Path(name) / "out.tif", generate_all=True, workers=workers
        )
        result = run(request)
        cpu = cpu_seconds() - before
    readers = max(1, workers // 2)
    encoders = max(1, workers - readers)
    seconds = timed.seconds["all"]
    row = {
        "windows": result.tally.windows,
        "device": timed.seconds["device"] / seconds,
        "readers": timed.seconds["readers"] / seconds / readers,
        "encoders": timed.seconds["encoders"] / seconds / encoders,
        "cpu per window": cpu / result.tally.windows,
        "threads": f"{readers} + 1 + {encoders}",
    }
    print(json.dumps(row))


def main(rate: float, side: int, counts: list[int]) -> None:
    rows, busy = [], []
    with tempfile.TemporaryDirectory() as stacks:
        stack_on_disk(side, Path(stacks))
        for workers in counts:
            row = apart(__file__, rate, side, workers, stacks)
            shares = [f"{100 * row[stage]:.0f} %" for stage in ("device", "readers", "encoders")]
            rows.append((str(workers), row["threads"], *shares, f"{1e3 * row['cpu per window']:.1f}"))
            busy.append(row["device"])
    cores = 1000 * row["cpu per window"]
    header = (
        "workers",
        "readers + device + encoders",
        "device busy",
        "readers busy",
        "encoders busy",
        "CPU ms a window",
    )
    more = {"rate": rate, "side": side, "device busy": busy, "cores for 1000 windows/s": cores}
    report("simulated_gpu", header, rows, more)
    print(
        f"\nSimulated: a sleep of {1000 / rate:.2f} ms a window stands for the GPU ({rate:g} windows/s), on "
        f"{os.cpu_count()} cores. At 1,000 windows/s reading and encoding would need about {cores:.0f} such cores."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        words = sys.argv[1:]
        main(
            float(words[0]) if words else 50.0,
            int(words[1]) if len(words) > 1 else 6144,
            [int(w) for w in words[2:]] or [1, 2, 4, 8],
        )
