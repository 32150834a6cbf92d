"""The metrics are what Prometheus reads, whole at every moment."""

import shutil
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crgen.batch.tell.metrics import Counts, write_metrics
from crgen.errors import OutputError

COUNTS = Counts(
    jobs={"done": 3, "failed": 1},
    runs={"done": 12, "failed": 2},
    newest_product=1626955200.0,
    last_success={'be"ira\\': 1626955200.0},
    seconds={'be"ira\\': 61.5},
    windows={'be"ira\\': 120},
    size={'be"ira\\': 4_000_000_000},
)


def read(path):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_prometheus_reads_what_was_counted(tmp_path):
    path = tmp_path / "textfile" / "crgen.prom"
    before = time.time()
    write_metrics(path, COUNTS)

    found = read(path)
    assert before <= found.pop(("crgen_metrics_timestamp_seconds",)) <= time.time()
    assert found == {
        ("crgen_jobs", "done"): 3,
        ("crgen_jobs", "failed"): 1,
        ("crgen_runs", "done"): 12,
        ("crgen_runs", "failed"): 2,
        ("crgen_newest_product_timestamp_seconds",): 1626955200,
        ("crgen_job_last_success_timestamp_seconds", 'be"ira\\'): 1626955200,
        ("crgen_job_run_seconds", 'be"ira\\'): 61.5,
        ("crgen_job_run_windows", 'be"ira\\'): 120,
        ("crgen_job_product_bytes", 'be"ira\\'): 4_000_000_000,
    }


def test_the_file_is_replaced_whole(tmp_path):
    path = tmp_path / "crgen.prom"
    write_metrics(path, COUNTS)
    with path.open() as open_before:
        write_metrics(path, Counts(jobs={}, runs={}))
        assert 'state="failed"' in open_before.read()
    assert ("crgen_newest_product_timestamp_seconds",) not in read(path)
    assert [p.name for p in tmp_path.iterdir()] == ["crgen.prom"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_no_complaint(tmp_path):
    write_metrics(tmp_path / "crgen.prom", COUNTS)
    text = (tmp_path / "crgen.prom").read_text()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write the metrics"):
        write_metrics(tmp_path / "file" / "crgen.prom", COUNTS)
