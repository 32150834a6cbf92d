"""Processes of the tests, forked from one server that has loaded once what takes seconds; all tests share it."""

import multiprocessing

ctx = multiprocessing.get_context("forkserver")
ctx.set_forkserver_preload(
    [
        "crgen.batch.schedule.scheduler",
        "crgen.batch.schedule.worker",
        "crgen.pipeline.fill",
        "distributed",
    ]
)
