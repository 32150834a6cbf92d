"""What the place's past costs a fill from Earth Engine, in requests, MB and time, on a local server of fixed latency.

    python -m benchmarks.past_cost [SIDE [TURNS]]     (default 2048 px, 2 turns)

`crgen fill` of a square at Zhengzhou with `--past none` and with `--past 1y`, turn by turn in processes of their own,
each with an empty cache: the least time of each counts, as other work on the machine only adds. Aimed at: at most twice
the requests and one and a half times the time. The server of the tests computes its pixels on the same cores, for at
least the latency of benchmarks/earthengine.py; "of CPU" is the fill's alone.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import DAYS, cpu_seconds, square
from benchmarks.earthengine import LATENCY, counters, environment, service

PASTS = ("none", "1y")


def one(side: int, past: str, folder: Path) -> None:
    """Fill a square; prints JSON."""
    import crgen
    from crgen.gee.connection.transport import Transport

    send, arrived = Transport._send, []

    def counted(self: Transport, *asked: Any) -> Any:
        answer = send(self, *asked)
        arrived.append(len(answer[1]))
        return answer

    Transport._send = counted  # type: ignore[method-assign]
    start = time.monotonic()
    result = crgen.fill(aoi=str(square(side, folder)), t1=DAYS[0], t2=DAYS[1], past=past, out=folder / "map.tif")
    row = {"seconds": time.monotonic() - start, "bytes": sum(arrived), "cpu": cpu_seconds()}
    row["pairs"] = result.past.described()["pairs"] if result.past else 0
    print(json.dumps({**row, "windows": result.tally.windows}))


def measured(side: int, past: str) -> dict[str, Any]:
    """Return what a fill took, with what the server was asked."""
    with service(LATENCY, flat=False) as url, tempfile.TemporaryDirectory() as name:
        words = [sys.executable, "-m", "benchmarks.past_cost", "--one", str(side), past, name]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment(url, Path(name)), check=True)
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        asked = counters(url)
    return {**row, "tiles": asked["tiles"], "requests": sum(asked["requests"].values())}


def main(side: int = 2048, times: int = 2) -> None:
    """Print the table."""
    turns = [{past: measured(side, past) for past in PASTS} for _ in range(times)]
    best = {past: min((turn[past] for turn in turns), key=lambda row: row["seconds"]) for past in PASTS}
    columns = ("`--past`", "requests, all", "for pixels", "MB", "fill, s", "of CPU, s", "windows", "earlier pairs")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for past, row in best.items():
        print(
            f"| {past} | {row['requests']} | {row['tiles']} | {row['bytes'] / 1e6:.0f} | {row['seconds']:.0f} "
            f"| {row['cpu']:.0f} | {row['windows']} | {row['pairs']} |"
        )
    plain, learned = best.values()
    ratios = (learned[name] / plain[name] for name in ("requests", "tiles", "bytes", "seconds", "cpu"))
    print(f"| ratio | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} | | |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        main(*map(int, sys.argv[1:]))
