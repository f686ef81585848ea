"""Sidecars: what teachers see on the frames of a packed folder, in tar files that go with its shards.

::

    TEACHERS/
      begun.json          what is computed: the shards' digest, which teachers, which frames
      train-000000.tar    for each shard one of its name, with the same keys: KEY.objects.npy, KEY.scenes.npy
      ...
      posteriors.json     begun.json again, with every tar file's size and SHA-256; written last

A member is float16 (frames, classes), a distribution over the classes for each frame. The frames of a clip lie on a
regular grid of ticks, and sizes follow from the shards' index alone: so does the place of every member.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydantic
from numpy.typing import NDArray

from shards.atomic import refuse_links, written_aside
from shards.file_slice import Descriptor
from shards.format import MANIFEST
from shards.index import StoredFile
from shards.read import BadRecord, Shards, shards_kept_open
from shards.writer import BLOCK, TAR_RECORD, render_record

FORMAT_VERSION = 1
BEGUN = "begun.json"
POSTERIORS = "posteriors.json"
NPY_HEADER_BYTES = 128
SLACK = 0.02  # by which a posterior's sum may miss 1: a thousand float16 are rounded

Distribution = NDArray[np.float16]


@dataclass(frozen=True)
class Teacher:
    """name: of the members. classes: of a posterior. sha256: of the file that it came from."""

    name: str
    classes: int
    sha256: str


@dataclass(frozen=True)
class Teaching:
    """What a sidecar folder holds: which teachers, of which shards, for a frame at every how many ticks."""

    shards: str  # SHA-256 of the shards' manifest
    teachers: tuple[Teacher, ...]
    spacing_ticks: int
    format: int = FORMAT_VERSION


@dataclass(frozen=True)
class Sidecars:
    """A finished sidecar folder: the teaching, and the tar files in the order of the shards."""

    teaching: Teaching
    files: tuple[StoredFile, ...]


def digest_of(shards: Shards) -> str:
    """SHA-256 of the manifest, which holds that of every shard: equal digests are equal shards."""
    return hashlib.sha256((shards.folder / MANIFEST).read_bytes()).hexdigest()


def frame_ticks(ticks: int, every: int, spacing_ticks: int) -> NDArray[np.int64]:
    """The ticks of the frames that teachers look at: one in the middle of each `spacing_ticks`, with a kept picture."""
    middles = np.arange(spacing_ticks // 2, ticks, spacing_ticks, dtype=np.int64)
    return (middles if len(middles) else np.array([ticks // 2])) // every * every


class Layout:
    """Where in the sidecars every posterior lies; follows from the index and the teaching.

    frames: int64 (clips,). offsets: int64 (clips, teachers), of the numbers in the tar file. sizes: int64 (shards,), of
    the tar files, in bytes.
    """

    def __init__(self, shards: Shards, teaching: Teaching) -> None:
        self.shards, self.teaching = shards, teaching
        spacing = teaching.spacing_ticks
        shard = shards.index["shard"].astype(np.int64)
        self._order = np.argsort(shard, kind="stable")  # the clips of one shard side by side, by their keys
        self._bounds = np.searchsorted(shard[self._order], np.arange(len(shards.manifest.shards) + 1))
        self.frames = np.maximum(1, -(-(shards.index["ticks"].astype(np.int64) - spacing // 2) // spacing))
        sizes = np.stack([2 * self.frames * teacher.classes for teacher in teaching.teachers], axis=1)
        blocks = BLOCK + -(-(NPY_HEADER_BYTES + sizes) // BLOCK) * BLOCK
        records = blocks.sum(axis=1)[self._order]
        ends = np.concatenate([[0], np.cumsum(records)])
        starts = ends[self._bounds[:-1]]
        self.sizes = -(-(ends[self._bounds[1:]] - starts + 2 * BLOCK) // TAR_RECORD) * TAR_RECORD
        place = ends[:-1] - starts[shard[self._order]] + BLOCK + NPY_HEADER_BYTES
        self.offsets = np.empty_like(sizes)
        # webdataset writes a record's members in the order of their names.
        for teacher in sorted(range(len(teaching.teachers)), key=lambda i: teaching.teachers[i].name):
            self.offsets[self._order, teacher] = place
            place = place + blocks[self._order, teacher]

    def clips(self, number: int) -> NDArray[np.int64]:
        """Rows of the index whose records are in the shard of that number, in the order of its sidecar."""
        return self._order[self._bounds[number] : self._bounds[number + 1]]


def begin(folder: Path, teaching: Teaching) -> None:
    """Note what the folder is for.

    Raises ValueError where it was begun with other shards, teachers or frames, and where it holds links.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder.iterdir())
    before = _begun(folder)
    if before is None:
        with written_aside(folder / BEGUN) as file:
            file.write(_json(asdict(teaching)))
        return
    if before == teaching:
        return
    differ = [
        word
        for word, one, other in (
            ("shards", before.shards, teaching.shards),
            ("teachers", before.teachers, teaching.teachers),
            ("frames", before.spacing_ticks, teaching.spacing_ticks),
        )
        if one != other
    ]
    raise ValueError(
        f"{folder} was begun with other {' and '.join(differ) or 'settings'}; remove it, or give another --out"
    )


