"""`avc verify`: is a folder as it was packed?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PROBLEMS_SHOWN = 50
STREAMS = (
    "let it shuffle over many shards, or pack into a new folder. `avc train` draws from all shards and does not mind"
)


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `avc pack` made, or its URL.")],
    quick: Annotated[bool, typer.Option("--quick", help="Compare files' names and sizes only.")] = False,
) -> None:
    """Check a packed folder, after copying it for example.

    Every shard is held against its checksum, every record's image and sound files against theirs and against the
    index. What is missing, truncated or altered is named. Exit status 0: all is well; 1: something is wrong. That
    shards are sorted by name is said, and is no fault. A folder that **avc teach** wrote is held against its checksums.

    **Examples**

        avc verify ~/shards
        avc verify ~/shards/teachers
        avc verify s3://bucket/flickr
    """
    from launch.progress import printable, progress
    from shards.index import read_manifest
    from shards.order import sorted_by_name
    from shards.sidecars import FINISHED, verify_sidecars
    from shards.store import place
    from shards.verify import verify as verify_folder

    path = place(folder)
    if (path / FINISHED).is_file():
        if quick:
            raise ValueError(f"--quick is for packed videos, and {folder} holds what teachers saw; leave it out")
        lines = list(verify_sidecars(path))
        good, remedy = f"{path}: all is as it was written", "remove them and run `avc teach` again"
    else:
        manifest = read_manifest(path)
        with progress("verifying", unit="MB") as report:
            problems = verify_folder(
                path, quick=quick, progress=lambda done, total, name: report(done // 10**6, total // 10**6, name)
            )
        records = sum(shard.records for shard in manifest.shards)
        size = sum(shard.bytes for shard in manifest.shards) / 1e6
        what = "names and sizes" if quick else "every byte"
        print(f"{path}: {records:,} records in {len(manifest.shards):,} shards, {size:,.1f} MB; {what} compared")
        if told := sorted_by_name(path, manifest, quick=quick):
            print(f"its shards are sorted: {told}. What streams them meets clips of like names together: {STREAMS}")
        lines = [f"{each.file}: {each.member} {each.what}: {each.detail}".replace(":  ", ": ") for each in problems]
        good, remedy = "all is as it was packed", "pack into a new folder"
    for line in lines[:PROBLEMS_SHOWN]:
        print(printable(line))
    if len(lines) > PROBLEMS_SHOWN:
        print(f"and {len(lines) - PROBLEMS_SHOWN:,} more")
    if lines:
        print(f"problems: {len(lines):,}. Copy these files again, or {remedy}")
        raise typer.Exit(1)
    print(good)
