"""The links from a run's folder into its newest attempt, for people and for other programs.

This program itself goes by `avc.runs.attempt.place`, for a file system may have no links, and a store through which a
run is copied makes files of them or leaves them out.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path


def point(link: Path, target: str) -> bool:
    """Let a link lead to a target; whether it does now. File systems refuse links with a dozen errors."""
    try:
        if not link.is_symlink() or os.readlink(link) != target:
            aside = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
            aside.symlink_to(target)
            aside.replace(link)
    except OSError:
        return False
    return True


def point_all(run: Path, targets: dict[str, str], *, copied: Path) -> list[str]:
    """`point` by the links' names; a line for each thing that there is to say of them.

    Files and folders that stand where links belong are moved into the folder `copied`.
    """
    moved = []
    for path in (run / name for name in targets):
        if path.exists() and not path.is_symlink():
            copied.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # another process was first
                moved.append(path.rename(copied / path.name).name)
    remarks = [f"{', '.join(moved)}: links once, copied as files, and now moved to {copied}"] if moved else []
    linked = [point(run / name, target) for name, target in targets.items()]
    if not all(linked):
        remarks.append(
            f"{run} is on a file system without symbolic links: what other programs look for there, such as "
            f"{[*targets][-1]}, lies in the folder of attempts/ with the highest number. Every command of avc finds it"
        )
    return remarks


def refuse_without_links(folder: Path, *, who: str) -> None:
    """Raise ValueError where no link can be made in a folder, for those who need one: `who`, in words."""
    trial = folder / f".{uuid.uuid4().hex}"
    if not point(trial, "nowhere"):
        raise ValueError(f"{folder} is on a file system without symbolic links, which {who} needs: put it on another")
    trial.unlink()
