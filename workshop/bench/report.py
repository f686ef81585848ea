"""A measurement on its way to a reader: rounds and their spread, a table for people, JSON for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.atomic import written_aside
from workshop.bench.machine import Machine

Progress = Callable[[int, int, str], None]  # rounds done, rounds to do, what is being measured


@dataclass(frozen=True)
class Rounds:
    """What was measured round by round, warm-up left out."""

    unit: str
    median: float
    low: float
    high: float
    rounds: tuple[float, ...]

    def __str__(self) -> str:
        return f"{figure(self.median)} ({figure(self.low)} to {figure(self.high)})"


def rounds_of(values: Iterable[float], *, unit: str) -> Rounds:
    """Median, lowest and highest of at least one value."""
    values = tuple(values)
    return Rounds(unit, statistics.median(values), min(values), max(values), values)


def ratio(above: Rounds, below: Rounds) -> Rounds:
    """Round by round, so that what the machine's other users did to a round falls on both sides alike."""
    return rounds_of((a / b for a, b in zip(above.rounds, below.rounds, strict=True)), unit="ratio")


@dataclass(frozen=True)
class Report:
    """title: what was measured, in a line. notes: what a reader must know to judge the table."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str]

    def plain(self) -> str:
        """The report as text."""
        cells = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
        lines = ["  ".join(row).rstrip() for row in padded]
        return "\n".join([self.title, "", *lines, "", *self.notes])


def figure(value: float) -> str:
    """Three significant digits, and all of them before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_json(path: Path, *, bench: str, machine: Machine, result: Any) -> None:
    """Write what was measured, a dataclass, with the machine that it was measured on.

    Raises ValueError where the file cannot be written.
    """
    content = {"bench": bench, "machine": asdict(machine), "result": asdict(result)}
    try:
        with written_aside(path.expanduser()) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
