"""`avc verify`: is a folder as it was packed?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shards.verify import Problem

PROBLEMS_SHOWN = 50


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `avc pack` made.")],
    quick: Annotated[bool, typer.Option("--quick", help="Compare files' names and sizes only.")] = False,
) -> None:
    """Check a packed folder, after copying it for example.

    Every shard is held against its checksum, every record's picture and sound files against theirs and against the
    index. What is missing, truncated or altered is named. Exit status 0: all is well; 1: something is wrong. A folder
    that **avc teach** wrote is held against its checksums.

    **Examples**

        avc verify ~/shards
        avc verify ~/shards/teachers
    """
    from launch.commands.teach import verify as verify_taught
    from launch.progress import progress
    from shards.index import read_manifest
    from shards.sidecars import FINISHED
    from shards.verify import verify as verify_folder

    if (folder.expanduser() / FINISHED).is_file():
        if quick:
            raise ValueError(f"--quick is for packed videos, and {folder} holds what teachers saw; leave it out")
        verify_taught(folder.expanduser())
        return
    manifest = read_manifest(folder.expanduser())
    with progress("verifying", unit="MB") as report:
        problems = verify_folder(
            folder, quick=quick, progress=lambda done, total, name: report(done // 10**6, total // 10**6, name)
        )
    records = sum(shard.records for shard in manifest.shards)
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    what = "names and sizes" if quick else "every byte"
    print(f"{folder}: {records:,} records in {len(manifest.shards):,} shards, {size:,.1f} MB; {what} compared")
    if problems:
        _show_problems(problems)
        raise typer.Exit(1)
    print("all is as it was packed")


def _show_problems(problems: Sequence[Problem]) -> None:
    from launch.progress import printable

    for problem in problems[:PROBLEMS_SHOWN]:
        line = f"{problem.file}: {problem.member} {problem.what}: {problem.detail}".replace(":  ", ": ")
        print(printable(line))
    if len(problems) > PROBLEMS_SHOWN:
        print(f"and {len(problems) - PROBLEMS_SHOWN:,} more")
    print(f"problems: {len(problems):,}. Copy these files again, or pack into a new folder")
