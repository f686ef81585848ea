"""Where results go: tables on standard output, of packed folders too, files for machines, W&B."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from launch.progress import printable
from shards.atomic import write_whole
from shards.text import counted

if TYPE_CHECKING:  # commands that answer at once need no numpy
    from shards.index import Manifest


def print_table(header: Sequence[str | Column], rows: Iterable[Sequence[str]], **options: Any) -> None:
    """Print a table; an empty row is a line across it.

    Cells may hold what others wrote: neither markup nor control characters in them have an effect. options: further
    ones of rich's `Table`.
    """
    table = Table(*header, **options)
    for column in table.columns:
        column.overflow = "fold"  # names that share a beginning are told apart by their ends
    for row in rows:
        if row:
            table.add_row(*(escape(printable(cell)) for cell in row))
        else:
            table.add_section()
    Console().print(table)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write results for machines, where a path is given. Raises ValueError where the file cannot be written."""
    if path is None:
        return
    path = path.expanduser()
    try:
        write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None


def write_wandb(run: Path, name: str, content: dict[str, Any]) -> None:
    """Write the numbers of a result into the summary of the W&B run that a run's folder belongs to.

    They are called eval/NAME/..., by their places in `content`; a list's items by their `key`, if they have one.
    Raises ValueError where the run is on no dashboard, and where W&B is not installed.
    """
    from avc.config import load_config
    from avc.extras import require_package
    from avc.runs.attempt import CONFIG, history, place
    from avc.training.dashboard import open_run

    require_package("wandb", extra="wandb", purpose="--wandb")
    config = load_config(place(run, CONFIG), of_run=True)
    attempts = history(run)
    here = config.model_copy(update={"run": config.run.model_copy(update={"dir": run})})
    opened = open_run(here, attempts[-1].wandb_id) if attempts else None
    if opened is None:
        raise ValueError(f"--wandb: {run} is on no dashboard, as log.wandb, or WANDB_MODE here, is disabled")
    opened.summary.update(dict(_numbers(f"eval/{name}", content)))
    offline = f"{Path(opened.dir).parent}, offline: `wandb sync` uploads it"
    print(f"--wandb: written to {opened.url or offline}")
    opened.finish()


def _numbers(place: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(f"{place}/{name}", part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            key = part.get("key", number) if isinstance(part, dict) else number
            yield from _numbers(f"{place}/{key}", part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def show_packed(folder: Path, manifest: Manifest) -> None:
    """Print how many inputs a packed folder holds, and how many were rejected for which reason."""
    packed, rejected = sum(manifest.packed.values()), sum(manifest.rejected.values())
    rows = [
        *(("packed", split, f"{count:,}") for split, count in manifest.packed.items()),
        (),
        *(("rejected", reason, f"{count:,}") for reason, count in manifest.rejected.items()),
        (),
        ("all", "", f"{packed + rejected:,}"),
    ]
    print_table(("", "", Column(justify="right")), rows, show_header=False)
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(f"{folder}: {counted(packed, 'records')} in {counted(len(manifest.shards), 'shards')}, {size:,.1f} MB")
    if rejected:
        print(f"{folder / 'rejected.tsv'} lists the {rejected:,} that were rejected, and why")
