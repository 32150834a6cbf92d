"""How a person's options reach Earth Engine: the connection, and what makes an acquisition eligible."""

from __future__ import annotations

import datetime
from dataclasses import replace

from crgen.gee.choose.choice import Rules
from crgen.gee.connection.retry import INTERRUPTED
from crgen.gee.connection.session import Settings
from crgen.gee.connection.usage import Used, used_since
from crgen.pipeline.request import EarthEngine


def rules_of(options: EarthEngine) -> Rules:
    """Return what makes an acquisition eligible."""
    return Rules(options.search_days, options.observed_days, options.min_coverage, options.radar_not_before)


def connection_settings(options: EarthEngine) -> Settings:
    """Return how to reach the service."""
    credentials = None if options.credentials is None else str(options.credentials)
    settings = Settings.from_environment(project=options.project, credentials=credentials)
    concurrency, patience = max(1, settings.concurrency // options.processes), min(settings.patience, options.patience)
    return replace(settings, concurrency=concurrency, patience=patience)


def compute_used(options: EarthEngine, first: datetime.date) -> Used:
    """Return what the project that requests count to has used of Earth Engine's compute from a day on, UTC.

    Raises:
        SourceError: if that cannot be told, with the fix.
    """
    return used_since(connection_settings(options), first)


def interrupt() -> None:
    """End all waiting for Earth Engine in this process soon, because it is about to end."""
    INTERRUPTED.set()
