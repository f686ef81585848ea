"""Reads and validates the index of a packed folder: the manifest and the tables for random access."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pydantic

from shards.file_slice import Readable, Table
from shards.format import (
    CLIPS,
    FLOW,
    FORMAT_VERSION,
    JOURNAL,
    MANIFEST,
    PICTURES,
    SAMPLES_PER_TICK,
    SPLITS,
    PackSettings,
    check_settings,
)
from shards.store import Store, Url

ROWS_AT_ONCE = 2**16  # validated at once, so that temporary arrays fit into the processor's cache
LARGEST_MANIFEST = 2**26  # bytes: of 300,000 shards

Fetched = tuple[Path, Callable[[], Readable] | None]  # a local file, and a function that opens it instead of its path

# Types that admit only valid values.
Split = Annotated[str, pydantic.Field(pattern=f"^({'|'.join(SPLITS)})$")]
ShardName = Annotated[
    str, pydantic.Field(pattern=rf"^(task-[0-9]+-of-[0-9]+/)?({'|'.join(SPLITS)})-[0-9]{{6,12}}\.tar$")
]
Bytes = Annotated[int, pydantic.Field(ge=0, lt=2**63)]
Count = Annotated[int, pydantic.Field(ge=0, lt=2**32)]

# Only tasks have folders: programs that write beside the shards use these names.
NAME = re.compile(r"(task-[0-9]+-of-[0-9]+/)?[A-Za-z0-9_][A-Za-z0-9_.-]*\.(tar|npy)")


@dataclass(frozen=True)
class StoredFile:
    """A file of the packed folder, its size and checksum. Raises ValueError for a name outside of the folder."""

    name: str  # relative to the folder; a task's shard: `task-0001-of-0008/train-000000.tar`
    bytes: Bytes
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a file in a packed folder, as train-000000.tar is")

    @classmethod
    def of(cls, folder: Path, name: str, **fields: Any) -> Self:
        """The entry of an existing file; fields: those of subclasses."""
        with open(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(name=name, bytes=file.seek(0, os.SEEK_END), sha256=digest, **fields)


@dataclass(frozen=True)
class ShardFile(StoredFile):
    """A shard: a tar file of `records` records, all of one split."""

    split: Split
    records: Count


@dataclass(frozen=True)
class Manifest:
    """The manifest of a packed folder. It is written last, so a folder with a manifest is complete."""

    format: int
    settings: PackSettings
    shards: tuple[ShardFile, ...]
    tables: tuple[StoredFile, ...]
    packed: dict[str, Count]  # records per split
    rejected: dict[str, Count]  # inputs per Reason


@dataclass(frozen=True)
class Index:
    """The tables of a packed folder."""

    manifest: Manifest
    clips: np.ndarray  # CLIP rows, or CLIP_WITH_FLOW, sorted by key
    rows: Table  # the same on disk
    pictures: Table  # uint32: start of each picture in its member, and the end of the last one
    flow: Table | None  # likewise for the steps of optical flow
    digest: str  # SHA-256 of the manifest; equal digests mean equal shards


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a packed folder, or at a URL.

    Raises ValueError when the folder is missing, not packed, incomplete or of another format version, or when its
    manifest is damaged.
    """
    return _read_manifest(folder)[0]


