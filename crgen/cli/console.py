"""Output of the commands: results go to standard output, progress and notes to standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
notes = Console(stderr=True, soft_wrap=True)

LOG_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""

Report = Callable[..., None]
"""Shows progress: ``report(done, total, text)``, the text optional."""


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of cells aligned; on a terminal that is too narrow, last cells have lines of their own."""
    for line in table(rows, console.width if console.is_terminal else None):
        console.print(line)


def print_fields(fields: Mapping[str, str], width: int = 8) -> None:
    """Print the names and values of fields, a line each, without those that are empty."""
    for name, value in fields.items():
        if value:
            console.print(f"{name:{width}} {value}")


def table(rows: Sequence[tuple[str, ...]], room: int | None = None) -> list[str]:
    """Return rows of cells as aligned lines; where these are longer than ``room``, last cells have their own."""
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(rows[0]))]
    lines = []
    for cells in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        if room is not None and len(line) > room and cells[-1]:
            lines.append("  ".join(c.ljust(width) for c, width in zip(cells[:-1], widths, strict=False)).rstrip())
            line = " " * (widths[0] + 2) + cells[-1]
        lines.append(line)
    return lines


@contextmanager
def progress(what: str, unit: str) -> Iterator[Report]:
    """Show progress: a bar with rate and time left on a terminal; in a pipe a line at once, then every 10 seconds."""
    start, lock = time.monotonic(), threading.Lock()

    def rate(done: int) -> str:
        seconds = time.monotonic() - start
        return f"{done / seconds:.1f} {unit}/s" if done and seconds else ""

    if notes.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=notes) as bar:
            task = bar.add_task(what, total=None, text="")

            def draw(done: int, total: int, text: str = "") -> None:
                shown = " ".join(filter(None, (rate(done), text)))
                bar.update(task, completed=done, total=total, text=shown)

            yield draw
        return

    last = -LOG_EVERY

    def log(done: int, total: int, text: str = "") -> None:
        nonlocal last
        with lock:
            now = time.monotonic()
            if now - last < LOG_EVERY and done < total:
                return
            last = now
            left = f"{duration((now - start) / done * (total - done))} left" if 0 < done < total else ""
            shown = ", ".join(filter(None, (f"{done}/{total} {unit}", rate(done), left, text)))
            print(f"{what}: {shown}", file=sys.stderr, flush=True)

    yield log


def note(text: str) -> None:
    """Print a note for people on standard error."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a duration for people: ``"1 h 20 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
