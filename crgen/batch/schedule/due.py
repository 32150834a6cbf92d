"""From a job's rules to acquisitions: which product is due, frozen, and named by what it will show."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from crgen.batch.jobs.job import Job
from crgen.batch.jobs.values import BEFORE_EVENT, LATEST, DaysBefore
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
    """What a job waits for has not been acquired; not an error."""


def find(job: Job, today: datetime.date, scratch: Path, *, processes: int = 1) -> tuple[Found, FillRequest, Plan]:
    """Turn a job's dates and rules into acquisitions; fetches no pixels.

    Args:
        job: what is asked.
        today: the day, UTC.
        scratch: a folder for the manifest.
        processes: how many processes share the quota of Earth Engine.

    Returns:
        The product, what to ask for it, and how it was laid out.

    Raises:
        NothingYet: if acquisitions are missing that may still come.
        CrgenError: of the kind that fits what is wrong.
    """
    manifest = None
    if job.source == "gee":
        t1, t2 = _days(job, today, processes)
        assert t1 is not None
        assert t2 is not None
        try:
            channels = channels_of(job.weights, job.bands)
            area, wanted = wanted_of(channels, aoi=with_layer(job.aoi, job.layer), t1=t1, t2=t2, crs=job.crs)
            choice = scenes_for(job.earth_engine(processes), channels, area, wanted)
        except StackError as error:
            raise NothingYet(str(error)) from error
        manifest = choice.manifest.model_dump(mode="json")
    else:
        t1, t2 = _relative(job, job.t2 if isinstance(job.t2, datetime.date) else None)
        if t2 is not None and t2 > today:
            raise NothingYet(f"t2 ({t2}) lies in the future")
    request = frozen(job, manifest, (t1, t2), None, scratch, processes=processes)
    work = lay_out(request)
    identity = identity_of(request, work)
    earlier = () if job.remake_for_new_weights else earlier_identities(request, work)
    scene = work.scene
    product = Path(job.out) / job.name / f"{job.name}_{scene.t1}_{scene.t2}_{identity[:8]}.tif"
    return Found(identity, scene.t1, scene.t2, str(product), manifest, earlier), replace(request, out=product), work


def require_compute(job: Job, most: float | None, today: datetime.date) -> None:
    """Refuse to begin a product once the job's Earth Engine project has used what it may in a month.

    Args:
        job: what is asked.
        most: EECU-hours; None for no limit.
        today: the day, UTC; it is the month's that counts.

    Raises:
        SourceError: if it has, which passes with the month; or if that cannot be told.
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


def taught(job: Job, found: Found, scratch: Path, processes: int = 1) -> tuple[Found, FillRequest]:
    """Return a product that is due with the other looks at its place that it learns from, and what to ask for it.

    Args:
        job: what is asked.
        found: the product.
        scratch: a folder for the manifest.
        processes: how many processes share the quota of Earth Engine.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    if found.manifest is not None:
        channels, options = channels_of(job.weights, job.bands), job.earth_engine(processes)
        asked = asked_for(job.past, job.after) or USUAL
        found = replace(found, manifest=with_past_of(options, channels, found.manifest, asked))
    days = found.t1, found.t2
    return found, frozen(job, found.manifest, days, Path(found.product), scratch, processes=processes)


def frozen(
    job: Job,
    manifest: dict[str, Any] | None,
    days: tuple[datetime.date | None, datetime.date | None],
    product: Path | None,
    scratch: Path,
    *,
    processes: int = 1,
) -> FillRequest:
    """Return what to ask for a product whose acquisitions are known.

    Args:
        job: what is asked.
        manifest: the frozen scenes of source ``gee``.
        days: t1 and t2.
        product: the reflectance COG to make; a stopped run's is gone on with, and a damaged one replaced.
        scratch: a folder for the manifest.
        processes: how many processes share the quota of Earth Engine.
    """
    if manifest is None:
        return job.request(*days, product, overwrite=True)
    file = scratch / "manifest.json"
    file.write_text(json.dumps(manifest))
    earth_engine = replace(job.earth_engine(processes), manifest=file)
    return job.request(None, None, product, aoi=None, layer=None, crs=None, earth_engine=earth_engine, overwrite=True)


def _days(job: Job, today: datetime.date, processes: int) -> tuple[datetime.date | None, datetime.date | None]:
    if isinstance(job.t2, datetime.date):
        t2: datetime.date | None = job.t2
        if job.t2 > today:
            raise NothingYet(f"t2 ({t2}) lies in the future")
    else:
        assert job.t2 == LATEST
        assert job.aoi is not None
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
    return _relative(job, t2)


def _relative(job: Job, t2: datetime.date | None) -> tuple[datetime.date | None, datetime.date | None]:
    """Return both days, once t2 is known."""
    if isinstance(job.t1, DaysBefore):
        assert t2 is not None
        return t2 - datetime.timedelta(job.t1.days), t2
    if job.t1 == BEFORE_EVENT:
        assert job.event is not None
        # So early that no acquisition within search_days of it shows the event.
        return job.event - datetime.timedelta(job.search_days + 1), t2
    assert job.t1 is None or isinstance(job.t1, datetime.date)
    return job.t1, t2
