"""The commands that make packed folders, in one go or in tasks that know nothing of each other, check and copy them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.commands import writes

if TYPE_CHECKING:
    from collections.abc import Sequence

Inputs = Annotated[
    list[Path],
    typer.Argument(help="Folders, video files, .txt lists of paths (one a line), .tar files of videos; or URLs."),
]
TimeLimit = Annotated[float, typer.Option(help="Seconds after which a video is given up.")]


def pack(
    inputs: Inputs,
    out: Annotated[
        Path,
        typer.Option(
            help="The folder to pack into: new, empty, or begun by the same command.",
            callback=writes(folder=True, packs=True),
        ),
    ],
    seconds: Annotated[float, typer.Option(help="Length of a clip; shorter videos give shorter clips.")] = 10.0,
    start: Annotated[float, typer.Option(help="Where in the video the clip starts, seconds.")] = 0.0,
    side: Annotated[int, typer.Option(help="Smallest side of the stored frames, pixels.")] = 256,
    jpeg_quality: Annotated[int, typer.Option(help="Quality of the stored frames, 1 to 100.")] = 90,
    every: Annotated[int, typer.Option(help="Keep the frame of every n-th 0.04 s only.")] = 1,
    sound: Annotated[
        str, typer.Option(help="wav, or flac: smaller without loss, and slower to read a second of.")
    ] = "wav",
    split: Annotated[
        str, typer.Option(help="Shares of train, validation and test; a hash of the content decides.")
    ] = "0.8,0.1,0.1",
    split_list: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPLIT=FILE",
            help="Names of all of a split's videos, one a line: paths, file names, or these without their endings. "
            "The others are shared out among the splits without a list. May be given for each split.",
        ),
    ] = None,
    flow: Annotated[
        bool, typer.Option("--flow", help="Store the optical flow as well, for AVE+OF; takes much longer.")
    ] = False,
    keep_silent: Annotated[bool, typer.Option("--keep-silent", help="Pack silent videos too.")] = False,
    keep_still: Annotated[bool, typer.Option("--keep-still", help="Pack videos without movement too.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="the number of cores")] = None,
    time_limit: TimeLimit = 120.0,
    shard_mb: Annotated[int, typer.Option(help="Size at which the next shard is begun, millions of bytes.")] = 256,
    task: Annotated[
        str | None,
        typer.Option(metavar="N/TASKS", help="Pack the N-th share of TASKS only; `avc merge` makes one set of them."),
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pack on a SLURM cluster: its file, as configs/cluster/slurm.yaml ..."),
    ] = None,
    tasks: Annotated[
        int, typer.Option(help="... in so many tasks of a job array, each with the cores of a node in that file.")
    ] = 1,
) -> None:
    """Turn videos into a folder of training data.

    Each video becomes one record of frames (25 per second, as JPEG) and sound (48 kHz, mono) in ordinary WebDataset
    shards, beside an index for random access. Nothing is dropped in silence: what could not be packed is counted in the
    table at the end and listed, with its reason, in FOLDER/rejected.tsv.

    Stopped at any moment, the same command goes on where it was. With more inputs it adds them.

    On several machines at once, give each the same command and a --task of its own, then run **avc merge FOLDER**. On a
    SLURM cluster --cluster submits such tasks, and the merge: inputs and FOLDER must lie where all nodes see them. The
    records are the same, whatever the number of tasks.

    **Examples**

        avc pack ~/flickr --out ~/shards
        avc pack 's3://raw/2026/*.mp4' --out ~/shards
        avc pack videos.txt more/*.tar --out ~/shards --every 5 --workers 32
        avc pack ~/vggsound --out ~/shards --split-list test=test.txt
        avc pack ~/flickr --out /lustre/shards --task 3/8
        avc pack videos.txt --out /lustre/shards --cluster configs/cluster/slurm.yaml --tasks 200
    """
    from functools import partial

    from launch.progress import printable, progress
    from launch.report.results import show_packed
    from launch.slurm.cluster_file import load_cluster
    from launch.slurm.pack_array import submit_pack
    from shards.format import PackSettings
    from shards.pack import list_inputs, pack_sources
    from shards.tasks import parse_task
    from shards.text import counted

    settings = PackSettings(
        start_seconds=start,
        seconds=seconds,
        side=side,
        jpeg_quality=jpeg_quality,
        every=every,
        sound=sound,
        flow=flow,
        keep_silent=keep_silent,
        keep_still=keep_still,
        split=parse_shares(split),
    )
    chosen = None if task is None else parse_task(task)
    if cluster is not None and (chosen is not None or workers is not None):
        raise ValueError("--cluster shares the work out itself: leave out --task and --workers")
    lists = parse_split_lists(split_list or [])
    place = None if cluster is None else load_cluster(cluster)
    sources, splitter = list_inputs(inputs, out, settings, split_lists=lists, task=chosen)
    for of_list in splitter.coverage:
        print(printable(str(of_list)), flush=True)
    limits: Any = {"time_limit_seconds": time_limit, "shard_bytes": shard_mb * 1_000_000}
    work: Any = partial(pack_sources, out=out, settings=settings, splitter=splitter, **limits)
    if place is not None:
        submit_pack(sources, out, work, cluster=place, tasks=tasks)
        return
    with progress("packing", unit="videos") as report:
        summary = work(sources, task=chosen, workers=workers, progress=report)
    show_packed(out if chosen is None else out / chosen.name, summary.manifest)
    if summary.skipped:
        print(f"{counted(summary.skipped, 'videos')} done by an earlier run, {summary.done:,} by this one")
    if chosen is not None:
        print(f"when all {chosen.tasks} tasks have ended: avc merge {out}")
    elif not sum(summary.manifest.packed.values()):
        raise typer.Exit(1)


def merge(
    folder: Annotated[Path, typer.Argument(help="The folder into which tasks have packed.")],
) -> None:
    """Make one set of what several tasks have packed.

    Writes the index, the manifest and the list of what was rejected over all tasks; the shards stay where they are, and
    none of them is read. Refused as long as a task has not finished. May be repeated after tasks have packed more.

    **Example**

        avc merge /lustre/shards
    """
    from launch.report.results import show_packed
    from shards.build_index import merge as merge_tasks

    manifest = merge_tasks(folder)
    show_packed(folder, manifest)
    if not sum(manifest.packed.values()):
        raise typer.Exit(1)


def parse_shares(text: str) -> tuple[float, float, float]:
    """The shares of the splits that are written as 0.8,0.1,0.1; ValueError for anything else."""
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--split is {text!r} and must be three shares for train, validation and test, as 0.8,0.1,0.1"
        ) from None
    return train, validation, test


def parse_split_lists(texts: Sequence[str]) -> dict[str, Path]:
    """The files of names by split that are written as SPLIT=FILE; ValueError for anything else."""
    lists: dict[str, Path] = {}
    for text in texts:
        split, sign, path = text.partition("=")
        if not sign or not path or split in lists:
            raise ValueError(f"--split-list is {text!r} and must be SPLIT=FILE, once for a split, as test=test.txt")
        lists[split] = Path(path)
    return lists


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
    from shards.sidecars import FINISHED, verify_sidecars
    from shards.store import place
    from shards.text import counted
    from shards.verify import order_problem
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
        of = f"{counted(records, 'records')} in {counted(len(manifest.shards), 'shards')}"
        print(f"{path}: {of}, {size:,.1f} MB; {what} compared")
        if told := order_problem(path, manifest, quick=quick):
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


def copy(
    source: Annotated[
        Path, typer.Argument(help="A folder that `avc pack` made, or a URL of one (s3, gs, az, http, https).")
    ],
    target: Annotated[Path, typer.Argument(help="A URL (s3, gs, az), or a folder of this machine.")],
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
    from shards.text import counted

    with progress("copying", unit="MB") as report:
        manifest = copy_packed(
            source, target, progress=lambda done, total, name: report(done // 10**6, total // 10**6, name)
        )
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(f"{place(target)} has {counted(len(manifest.shards), 'shards')}, {size:,.1f} MB, each as its checksum says")
