"""A log for programs: a JSON object in a line for every event, with the run that it belongs to."""

from __future__ import annotations

import datetime
import logging
import sys
from collections.abc import Mapping
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from crgen.errors import OutputError, RequestError, redact

ROOT = "crgen.batch"


def open_log(file: str, run_id: str) -> logging.Logger:
    """Return the logger of this package, which from now on writes JSON lines; so do those of its modules.

    Every line has ``time`` (UTC), ``level``, ``logger``, ``message`` and ``run``, and what is passed as ``extra``;
    secrets in URLs and in fields are removed. Several processes may write one file; after logrotate moved it away, it
    is made anew.

    Args:
        file: path of the file to append to; ``-`` for standard error.
        run_id: the run of lines whose ``extra`` names none.

    Raises:
        OutputError: if the file cannot be written.
        RequestError: if the extra ``batch`` is not installed.
    """
    formatter = _formatter(run_id)
    logger = logging.getLogger(ROOT)
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if file != "-":
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            handler = WatchedFileHandler(file, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the log {file}: {error.strerror}; choose another file") from None
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def _formatter(run_id: str) -> logging.Formatter:
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ModuleNotFoundError as error:
        raise RequestError(f"the JSON log needs {error.name}: pip install 'crgen[batch]'") from None

    class Formatter(JsonFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return {key: _redacted(key, value) for key, value in log_data.items()}

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


def _redacted(key: str, value: Any) -> Any:
    """Return a field's value without secrets, as its key and the value itself tell them."""
    if isinstance(value, str):
        return redact(f"{key}={value}").removeprefix(f"{key}=")
    if isinstance(value, Mapping):
        return {name: _redacted(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(key, inner) for inner in value]
    return value
