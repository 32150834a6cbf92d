"""A log for machines: a line of JSON for everything that happens, with the run it happened in."""

from __future__ import annotations

import datetime
import logging
import sys
from collections.abc import Mapping, MutableMapping
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from crgen.errors import OutputError, redact

ROOT = "crgen.batch"


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs into a run; what is passed as ``extra`` becomes fields of the line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run to the fields."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def of(self, **fields: Any) -> RunLogger:
        """Return a logger whose lines have these fields too, e.g. ``job`` and its own ``run``."""
        return RunLogger(self.logger, {**(self.extra or {}), **fields})


def open_log(path: Path | None, run_id: str) -> RunLogger:
    """Log what happens under ``crgen.batch``, this package's modules included, as JSON lines.

    Every line has ``time`` (UTC), ``level``, ``logger``, ``message`` and ``run``; secrets in URLs and in fields are
    taken out. Several processes may write one file; a file moved away by logrotate is made anew.

    Args:
        path: the file to add to; None for standard error.
        run_id: names the run of lines that name no other.

    Raises:
        OutputError: if the file cannot be written.
    """
    logger = logging.getLogger(ROOT)
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the log {path}: {error.strerror}; choose another file") from None
    handler.setFormatter(_formatter(run_id))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return RunLogger(logger, {"run": run_id})


def _formatter(run_id: str) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return {key: _clean(key, value) for key, value in log_data.items()}

        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
            moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return Formatter(
        ["asctime", "levelname", "name", "message"],
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "traceback"},
        defaults={"run": run_id},
        json_default=str,
        json_ensure_ascii=False,
    )


def _clean(key: str, value: Any) -> Any:
    if isinstance(value, str):
        kept = redact(f"{key}={value}")
        return value if kept == f"{key}={value}" else kept.removeprefix(f"{key}=")
    if isinstance(value, Mapping):
        return {name: _clean(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(key, inner) for inner in value]
    return value
