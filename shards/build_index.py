"""Builds the index of a packed folder from its journal, or merges those of tasks without moving their shards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from shards.atomic import sync_folder, write_whole, written_aside
from shards.format import CLIPS, FLOW, FORMAT_VERSION, JOURNAL, MANIFEST, PICTURES, SPLITS, PackSettings, Reason
from shards.index import LARGEST_MANIFEST, Manifest, ShardFile, StoredFile, read_manifest
from shards.journal import Event, Packed, Rejection, read_finished
from shards.tasks import Task, find_tasks
from shards.text import on_one_line

REJECTED = "rejected.tsv"  # name, reason and detail of every rejected input, for people


def write_index(folder: Path, settings: PackSettings, events: Iterable[Event]) -> Manifest:
    """Write clips.npy, pictures.npy, flow.npy (if packed), rejected.tsv and last manifest.json from a journal's events.

    Every shard must be complete. Raises ValueError for duplicate keys, which tasks produce where files changed while
    they were packed.
    """
    shards: dict[str, ShardFile] = {}
    shard_rows: dict[str, int] = {}  # in the order of their first records, equal in every run
    rows = bytearray()  # of the index
    starts: list[np.ndarray] = []  # of each row's pictures
    flow_starts: list[np.ndarray] = []
    names: set[tuple[str, int | None]] = set()
    rejected: dict[tuple[str, int | None], Rejection] = {}
    for event in events:
        if isinstance(event, ShardFile):
            shards[event.name] = event
            continue
        name = event.source.name, event.source.offset
        if isinstance(event, Rejection):
            rejected[name] = event
            continue
        names.add(name)
        shard_row = shard_rows.setdefault(event.shard, len(shard_rows))
        # Bytes: Python objects of millions of clips would take ten times the memory.
        rows += _row(folder, event, shard_row=shard_row, settings=settings).tobytes()
        starts.append(np.cumsum([0, *event.picture_sizes], dtype=np.uint32))
        if settings.flow:
            flow_starts.append(np.cumsum([0, *event.flow_sizes], dtype=np.uint32))
    clips = np.frombuffer(rows, dtype=settings.clip_type)
    order = np.argsort(clips["key"], kind="stable")
    clips = clips[order]
    _refuse_duplicate_keys(folder, clips, [*shard_rows])
    clips["first_picture"] = _first_rows(starts, order)
    if settings.flow:
        clips["first_flow"] = _first_rows(flow_starts, order)
    # Without those packed on a later attempt, by this task or, if their size was unknown before, by another one.
    rejections = [rejection for name, rejection in rejected.items() if name not in names]

    with written_aside(folder / CLIPS) as file:
        np.save(file, clips, allow_pickle=False)
    _write_starts(folder / PICTURES, starts, order)
    if settings.flow:
        _write_starts(folder / FLOW, flow_starts, order)
    with written_aside(folder / REJECTED) as file:
        file.writelines(sorted(map(_rejection_line, rejections)))

    splits = Counter(clips["split"].tolist())
    reasons = Counter(rejection.reason for rejection in rejections)
    manifest = Manifest(
        format=FORMAT_VERSION,
        settings=settings,
        shards=tuple(shards[name] for name in shard_rows),
        tables=tuple(StoredFile.of(folder, name) for name in (CLIPS, PICTURES, *([FLOW] if settings.flow else []))),
        packed={split: splits[code] for code, split in enumerate(SPLITS)},
        rejected={reason.value: reasons[reason] for reason in Reason if reasons[reason]},
    )
    _write_manifest(folder, manifest)
    return manifest


def remove_manifest(folder: Path) -> None:
    """Mark the folder as incomplete."""
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)


def _refuse_duplicate_keys(folder: Path, clips: np.ndarray, shards: Sequence[str]) -> None:
    duplicates = np.flatnonzero(clips["key"][1:] == clips["key"][:-1])
    if len(duplicates):
        key = str(clips["key"][duplicates[0]], "ascii")
        first, second = (folder / shards[row] for row in clips["shard"][duplicates[0] : duplicates[0] + 2])
        raise ValueError(
            f"record {key} is in {first} and in {second}, and {len(duplicates) - 1} more are in two tasks: videos "
            f"changed while they were packed. Remove {first.parent} and {second.parent}, pack these tasks again, and "
            "merge"
        )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    content = json.dumps(asdict(manifest) | {"settings": manifest.settings.to_json()}, indent=1).encode("ascii") + b"\n"
    if len(content) > LARGEST_MANIFEST:
        raise ValueError(
            f"{folder} has {len(manifest.shards):,} shards, more than a manifest can list: pack again with a larger "
            "--shard-mb"
        )
    write_whole(folder / MANIFEST, content)


def _first_rows(starts: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    """First row of each clip's starts when they are concatenated in this order, uint64 (clips,)."""
    counts = np.array([len(starts[row]) for row in order], dtype=np.uint64)
    firsts: np.ndarray = np.cumsum(counts) - counts
    return firsts


