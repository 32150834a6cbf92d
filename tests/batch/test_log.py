"""Every line of the log is JSON with its run, whoever writes, and holds no secret."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from crgen.batch.tell.json_log import ROOT, open_log
from crgen.errors import OutputError


@pytest.fixture(autouse=True)
def _closed():
    yield
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_carry_time_level_run_and_fields(tmp_path):
    path = tmp_path / "logs" / "batch.jsonl"
    log = open_log(str(path), "run-1")
    log.info("scheduler started", extra={"jobs": 3})
    log.warning("Straße %s", "überflutet", extra={"job": "beira", "run": "run-2"})
    logging.getLogger("crgen.batch.tell.notify").error("not sent")

    first, second, third = lines(path)
    assert first["time"].endswith("Z")
    assert {k: first[k] for k in ("level", "message", "run", "jobs")} == {
        "level": "INFO",
        "message": "scheduler started",
        "run": "run-1",
        "jobs": 3,
    }
    assert (second["message"], second["job"], second["run"]) == ("Straße überflutet", "beira", "run-2")
    assert (third["logger"], third["run"]) == ("crgen.batch.tell.notify", "run-1")


def test_an_error_brings_its_traceback_into_the_same_line(tmp_path):
    log = open_log(str(tmp_path / "log"), "run-1")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it broke")
    (line,) = lines(tmp_path / "log")
    assert "ValueError: two" in line["traceback"]


def test_secrets_are_taken_out(tmp_path):
    log = open_log(str(tmp_path / "log"), "run-1")
    log.info(
        "sending to s3://key:hunter2@host/maps?X-Amz-Signature=hunter2",
        extra={
            "password": "hunter2",
            "options": {"secret_access_key": "hunter2", "region": "eu"},
            "urls": ["json://me:hunter2@host/x?token=hunter2"],
            "api_token": "hunter2",
        },
    )
    assert "hunter2" not in (tmp_path / "log").read_text()
    (line,) = lines(tmp_path / "log")
    assert line["message"] == "sending to s3://***@host/maps?***"
    assert line["options"]["region"] == "eu"


def test_processes_share_a_file_without_mixing_lines(tmp_path):
    code = (
        "import sys; from crgen.batch.tell.json_log import open_log\n"
        "log = open_log(sys.argv[1], sys.argv[2])\n"
        "for n in range(200): log.info('x' * 500, extra={'n': n})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "log", run]) for run in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert {run: [line["n"] for line in lines(tmp_path / "log") if line["run"] == run] for run in "ab"} == {
        run: list(range(200)) for run in "ab"
    }


def test_a_log_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write the log"):
        open_log(str(tmp_path / "file" / "log"), "run-1")
