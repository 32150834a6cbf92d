"""Processes of the tests, forked from one server that has loaded once what takes seconds; all tests share it."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver
from pathlib import Path

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
    with dask.config.set(
        {method: "forkserver", environment: dict(os.environ), "distributed.worker.preload": ["tests.demo"]}
    ):
        yield


def command_line(words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
    """Be `crgen` in a folder, and write what it prints into ``.out`` and ``.err`` beside that."""
    os.environ.update(environment)
    os.chdir(folder)
    for number, ending in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(folder.with_suffix(ending), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["crgen", *words]
    from crgen.cli import main

    main()


class Command:
    """A `crgen` of its own that starts in no time."""

    def __init__(self, *words: object) -> None:
        folder = Path.cwd()
        self.out, self.err = folder.with_suffix(".out"), folder.with_suffix(".err")
        self.err.write_text("")
        words = tuple(map(str, words))
        self.process = ctx.Process(target=command_line, args=(words, folder, dict(os.environ)), daemon=True)
        self.process.start()

    def until(self, said: str) -> None:
        """Wait until it has said something on standard error."""
        give_up = time.monotonic() + 120
        while said not in self.err.read_text():
            assert self.process.is_alive(), self.err.read_text()
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def ended(self) -> tuple[int, str, str]:
        """Wait until it has ended; return its exit code, and what it said on standard output and error."""
        self.process.join(60)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode, self.out.read_text(), self.err.read_text()
