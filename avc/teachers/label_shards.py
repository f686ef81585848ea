"""Teachers label the frames of a packed folder; their soft labels go into sidecars of its shards.

    1. a shard           its clips in the order of their keys, in groups of a few dozen frames
    2. threads           decode the next group's frames while the teachers are at work on this one
    3. each teacher      frames → class probabilities for each, float16
    4. a sidecar         written aside, and renamed when it is whole

A process takes one shard at a time. What a group is follows from the shard alone, and on CPUs a process computes in one
thread, so the bytes do not depend on how many processes there are or where the work was once cut off.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avc.teachers.teacher import GROUP_FRAMES, AnyTeacher, Source, open_teacher
from shards import Report
from shards.processes import Ended, NeverBegan, Processes
from shards.read import Shards
from shards.sidecars import (
    Distribution,
    Layout,
    Sidecars,
    Teacher,
    Teaching,
    begin,
    finish,
    frame_ticks,
    missing_sidecars,
    write_sidecar,
)

DECODERS = 4  # threads beside each teacher
OpenWorker = Callable[[torch.device], "TeacherWorker"]


def teach(
    shards_folder: Path,
    out: Path,
    sources: Sequence[Source],
    *,
    spacing_ticks: int,
    devices: Sequence[torch.device],
    share: tuple[int, int] = (1, 1),
    report: Report | None = None,
) -> Sidecars | None:
    """Write the sidecars of a packed folder, or what is missing of them, on all devices at once, a process on each.

    share: (n, of), to do every of-th shard from the n-th on, as one of so many machines. Returns None where shards of
    other machines are still missing. Raises ValueError for teachers that cannot be used and for a folder that was
    begun with others; shards.read.BadRecord for damaged shards.
    """
    shards = Shards(shards_folder)
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ValueError(f"two teachers are called the same in {', '.join(names)}; name them, as in NAME=FILE")
    digests = [source.sha256 for source in sources]
    opened = [open_teacher(source, torch.device("cpu"), shards) for source in sources]
    teachers = tuple(Teacher(each.name, each.classes, sha256) for each, sha256 in zip(opened, digests, strict=True))
    layout = Layout(shards, Teaching(shards.digest, teachers, spacing_ticks))
    begin(out, layout.teaching)
    number, of = share
    mine = range(number - 1, len(shards.manifest.shards), of)
    todo = [shard for shard in missing_sidecars(out, layout) if shard in mine]
    total = sum(len(layout.clips(shard)) for shard in todo)
    done = 0
    for shard in _teach_all(partial(_open_worker, shards_folder, out, layout.teaching, sources), todo, devices):
        done += len(layout.clips(shard))
        if report is not None:
            report(done, total, shards.manifest.shards[shard].name)
    return None if missing_sidecars(out, layout) else finish(out, layout)


def _teach_all(open_worker: OpenWorker, todo: Sequence[int], devices: Sequence[torch.device]) -> Iterator[int]:
    """Numbers of the shards as they are done; in this process where there is one device."""
    if not todo:
        return
    if len(devices) == 1:
        with _reproducibly():
            worker = open_worker(devices[0])
            for number in todo:
                worker.write(number)
                yield number
        return
    begin = partial(_start, open_worker, devices)
    with Processes(_teach_shard, count=min(len(devices), len(todo)), begin=begin) as processes:
        try:
            for future in as_completed([processes.submit(shard) for shard in todo]):
                yield future.result()
        except (Ended, NeverBegan):
            raise ChildProcessError(
                errno.ECHILD,
                "a teaching process ended by itself (out of memory, or killed from outside?). What was written is "
                "kept: run the same command again, with fewer workers, and it goes on where it was",
            ) from None


_worker: TeacherWorker  # of a worker process, which teaches many shards and opens its teachers once


def _start(open_worker: OpenWorker, devices: Sequence[torch.device], place: int) -> None:
    global _worker
    _reproducibly().__enter__()  # for good: the process does nothing else
    _worker = open_worker(devices[place])


def _teach_shard(number: int) -> int:
    _worker.write(number)
    return number


def _open_worker(
    shards_folder: Path, out: Path, teaching: Teaching, sources: Sequence[Source], device: torch.device
) -> TeacherWorker:
    shards = Shards(shards_folder)
    teachers = [open_teacher(source, device, shards) for source in sources]
    return TeacherWorker(out, Layout(shards, teaching), teachers, device)


@contextmanager
def _reproducibly() -> Iterator[None]:
    """One thread, for sums are formed in the order of the threads, and convolutions that do not vary."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    torch.set_num_threads(1)
    try:
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True):
            yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class TeacherWorker:
    """The teachers of one process, on its device."""

    out: Path
    layout: Layout
    teachers: Sequence[AnyTeacher]
    device: torch.device

    def write(self, number: int) -> None:
        """Write the sidecar of a shard."""
        write_sidecar(self.out, self.layout, number, self.soft_labels(number))

    @torch.inference_mode()
    def soft_labels(self, number: int) -> Iterator[tuple[Distribution, ...]]:
        """Every teacher's for each clip of a shard."""
        with ThreadPoolExecutor(DECODERS) as pool:
            groups = self._groups(number)
            group = next(groups, [])
            coming = [pool.submit(self._frames, clip) for clip in group]
            while group:
                clips, frames = group, [future.result() for future in coming]
                group = next(groups, [])
                coming = [pool.submit(self._frames, clip) for clip in group]
                labels = [teacher.soft_labels(clips, frames, self.device) for teacher in self.teachers]
                yield from zip(*labels, strict=True)

    def _groups(self, number: int) -> Iterator[list[int]]:
        group: list[int] = []
        frames = 0
        for clip in self.layout.clips(number).tolist():
            group.append(clip)
            frames += len(self._ticks(clip))
            if frames >= GROUP_FRAMES:
                yield group
                group, frames = [], 0
        if group:
            yield group

    def _frames(self, clip: int) -> Tensor:
        """uint8 (frames, H, W, 3)."""
        return torch.from_numpy(np.stack([self.layout.shards.picture(clip, tick) for tick in self._ticks(clip)]))

    def _ticks(self, clip: int) -> list[int]:
        ticks: list[int] = frame_ticks(self.layout.shards.row(clip), self.layout.teaching.spacing_ticks).tolist()
        return ticks
