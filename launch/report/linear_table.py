"""The table of what features are worth: printed, as JSON, and its confusions as a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avc.evaluation.linear import LinearResult
from launch.progress import printable
from launch.report.figure import drawn
from launch.report.results import write_json


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
) -> None:
    """Print the table and what took no part; `what` was classified, in as many `tried`, both in the plural.

    other: files beside them that are of no form that is read. Writes what is asked for, and then draws.
    """
    one = tried.removesuffix("s")
    table = Table("features", "accuracy", f"± over {tried}", f"each {one}", f"C of each {one}")
    for row in rows:
        folds = row.result.folds
        table.add_row(
            escape(printable(row.name)),
            f"{row.result.accuracy:.1%}",
            f"{row.result.spread:.1%}",
            " ".join(f"{100 * fold.right:.1f}" for fold in folds),
            " ".join(f"{fold.strength:g}" for fold in folds),
        )
    Console().print(table)
    tested = [fold.items for fold in rows[0].result.folds]
    print(f"{tested[0] if tried == 'draws' else sum(tested):,} {what}; chance {1 / len(classes):.1%}")
    padded = max(row.padded for row in rows)
    if padded:
        print(f"{padded:,} {what} are shorter than one window and were padded with silence")
    unreadable = dict.fromkeys(one for row in rows for one in row.unreadable)
    if unreadable:
        print(f"{len({name for name, _ in unreadable}):,} {what} cannot be read and took no part:")
        for name, reason in unreadable:
            print(f"  {printable(name)}: {printable(reason)}")
    if other:
        print(f"{other:,} other files in the classes' folders are no {what} by their endings and were left out")
    if json is not None:
        write_json(json, as_json(rows, classes))
    if confusion is not None:
        draw_confusion(rows[0], classes, confusion.expanduser())


def as_json(rows: list[Row], classes: tuple[str, ...]) -> dict[str, Any]:
    """The table as plain values: accuracy and spread 0 to 1, C and share right of each fold, confusion counts."""
    return {
        "classes": list(classes),
        "chance": 1 / len(classes),
        "rows": [asdict(row) | {"accuracy": row.result.accuracy, "spread": row.result.spread} for row in rows],
    }


def draw_confusion(row: Row, classes: tuple[str, ...], png: Path) -> None:
    """True classes down, chosen classes across, the number of files in each field."""
    counts = np.array(row.result.confusion)
    names = [printable(name) for name in classes]
    side = 3 + 0.45 * len(classes)
    with drawn(png, size=(side + 1, side)) as (_, [axes]):
        axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for true, chosen in np.argwhere(counts):
            color = "white" if counts[true, chosen] > counts[true].sum() / 2 else "black"
            axes.text(chosen, true, str(counts[true, chosen]), ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="chosen", ylabel="true", title=f"{printable(row.name)}\n{row.result.accuracy:.1%}")