def unwritten(folder: Path, layout: Layout) -> list[int]:
    """Rows of the manifest's list of shards whose sidecar is not there yet; one that is there is complete.

    Raises ValueError where a file of that name is no such sidecar.
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


def write_sidecar(folder: Path, layout: Layout, number: int, posteriors: Iterable[tuple[Distribution, ...]]) -> None:
    """Write the sidecar of one shard whole, or not at all.

    posteriors: for each of `layout.clips(number)`, in that order, an array (frames, classes) from each teacher.
    """
    path = folder / layout.shards.manifest.shards[number].name
    path.parent.mkdir(parents=True, exist_ok=True)
    end = 0
    with written_aside(path) as file:
        for clip, arrays in zip(layout.clips(number).tolist(), posteriors, strict=True):
            names = [f"{teacher.name}.npy" for teacher in layout.teaching.teachers]
            members = dict(zip(names, map(_npy, arrays), strict=True))
            record, _ = render_record(layout.shards.key(clip), members)
            end += file.write(record)
        file.write(bytes(int(layout.sizes[number]) - end))


def finish(folder: Path, layout: Layout) -> Sidecars:
    """Write the manifest, from which on the folder counts as complete. Every sidecar must be there."""
    assert not unwritten(folder, layout)
    files = []
    for shard in layout.shards.manifest.shards:
        with open(folder / shard.name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append(StoredFile(name=shard.name, bytes=file.seek(0, os.SEEK_END), sha256=digest))
    sidecars = Sidecars(layout.teaching, tuple(files))
    with written_aside(folder / POSTERIORS) as file:
        file.write(_json(asdict(sidecars)))
    return sidecars


class SoftLabels:
    """What the teachers saw, by row of the shards' index; may be read from many processes at once.

    Raises ValueError where the folder is missing, unfinished, incomplete, or belongs to other shards.
    """

    def __init__(self, folder: str | os.PathLike[str], shards: Shards) -> None:
        self.folder, self.shards = Path(folder).expanduser(), shards
        self.sidecars = _sidecars(self.folder)
        if self.sidecars.teaching.shards != digest_of(shards):
            raise ValueError(
                f"the posteriors in {self.folder} were computed on other shards than {shards.folder}: the digest of "
                f"the manifest differs. Run `avc teach {shards.folder}` with another --out, or give the right folder"
            )
        self._open()
        for number, file in enumerate(self.sidecars.files):
            path = self.folder / file.name
            size = path.stat().st_size if path.is_file() else None
            if size != file.bytes or size != self._layout.sizes[number]:
                found = "is not there" if size is None else f"has {size:,} bytes instead of {file.bytes:,}"
                raise ValueError(f"{path} {found}: copy it again, or remove it and run `avc teach` again")

    def _open(self) -> None:
        self._layout = Layout(self.shards, self.sidecars.teaching)
        paths = [self.folder / file.name for file in self.sidecars.files]
        self._descriptor = lru_cache(maxsize=shards_kept_open())(lambda shard: Descriptor(paths[shard]))

    def __getstate__(self) -> tuple[Path, Shards, Sidecars]:
        return self.folder, self.shards, self.sidecars

    def __setstate__(self, state: tuple[Path, Shards, Sidecars]) -> None:
        self.folder, self.shards, self.sidecars = state
        self._open()

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, in the order in which they were given."""
        return self.sidecars.teaching.teachers

    def ticks(self, clip: int) -> NDArray[np.int64]:
        """The ticks of the clip's frames that the teachers have looked at."""
        row = self.shards.index[clip]
        return frame_ticks(int(row["ticks"]), int(row["every"]), self.sidecars.teaching.spacing_ticks)

    def read(self, clip: int, teacher: int) -> Distribution:
        """float16 (frames, classes) of a clip by the teacher of that number.

        Raises BadRecord where the bytes are short or no distributions.
        """
        classes, frames = self.teachers[teacher].classes, int(self._layout.frames[clip])
        shard = int(self.shards.index[clip]["shard"])
        reason = ""
        try:
            data = self._descriptor(shard).read(int(self._layout.offsets[clip, teacher]), 2 * classes * frames)
            if len(data) < 2 * classes * frames:
                reason = "the sidecar is truncated"
        except OSError as error:
            reason = f"the sidecar cannot be read ({error.strerror})"
        if not reason:
            posteriors = np.frombuffer(data, dtype="<f2").reshape(frames, classes)
            reason = not_distributions(posteriors)
        if reason:
            key, name = self.shards.key(clip), self.sidecars.files[shard].name
            member = f"{key}.{self.teachers[teacher].name}.npy"
            raise BadRecord(str(self.folder), name, key, member, reason)
        return posteriors


