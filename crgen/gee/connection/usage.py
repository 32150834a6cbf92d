"""Compute that a project has used, by any program: what Google's Cloud Monitoring tells, some minutes late."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from crgen.errors import SourceError
from crgen.gee.connection.credentials import find_account, find_project
from crgen.gee.connection.session import Settings

METRIC = "earthengine.googleapis.com/project/cpu/usage_time"
"""EECU-seconds of requests and exports that are done."""
MONITORING = "https://monitoring.googleapis.com"


class Used(NamedTuple):
    """What a project used."""

    project: str
    hours: float
    """EECU-hours."""


def used_since(settings: Settings, first: datetime.date) -> Used:
    """Return what a project has used from a day on, UTC, with one request.

    Raises:
        SourceError: if that cannot be told, with the fix.
    """
    account = find_account(settings.credentials, google=settings.is_google)
    project = find_project(settings.project, account)
    now = datetime.datetime.now(datetime.UTC)
    query = {
        "filter": f'metric.type = "{METRIC}"',
        "interval.startTime": f"{first.isoformat()}T00:00:00Z",
        "interval.endTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aggregation.alignmentPeriod": "86400s",
        "aggregation.perSeriesAligner": "ALIGN_SUM",
        "aggregation.crossSeriesReducer": "REDUCE_SUM",
    }
    url = f"{MONITORING if settings.is_google else settings.url}/v3/projects/{project}/timeSeries"
    what = f"what project {project} has used of Earth Engine's compute is not known"
    try:
        with AuthorizedSession(account.credentials) as http:
            # An account that a person signed in with asks in the name of this project, not of the client's.
            answer = http.get(
                url, params=query, headers={"x-goog-user-project": project}, timeout=settings.connect_timeout
            )
        told: Any = answer.json()
    except (requests.exceptions.RequestException, GoogleAuthError) as error:
        passing = getattr(error, "retryable", True)  # Google's own errors say whether they are
        raise SourceError(
            f"{what}: Cloud Monitoring cannot be asked ({type(error).__name__})", transient=passing
        ) from None
    if answer.status_code != 200:
        refusal = told.get("error") if isinstance(told, dict) else None
        reason = refusal.get("message") if isinstance(refusal, dict) else "no reason was given"
        raise SourceError(
            f"{what}: Cloud Monitoring refuses (HTTP {answer.status_code}, {reason}); enable monitoring.googleapis.com "
            f"in the project and grant this account the role Monitoring Viewer (credentials: {account.origin})",
            transient=answer.status_code >= 500 or answer.status_code == 429,
        )
    points = [point["value"]["doubleValue"] for series in told.get("timeSeries", []) for point in series["points"]]
    return Used(project, sum(points) / 3600)
