"""Packing in tasks that know nothing of each other, so that as many machines as there are can pack at once.

::

    OUT/task-0001-of-0003/    an ordinary packed folder each: journal, shards, index
    OUT/task-0002-of-0003/
    OUT/task-0003-of-0003/
    OUT/manifest.json ...     the index of all three, made by `shards.build_index`

Inputs are shared out by their size in bytes. Equal videos are of equal size, so all copies of a video come before the
same task, which keeps the first in the order of packing as one task would: no record is ever packed twice, and the
outcome does not depend on the number of tasks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.atomic import refuse_links
from shards.format import JOURNAL
from shards.sources import Source

MOST_TASKS = 1_000_000


@dataclass(frozen=True)
class Task:
    """One of `tasks` tasks that together pack a list of inputs; `number` counts from 1."""

    number: int
    tasks: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.tasks <= MOST_TASKS:
            raise ValueError(
                f"there is no task {self.number} of {self.tasks}: tasks are counted from 1 to at most {MOST_TASKS:,}"
            )

    @property
    def name(self) -> str:
        """The name of this task's folder."""
        return f"task-{self.number:04d}-of-{self.tasks:04d}"

    def has(self, name: bytes) -> bool:
        """Whether what is called so is this task's, by the hash of the name."""
        return _number(name, self.tasks) == self.number

    def share(self, sources: Iterable[Source]) -> list[Source]:
        """Those of the sources that are this task's, in their order."""
        return [source for source in sources if task_of(source, self.tasks) == self.number]


def share_out(sources: Iterable[Source], tasks: int) -> list[list[Source]]:
    """The shares of all tasks, in their order."""
    shares: list[list[Source]] = [[] for _ in range(tasks)]
    for source in sources:
        shares[task_of(source, tasks) - 1].append(source)
    return shares


def task_of(source: Source, tasks: int) -> int:
    """The number of the task, of `tasks`, that packs this source: by the hash of its size, and of nothing else."""
    return _number(str(source.size).encode("ascii"), tasks)


def _number(name: bytes, tasks: int) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") % tasks + 1


def parse_task(text: str) -> Task:
    """The task that is written as NUMBER/TASKS; ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= MOST_TASKS:
        raise ValueError(f"the task is {text!r} and must be NUMBER/TASKS, as 3/8: the third of eight, from 1/8 to 8/8")
    return Task(int(found[1]), int(found[2]))


def find_tasks(folder: Path) -> list[Task]:
    """The tasks that have a folder in `folder`, in their order.

    Raises ValueError when these are of packings into different numbers of tasks.
    """
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(r"task-([0-9]+)-of-([0-9]+)", path.name):
            found.append(Task(int(match[1]), int(match[2])))
    found.sort(key=lambda task: (task.tasks, task.number))
    if found and found[0].tasks != found[-1].tasks:
        raise ValueError(
            f"{folder} holds {found[0].name} and {found[-1].name}: inputs that are shared out in two ways would be "
            "packed twice. Remove the folders of one of the two"
        )
    return found


def make_folder(out: Path, task: Task | None) -> Path:
    """Make the folder to pack into and return it: the task's in `out`, or `out` itself.

    Raises ValueError when `out` holds something else, a packing that was shared out in another way, or links.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to pack into")
    begun = find_tasks(out)
    alone = (out / JOURNAL).exists()
    if not alone and not begun and out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(
            f"{out} holds other files and no {JOURNAL} of a packing: give a new or an empty folder to pack into"
        )
    if begun and (task is None or task.tasks != begun[0].tasks):
        raise ValueError(f"{out} was begun as {begun[0].tasks} tasks: go on with as many, or pack into a new folder")
    if alone and task is not None:
        raise ValueError(f"{out} was begun without tasks: go on without them, or pack into a new folder")
    folder = out / task.name if task else out
    refuse_links([folder] if task and folder.is_symlink() else [])
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(path for path in folder.iterdir() if path.suffix != ".tar" and not path.is_dir())
    return folder
