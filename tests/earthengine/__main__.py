"""The local Earth Engine as a process: ``python -m tests.earthengine --port 8085``.

Prints its URL on one line and serves until it is killed. ``POST URL/control/faults`` takes a JSON list of faults
(``Fault.to_json``), ``POST URL/control/settings`` a JSON object, ``POST URL/control/clear`` forgets faults and counts,
``GET URL/control/counters`` tells what was asked.
"""

import argparse
import threading

from tests.earthengine.server import EarthEngineServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.earthengine")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds every tile takes at least")
    parser.add_argument("--concurrency", type=int, default=40, help="tiles at a time before 429")
    parser.add_argument("--per-minute", type=int, default=None, help="requests a minute before 429")
    parser.add_argument("--flat", action="store_true", help="fill every tile with its middle pixel")
    parser.add_argument("--remember", action="store_true", help="keep every tile: asked for again it costs nothing")
    options = parser.parse_args()
    with EarthEngineServer(
        port=options.port,
        latency=options.latency,
        concurrency=options.concurrency,
        per_minute=options.per_minute,
        flat=options.flat,
        remember=options.remember,
    ) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
