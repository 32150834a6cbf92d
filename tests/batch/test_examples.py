"""The examples of how to start the batch pass the checks of the tools that read them, where these are installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.tell.notify import check_urls

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "jobs.toml"
SCHEDULE = ROOT / "examples" / "schedule"
CONTAINERFILE = ROOT / "examples" / "Containerfile"


def tool(name: str) -> str:
    """The path of a program, in the environment of these tests or the system's."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


def complaints(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return "" if done.returncode == 0 and not done.stderr else f"exit {done.returncode}: {done.stdout}{done.stderr}"


def test_the_jobs_file_is_right_with_every_section(tmp_path, monkeypatch):
    text = EXAMPLE.read_text()
    jobs, _, more = text.partition("\n# [deliver]\n")
    whole = f"{jobs}\n[deliver]\n" + re.sub(r"^# ?", "", more, flags=re.MULTILINE)
    (tmp_path / "jobs.toml").write_text(whole)
    monkeypatch.setenv("MAIL_USER", "crgen")
    monkeypatch.setenv("MAIL_PASSWORD", "secret")
    monkeypatch.setenv("S3_SECRET", "secret")

    assert [job.name for job in read_jobs(EXAMPLE).job] == ["beira", "zhengzhou-flood", "demo"]
    read = read_jobs(tmp_path / "jobs.toml")
    assert read.deliver.to == "s3://my-bucket/maps"
    assert read.deliver.storage_options["secret_access_key"] == "secret"
    check_urls(read.notify.urls)
    assert read.retention.max_size == 500 * 10**9


def test_the_crontab_has_five_times_a_user_and_a_command():
    lines = [line for line in (SCHEDULE / "crontab").read_text().splitlines() if line and line[0] != "#"]
    times = [line for line in lines if not re.match(r"\w+=", line)]
    assert times
    for line in times:
        *fields, user, command = line.split(maxsplit=6)
        assert all(re.fullmatch(r"(\*|\d+)(/\d+)?", field) for field in fields)
        assert user == "crgen"
        assert " batch run " in command


def test_systemd_starts_the_service_by_the_timer(tmp_path):
    systemd_analyze = tool("systemd-analyze")
    for name in ("crgen-batch.service", "crgen-batch.timer"):
        unit = (SCHEDULE / name).read_text()
        # The program must be there: one that is stands in for the installed crgen.
        (tmp_path / name).write_text(unit.replace("/opt/crgen/.venv/bin/crgen", sys.executable))
    assert complaints(systemd_analyze, "verify", *tmp_path.glob("crgen-batch.*")) == ""
    misspelt = (tmp_path / "crgen-batch.service").read_text().replace("TimeoutStopSec", "TimoutStopSec")
    (tmp_path / "crgen-batch.service").write_text(misspelt)
    assert "TimoutStopSec" in complaints(systemd_analyze, "verify", tmp_path / "crgen-batch.service")


def test_kubernetes_takes_the_cronjob():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    import yaml

    job = yaml.safe_load((SCHEDULE / "cronjob.yaml").read_text())
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    del job["spec"]["schedule"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_the_airflow_dag_is_python():
    compile((SCHEDULE / "airflow_dag.py").read_text(), "airflow_dag.py", "exec")


def test_airflow_loads_the_dag():
    dagbag = pytest.importorskip("airflow.dag_processing.dagbag", reason="Airflow is not installed")
    bag = dagbag.DagBag(SCHEDULE, include_examples=False)
    assert (bag.import_errors, list(bag.dags)) == ({}, ["crgen"])


def test_hadolint_has_no_complaint_about_the_containerfile():
    assert complaints(tool("hadolint"), CONTAINERFILE) == ""


def test_the_containerfile_copies_only_what_is_there():
    for line in re.findall(r"^COPY (.+)", CONTAINERFILE.read_text(), re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)


@pytest.mark.container
def test_the_container_is_built_and_knows_its_command():
    builder = shutil.which("podman") or tool("docker")
    if told := complaints(builder, "pull", "python:3.12-slim-bookworm"):
        pytest.skip(f"{builder} cannot build here: {told}")
    build = (builder, "build", "--tag", "crgen:test", "--file", CONTAINERFILE, ROOT)
    subprocess.run([str(word) for word in build], check=True)
    shown = subprocess.run([builder, "run", "--rm", "crgen:test", "--version"], capture_output=True, text=True)
    assert shown.stdout.startswith("crgen ")
