"""The table of what features are worth: printed, as JSON, and its confusions as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from avc.evaluation.linear import LinearResult
from avc.intervals import wilson_interval
from launch.progress import printable
from launch.report.figure import drawn
from launch.report.results import write_json
from launch.report.table import print_table


@dataclass(frozen=True)
class Row:
    """name: what the features are. unreadable: (name, reason) of files that took no part. padded: short files."""

    name: str
    result: LinearResult
    unreadable: tuple[tuple[str, str], ...]
    padded: int


def show(
    rows: list[Row],
    classes: tuple[str, ...],
    *,
    what: str,
    confusion: Path | None,
    json: Path | None,
    tried: str = "folds",
    other: int = 0,
    about: Mapping[str, Any],
) -> None:
    """Print the table and what took no part; `what` was classified, in as many `tried`, both in the plural.

    other: files beside them that are of no form that is read. about: what else the JSON holds. The 95 % interval takes
    those that were tested as independent. Writes what is asked for, and then draws.
    """
    each = tried.removesuffix("s")
    tested = [[fold.items for fold in row.result.folds] for row in rows]
    counts = [items[0] if tried == "draws" else sum(items) for items in tested]
    intervals = [wilson_interval(row.result.accuracy, count) for row, count in zip(rows, counts, strict=True)]
    cells = [
        (
            row.name,
            f"{row.result.accuracy:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{row.result.spread:.1%}",
            " ".join(f"{100 * fold.right:.1f}" for fold in row.result.folds),
            " ".join("–" if fold.strength is None else f"{fold.strength:g}" for fold in row.result.folds),
        )
        for row, (low, high) in zip(rows, intervals, strict=True)
    ]
    print_table(
        ("features", "accuracy", "95 % interval", f"± over {tried}", f"each {each}", f"C of each {each}"), cells
    )
    print(f"{counts[0]:,} {what}; chance {1 / len(classes):.1%}")
    padded = max(row.padded for row in rows)
    if padded:
        print(f"{padded:,} {what} are shorter than one window and were padded with silence")
    unreadable = dict.fromkeys(reason for row in rows for reason in row.unreadable)
    if unreadable:
        print(f"{len({name for name, _ in unreadable}):,} {what} cannot be read and took no part:")
        for name, reason in unreadable:
            print(f"  {printable(name)}: {printable(reason)}")
    if other:
        print(f"{other:,} other files in the classes' folders are no {what} by their endings and were left out")
    accuracies = [
        asdict(row) | {"accuracy": row.result.accuracy, "interval_95": interval, "spread": row.result.spread}
        for row, interval in zip(rows, intervals, strict=True)
    ]
    write_json(json, {"classes": list(classes), "chance": 1 / len(classes), **about, "rows": accuracies})
    if confusion is not None:
        draw_confusion(rows[0], classes, confusion.expanduser())


def draw_confusion(row: Row, classes: tuple[str, ...], png: Path) -> None:
    """True classes down, predicted classes across, the number of files in each field."""
    side = 3 + 0.45 * len(classes)
    names = [printable(name) for name in classes]
    with drawn(png, size=(side + 1, side)) as (_, [[axes]]):
        display = ConfusionMatrixDisplay(np.array(row.result.confusion), display_labels=names)
        display.plot(ax=axes, cmap="Blues", xticks_rotation="vertical", colorbar=False)
        axes.set_title(f"{printable(row.name)}\n{row.result.accuracy:.1%}")
