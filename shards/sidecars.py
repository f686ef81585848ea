"""Reads and writes sidecars: teachers' class probabilities for frames of a packed folder, in tar files.

::

    TEACHERS/
      begun.json          the shards' digest, the teachers, the spacing of frames
      train-000000.tar    for each shard one of its name, with the same keys: KEY.objects.npy, KEY.scenes.npy
      ...
      posteriors.json     begun.json again, with size and SHA-256 of every tar file; written last

A member is float16 (frames, classes), a distribution over the classes for each frame. The frames of a clip lie on a
regular grid of ticks, so all sizes and offsets follow from the shards' index.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from shards.atomic import refuse_links, write_whole, written_aside
from shards.index import StoredFile
from shards.read import Shards
from shards.writer import BLOCK, TAR_RECORD, render_record

FORMAT_VERSION = 1
BEGUN = "begun.json"
FINISHED = "posteriors.json"
NPY_HEADER_BYTES = 128

Distribution = NDArray[np.float16]


@dataclass(frozen=True)
class Teacher:
    """name: of its members. classes: their number. sha256: of the teacher's file."""

    name: str
    classes: int
    sha256: str


@dataclass(frozen=True)
class Teaching:
    """Configuration of a sidecar folder: the shards, the teachers and the spacing of frames."""

    shards: str  # SHA-256 of the shards' manifest
    teachers: tuple[Teacher, ...]
    spacing_ticks: int
    format: int = FORMAT_VERSION


