"""What a packed folder holds, for people."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launch.progress import printable
from shards.index import Manifest


def show_packed(folder: Path, manifest: Manifest) -> None:
    """Print how many inputs a packed folder holds, and how many were rejected for which reason."""
    table = Table("", "", "videos", show_header=False)
    table.columns[2].justify = "right"
    for split, count in manifest.packed.items():
        table.add_row("packed", _cell(split), f"{count:,}")
    table.add_section()
    for reason, count in manifest.rejected.items():
        table.add_row("rejected", _cell(reason), f"{count:,}")
    table.add_section()
    packed, rejected = sum(manifest.packed.values()), sum(manifest.rejected.values())
    table.add_row("all", "", f"{packed + rejected:,}")
    Console().print(table)
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(f"{folder}: {packed:,} records in {len(manifest.shards):,} shards, {size:,.1f} MB")
    if rejected:
        print(f"{folder / 'rejected.tsv'} lists the {rejected:,} that were rejected, and why")


def _cell(text: str) -> str:
    """A word of the manifest, which somebody else may have written."""
    return escape(printable(text))
