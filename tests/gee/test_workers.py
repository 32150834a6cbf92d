"""The same pixels from dask threads and from distributed worker processes, which were never initialised."""

import dask
import numpy as np
import pytest

from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import open_area
from tests.processes import forked_workers

distributed = pytest.importorskip("distributed")


def test_threads_and_processes_fetch_the_same_and_each_tile_once(service: EarthEngineServer, tmp_path) -> None:
    first = open_area().stack
    with (
        forked_workers(),
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        there = client.compute(first, sync=True)
    assert not service.served_twice()
    here = first.compute(scheduler="threads")
    for name in here:
        np.testing.assert_array_equal(there[name].values, here[name].values)
    assert not service.served_twice(), "tiles that workers fetched are on disk for threads"
