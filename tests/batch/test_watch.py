"""`crgen batch run --watch` stays: it takes up what comes to be due and what is added, until it is asked to stop."""

import datetime
from pathlib import Path

from tests.batch.schedulers import state_of, terminate, until, watch

A = '[[job]]\nname = "a"\n'
B = '[[job]]\nname = "b"\nt2 = "2021-07-23"\n'
LARGE = '[[job]]\nname = "large"\naoi = "113.50,34.70,113.52,34.72"\nchunk = 64\n'


def test_it_takes_up_new_jobs_and_days_and_stops_when_asked(write, start, tmp_path):
    clock = tmp_path / "clock"

    def set_clock(day: int) -> None:
        clock.with_suffix(".new").write_text(str(datetime.datetime(2021, 7, day, 12, tzinfo=datetime.UTC).timestamp()))
        clock.with_suffix(".new").replace(clock)

    set_clock(22)
    path = write(A)
    scheduler = start(path, watch, CLOCK=str(clock))

    def status(job: str) -> str | None:
        return state_of(path).jobs().get(job, {}).get("status")

    def products(job: str) -> set[str]:
        return {item.name.rsplit("_", 1)[0] for item in Path(tmp_path, "products", job).glob("*.json")}

    until(scheduler, lambda: status("a") == "done")
    write(A + B)
    until(scheduler, lambda: status("b") == "waiting")
    assert state_of(path).jobs()["b"]["reason"] == "t2 (2021-07-23) lies in the future"
    set_clock(23)
    until(scheduler, lambda: status("b") == "done")
    assert products("b") == {"b_2021-07-10_2021-07-23"}

    write(A + "t2 = 2021-07-21\n" + B)
    until(scheduler, lambda: products("a") == {"a_2021-07-10_2021-07-22", "a_2021-07-10_2021-07-21"})

    write(A + B + LARGE)
    until(scheduler, lambda: len(list(tmp_path.glob("products/large/.*.scratch/*.part"))) >= 2)
    terminate(scheduler)
    assert scheduler.exitcode == 143
    assert status("large") == "stopped"
    assert list(tmp_path.glob("products/large/.*.scratch/*.part")), "finished parts are kept"
    assert not products("large")
