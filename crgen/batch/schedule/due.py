"""What is due to a job: its dates and rules become acquisitions, and these the identity of a product."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from crgen.batch.jobs.job import Job
from crgen.batch.jobs.values import BEFORE_EVENT, LATEST, DaysBefore
from crgen.batch.schedule.journal import Row
from crgen.batch.schedule.messages import Found
from crgen.errors import SourceError, StackError
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.fingerprint import earlier_identities, identity_of
from crgen.pipeline.run.plan import Plan, lay_out
from crgen.pipeline.source.area import with_layer
from crgen.pipeline.source.channels import channels_of
from crgen.pipeline.source.earthengine.scenes import newest_acquisition, scenes_for, wanted_of, with_past_of
from crgen.pipeline.source.earthengine.settings import compute_used
from crgen.pipeline.source.past import USUAL, asked_for

LOOK_BACK = 45
"""Days within which the latest acquisition is looked for."""


class NothingYet(Exception):  # noqa: N818
    """Acquisitions that a job waits for are not in the catalogue yet; not an error."""


def find(job: Job, today: datetime.date, scratch: Path, *, processes: int = 1) -> tuple[Found, FillRequest, Plan]:
    """Choose the acquisitions of a job; fetches no pixels.

    Args:
        job: what is asked.
        today: the day, UTC.
        scratch: a folder in which the manifest is written for the request.
        processes: how many processes share the quota of the Earth Engine project.

    Returns:
        The product that is due unless it was made before, its request, and the plan of that.

    Raises:
        NothingYet: if acquisitions are missing that may still come.
        CrgenError: if the acquisitions cannot be chosen, or do not fit the request.
    """
    t1, t2 = _days(job, today, processes)
    manifest = None
    if job.source == "gee":
        assert t1 is not None
        assert t2 is not None
        try:
            channels = channels_of(job.weights, job.bands)
            area, wanted = wanted_of(channels, aoi=with_layer(job.aoi, job.layer), t1=t1, t2=t2, crs=job.crs)
            choice = scenes_for(job.earth_engine(processes), channels, area, wanted)
        except StackError as error:
            raise NothingYet(str(error)) from error
        manifest = choice.manifest.model_dump(mode="json")
    request = _request(job, manifest, (t1, t2), None, scratch, processes)
    work = lay_out(request)
    identity = identity_of(request, work)
    earlier = () if job.remake_for_new_weights else earlier_identities(request, work)
    scene = work.scene
    product = Path(job.out) / job.name / f"{job.name}_{scene.t1}_{scene.t2}_{identity[:8]}.tif"
    return Found(identity, scene.t1, scene.t2, str(product), manifest, earlier), replace(request, out=product), work


def require_compute(job: Job, most: float | None, today: datetime.date) -> None:
    """Refuse to begin a product once the job's Earth Engine project has used ``most`` EECU-hours in today's month.

    Raises:
        SourceError: if it has, which passes with the month; or if the use cannot be read.
    """
    if most is None or job.source != "gee":
        return
    first = today.replace(day=1)
    used = compute_used(job.earth_engine(), first)
    if used.hours >= most:
        raise SourceError(
            f"project {used.project} has used {used.hours:,.1f} EECU-hours since {first}, and [limits] eecu_hours is "
            f"{most:g}: no product is begun until the month is over or the limit is raised",
            transient=True,
        )


def with_past(
    job: Job, found: Found, today: datetime.date, scratch: Path, processes: int = 1
) -> tuple[Found, FillRequest]:
    """Return a product, with acquisitions of the place's past to learn from in its manifest, and its request.

    Once the days that ``improve_after`` waits for are over, theirs are among them.

    Raises:
        CrgenError: if they cannot be chosen.
    """
    if found.manifest is not None:
        channels, options = channels_of(job.weights, job.bands), job.earth_engine(processes)
        day, later = job.improve_on(found.t2), job.improve_after
        after = later.days if later is not None and day is not None and today >= day else job.after
        asked = asked_for(job.past, after) or USUAL
        found = replace(found, manifest=with_past_of(options, channels, found.manifest, asked))
    days = found.t1, found.t2
    return found, _request(job, found.manifest, days, Path(found.product), scratch, processes)


def known(run: Row) -> Found:
    """Return a product in the journal's runs."""
    days = datetime.date.fromisoformat(run["t1"]), datetime.date.fromisoformat(run["t2"])
    return Found(run["identity"], *days, run["product"], run["manifest"])


def request_of(job: Job, run: Row, scratch: Path, processes: int = 1) -> FillRequest:
    """Return the request of a product that was begun, for the acquisitions in its row of the journal's runs."""
    found = known(run)
    return _request(job, found.manifest, (found.t1, found.t2), Path(found.product), scratch, processes)


def _request(
    job: Job,
    manifest: dict[str, Any] | None,
    days: tuple[datetime.date | None, datetime.date | None],
    product: Path | None,
    scratch: Path,
    processes: int,
) -> FillRequest:
    """Return the request of known acquisitions; it resumes a stopped run, and replaces a damaged product."""
    if manifest is None:
        return job.request(*days, product, overwrite=True)
    file = scratch / "manifest.json"
    file.write_text(json.dumps(manifest))
    earth_engine = replace(job.earth_engine(processes), manifest=file)
    return job.request(None, None, product, aoi=None, layer=None, crs=None, earth_engine=earth_engine, overwrite=True)


def _days(job: Job, today: datetime.date, processes: int) -> tuple[datetime.date | None, datetime.date | None]:
    """Return t1 and t2, None where a local stack is to tell them."""
    t2 = job.t2
    if t2 == LATEST:
        t2 = newest_acquisition(
            job.earth_engine(processes),
            channels_of(job.weights, job.bands),
            aoi=with_layer(job.aoi, job.layer) or "",
            crs=job.crs,
            until=today,
            within_days=LOOK_BACK,
        )
        if t2 is None:
            raise NothingYet(f"no Sentinel-1 acquisition covers the area in the {LOOK_BACK} days up to {today}")
        if job.event is not None and t2 < job.event:
            raise NothingYet(f"no Sentinel-1 acquisition since the event ({job.event}): the latest is of {t2}")
    elif t2 is not None and t2 > today:
        raise NothingYet(f"t2 ({t2}) lies in the future")
    if isinstance(job.t1, DaysBefore):
        assert t2 is not None
        return t2 - datetime.timedelta(job.t1.days), t2
    if job.t1 == BEFORE_EVENT:
        assert job.event is not None
        # So early that no acquisition within search_days of it shows the event.
        return job.event - datetime.timedelta(job.search_days + 1), t2
    return job.t1, t2