def not_distributions(posteriors: NDArray[np.floating]) -> str:
    """What is wrong with rows that should be distributions over the last axis; empty where nothing is."""
    wide = posteriors.astype(np.float32)
    if not np.isfinite(wide).all():
        return "it holds numbers that are not finite"
    if (wide < 0).any():
        return "it holds probabilities below 0"
    if (np.abs(wide.sum(axis=-1) - 1) > SLACK).any():
        return "its probabilities do not add up to 1"
    return ""


def verify_sidecars(folder: Path) -> Iterator[str]:
    """What is wrong with the tar files of a finished sidecar folder, by their SHA-256; a line for each."""
    for stored in _sidecars(folder).files:
        try:
            with open(folder / stored.name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != stored.sha256:
                    yield f"{stored.name}: altered: its SHA-256 is not the one in {POSTERIORS}"
        except OSError as error:
            yield f"{stored.name}: {error.strerror}"


def _sidecars(folder: Path) -> Sidecars:
    try:
        content = json.loads((folder / POSTERIORS).read_bytes())
        sidecars = pydantic.TypeAdapter(Sidecars).validate_python(content)
    except FileNotFoundError:
        state = "is not finished: run the same `avc teach` command again, it goes on where it was"
        if _begun(folder) is None:
            state = "is not there or holds no posteriors: make them by `avc teach SHARDS --teacher ...`"
        raise ValueError(f"the folder of posteriors {folder} {state}") from None
    except ValueError as error:
        raise ValueError(f"{folder / POSTERIORS} is not what `avc teach` wrote ({type(error).__name__})") from None
    if sidecars.teaching.format != FORMAT_VERSION:
        raise ValueError(f"{folder} has format version {sidecars.teaching.format}; this version reads {FORMAT_VERSION}")
    return sidecars


def _begun(folder: Path) -> Teaching | None:
    try:
        return pydantic.TypeAdapter(Teaching).validate_json((folder / BEGUN).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(f"{folder / BEGUN} is not what `avc teach` wrote: remove {folder} and run it again") from None


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _npy(array: Distribution) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": array.shape})
    assert stream.tell() == NPY_HEADER_BYTES
    return stream.getvalue() + np.ascontiguousarray(array, dtype="<f2").tobytes()