def frame_count(ticks: Any, spacing_ticks: int) -> Any:
    """Number of labeled frames of clips of `ticks` ticks, an int64 array or a number."""
    return np.maximum(1, -(-(ticks - spacing_ticks // 2) // spacing_ticks))


def frame_ticks(clip: np.void, spacing_ticks: int) -> NDArray[np.int64]:
    """Ticks of the labeled frames of a row of the index: the middle of each `spacing_ticks` ticks."""
    ticks, every = int(clip["ticks"]), int(clip["every"])
    middles = np.arange(spacing_ticks // 2, ticks, spacing_ticks, dtype=np.int64)
    return (middles if len(middles) else np.array([ticks // 2])) // every * every


@dataclass(frozen=True)
class Sidecars:
    """A finished sidecar folder: the teaching, and the tar files in the order of the shards."""

    teaching: Teaching
    files: tuple[StoredFile, ...]


class Layout:
    """Positions of the soft labels in the sidecars, computed from the index and the teaching.

    starts: int64 (clips,), of each clip's record in its tar file. sizes: int64 (shards,), of the tar files, in bytes.
    """

    def __init__(self, shards: Shards, teaching: Teaching) -> None:
        self.shards, self.teaching = shards, teaching
        shard = shards.index["shard"].astype(np.int64)
        self._order = np.argsort(shard, kind="stable")  # clips by shard, then by key
        self._bounds = np.searchsorted(shard[self._order], np.arange(len(shards.manifest.shards) + 1))
        frames = frame_count(shards.index["ticks"].astype(np.int64), teaching.spacing_ticks)
        records = sum(member_bytes(frames, teacher) for teacher in teaching.teachers)
        ends = np.concatenate([[0], np.cumsum(records[self._order])])
        firsts = ends[self._bounds[:-1]]
        self.sizes = -(-(ends[self._bounds[1:]] - firsts + 2 * BLOCK) // TAR_RECORD) * TAR_RECORD
        self.starts = np.empty_like(records)
        self.starts[self._order] = ends[:-1] - firsts[shard[self._order]]

    def clips(self, shard: int) -> NDArray[np.int64]:
        """Rows of the index with records in shard number `shard`, in the order of its sidecar."""
        return self._order[self._bounds[shard] : self._bounds[shard + 1]]


def begin(folder: Path, teaching: Teaching) -> None:
    """Write the folder's configuration.

    Raises ValueError where the folder has other shards, teachers or frames, and where it holds links.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder.iterdir())
    previous = _read_teaching(folder)
    if previous is None:
        write_whole(folder / BEGUN, _json(asdict(teaching)))
        return
    if previous == teaching:
        return
    fields = {"shards": "shards", "teachers": "teachers", "frames": "spacing_ticks"}
    differences = [label for label, field in fields.items() if getattr(previous, field) != getattr(teaching, field)]
    raise ValueError(
        f"{folder} was begun with other {' and '.join(differences) or 'settings'}; remove it, or give another --out"
    )


def missing_sidecars(folder: Path, layout: Layout) -> list[int]:
    """Numbers of the shards (rows of the manifest's list) without a sidecar; existing sidecars are complete.

    Raises ValueError where a file has the name but not the size of a sidecar.
    """
    missing = []
    for number, shard in enumerate(layout.shards.manifest.shards):
        path = folder / shard.name
        if not path.is_file():
            missing.append(number)
        elif path.stat().st_size != layout.sizes[number]:
            raise ValueError(
                f"{path} has {path.stat().st_size:,} bytes instead of {layout.sizes[number]:,}: it was damaged or is "
                "another file. Remove it and run the same `avc teach` command again"
            )
    return missing


def write_sidecar(folder: Path, layout: Layout, number: int, soft_labels: Iterable[tuple[Distribution, ...]]) -> None:
    """Write the sidecar of one shard atomically.

    soft_labels: for each of `layout.clips(number)`, in that order, an array (frames, classes) from each teacher.
    """
    path = folder / layout.shards.manifest.shards[number].name
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{teacher.name}.npy" for teacher in layout.teaching.teachers]
    end = 0
    with written_aside(path) as file:
        for clip, arrays in zip(layout.clips(number).tolist(), soft_labels, strict=True):
            members = dict(zip(names, map(_npy, arrays), strict=True))
            record, _ = render_record(layout.shards.key(clip), members)
            end += file.write(record)
        file.write(bytes(int(layout.sizes[number]) - end))


def finish(folder: Path, layout: Layout) -> Sidecars:
    """Write the manifest, which marks the folder as complete. Every sidecar must exist."""
    assert not missing_sidecars(folder, layout)
    files = tuple(StoredFile.of(folder, shard.name) for shard in layout.shards.manifest.shards)
    sidecars = Sidecars(layout.teaching, files)
    write_whole(folder / FINISHED, _json(asdict(sidecars)))
    return sidecars


def verify_sidecars(folder: Path) -> Iterator[str]:
    """Problems of the tar files of a finished sidecar folder, checked by SHA-256: one line each."""
    for stored in read_sidecars(folder).files:
        try:
            if StoredFile.of(folder, stored.name).sha256 != stored.sha256:
                yield f"{stored.name}: altered: its SHA-256 is not the one in {FINISHED}"
        except OSError as error:
            yield f"{stored.name}: {error.strerror}"


def read_sidecars(folder: Path) -> Sidecars:
    """The manifest of a finished folder. Raises ValueError where it is missing, unfinished or of another version."""
    try:
        content = json.loads((folder / FINISHED).read_bytes())
        sidecars = pydantic.TypeAdapter(Sidecars).validate_python(content)
    except FileNotFoundError:
        state = "is not finished: run the same `avc teach` command again to resume"
        if _read_teaching(folder) is None:
            state = "is not there or holds no soft labels: make them by `avc teach SHARDS --teacher ...`"
        raise ValueError(f"the folder of soft labels {folder} {state}") from None
    except ValueError as error:
        raise ValueError(f"{folder / FINISHED} is not what `avc teach` wrote ({type(error).__name__})") from None
    if sidecars.teaching.format != FORMAT_VERSION:
        raise ValueError(f"{folder} has format version {sidecars.teaching.format}; this version reads {FORMAT_VERSION}")
    return sidecars


def _read_teaching(folder: Path) -> Teaching | None:
    try:
        return pydantic.TypeAdapter(Teaching).validate_json((folder / BEGUN).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(f"{folder / BEGUN} is not what `avc teach` wrote: remove {folder} and run it again") from None


def member_bytes(frames: Any, teacher: Teacher) -> Any:
    """Bytes of a member in a tar file with its header; frames: an int64 array or a number."""
    return BLOCK + -(-(NPY_HEADER_BYTES + 2 * frames * teacher.classes) // BLOCK) * BLOCK


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _npy(array: Distribution) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": array.shape})
    assert stream.tell() == NPY_HEADER_BYTES
    return stream.getvalue() + np.ascontiguousarray(array, dtype="<f2").tobytes()
