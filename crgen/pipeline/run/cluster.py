"""Many workers: the chunks of one run on dask.distributed, in processes of this machine or of others.

A worker gets a setup, not data: it opens the imagery and loads the model by itself, once, and writes parts into the
run's scratch folder, which all must share. First a task for each chunk computes its evidence of t2. Then there are two:
*work* reads and computes and writes what spills over; *finish* waits for the neighbours' spills, not for their pixels.
The tasks of a worker that dies are given to others by dask, and what is on the disk is not done again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from crgen.errors import CrgenError, OutputError, RequestError
from crgen.model.config import PrecisionName
from crgen.model.device import Precision, pick_device, pick_precision
from crgen.model.weights import load_model
from crgen.pipeline.product.outputs import RUN
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.fingerprint import Fingerprint, device_kind, difference, fingerprint_of, short
from crgen.pipeline.run.make_parts import Workshop, open_workshop
from crgen.pipeline.run.parts import PartStore
from crgen.pipeline.run.plan import Plan, lay_out
from crgen.pipeline.tiling.ahead import compute_check, prepare_check, prepare_look, tell
from crgen.pipeline.tiling.chunk import Computed, before
from crgen.pipeline.tiling.lending import Origin, cells
from crgen.pipeline.tiling.windows import At, Chunk

THREADS = 3
"""Of a worker: one computes while the others read and encode."""
PATIENCE = 20.0
"""Seconds to wait for a scheduler that does not answer."""


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to open a run by itself; paths are absolute."""

    request: FillRequest
    folder: Path
    fingerprint: Fingerprint
    cores: int
    """Cores for computing, of each worker; 0 to leave that to PyTorch."""


