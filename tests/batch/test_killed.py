"""Two schedulers, killed at random moments, make every product once: none is lost, none is made twice."""

import json
import os
import random
import signal
import time
from pathlib import Path

from tests.batch.schedulers import state_of

JOBS = int(os.environ.get("CRGEN_TEST_JOBS", "100"))
KILLS = JOBS // 12


def test_every_job_has_exactly_one_product_whoever_is_killed(write, start, tmp_path):
    jobs = "\n".join(f'[[job]]\nname = "area{i}"' for i in range(JOBS))
    path = write("[limits]\ntotal = 2\nper_device = 9\n[state]\nlease = '4s'\n" + jobs, retries=KILLS, retry_wait="1s")
    draw = random.Random(0)
    schedulers = [
        start(path, PUBLISHED=str(tmp_path / "published")),
        start(path, PUBLISHED=str(tmp_path / "published")),
    ]
    products = tmp_path / "products"
    deadline = time.monotonic() + 600
    for kill in range(KILLS):
        while len(list(products.glob("*/*.json"))) < min(JOBS - 4, kill * JOBS // KILLS):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(draw.random() * 0.3)
        victim = draw.randrange(2)
        os.kill(schedulers[victim].pid, signal.SIGKILL)
        schedulers[victim].join()
        schedulers[victim] = start(path, PUBLISHED=str(tmp_path / "published"))
    for process in schedulers:
        process.join(600)
        assert process.exitcode == 0

    made = sorted(path.parent.name for path in products.glob("*/*.json"))
    assert made == sorted(f"area{i}" for i in range(JOBS))  # each has one item, and no other
    assert not list(products.glob("*/.*"))
    published = [Path(line).parent.name for line in (tmp_path / "published").read_text().splitlines()]
    assert len(published) == len(set(published)), "a product was made twice"
    state = state_of(path)
    assert {row["status"] for row in state.jobs().values()} == {"done"}
    runs = state.runs()
    assert len(runs) == JOBS
    assert {row["status"] for row in runs} == {"done"}
    assert not any(row["owner"] for row in state.jobs().values())
    items = [json.loads(path.read_text()) for path in products.glob("*/*.json")]
    assert all("crgen:sha256" in item["properties"] for item in items)
