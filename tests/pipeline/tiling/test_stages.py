"""Stages overlap, are bounded, and end soon when one fails."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crgen.pipeline.tiling.stages import overlapped


@settings(max_examples=20)
@given(count=st.integers(0, 12), readers=st.integers(1, 3), finishers=st.integers(1, 3))
def test_every_item_passes_every_stage_once_and_is_computed_in_order(count, readers, finishers):
    computed, finished = [], []

    def compute(item, prepared):
        computed.append(item)
        return prepared + 1

    overlapped(
        range(count),
        lambda item: 10 * item,
        compute,
        lambda item, value: finished.append((item, value)),
        readers=readers,
        finishers=finishers,
    )
    assert computed == list(range(count))
    assert sorted(finished) == [(item, 10 * item + 1) for item in range(count)]


@pytest.mark.parametrize("slow", ["prepare", "compute", "finish"])
def test_no_more_items_are_held_than_was_promised(slow):
    held, most, lock = 0, 0, threading.Lock()

    def wait(stage):
        time.sleep(0.01 if stage == slow else 0)

    def prepare(item):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        wait("prepare")

    def finish(item, value):
        nonlocal held
        wait("finish")
        with lock:
            held -= 1

    overlapped(range(30), prepare, lambda *_: wait("compute"), finish, readers=2, finishers=3)
    assert held == 0
    assert most <= 2 + 1 + 3


def test_the_device_waits_for_nobody_when_reading_and_writing_keep_up():
    busy = 0.0

    def compute(item, prepared):
        nonlocal busy
        start = time.perf_counter()
        time.sleep(0.03)
        busy += time.perf_counter() - start

    start = time.perf_counter()
    overlapped(range(20), lambda _: time.sleep(0.03), compute, lambda *_: time.sleep(0.03), readers=2, finishers=2)
    assert busy / (time.perf_counter() - start) > 0.75  # one after the other it would be a third


@pytest.mark.parametrize("stage", ["prepare", "compute", "finish"])
def test_the_first_error_ends_it_and_tells_the_readers(stage):
    begun, stopped = [], []

    def fail(at):
        begun.append(at)
        if at == stage:
            raise OSError(f"{stage} broke")

    with pytest.raises(OSError, match=f"{stage} broke"):
        overlapped(
            range(1000),
            lambda _: fail("prepare"),
            lambda *_: fail("compute"),
            lambda *_: fail("finish"),
            lambda: stopped.append(True),
            readers=2,
            finishers=2,
        )
    assert stopped == [True]
    assert len(begun) < 30


def test_an_interrupted_caller_ends_it_too():
    def interrupt(item, prepared):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        overlapped(range(10), lambda item: item, interrupt, lambda *_: None, readers=1, finishers=1)