def setup_for(request: FillRequest, work: Plan, folder: Path, fingerprint: Fingerprint, workers: int) -> WorkerSetup:
    """Return the setup of a run.

    Args:
        request: what is asked, with the precision that was chosen.
        work: the plan.
        folder: the run's scratch folder; its record holds the scenes.
        fingerprint: of the run.
        workers: processes there are, which share what Earth Engine answers at once.
    """
    request = replace(
        request,
        aoi=_absolute(request.aoi),
        source=_absolute(request.source) if request.source not in ("demo", "gee") else request.source,
        weights=_absolute(request.weights),
        out=work.paths.reflectance.absolute(),
    )
    if request.source == "gee":
        frozen = replace(request.earth_engine, manifest=folder.absolute() / RUN, processes=max(1, workers))
        request = replace(request, aoi=None, layer=None, t1=None, t2=None, crs=None, earth_engine=frozen)
    local = request.scheduler == "processes"
    cores = max(1, (os.cpu_count() or 1) // process_count(request)) if local else 0
    return WorkerSetup(request, folder.absolute(), fingerprint, cores)


@contextlib.contextmanager
def connected(request: FillRequest) -> Iterator[Any]:
    """Yield a dask client: of processes started here, or of the scheduler that was named.

    Raises:
        RequestError: if nothing answers there.
    """
    from distributed import Client, LocalCluster

    if request.scheduler != "processes":
        try:
            client = Client(request.scheduler, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise RequestError(
                f"no dask scheduler answers at {request.scheduler} ({error}); start one with 'dask scheduler', or use "
                "--scheduler processes"
            ) from None
        with client:
            yield client
        return
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=process_count(request),
            threads_per_worker=THREADS,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


def process_count(request: FillRequest) -> int:
    """Return how many processes ``--scheduler processes`` starts: as asked, else one a GPU, else one a core."""
    if request.workers:
        return request.workers
    return torch.cuda.device_count() if pick_device(request.device) == "cuda" else os.cpu_count() or 1


def device_of(client: Any, request: FillRequest) -> tuple[str, Precision]:
    """Return the kind of device the workers compute on, as a fingerprint names it, and the precision to use there.

    Raises:
        CrgenError: if a worker cannot use what was asked for.
    """
    words = request.device, request.precision, _absolute(request.weights)
    here: tuple[str, Precision] = client.submit(_device_here, *words, pure=False).result(timeout=None)
    return here


def fill_on(
    client: Any,
    setup: WorkerSetup,
    workshop: Workshop,
    ahead: list[Chunk],
    done: frozenset[At],
    on_windows: Callable[[int], None],
) -> None:
    """Learn from the past, look at the chunks ``ahead``, then make the parts of all but those ``done``, on the workers.

    Raises:
        CrgenError: of the kind that fits what went wrong.
    """
    if workshop.unlearned():
        _await(client, [client.submit(_learn, setup, pure=False)], on_windows)
    _await(client, client.map(partial(_look, setup), [chunk.at for chunk in ahead], pure=False), on_windows)
    todo = [chunk for chunk in workshop.run.grid if chunk.at not in done]
    if todo:
        _await(client, client.map(partial(_check, setup), workshop.choose(), pure=False), lambda count: None)
    places = [chunk.at for chunk in todo]
    works = client.map(partial(_work, setup), places, pure=False)
    marks = dict(zip(places, client.map(_mark, works, pure=False, priority=10), strict=True))
    waits = [[marks[at] for _, at in before(chunk) if at in marks] for chunk in todo]
    finished = client.map(partial(_finish, setup), places, works, waits, pure=False, priority=5)
    del works, marks, waits
    _await(client, finished, on_windows)


def _await(client: Any, futures: list[Any], on_windows: Callable[[int], None]) -> None:
    from distributed import KilledWorker, as_completed

    try:
        for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
            on_windows(future.result())
            future.release()
    except KilledWorker as error:
        raise CrgenError(
            f"workers died again and again at one chunk ({error.task}); they may lack memory: run again with a smaller "
            "--chunk or fewer --workers"
        ) from None
    except OSError as error:
        raise CrgenError(f"the dask scheduler went away ({error}); start it and run the same command again") from None
    except BaseException:
        client.cancel(futures, force=True)
        raise


_opened: dict[tuple[Path, str], Workshop] = {}
_opening = threading.Lock()


def _open(setup: WorkerSetup) -> Workshop:
    """Return this process's workshop, made at the first call.

    Raises:
        OutputError: if this process would make other bytes than the one that started the run.
    """
    key = setup.folder, short(setup.fingerprint)
    with _opening:
        if key not in _opened:
            if setup.cores:
                torch.set_num_threads(setup.cores)
            work = replace(lay_out(setup.request), device=_own_device(setup.request))
            work.model.generator.to(work.device)
            if other := difference(setup.fingerprint, fingerprint_of(setup.request, work)):
                raise OutputError(
                    f"a worker would make other pixels than the run it joined, with {other}; make them alike"
                )
            _opened.clear()
            _opened[key] = open_workshop(setup.request, work, PartStore(*key))
        return _opened[key]


def _own_device(request: FillRequest) -> str:
    """Return the device of this worker; of processes started here, each takes the GPU of its number."""
    from distributed import get_worker

    device = pick_device(request.device)
    if device != "cuda" or request.scheduler != "processes":
        return device
    return f"cuda:{int(get_worker().name) % torch.cuda.device_count()}"


def _device_here(asked: str, precision: PrecisionName, weights: str) -> tuple[str, Precision]:
    device = pick_device(asked)
    if precision == "float32":
        return device_kind(device), Precision(precision)
    model = load_model(weights, device)
    return device_kind(device), pick_precision(precision, model.generator, model.card.window)


def _learn(setup: WorkerSetup) -> int:
    """Write what is learned from the place's past; return the windows done."""
    _open(setup).learn()
    return 0


def _look(setup: WorkerSetup, at: At) -> int:
    """Write a chunk's evidence of t2; return the number of its cells."""
    workshop = _open(setup)
    run = workshop.run
    chunk = run.grid[at]
    workshop.keep_evidence(chunk, tell(run, prepare_look(run, chunk)))
    return len(cells(chunk, run.grid.lattice.window))


def _check(setup: WorkerSetup, group: tuple[int, list[Origin]]) -> int:
    """Write the errors on a group of hidden cells; return how many these are."""
    workshop, (number, cells) = _open(setup), group
    workshop.keep_check(number, compute_check(workshop.run, *prepare_check(workshop.run, cells)))
    return len(cells)


def _work(setup: WorkerSetup, at: At) -> Computed | None:
    """Read and compute a chunk and write what it spills over; None if its part is there already."""
    workshop = _open(setup)
    if workshop.is_finished(at):
        return None
    chunk = workshop.run.grid[at]
    computed = workshop.run.compute(chunk, workshop.run.prepare(chunk))
    workshop.keep_spills(chunk, computed)
    return computed._replace(spills=(None, None, None))


def _mark(computed: Computed | None) -> None:
    """Say that a chunk's spills are on the disk, without the weight of its pixels."""


def _finish(setup: WorkerSetup, at: At, computed: Computed | None, marks: list[None]) -> int:
    """Compose a chunk and write its part; return its windows.

    A worker may have died after writing the part and before saying so: then it is there.
    """
    workshop = _open(setup)
    chunk = workshop.run.grid[at]
    if computed is not None and not workshop.is_finished(at):
        workshop.finish(chunk, computed, [workshop.spilled(other, i) for i, other in before(chunk)])
    return len(chunk.windows)


def _absolute(text: Any) -> Any:
    """Return the absolute path of a file or folder, anything else as it is."""
    try:
        return str(Path(text).absolute()) if text is not None and Path(text).exists() else text
    except OSError:
        return text
