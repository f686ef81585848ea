"""`avc eval categories`: the objects and scenes that a SoundNet hears in recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.options import AnyRun, Device, Json


def categories(
    run: AnyRun,
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="Audio files.")],
    names: Annotated[
        list[str] | None, typer.Option(metavar="TEACHER=FILE", help="Names of a teacher's classes, one a line.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes of each teacher.")] = 3,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Which objects and scenes does a SoundNet hear in a recording?

    The classes of its teachers that its own outputs find most likely, with their probabilities: of ImageNet's objects
    and Places' scenes with released weights. A recording goes through the network whole, one of less than 10 s repeated
    as in the released code; the posteriors of its output steps are averaged. Without --names classes have numbers.

    **Example**

        avc eval categories soundnet8.safetensors rooster.ogg --names objects=imagenet.txt --names scenes=places.txt
    """
    from avc.evaluation.categories import load_student, posteriors
    from avc.evaluation.extraction import Unreadable
    from launch.progress import printable, progress
    from launch.report.results import write_json
    from launch.report.table import print_table

    model, config = load_student(run, device=device)
    classes = dict(_read_names(text, config.model.teachers) for text in names or [])
    heard, unreadable = {}, []
    with progress("listening", unit="recordings") as report:
        for done, path in enumerate(recordings, start=1):
            try:
                heard[path] = posteriors(model, path.expanduser())
            except Unreadable as error:
                unreadable.append((path, str(error)))
            report(done, len(recordings), path.name)
    found: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for path, of_teachers in heard.items():
        found[str(path)] = likely = {}
        for teacher, posterior in of_teachers.items():
            shares, numbers = (each.tolist() for each in posterior.topk(min(top, len(posterior))))
            called = [classes[teacher][number] if teacher in classes else str(number) for number in numbers]
            likely[teacher] = list(zip(called, shares, strict=True))
    rows = [
        (Path(path).name, *(", ".join(f"{name} {share:.0%}" for name, share in of) for of in likely.values()))
        for path, likely in found.items()
    ]
    print_table(("recording", *config.model.teachers), rows)
    for path, reason in unreadable:
        print(f"{printable(path.name)} cannot be read: {printable(reason)}")
    write_json(json, {"recordings": found})
    if not found:
        raise ValueError(f"none of the {len(recordings)} recordings can be read")


def _read_names(text: str, teachers: dict[str, int]) -> tuple[str, list[str]]:
    from shards.text import lines_of

    teacher, _, place = text.partition("=")
    if teacher not in teachers or not place:
        raise ValueError(f"--names is {text!r} and must be {' or '.join(f'{name}=FILE' for name in teachers)}")
    try:
        names = [line.rstrip("\r\n") for line in lines_of(Path(place).expanduser())]
    except OSError as error:
        raise ValueError(f"{place} is no list of names: {error}") from None
    if len(names) != teachers[teacher]:
        raise ValueError(f"{place} has {len(names):,} lines, and {teacher} has {teachers[teacher]:,} classes")
    return teacher, names
