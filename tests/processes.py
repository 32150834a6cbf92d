"""Processes of the tests, forked from one server that has loaded once what takes seconds; all tests share it."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver

ctx = multiprocessing.get_context("forkserver")
ctx.set_forkserver_preload(
    [
        "crgen.batch.schedule.scheduler",
        "crgen.batch.schedule.worker",
        "crgen.pipeline.fill",
        "distributed",
    ]
)


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Let dask fork its worker processes from that server too, with the environment of this moment.

    Spawned, as dask does by itself, each of them loads PyTorch anew, for seconds.
    """
    import dask
    import distributed  # noqa: F401 (its own settings are added to dask's when it is loaded)

    forkserver.ensure_running()
    method, environment = "distributed.worker.multiprocessing-method", "distributed.nanny.environ"
    with dask.config.set({method: "forkserver", environment: dict(os.environ)}):
        yield
