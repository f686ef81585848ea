"""Distributes a packing over independent tasks, so that any number of machines can pack at once.

::

    OUT/task-0001-of-0003/    an ordinary packed folder each: journal, shards, index
    OUT/task-0002-of-0003/
    OUT/task-0003-of-0003/
    OUT/manifest.json ...     the index of all three, written by `shards.build_index`

Inputs are assigned by the hash of their size in bytes. Copies of a video have the same size, so they belong to the same
task, which packs the first of them as a single packing would. No video is packed twice, and the records do not depend
on the number of tasks.
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

MAX_TASKS = 1_000_000


@dataclass(frozen=True)
class Task:
    """One of `tasks` tasks that together pack a list of inputs; `number` counts from 1."""

    number: int
    tasks: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.tasks <= MAX_TASKS:
            raise ValueError(
                f"there is no task {self.number} of {self.tasks}: tasks are counted from 1 to at most {MAX_TASKS:,}"
            )

    @property
    def name(self) -> str:
        """The name of this task's folder."""
        return f"task-{self.number:04d}-of-{self.tasks:04d}"

    def owns(self, name: bytes) -> bool:
        """Whether a name is assigned to this task, by its hash."""
        return _task_number(name, self.tasks) == self.number

    def select(self, sources: Iterable[Source]) -> list[Source]:
        """The sources assigned to this task, in their order."""
        return [source for source in sources if task_of(source, self.tasks) == self.number]


def assign_tasks(sources: Iterable[Source], tasks: int) -> list[list[Source]]:
    """The sources of each task, in their order."""
    assigned: list[list[Source]] = [[] for _ in range(tasks)]
    for source in sources:
        assigned[task_of(source, tasks) - 1].append(source)
    return assigned


def task_of(source: Source, tasks: int) -> int:
    """The number (from 1) of the task that packs this source, by the hash of its size alone."""
    return _task_number(str(source.size).encode("ascii"), tasks)


def _task_number(name: bytes, tasks: int) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") % tasks + 1


def parse_task(text: str) -> Task:
    """Parse a task from NUMBER/TASKS; raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]) <= MAX_TASKS:
        raise ValueError(f"the task is {text!r} and must be NUMBER/TASKS, as 3/8: the third of eight, from 1/8 to 8/8")
    return Task(int(match[1]), int(match[2]))


def find_tasks(folder: Path) -> list[Task]:
    """The tasks that have a folder in `folder`, in their order.

    Raises ValueError when their folders differ in the number of tasks.
    """
    tasks = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(r"task-([0-9]+)-of-([0-9]+)", path.name):
            tasks.append(Task(int(match[1]), int(match[2])))
    tasks.sort(key=lambda task: (task.tasks, task.number))
    if tasks and tasks[0].tasks != tasks[-1].tasks:
        raise ValueError(
            f"{folder} holds {tasks[0].name} and {tasks[-1].name}: inputs that are shared out in two ways would be "
            "packed twice. Remove the folders of one of the two"
        )
    return tasks


def make_folder(out: Path, task: Task | None) -> Path:
    """Make the folder to pack into and return it: the task's in `out`, or `out` itself.

    Raises ValueError when `out` holds other files, a packing with another number of tasks, or links.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to pack into")
    tasks = find_tasks(out)
    has_journal = (out / JOURNAL).exists()
    if not has_journal and not tasks and out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(
            f"{out} holds other files and no {JOURNAL} of a packing: give a new or an empty folder to pack into"
        )
    if tasks and (task is None or task.tasks != tasks[0].tasks):
        raise ValueError(f"{out} was begun as {tasks[0].tasks} tasks: resume with as many, or pack into a new folder")
    if has_journal and task is not None:
        raise ValueError(f"{out} was begun without tasks: resume without them, or pack into a new folder")
    folder = out / task.name if task else out
    refuse_links([folder] if task and folder.is_symlink() else [])
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(path for path in folder.iterdir() if path.suffix != ".tar" and not path.is_dir())
    return folder
