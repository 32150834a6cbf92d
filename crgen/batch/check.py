"""Checks of what a jobs file names: that it exists, and can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crgen.batch.jobs.job import Job
from crgen.batch.jobs.jobs_file import JobsError, read_jobs
from crgen.batch.tell.notify import check_urls
from crgen.errors import CrgenError, RequestError
from crgen.pipeline.source.area import read_area, with_layer
from crgen.pipeline.source.channels import channels_of
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.stack import require_two_dates


def problems_of(path: Path) -> tuple[list[Job], list[str]]:
    """Return the jobs of a file, and a line for everything that is wrong with it; reads no imagery, asks no service."""
    try:
        file = read_jobs(path)
    except RequestError as error:
        return [], error.problems if isinstance(error, JobsError) else [str(error)]
    problems = [f"{path}: job '{job.name}': {problem}" for job in file.job for problem in _problems(job)]
    if file.notify is not None:
        try:
            check_urls(file.notify.urls)
        except CrgenError as error:
            problems.append(f"{path}: [notify]: {error}")
    return file.job, problems


def _problems(job: Job) -> Iterator[str]:
    try:
        channels = channels_of(job.weights, job.bands)
        if job.aoi is not None:
            read_area(with_layer(job.aoi, job.layer) or "", crs=job.crs, resolution=channels.resolution)
    except CrgenError as error:
        yield str(error)
    if job.credentials is not None and not Path(job.credentials).is_file():
        yield f"there are no credentials at {job.credentials}"
    if job.source not in ("gee", "demo"):
        try:
            stack = open_stack(Path(job.source), s1_units=job.s1_units, s2_scale=job.s2_scale, s2_offset=job.s2_offset)
            require_two_dates(stack, f"'{job.source}'")
        except CrgenError as error:
            yield str(error)
