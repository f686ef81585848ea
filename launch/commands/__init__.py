"""The `avc` commands, a file for each group of them, and the options that several have."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from shards.store import as_url


def refuse_unwritable(path: Path, option: str, *, folder: bool, packs: bool = False) -> None:
    """Raise ValueError where a file, or a folder with all above it, cannot be made: before the work, and not after.

    packs: whether it is packed videos that the folder is for, which may hold some.
    """
    if (url := as_url(path)) is not None:
        raise ValueError(
            f"{option}: {url} is in a store, and commands write to this machine: give a folder. `avc copy` then puts "
            "packed videos into a store"
        )
    path = path.expanduser().absolute()
    if folder and not packs and (path / "manifest.json").exists():
        raise ValueError(f"{option}: {path} holds packed videos: give another folder")
    there = next(each for each in [path, *path.parents] if each.exists()) if folder else path.parent
    said = "" if folder or not path.is_dir() else "it is a folder, and a file is to be written"
    try:
        tempfile.TemporaryFile(dir=there).close()  # has no name
    except OSError as error:
        said = f"{there} is a file, and a folder is needed" if there.is_file() else str(error.strerror)
    if said:
        raise ValueError(f"{option}: {path} cannot be written: {said}")


def writes(*, folder: bool = False, packs: bool = False) -> Callable[[typer.CallbackParam, Path | None], Path | None]:
    """The callback of an option that names what is to be written: a file, or a folder."""

    def check(option: typer.CallbackParam, path: Path | None) -> Path | None:
        if path is not None:
            refuse_unwritable(path, f"--{option.name}", folder=folder, packs=packs)
        return path

    return check


Run = Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")]
AnyRun = Annotated[
    Path, typer.Argument(help="A run, a .safetensors of `avc import`, a network by name, or FILE.py:NAME, an encoder.")
]
ShardsOption = Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")]
JudgingSplit = Annotated[
    str | None, typer.Option("--split", help="train, validation or test.", show_default="test if any, or validation")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or one of several, as cuda:1.", show_default="a GPU if any")]
Json = Annotated[Path | None, typer.Option(help="Write the result to this file as well.", callback=writes())]
Wandb = Annotated[bool, typer.Option("--wandb", help="Write the numbers into the run that it is on W&B as well.")]