def _read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest, and the SHA-256 of its file."""
    if not isinstance(folder, Url) and not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give the one that `avc pack ... --out FOLDER` made")
    try:
        text = manifest_text(folder)
    except FileNotFoundError:
        if isinstance(folder, Url):
            raise ValueError(
                f"{folder} has no {MANIFEST}, which `avc copy FOLDER {folder}` puts there last: give the same command "
                "again where it was stopped"
            ) from None
        if (folder / JOURNAL).is_file():
            raise ValueError(
                f"{folder} has a {JOURNAL} but no {MANIFEST}: its packing was not finished. "
                "Run the same `avc pack` command again to resume"
            ) from None
        if any(folder.glob("task-*-of-*")):
            raise ValueError(
                f"{folder} was packed as tasks and has no {MANIFEST} of them all: run `avc merge {folder}` when they "
                "have ended"
            ) from None
        raise ValueError(
            f"{folder} has no {MANIFEST}: it is not a packed folder. Make one with `avc pack VIDEOS --out FOLDER`"
        ) from None
    damaged = f"{folder / MANIFEST} is not what the packer wrote ({{}}). Run the same `avc pack` command again"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(damaged.format(error)) from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {version!r} and this program reads version {FORMAT_VERSION}: "
            "pack the videos again, or use the release of avc that packed them"
        )
    try:
        if isinstance(content.get("settings"), dict):
            content["settings"].setdefault("version", 1)
        manifest = pydantic.TypeAdapter(Manifest).validate_python(content)
        check_settings(manifest.settings)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(damaged.format(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")) from None
    except ValueError as error:
        raise ValueError(damaged.format(error)) from None
    if len({shard.name for shard in manifest.shards}) < len(manifest.shards):
        raise ValueError(damaged.format("it lists a shard twice"))
    return manifest, hashlib.sha256(text).hexdigest()


def manifest_text(folder: Path) -> bytes:
    """The bytes of the manifest. Raises OSError, and ValueError where it is no regular file or too large."""
    if isinstance(folder, Url):
        return Store(folder).whole(MANIFEST, most=LARGEST_MANIFEST)
    path = folder / MANIFEST
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_MANIFEST:
        raise ValueError(f"{path} is no file, or has {status.st_size:,} bytes of at most {LARGEST_MANIFEST:,}")
    return path.read_bytes()


def open_index(folder: Path, fetched: Callable[[Manifest], Mapping[str, Fetched]] | None = None) -> Index:
    """Open the tables of a packed folder, and validate all fields of the clips against the shards and the other tables.

    fetched: gets the local copies of the tables of a folder at a URL, by name.
    Raises ValueError as `read_manifest` does, and when a table is missing, of another type or length, or has invalid
    values.
    """
    manifest, digest = _read_manifest(folder)
    tables = fetched(manifest) if fetched is not None else {}
    rows = _open_table(folder, CLIPS, manifest.settings.clip_type, tables)
    pictures = _open_table(folder, PICTURES, np.dtype(np.uint32), tables)
    flow = _open_table(folder, FLOW, np.dtype(np.uint32), tables) if manifest.settings.flow else None
    records = sum(shard.records for shard in manifest.shards)
    if len(rows) != records:
        raise _mismatch(folder, f"{CLIPS} has {len(rows)} rows and {MANIFEST} lists {records} records")
    try:
        clips = rows[:]
    except OSError as error:
        raise _mismatch(folder, f"{CLIPS} cannot be read: {error.strerror}") from None
    picture_counts = -(-clips["ticks"].astype(np.int64) // manifest.settings.every) + 1
    _check_starts(folder, PICTURES, pictures, clips["first_picture"], picture_counts)
    if flow is not None:
        _check_starts(folder, FLOW, flow, clips["first_flow"], clips["ticks"])
    for first in range(0, len(clips), ROWS_AT_ONCE):
        start = max(0, first - 1)  # some rules compare neighbors
        for invalid, problem in _rules(manifest, clips[start : first + ROWS_AT_ONCE]):
            _refuse_rows(folder, start, invalid, problem)
    return Index(manifest, clips, rows, pictures, flow, digest)


def _rules(manifest: Manifest, clips: np.ndarray) -> Iterator[tuple[Any, str]]:
    """For each rule of an index, a mask of the rows that violate it, and the problem."""
    digits = np.ascontiguousarray(clips["key"]).view(np.uint8).reshape(len(clips), clips.dtype["key"].itemsize)
    yield ~np.isin(digits, np.frombuffer(b"0123456789abcdef", np.uint8)).all(axis=1), "has no hexadecimal key"
    yield np.append(False, clips["key"][1:] <= clips["key"][:-1])[: len(clips)], "is not sorted by its key"
    yield clips["split"] >= len(SPLITS), "is of no split"
    yield clips["every"] != manifest.settings.every, "keeps other pictures than the settings say"
    yield (clips["ticks"] == 0) | (clips["width"] == 0) | (clips["height"] == 0), "has no ticks or no pixels"
    samples = clips["ticks"].astype(np.int64) * SAMPLES_PER_TICK
    yield (clips["sound_from"] > clips["sound_to"]) | (clips["sound_to"] > samples), "has sound outside of the clip"
    yield clips["shard"] >= len(manifest.shards), f"names another shard than the {len(manifest.shards)} of {MANIFEST}"
    ends = np.array([shard.bytes for shard in manifest.shards], np.uint64)[clips["shard"]]
    for member in manifest.settings.columns.values():
        offset, size = clips[f"{member}_offset"], clips[f"{member}_size"]  # their sum may exceed 64 bits
        yield (offset > ends) | (size > ends - np.minimum(offset, ends)), f"has its {member} beyond the shard's end"


def _check_starts(folder: Path, name: str, table: Table, firsts: np.ndarray, counts: np.ndarray) -> None:
    """Check that the clips' rows of a table are contiguous and cover it."""
    ends = np.cumsum(counts, dtype=np.uint64)
    needed = int(ends[-1]) if len(ends) else 0
    if len(table) != needed:
        raise _mismatch(folder, f"{name} has {len(table)} rows and {CLIPS} needs {needed}")
    _refuse_rows(folder, 0, firsts != ends - counts.astype(np.uint64), f"does not follow the one before it in {name}")


def _refuse_rows(folder: Path, first: int, invalid: np.ndarray, problem: str) -> None:
    if invalid.any():
        raise _mismatch(folder, f"row {first + int(np.argmax(invalid))} of {CLIPS} {problem}")


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Raise ValueError when a listed shard is missing or has another size; not checked over http, which cannot list."""
    sizes = Store(folder).sizes() if isinstance(folder, Url) else None
    for shard in manifest.shards if sizes is not None or not isinstance(folder, Url) else ():
        try:
            size = os.stat(folder / shard.name).st_size if sizes is None else sizes[shard.name]
        except (FileNotFoundError, KeyError):
            raise ValueError(
                f"{folder / shard.name} is listed in {MANIFEST} and is not there: copy it back, or pack again into a "
                f"new folder. `avc verify {folder}` lists everything that is wrong"
            ) from None
        if size != shard.bytes:
            raise ValueError(
                f"{folder / shard.name} has {size:,} bytes and {MANIFEST} says {shard.bytes:,}: copy it again. "
                f"`avc verify {folder}` lists everything that is wrong"
            )


def _open_table(folder: Path, name: str, dtype: np.dtype, fetched: Mapping[str, Fetched]) -> Table:
    path, opener = fetched.get(name, (folder / name, None))
    try:
        return Table(path, dtype, opener=opener)
    except FileNotFoundError:
        raise _mismatch(folder, f"{name} is not there") from None
    except OSError as error:
        raise _mismatch(folder, f"{name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _mismatch(folder, f"{name} {error}") from None


def _mismatch(folder: Path, problem: str) -> ValueError:
    return ValueError(
        f"{folder}: {problem}. Its files do not belong together: copy the folder again, or run the same `avc pack` "
        "command again, which writes the index anew"
    )
