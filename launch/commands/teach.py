"""`avc teach`: teachers' soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands import writes

if TYPE_CHECKING:
    import torch


def teach(
    shards: Annotated[Path, typer.Argument(help="A folder that `avc pack` made.")],
    teacher: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]FILE",
            help="A .npy file of probabilities, or an image classifier as torchvision:NETWORK:WEIGHTS. "
            "Once for each teacher.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Where the sidecars go.", show_default="SHARDS/teachers", callback=writes(folder=True)),
    ] = None,
    every: Annotated[float, typer.Option(help="Seconds between the frames that the teachers look at.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="one for each GPU, or for each core")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="N/TASKS", help="Only the N-th share of TASKS, as one of so many machines.")
    ] = None,
) -> None:
    """Label packed videos by vision networks, for SoundNet to learn from.

    Each teacher labels a frame in the middle of every second. Its probabilities are stored as float16 in tar files
    that go with the shards: same names, same keys, members KEY.objects.npy and KEY.scenes.npy. They know which shards
    they belong to. Stopped at any moment, the same command goes on where it was and ends with the same bytes.

    A .npy file holds the probabilities of any network, floats (clips, frames, classes) or (clips, classes) by the rows
    of the index; docs/soundnet.md shows how to make one. Nothing is ever downloaded.

    **Examples**

        avc teach ~/shards --teacher objects.npy --teacher scenes.npy
        avc teach ~/shards --teacher objects=torchvision:resnet50:resnet50.pth --teacher scenes=places.npy
    """
    from avc.teachers.label_shards import teach as run
    from avc.teachers.teacher import parse_source
    from launch.progress import progress
    from shards.format import TICKS_PER_SECOND
    from shards.tasks import Task, parse_task

    spacing_ticks = round(every * TICKS_PER_SECOND)
    if spacing_ticks < 1:
        raise ValueError(f"--every is {every:g} s and must be at least 0.04, the time of one frame")
    share = parse_task(task) if task is not None else Task(1, 1)
    shards = shards.expanduser()
    folder = out.expanduser() if out is not None else shards / "teachers"
    with progress("teaching", unit="clips") as report:
        sidecars = run(
            shards,
            folder,
            [parse_source(text) for text in teacher],
            spacing_ticks=spacing_ticks,
            devices=_devices(device, workers),
            share=(share.number, share.tasks),
            report=report,
        )
    if sidecars is None:
        print(f"{folder}: this share is written, others are missing; the last one to end completes the folder")
        return
    taught = ", ".join(f"{teacher.name} ({teacher.classes:,} classes)" for teacher in sidecars.teaching.teachers)
    size = sum(file.bytes for file in sidecars.files) / 1e6
    print(f"{folder}: {taught} on a frame every {spacing_ticks / TICKS_PER_SECOND:g} s, {size:,.1f} MB")


def _devices(device: str, workers: int | None) -> list[torch.device]:
    import os

    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device is {device!r} and must be auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device is cuda, but torch sees no CUDA device here; use auto or cpu")
    if device != "cpu" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [torch.device("cuda", number % count) for number in range(workers or count)]
    return [torch.device("cpu")] * (workers or len(os.sched_getaffinity(0)))
