"""`avc copy`: a packed folder to an object store, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def copy(
    source: Annotated[Path, typer.Argument(help="A folder that `avc pack` made, or a URL of one.")],
    target: Annotated[Path, typer.Argument(help="A URL (s3, gs, az, http, https), or a folder of this machine.")],
) -> None:
    """Copy a packed folder to an object store, or from one.

    Stopped at any moment, the same command goes on: what is there already is not copied again. Every file is held
    against its SHA-256 on the way. The manifest goes last, so that a copy which has one is complete, and is put into a
    store only where there is none. Keys come from the environment or ~/.aws, endpoints from AWS_ENDPOINT_URL.

    **Examples**

        avc copy ~/shards s3://bucket/flickr
        avc copy s3://bucket/flickr /local/nvme/flickr
    """
    from launch.progress import progress
    from shards.copy import copy_packed
    from shards.store import place

    with progress("copying", unit="MB") as report:
        manifest = copy_packed(
            source, target, progress=lambda done, total, name: report(done // 10**6, total // 10**6, name)
        )
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(f"{place(target)}: {len(manifest.shards):,} shards, {size:,.1f} MB, are there, each as its checksum says")
