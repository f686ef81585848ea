"""What a packed folder holds, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Column

from launch.progress import printable
from launch.report.results import print_table
from shards.index import Manifest
from shards.split import ListMet


def say_lists(lists: Sequence[ListMet]) -> None:
    """Print how many names of each split's list are those of inputs, before anything is packed."""
    for each in lists:
        print(printable(str(each)), flush=True)


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
    print(f"{folder}: {packed:,} records in {len(manifest.shards):,} shards, {size:,.1f} MB")
    if rejected:
        print(f"{folder / 'rejected.tsv'} lists the {rejected:,} that were rejected, and why")