def _write_starts(path: Path, starts: Sequence[np.ndarray], order: np.ndarray) -> None:
    with written_aside(path) as file:
        # Written row by row, since np.save would need the table in memory twice.
        header = {"descr": "<u4", "fortran_order": False, "shape": (sum(map(len, starts)),)}
        np.lib.format.write_array_header_1_0(file, header)
        for row in order:
            file.write(starts[row].astype("<u4").tobytes())


def _row(folder: Path, event: Packed, *, shard_row: int, settings: PackSettings) -> np.ndarray:
    if missing := settings.columns.keys() - event.members.keys():
        raise ValueError(
            f"the journal of {folder} does not say where record {event.key} has its {min(missing)}: it is damaged. "
            "Restore it, or pack again into a new folder"
        )
    values = {
        "key": event.key.encode("ascii"),
        "split": SPLITS.index(event.split),
        "shard": shard_row,
        "ticks": event.ticks,
        "every": settings.every,
        "width": event.width,
        "height": event.height,
        "first_picture": 0,
        "first_flow": 0,
        "sound_from": event.sound_from,
        "sound_to": event.sound_to,
    }
    for extension, name in settings.columns.items():
        member = event.members[extension]
        values |= {f"{name}_offset": member.offset, f"{name}_size": member.size, f"{name}_crc": member.crc}
    assert settings.clip_type.names is not None
    return np.array(tuple(values[name] for name in settings.clip_type.names), dtype=settings.clip_type)


def _rejection_line(rejection: Rejection) -> bytes:
    line = on_one_line(rejection.source.name, rejection.reason.value, rejection.detail)
    return line.encode("utf-8", "backslashreplace") + b"\n"


MAX_TASKS_LISTED = 20  # in a message


def merge(folder: str | os.PathLike[str]) -> Manifest:
    """Write the index, the list of rejections and the manifest of a folder that was packed in tasks.

    Shards are listed as `task-0001-of-0008/train-000000.tar`, in the order of the tasks. May be repeated after a task
    has packed more.

    Raises ValueError when the folder holds no tasks, when a task is missing, unfinished or running, when their
    settings differ, or when two of them packed the same video.
    """
    path = Path(folder).expanduser()
    tasks = find_tasks(path)
    if not tasks:
        raise ValueError(
            f"{path} holds no folders of tasks (task-0001-of-0008, ...): there is nothing to merge. "
            "`avc pack` without --task makes its index itself"
        )
    manifests = {task: manifest for task in tasks if (manifest := _finished_manifest(path / task.name))}
    if len(manifests) < tasks[0].tasks:
        missing = {*range(1, tasks[0].tasks + 1)} - {task.number for task in manifests}
        raise _unfinished_error(path, sorted(missing), tasks[0])
    settings = manifests[tasks[0]].settings
    for task, manifest in manifests.items():
        if manifest.settings != settings:
            raise ValueError(
                f"{path / task.name} was packed with {manifest.settings} and {tasks[0].name} with {settings}: remove "
                "the folder of the one that is wrong and pack that task again"
            )
    remove_manifest(path)
    return write_index(path, settings, _merge_events(path, manifests))


def _finished_manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except ValueError:
        return None  # the task's next run writes it


def _unfinished_error(folder: Path, missing: Sequence[int], task: Task) -> ValueError:
    numbers = ", ".join(map(str, missing[:MAX_TASKS_LISTED])) + (", ..." if len(missing) > MAX_TASKS_LISTED else "")
    return ValueError(
        f"{len(missing)} of the {task.tasks} tasks in {folder} have not finished: {numbers}. Run them again "
        "to resume, and then `avc merge`"
    )


def _merge_events(folder: Path, manifests: Mapping[Task, Manifest]) -> Iterator[Event]:
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
