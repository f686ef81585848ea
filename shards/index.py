"""The index of a packed folder: the manifest and the tables that random access needs, opened and cross-checked."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from shards.format import CLIPS, FLOW, FORMAT_VERSION, JOURNAL, MANIFEST, PICTURES, PackSettings, picture_count

# Other folders than a task's are never named: whoever writes beside the shards takes their names.
_NAME = re.compile(r"(task-[0-9]+-of-[0-9]+/)?[A-Za-z0-9_][A-Za-z0-9_.-]*\.(tar|npy)")


@dataclass(frozen=True)
class StoredFile:
    """A file of the packed folder and what it must be. Raises ValueError for a name that leads elsewhere."""

    name: str  # relative to the folder: a shard that a task packed is `task-0001-of-0008/train-000000.tar`
    bytes: int
    sha256: str  # hexadecimal

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a file in a packed folder, as train-000000.tar is")


@dataclass(frozen=True)
class ShardFile(StoredFile):
    """A shard: a tar file of `records` records, all of one split."""

    split: str
    records: int


@dataclass(frozen=True)
class Manifest:
    """What a packed folder holds. It is written last, so a folder that has one is complete."""

    format: int
    settings: PackSettings
    shards: tuple[ShardFile, ...]
    tables: tuple[StoredFile, ...]
    packed: dict[str, int]  # records per split
    rejected: dict[str, int]  # inputs per Reason


@dataclass(frozen=True)
class Index:
    """The opened tables of a packed folder, memory-mapped."""

    manifest: Manifest
    clips: np.ndarray  # CLIP rows, or CLIP_WITH_FLOW, sorted by key
    pictures: np.ndarray  # uint32: where each picture starts inside its member, and where the last one ends
    flow: np.ndarray | None  # likewise of the steps of optical flow


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a packed folder.

    Raises ValueError when the folder is missing, is not a packed one, was not packed to the end, is of another format
    version, or has a manifest that is no longer what the packer wrote.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give the folder that `avc pack ... --out FOLDER` made")
    try:
        text = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        if (folder / JOURNAL).is_file():
            raise ValueError(
                f"{folder} has a {JOURNAL} but no {MANIFEST}: its packing was not finished. "
                "Run the same `avc pack` command again, it goes on where it was"
            ) from None
        if any(folder.glob("task-*-of-*")):
            raise ValueError(
                f"{folder} was packed as tasks and has no {MANIFEST} of them all: run `avc merge {folder}` when they "
                "have ended"
            ) from None
        raise ValueError(
            f"{folder} has no {MANIFEST}: it is not a packed folder. Make one with `avc pack VIDEOS --out {folder}`"
        ) from None
    damaged = f"{folder / MANIFEST} is not what the packer wrote ({{}}). Run the same `avc pack` command again"
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(damaged.format(error)) from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {version!r} and this program reads version {FORMAT_VERSION}: "
            "pack the videos again, or use the release of avc that packed them"
        )
    try:
        return pydantic.TypeAdapter(Manifest).validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(damaged.format(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")) from None


def open_index(folder: Path) -> Index:
    """Map the tables of a packed folder and check them against each other.

    Raises ValueError as `read_manifest` does, and when a table is missing, of another type or of another length.
    """
    manifest = read_manifest(folder)
    clips = _map(folder, CLIPS, manifest.settings.clip_type)
    pictures = _map(folder, PICTURES, np.dtype(np.uint32))
    flow = _map(folder, FLOW, np.dtype(np.uint32)) if manifest.settings.flow else None
    if len(clips) != sum(shard.records for shard in manifest.shards):
        listed = sum(shard.records for shard in manifest.shards)
        raise _unlike(folder, f"{CLIPS} has {len(clips)} rows and {MANIFEST} lists {listed} records")
    if len(clips):
        last = clips[int(np.argmax(clips["first_picture"]))]
        rows = int(last["first_picture"]) + picture_count(int(last["ticks"]), int(last["every"])) + 1
        if len(pictures) != rows:
            raise _unlike(folder, f"{PICTURES} has {len(pictures)} rows and {CLIPS} needs {rows}")
        if flow is not None:
            last = clips[int(np.argmax(clips["first_flow"]))]
            rows = int(last["first_flow"]) + int(last["ticks"])
            if len(flow) != rows:
                raise _unlike(folder, f"{FLOW} has {len(flow)} rows and {CLIPS} needs {rows}")
        if int(clips["shard"].max()) >= len(manifest.shards):
            raise _unlike(folder, f"{CLIPS} names shard {clips['shard'].max()} of {len(manifest.shards)}")
    return Index(manifest, clips, pictures, flow)


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Raise ValueError when a shard that the manifest lists is missing or has another size."""
    for shard in manifest.shards:
        try:
            size = os.stat(folder / shard.name).st_size
        except FileNotFoundError:
            raise ValueError(
                f"{folder / shard.name} is listed in {MANIFEST} and is not there: copy it back, or pack again into a "
                f"new folder. `avc verify {folder}` lists everything that is wrong"
            ) from None
        if size != shard.bytes:
            raise ValueError(
                f"{folder / shard.name} has {size:,} bytes and {MANIFEST} says {shard.bytes:,}: copy it again. "
                f"`avc verify {folder}` lists everything that is wrong"
            )


def _map(folder: Path, name: str, dtype: np.dtype) -> np.ndarray:
    try:
        # A plain ndarray over the mapping: reading one row of a np.memmap costs several times as much.
        table = np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise _unlike(folder, f"{name} is not there") from None
    except ValueError as error:
        raise _unlike(folder, f"{name} cannot be read: {error}") from None
    if table.dtype != dtype or table.ndim != 1:
        raise _unlike(folder, f"{name} is not a table of the type that this version reads")
    return table


def _unlike(folder: Path, what: str) -> ValueError:
    return ValueError(
        f"{folder}: {what}. Its files do not belong together: copy the folder again, or run the same `avc pack` "
        "command again, which writes the index anew"
    )
