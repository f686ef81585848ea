"""One index and one manifest for what the tasks of a packing have packed. The shards stay where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from shards.build_index import remove_manifest, write_index
from shards.format import JOURNAL, MANIFEST
from shards.index import Manifest, ShardFile, read_manifest
from shards.journal import Event, Packed, read_finished
from shards.tasks import Task, find_tasks

TASKS_NAMED = 20  # in a message


def merge(folder: str | os.PathLike[str]) -> Manifest:
    """Write the index, the list of rejections and the manifest of a folder that was packed in tasks.

    Shards are listed as `task-0001-of-0008/train-000000.tar`, in the order of the tasks. May be repeated, after a task
    has packed more.

    Raises ValueError when the folder holds no tasks, when one is missing, not finished or still at work, when they
    were packed with different settings, or when two of them have packed the same video.
    """
    path = Path(folder).expanduser()
    tasks = find_tasks(path)
    if not tasks:
        raise ValueError(
            f"{path} holds no folders of tasks (task-0001-of-0008, ...): there is nothing to merge. "
            "`avc pack` without --task makes its index itself"
        )
    manifests = {task: manifest for task in tasks if (manifest := _manifest_of(path / task.name))}
    if len(manifests) < tasks[0].tasks:
        raise _unfinished(path, sorted({*range(1, tasks[0].tasks + 1)} - {task.number for task in manifests}), tasks[0])
    settings = manifests[tasks[0]].settings
    for task, manifest in manifests.items():
        if manifest.settings != settings:
            raise ValueError(
                f"{path / task.name} was packed with {manifest.settings} and {tasks[0].name} with {settings}: remove "
                "the folder of the one that is wrong and pack that task again"
            )
    remove_manifest(path)
    return write_index(path, settings, _events(path, manifests))


def _manifest_of(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except ValueError:
        return None  # packing that task again writes it anew


def _unfinished(folder: Path, missing: Sequence[int], task: Task) -> ValueError:
    named = ", ".join(map(str, missing[:TASKS_NAMED])) + (", ..." if len(missing) > TASKS_NAMED else "")
    return ValueError(
        f"{len(missing)} of the {task.tasks} tasks in {folder} have not finished: {named}. Run them again, they go on "
        "where they were, and then `avc merge`"
    )


def _events(folder: Path, manifests: Mapping[Task, Manifest]) -> Iterator[Event]:
    for task, manifest in manifests.items():
        records, shards = 0, set()
        for event in read_finished(folder / task.name / JOURNAL):
            if isinstance(event, ShardFile):
                shards.add(event)
                yield replace(event, name=f"{task.name}/{event.name}")
            elif isinstance(event, Packed):
                records += 1
                yield replace(event, shard=f"{task.name}/{event.shard}")
            else:
                yield event
        if records != sum(manifest.packed.values()) or shards != set(manifest.shards):
            listed = f"{sum(manifest.packed.values()):,} in {len(manifest.shards):,}"
            raise ValueError(
                f"{folder / task.name / JOURNAL} tells of {records:,} records in {len(shards):,} shards, and "
                f"{MANIFEST} beside it of {listed}: one of the two is not what was written. Restore it, or remove that "
                "folder and pack the task again"
            )
