"""What schedulers agree on through the state: limits, and deadlines."""

import datetime
import threading
from collections import Counter

import pytest

from crgen.batch.jobs.job import Limits
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import leases
from crgen.batch.schedule.leases import Observer
from crgen.batch.schedule.ledger import Claim, GivenUp, Ledger
from crgen.batch.schedule.messages import Done, Found, Stopped
from crgen.batch.schedule.state import State

TODAY = datetime.date(2021, 7, 22)
NOON = datetime.datetime(2021, 7, 22, 12, tzinfo=datetime.UTC).timestamp()


def ledger_of(url: str, machine: str) -> Ledger:
    return Ledger(State(url), f"{machine}:{threading.get_ident()}", machine, Observer(60))


def jobs_of(path):
    file = read_jobs(path)
    return {job.name: job for job in file.job}, {job.name: "definition" for job in file.job}, file.state.url


@pytest.mark.parametrize(
    ("limits", "source", "most"),
    [
        (Limits(total=9, per_project=2, per_device=9), "gee", {"one": 2, "other": 2}),
        (Limits(total=9, per_project=1, per_device=3), "demo", {"one": 6}),  # three on each of two machines
        (Limits(total=1, per_project=9, per_device=9), "demo", {"one": 4}),  # one for each of four schedulers
    ],
)
def test_schedulers_together_keep_the_limits(write, limits, source, most):
    names = [
        f"[[job]]\nname = 'a{i}'\nproject = '{'other' if source == 'gee' and i % 2 else 'one'}'" for i in range(12)
    ]
    jobs, definitions, url = jobs_of(write("\n".join(names), source=source))
    ledgers = [ledger_of(url, machine) for machine in ("here", "here", "there", "there")]
    for at, ledger in enumerate(ledgers):
        ledger.owner = str(at)
    held: list[tuple[Ledger, Claim]] = []

    def claim_all(ledger: Ledger) -> None:
        while (claim := ledger.claim(jobs, definitions, set(), limits)) is not None:
            assert isinstance(claim, Claim)
            held.append((ledger, claim))

    for _ in range(2):
        threads = [threading.Thread(target=claim_all, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(claim.job.project for _, claim in held) == most
        assert len({claim.job.name for _, claim in held}) == len(held)
        ledger, claim = held.pop()
        assert (
            ledger.over(claim, Stopped(), "", TODAY) == "stopped"
        )  # its place is free for one other, in the next round


def test_a_product_made_in_time_is_not_late_afterwards(write, monkeypatch):
    path = write("[[job]]\nname = 'a'\ndeadline = 2021-07-22T13:00:00Z", source="gee")
    jobs, definitions, url = jobs_of(path)
    ledger = ledger_of(url, "here")
    monkeypatch.setattr(leases, "utc", lambda: NOON)
    claim = ledger.claim(jobs, definitions, set(), Limits())
    ledger.found(claim, Found("identity", TODAY, TODAY, "a.tif", None))
    assert ledger.over(claim, Done("identity", 1.0, 1), "", TODAY) == "done"
    again = ledger.claim(jobs, definitions, set(), Limits())
    assert isinstance(again, Claim), "another acquisition may still join the catalogue"
    ledger.over(again, Done("identity", 1.0, 1), "", TODAY)
    monkeypatch.setattr(leases, "utc", lambda: NOON + 3600)
    assert ledger.claim(jobs, definitions, set(), Limits()) == GivenUp(
        jobs["a"], "nothing", "the deadline 2021-07-22 13:00:00+00:00 passed"
    )
    assert ledger.state.jobs()["a"]["status"] == "done"
    assert ledger.claim(jobs, definitions, set(), Limits()) is None
