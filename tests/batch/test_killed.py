"""A scheduler and its jobs, killed at random moments, make every product once: none is lost, none is made twice."""

import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.batch.schedulers import in_process, state_of

JOBS = int(os.environ.get("CRGEN_TEST_JOBS", "24"))
KILLS = JOBS // 3


@pytest.mark.slow
def test_every_job_has_exactly_one_product_whoever_is_killed(write, start, tmp_path):
    jobs = "\n".join(f'[[job]]\nname = "area{i}"' for i in range(JOBS))
    path = write("[limits]\ntotal = 2\nper_device = 9\n" + jobs, retries=KILLS, retry_wait="0.1s")
    published, products = tmp_path / "published", tmp_path / "products"
    draw = random.Random(0)
    scheduler = start(path, PUBLISHED=str(published))
    deadline = time.monotonic() + 600
    for kill in range(KILLS):
        while len(list(products.glob("*/*.json"))) < min(JOBS - 4, kill * JOBS // KILLS) and scheduler.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(draw.random() * 0.3)
        victims = psutil.Process(scheduler.pid).children() if kill % 2 and scheduler.is_alive() else []
        for victim in (*victims[:1], *([] if victims else [scheduler])):
            os.kill(victim.pid, signal.SIGKILL)
        if not victims:
            scheduler.join()
        if not scheduler.is_alive():
            scheduler = start(path, PUBLISHED=str(published))
    scheduler.join(600)
    while any(row["status"] != "done" for row in state_of(path).jobs().values()):
        assert time.monotonic() < deadline
        in_process(path, PUBLISHED=str(published))  # what was killed waits for another try

    made = sorted(path.parent.name for path in products.glob("*/*.json"))
    assert made == sorted(f"area{i}" for i in range(JOBS))  # each has one item, and no other
    assert not list(products.glob("*/.*"))
    told = [Path(line).parent.name for line in published.read_text().splitlines()]
    assert len(told) == len(set(told)), "a product was made twice"
    runs = state_of(path).runs()
    assert len(runs) == JOBS
    assert {row["status"] for row in runs} == {"done"}
    items = [json.loads(path.read_text()) for path in products.glob("*/*.json")]
    assert all("crgen:sha256" in item["properties"] for item in items)


def test_a_job_killed_between_its_last_file_and_delivery_is_delivered_by_the_next_run_and_not_made_again(
    write, tmp_path
):
    path = write('[deliver]\nto = "there"\n[[job]]\nname = "area"', retry_wait="0.1s")
    environment = {"PUBLISHED": str(tmp_path / "published"), "UNTIDY": "area"}
    assert in_process(path, **environment).counts == {"retry": 1}
    assert list((tmp_path / "products" / "area").glob(".*.scratch/run.json"))
    assert not (tmp_path / "there" / "area").exists()
    time.sleep(0.2)
    assert in_process(path, **environment).counts == {"done": 1}
    assert not list((tmp_path / "products" / "area").glob(".*"))
    assert len(list((tmp_path / "there" / "area").glob("*.json"))) == 1
    assert len((tmp_path / "published").read_text().splitlines()) == 1, "it was made twice"
