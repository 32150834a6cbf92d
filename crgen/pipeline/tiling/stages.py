"""Reading, computing and encoding at the same time, so that the device never waits for the disk.

The calling thread computes, one item after the other; threads beside it prepare the next items and finish the last
ones. Both sides are bounded, so no more than ``readers + finishers + 1`` items are held at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")


def overlapped(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    compute: Callable[[Item, Prepared], Computed],
    finish: Callable[[Item, Computed], None],
    stop: Callable[[], None] = lambda: None,
    *,
    readers: int,
    finishers: int,
) -> None:
    """Take every item through three stages.

    Args:
        items: the work, computed in this order.
        prepare: called from ``readers`` threads.
        compute: called from this thread.
        finish: called from ``finishers`` threads, in any order.
        stop: called when a stage failed or this thread was interrupted, to end what ``prepare`` is busy with.
        readers: items prepared ahead.
        finishers: items that wait to be finished, at most; then computing waits.

    Raises:
        Exception: the first that a stage raised; what has begun is waited for, the rest is left.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(readers) as reading, ThreadPoolExecutor(finishers) as finishing:
        ahead: deque[tuple[Item, Future[Prepared]]] = deque()
        behind: set[Future[None]] = set()

        def read_ahead() -> None:
            while len(ahead) < readers and (item := next(remaining, None)) is not None:
                ahead.append((item, reading.submit(prepare, item)))

        def take_finished(limit: int) -> None:
            nonlocal behind
            while len(behind) > limit:
                done, behind = wait(behind, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()

        try:
            read_ahead()
            while ahead:
                item, future = ahead.popleft()
                prepared = future.result()
                del future
                read_ahead()
                computed = compute(item, prepared)
                del prepared
                take_finished(finishers - 1)
                behind.add(finishing.submit(finish, item, computed))
                del computed
            take_finished(0)
        except BaseException:
            stop()
            reading.shutdown(wait=False, cancel_futures=True)
            finishing.shutdown(wait=False, cancel_futures=True)
            raise
