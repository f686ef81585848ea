"""Reads teachers' soft labels of packed clips from their sidecars (shards/sidecars.py)."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.file_slice import Descriptor, shards_kept_open
from shards.read import BadRecord, Shards
from shards.sidecars import (
    NPY_HEADER_BYTES,
    Distribution,
    Layout,
    Teacher,
    frame_count,
    frame_ticks,
    member_bytes,
    read_sidecars,
)
from shards.writer import BLOCK

SUM_TOLERANCE = 0.02  # of a distribution's sum: a thousand float16 are rounded


class SoftLabels:
    """The teachers' soft labels by row of the shards' index; may be read from many processes at once.

    Its pickle has 8 bytes per clip, so other processes need not read the index.

    Raises ValueError where the folder is missing, unfinished, incomplete, or belongs to other shards.
    """

    def __init__(self, folder: str | os.PathLike[str], shards: Shards) -> None:
        self.folder, self.shards = Path(folder).expanduser(), shards
        sidecars = read_sidecars(self.folder)
        self.teaching, self.files = sidecars.teaching, sidecars.files
        if self.teaching.shards != shards.digest:
            raise ValueError(
                f"the soft labels in {self.folder} were computed on other shards than {shards.folder}: the digest of "
                f"the manifest differs. Run `avc teach {shards.folder}` with another --out, or give the right folder"
            )
        layout = Layout(shards, self.teaching)
        for number, file in enumerate(self.files):
            path = self.folder / file.name
            size = path.stat().st_size if path.is_file() else None
            if size != file.bytes or size != layout.sizes[number]:
                problem = "is not there" if size is None else f"has {size:,} bytes instead of {file.bytes:,}"
                raise ValueError(f"{path} {problem}: copy it again, or remove it and run `avc teach` again")
        self._starts = layout.starts
        self._open()

    def _open(self) -> None:
        paths = [self.folder / file.name for file in self.files]
        self._descriptor = lru_cache(maxsize=shards_kept_open())(lambda shard: Descriptor(paths[shard]))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_descriptor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open()

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, in the order in which they were given."""
        return self.teaching.teachers

    def ticks(self, clip: int) -> NDArray[np.int64]:
        """The ticks of the clip's labeled frames, int64 (frames,)."""
        return frame_ticks(self.shards.row(clip), self.teaching.spacing_ticks)

    def read(self, clip: int, teacher: int) -> Distribution:
        """Soft labels of a clip by teacher number `teacher`: float16 (frames, classes).

        Raises BadRecord where the member is truncated or holds no distributions.
        """
        row, config = self.shards.row(clip), self.teachers[teacher]
        frames, shard = int(frame_count(int(row["ticks"]), self.teaching.spacing_ticks)), int(row["shard"])
        # webdataset writes a record's members in the order of their names.
        before = sum(member_bytes(frames, other) for other in self.teachers if other.name < config.name)
        offset, size = int(self._starts[clip]) + before + BLOCK + NPY_HEADER_BYTES, 2 * config.classes * frames
        try:
            data = self._descriptor(shard).read(offset, size)
            problem = "the sidecar is truncated" if len(data) < size else ""
        except OSError as error:
            problem = f"the sidecar cannot be read ({error.strerror})"
        if not problem:
            soft_labels = np.frombuffer(data, dtype="<f2").reshape(frames, config.classes)
            problem = distribution_problem(soft_labels)
        if problem:
            key = self.shards.key(clip)
            name = self.files[shard].name
            raise BadRecord(str(self.folder), name, key, f"{key}.{config.name}.npy", problem)
        return soft_labels


def distribution_problem(rows: NDArray[np.floating]) -> str:
    """The problem of rows that are not distributions over the last axis; empty where there is none."""
    values = rows.astype(np.float32)
    if not np.isfinite(values).all():
        return "it holds numbers that are not finite"
    if (values < 0).any():
        return "it holds probabilities below 0"
    if (np.abs(values.sum(axis=-1) - 1) > SUM_TOLERANCE).any():
        return "its probabilities do not add up to 1"
    return ""
