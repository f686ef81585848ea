"""Progress of a long command: a bar with rate and time left in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from shards import Report
from shards.text import counted

SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def progress(title: str, *, unit: str, console: Console | None = None) -> Iterator[Report]:
    """Show progress on standard error while the block runs; it calls `report(done, total, note)` as it goes.

    `unit` is what is counted, in the plural.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, unit, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(escape(title), total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=escape(printable(note)))


def printable(text: str) -> str:
    """The text on one line, without what could move a terminal's cursor or cannot be written as UTF-8."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_number(speed)} {self._unit}/s" if speed else "", style="progress.data.speed")


def _lines(title: str, unit: str, console: Console) -> Report:
    begun_at = written_at = time.monotonic()

    def report(done: int, total: int, note: str) -> None:
        nonlocal written_at
        now = time.monotonic()
        if now - written_at < SECONDS_BETWEEN_LINES and done < total:
            return
        written_at = now
        rate = done / max(now - begun_at, 1e-9)
        left = f"{_duration((total - done) / rate)} left" if done and done < total else _duration(now - begun_at)
        line = f"{title}: {done:,} of {counted(total, unit)}, {_number(rate)} {unit}/s, {left}"
        console.print(f"{line}, {printable(note)}" if note else line, markup=False, highlight=False, soft_wrap=True)

    return report


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
