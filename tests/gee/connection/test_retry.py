"""Which failures are asked again, after how long, and how many requests pass at once."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httplib2
import pytest
from google.auth.exceptions import RefreshError, TransportError
from hypothesis import given
from hypothesis import strategies as st

from crgen.errors import SourceError, redact
from crgen.gee.connection.faults import Corrupt, Remedy, explain, retry_seconds, understand
from crgen.gee.connection.limit import Gate, TurnedAway
from crgen.gee.connection.retry import FIRST_WAIT, LONGEST_WAIT, Stopped, TooMuch, persist, wait_before


class HttpError(Exception):
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.resp = httplib2.Response({"status": str(status), **headers})


def refusal(status: int, message: str = "no", headers: dict[str, str] | None = None) -> Exception:
    """What the ee client raises: an exception without a status, from one that has the response."""
    try:
        try:
            raise HttpError(status, headers or {})
        except HttpError:
            raise RuntimeError(message)  # noqa: B904
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (refusal(429, "Too many concurrent aggregations."), Remedy.WAIT),
        (refusal(500, "Internal error"), Remedy.WAIT),
        (refusal(503, "The service is currently unavailable"), Remedy.WAIT),
        (refusal(400, "User memory limit exceeded."), Remedy.SPLIT),
        (refusal(400, "Computation timed out."), Remedy.SPLIT),
        (refusal(400, "Total request size (50331649 bytes) must be less than or equal to 50331648"), Remedy.SPLIT),
        (refusal(500, "User memory limit exceeded."), Remedy.SPLIT),
        (refusal(400, "Image.select: Pattern 'B99' did not match any bands."), Remedy.STOP),
        (refusal(403, "Permission denied"), Remedy.STOP),
        (refusal(429, "the monthly noncommercial compute quota is used up: restricted mode"), Remedy.WAIT),
        (refusal(429, "Quota exceeded for limit 'EECU-seconds per day per project'"), Remedy.STOP),
        (refusal(403, "not eligible for noncommercial use"), Remedy.STOP),
        (refusal(403, "Rate Limit Exceeded"), Remedy.WAIT),
        (refusal(400, "Too many concurrent aggregations."), Remedy.WAIT),
        (refusal(400, "Collection query aborted after accumulating over 5000 elements."), Remedy.SPLIT),
        (RefreshError("invalid_grant: Token has been expired or revoked."), Remedy.STOP),
        (RefreshError("internal_failure", retryable=True), Remedy.WAIT),
        (TransportError("no route"), Remedy.WAIT),
        (ConnectionError("reset"), Remedy.WAIT),
        (TimeoutError(), Remedy.WAIT),
        (Corrupt("half a tile"), Remedy.WAIT),
    ],
)
def test_every_failure_has_a_remedy(error: Exception, remedy: Remedy) -> None:
    assert understand(error).remedy is remedy


def test_the_service_says_how_long_to_wait_in_seconds_or_as_a_date() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert retry_seconds("7") == 7
    assert retry_seconds("Tue, 24 Nov 2026 12:00:30 GMT", now) == 30
    assert retry_seconds("Tue, 24 Nov 2026 11:00:00 GMT", now) == 0
    assert retry_seconds("soon") is None
    assert understand(refusal(429, headers={"retry-after": "3"})).retry_after == 3


@given(attempt=st.integers(1, 60), asked=st.none() | st.floats(0, 600), seed=st.integers())
def test_waits_grow_are_bounded_and_never_shorter_than_asked(attempt: int, asked: float | None, seed: int) -> None:
    wait = wait_before(attempt, asked, random.Random(seed).uniform)
    bound = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
    if asked is None:
        assert bound / 4 <= wait <= bound
    else:
        assert asked <= wait <= asked + bound / 2


def test_waits_differ_between_requests_refused_together() -> None:
    assert len({wait_before(4, None, random.uniform) for _ in range(20)}) == 20


def failing(error: Exception):
    def action() -> None:
        raise error

    return action


def asking(action, patience: float = 5.0, stopped=None, gate: Gate | None = None, divisible: bool = False):
    return persist(
        action,
        what="a tile",
        gate=gate or Gate(4),
        patience=patience,
        refuse=lambda fault: explain(fault, "p", "a test"),
        stopped=stopped or threading.Event(),
        divisible=divisible,
    )


def test_what_comes_in_time_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crgen.gee.connection.retry.FIRST_WAIT", 0.001)
    failures = [refusal(503), ConnectionError("reset"), Corrupt("half")]

    def action() -> str:
        if failures:
            raise failures.pop()
        return "pixels"

    assert asking(action) == "pixels"


def test_patience_ends_with_the_reason_and_what_to_do() -> None:
    with pytest.raises(SourceError, match=r"did not deliver a tile .*HTTP 503.*run the same command again"):
        asking(failing(refusal(503, "unavailable")), patience=0.2)


def test_a_wait_longer_than_patience_is_not_begun_but_said_with_its_end() -> None:
    start = time.monotonic()
    with pytest.raises(
        SourceError, match=r"asks to wait 60 min, until \d{4}-\d\d-\d\d \d\d:\d\d UTC, .*HTTP 429"
    ) as told:
        asking(failing(refusal(429, headers={"retry-after": "3600"})), patience=900)
    assert time.monotonic() - start < 1
    assert told.value.transient
    assert "run the same command again later" in str(told.value)
    with pytest.raises(SourceError, match="asks to wait for ever before"):
        asking(failing(refusal(503, headers={"retry-after": "inf"})), patience=900)


def test_waiting_for_a_place_costs_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crgen.gee.connection.retry.FIRST_WAIT", 0.001)
    gate, failures = Gate(1), [refusal(503)]

    def action() -> str:
        with gate.slot():
            if failures:
                raise failures.pop()
            return "pixels"

    with ThreadPoolExecutor() as pool:
        with gate.slot():
            waiting = pool.submit(asking, action, patience=0.5, gate=gate)
            time.sleep(0.6)
        assert waiting.result() == "pixels"


def test_too_much_is_for_the_caller_to_split() -> None:
    with pytest.raises(TooMuch, match="memory"):
        asking(failing(refusal(400, "User memory limit exceeded.")))


@pytest.mark.parametrize(("status", "message"), [(500, "Internal error"), (503, "memory capacity exceeded")])
def test_what_can_be_split_is_on_suspicion_after_three_failures(
    monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    monkeypatch.setattr("crgen.gee.connection.retry.FIRST_WAIT", 0.001)
    asked = []

    def action() -> None:
        asked.append(1)
        raise refusal(status, message)

    with pytest.raises(TooMuch) as split:
        asking(action, divisible=True)
    assert (len(asked), split.value.suspected) == (3, True)
    with pytest.raises(SourceError):
        asking(action, patience=0.05)


def test_exports_and_maps_need_another_role() -> None:
    fault = understand(refusal(403, "Permission denied"))
    assert "Earth Engine Resource Writer' (exports and maps need it)" in str(explain(fault, "p", "q", writes=True))
    assert "Earth Engine Resource Viewer'" in str(explain(fault, "p", "q"))


def test_the_end_of_a_run_ends_the_waiting_at_once() -> None:
    stopped = threading.Event()
    threading.Timer(0.1, stopped.set).start()
    start = time.monotonic()
    with pytest.raises(Stopped):
        asking(failing(refusal(429, headers={"retry-after": "300"})), patience=1000, stopped=stopped)
    assert time.monotonic() - start < 30


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 40))
def test_the_limit_stays_between_one_and_what_it_started_at(answers: list[bool], most: int) -> None:
    gate = Gate(most)
    for good in answers:
        with gate.slot() as ticket:
            gate.answered() if good else gate.refused(ticket)
        assert 1 <= gate.limit <= most


def test_requests_refused_together_halve_the_limit_once_and_answers_raise_it_slowly() -> None:
    gate = Gate(16)
    with gate.slot() as first, gate.slot() as second, gate.slot() as third:
        for ticket in (first, second, third):
            gate.refused(ticket)
    assert gate.limit == 8
    for _ in range(8):
        gate.answered()
    assert gate.limit == 8
    gate.answered()
    assert gate.limit == 9


def test_a_restricted_project_asks_for_half_as_much_for_good() -> None:
    gate = Gate(8)
    gate.restrict()
    assert gate.limit == 4
    for _ in range(100):
        gate.answered()
    assert gate.limit == 4


def test_a_final_refusal_holds_for_what_was_wanted_before_it_and_for_nothing_later() -> None:
    gate, before = Gate(4), time.monotonic()
    gate.turn_away("used up")
    with pytest.raises(TurnedAway) as away, gate.wanted_since(before), gate.slot():
        raise AssertionError("passed all the same")
    assert away.value.answer == "used up"
    with gate.slot():
        pass
    with gate.wanted_since(time.monotonic()), gate.slot():
        pass


def test_never_more_pass_at_once_than_the_limit() -> None:
    gate, now, most, lock, full = Gate(3), 0, 0, threading.Lock(), threading.Event()

    def request() -> None:
        nonlocal now, most
        with gate.slot():
            with lock:
                now += 1
                most = max(most, now)
                if now >= 3:
                    full.set()
            full.wait(60)
            time.sleep(0.01)
            with lock:
                now -= 1

    threads = [threading.Thread(target=request) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


def test_a_pause_asked_for_holds_everybody() -> None:
    gate = Gate(2)
    assert gate.close(0.2)
    assert not gate.close(0.1), "closed already"
    start = time.monotonic()
    with gate.slot():
        pass
    assert time.monotonic() - start >= 0.15


@pytest.mark.parametrize(
    ("status", "message", "fix"),
    [
        (403, "Earth Engine API has not been used in project 12 before or it is disabled.", "enable it at https"),
        (403, "Caller does not have required permission to use project demo", "Service Usage Consumer"),
        (403, "Not signed up for Earth Engine or project is not registered.", "register it at https"),
        (429, "limit 'EECU-seconds per day per project'", "tomorrow"),
        (403, "not eligible for noncommercial use", "register it for commercial use"),
        (400, "Image.load: Image asset 'a/b' not found", "choose scenes anew"),
        (401, "Request had invalid authentication credentials.", "earthengine authenticate"),
        (404, "Project not found", "--project demo spelt right"),
    ],
)
def test_refusals_name_project_credentials_and_fix(status: int, message: str, fix: str) -> None:
    text = str(explain(understand(refusal(status, message)), "demo", "a key file"))
    assert fix in text
    assert "demo" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----",
        "ya29.a0AfH6SMBx_3-secret",
        "1//0gabcDEFghiJKLmnoPQR",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl",
    ],
)
def test_no_key_and_no_token_survives_in_a_message(secret: str) -> None:
    shown = redact(f"could not use {secret} here")
    assert shown == "could not use *** here"
    assert secret not in str(explain(understand(refusal(400, f"bad {secret}")), "p", "q"))


@pytest.mark.parametrize(
    "named",
    [
        '{"private_key": "%s"}',
        '{\\"private_key\\": \\"%s\\"}',
        "access_token=%s&alt=json",
        "client_secret: %s",
        "key s3://me:%s@host",
    ],
)
def test_a_named_secret_is_taken_out_of_a_message(named: str) -> None:
    shown = redact(f"could not use {named % 'MIIEvQIBADANBgkqhkiG9w0B'} here")
    assert "MII" not in shown
    assert "***" in shown
    assert shown.endswith(" here")
