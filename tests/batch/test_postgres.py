"""Schedulers of several machines share a PostgreSQL state; a real server is started for the test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crgen.batch.schedule.state import State
from crgen.errors import OutputError, RequestError

NOBODY = 65534


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of an empty database."""
    tools = [shutil.which(name) for name in ("initdb", "pg_ctl")]
    if None in tools:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    initdb, pg_ctl = map(str, tools)
    # As root, PostgreSQL does not start; and a socket's path must be short.
    drop = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="crgen-pg-", dir="/tmp") as name:
        folder = Path(name)
        if drop:
            os.chown(folder, NOBODY, NOBODY)
        data = str(folder / "data")

        def do(*command: str) -> None:
            subprocess.run(command, check=True, capture_output=True, cwd="/", **drop)

        do(initdb, "-D", data, "-U", "crgen", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        do(pg_ctl, "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql://crgen@/postgres?host={folder}"
        finally:
            do(pg_ctl, "-D", data, "-m", "immediate", "stop")


def test_two_schedulers_share_a_postgresql_state(write, start, tmp_path, postgres):
    jobs = "\n".join(f'[[job]]\nname = "area{i}"' for i in range(6))
    path = write(f"[limits]\nper_device = 9\n[state]\nurl = '{postgres}'\n{jobs}")
    published = tmp_path / "published"
    schedulers = [start(path, PUBLISHED=str(published)) for _ in range(2)]
    for scheduler in schedulers:
        scheduler.join()
        assert scheduler.exitcode == 0
    made = sorted(Path(line).parent.name for line in published.read_text().splitlines())
    assert made == [f"area{i}" for i in range(6)]
    state = State(postgres)
    assert {(row["status"], row["owner"]) for row in state.jobs().values()} == {("done", None)}
    state.close()


def test_a_server_that_is_away_is_one_line_without_the_password(tmp_path):
    url = f"postgresql://crgen:geheim@/none?host={tmp_path}"
    with pytest.raises(OutputError, match="cannot use the state") as caught:
        State(url, patience=0.1)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.transient


@pytest.mark.parametrize("url", ["mysql://host/db", "nonsense", "foo://bar"])
def test_other_databases_are_refused(url):
    with pytest.raises(RequestError, match=r"state\.url"):
        State(url)
