"""`avc teach` and `avc eval agreement`: what teachers see, and how well a student that only hears foretells it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

    from avc.tasks.distillation import Agreement


def teach(
    shards: Annotated[Path, typer.Argument(help="A folder that `avc pack` made.")],
    teacher: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]FILE",
            help="A classifier of pictures: a .pt2 program, a .npy file of probabilities, or "
            "torchvision:NETWORK:WEIGHTS. Once for each teacher.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Where the sidecars go.", show_default="SHARDS/teachers")] = None,
    every: Annotated[float, typer.Option(help="Seconds between the frames that the teachers look at.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="one for each GPU, or for each core")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="N/TASKS", help="Only the N-th share of TASKS, as one of so many machines.")
    ] = None,
) -> None:
    """Let networks that see look at packed videos, for SoundNet to learn from.

    Each teacher labels a frame in the middle of every second. Its probabilities are stored as float16 in tar files
    that go with the shards: same names, same keys, members KEY.objects.npy and KEY.scenes.npy. They know which shards
    they belong to. Stopped at any moment, the same command goes on where it was and ends with the same bytes.

    A .pt2 program is what `torch.export.save` writes; it takes pictures (N, 3, H, W) in ImageNet's normalization and
    gives logits or probabilities. Files are looked through before they are loaded: one that holds anything but tensors
    and operators on tensors is refused. Nothing is ever downloaded.

    **Examples**

        avc teach ~/shards --teacher objects.pt2 --teacher scenes.pt2
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
    taught = ", ".join(f"{one.name} ({one.classes:,} classes)" for one in sidecars.teaching.teachers)
    size = sum(file.bytes for file in sidecars.files) / 1e6
    print(f"{folder}: {taught} on a frame every {spacing_ticks / TICKS_PER_SECOND:g} s, {size:,.1f} MB")


def verify(folder: Path) -> None:
    """Hold the sidecars in a folder against their checksums; exit status 1 where something is wrong."""
    from launch.progress import printable
    from shards.sidecars import verify_sidecars

    problems = list(verify_sidecars(folder))
    for line in problems:
        print(printable(line))
    if problems:
        print(f"problems: {len(problems):,}. Copy these files again, or remove them and run `avc teach` again")
        raise typer.Exit(1)
    print(f"{folder}: all is as it was written")


def agreement(
    run: Annotated[Path, typer.Argument(help="The folder of a SoundNet's run (run.dir of `avc train`).")],
    shards: Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")] = None,
    teachers: Annotated[
        Path | None,
        typer.Option(help="What `avc teach` wrote.", show_default="the run's own, or SHARDS/teachers"),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    passes: Annotated[int, typer.Option(min=1, help="Stretches of each clip, where clips are longer.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the result to this file as well.")] = None,
) -> None:
    """Does a SoundNet hear what its teachers saw, in clips that it has not learnt from?

    For each teacher: the share of output steps at which both name the same class, and the KL divergence of the student
    from the teacher. Beside them what needs no hearing: a class by lot, always the most frequent class, and the same
    answers dealt to other clips; for KL the teacher's mean soft label.

    **Example**

        avc eval agreement runs/soundnet8 --split test
    """
    from dataclasses import asdict

    from avc.distributed.world import join
    from avc.inference import load_student
    from avc.tasks.distillation import evaluate_agreement, student_sampler
    from launch.progress import progress
    from launch.report.results import write_json
    from shards.read import Shards

    if split not in ("train", "validation", "test"):
        raise ValueError(f"--split is {split!r} and must be train, validation or test")
    model, config = load_student(run)
    own = config.data
    folders = {"shards": shards or own.shards, "teachers": teachers or (None if shards else own.teachers)}
    config = config.model_copy(update={"data": own.model_copy(update=folders)})
    data = Shards(config.data.shards)
    too_short = student_sampler(config, data, split=split).too_short
    with join(config.training) as world, progress("listening", unit="clips") as report:
        results = evaluate_agreement(
            model.to(world.device),
            data,
            config,
            world,
            split=split,
            passes=passes,
            report=report,
        )
    _show(results, split)
    if too_short:
        print(f"{too_short:,} clips of the split are too short for one output step and took no part")
    if json is not None:
        about = {"run": str(run), "split": split, "too_short": too_short}
        write_json(json, about | {"teachers": [asdict(one) for one in results]})


def _show(results: tuple[Agreement, ...], split: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from launch.progress import printable

    print(f"{results[0].steps:,} output steps of the {split} split")
    table = Table(
        "teacher", "top-1 agreement", "by lot", "most frequent", "other clips' answers", "KL", "KL of the mean"
    )
    for one in results:
        shares = (f"{share:.1%}" for share in (one.top1, one.chance, one.constant, one.unpaired))
        table.add_row(
            f"{escape(printable(one.teacher))} ({one.classes:,})", *shares, f"{one.kl:.3f}", f"{one.kl_constant:.3f}"
        )
    Console().print(table)


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
