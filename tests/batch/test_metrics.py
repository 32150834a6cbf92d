"""The metrics are what Prometheus reads, whole at every moment."""

import shutil
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crgen.batch.tell.metrics import write_metrics
from crgen.errors import OutputError

BEIRA = 'be"ira\\'
JOBS = {
    BEIRA: {"status": "done", "changed_at": 1626955300.0},
    "porto": {"status": "failed", "changed_at": 1626955000.0},
}


@pytest.fixture
def runs(tmp_path):
    """Two products of Beira, the newer one with files, and one that failed."""
    for name, size in (("new.tif", 3000), ("new.json", 500)):
        (tmp_path / name).write_bytes(bytes(size))

    def run(status, name, finished_at, seconds, windows):
        made = {"status": status, "product": str(tmp_path / name), "finished_at": finished_at}
        return {"job": BEIRA, "seconds": seconds, "windows": windows, **made}

    failed = run("failed", "none.tif", 1626955100.0, None, None)
    return [run("done", "new.tif", 1626955200.0, 61.5, 120), run("done", "old.tif", 1626955000.0, 9.0, 7), failed]


def read(path):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_prometheus_reads_what_the_journal_holds(tmp_path, runs):
    path = tmp_path / "textfile" / "crgen.prom"
    before = time.time()
    write_metrics(path, JOBS, runs)

    found = read(path)
    assert before <= found.pop(("crgen_metrics_timestamp_seconds",)) <= time.time()
    assert found == {
        ("crgen_jobs", "done"): 1,
        ("crgen_jobs", "failed"): 1,
        ("crgen_runs", "done"): 2,
        ("crgen_runs", "failed"): 1,
        ("crgen_newest_product_timestamp_seconds",): 1626955200,
        ("crgen_job_last_success_timestamp_seconds", BEIRA): 1626955300,
        ("crgen_job_run_seconds", BEIRA): 61.5,
        ("crgen_job_run_windows", BEIRA): 120,
        ("crgen_job_product_bytes", BEIRA): 3500,
    }


def test_the_file_is_replaced_whole(tmp_path, runs):
    path = tmp_path / "textfile" / "crgen.prom"
    write_metrics(path, JOBS, runs)
    with path.open() as open_before:
        write_metrics(path, {}, [])
        assert 'state="failed"' in open_before.read()
    assert ("crgen_newest_product_timestamp_seconds",) not in read(path)
    assert [p.name for p in path.parent.iterdir()] == ["crgen.prom"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_no_complaint(tmp_path, runs):
    write_metrics(tmp_path / "crgen.prom", JOBS, runs)
    text = (tmp_path / "crgen.prom").read_text()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write the metrics"):
        write_metrics(tmp_path / "file" / "crgen.prom", {}, [])
