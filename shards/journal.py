"""Reads and writes the journal of a packing: the outcome of each input, for resuming and for building the index.

One JSON object per line: first a header with the settings, then one event per line. A line is written after its shard's
bytes are on the disk, so the journal is never ahead of the shards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pydantic

from shards.atomic import PART, lock, sync
from shards.format import FORMAT_VERSION, JOURNAL, PACKING_VERSION, SPLITS, PackSettings, Reason
from shards.index import Bytes, Count, ShardFile, ShardName, Split
from shards.sources import Source, Text
from shards.tasks import Task, find_tasks
from shards.writer import BLOCK


@dataclass(frozen=True)
class Member:
    """Position and checksum of a record's member in its tar file."""

    offset: Bytes
    size: Bytes
    crc: Count  # CRC-32


@dataclass(frozen=True)
class Packed:
    """Event: an input was packed as a record."""

    source: Source
    key: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{32}$")]
    split: Split
    shard: ShardName
    end: Bytes  # of the record in the shard
    ticks: Count
    width: Annotated[int, pydantic.Field(gt=0, lt=2**16)]
    height: Annotated[int, pydantic.Field(gt=0, lt=2**16)]
    sound_from: Count
    sound_to: Count
    members: Annotated[dict[str, Member], pydantic.Field(min_length=1)]  # by extension
    picture_sizes: list[Count]  # bytes, in order of time
    flow_sizes: list[Count] = field(default_factory=list)  # likewise; empty without optical flow

    @property
    def start(self) -> int:
        """Start of the record in the shard, bytes."""
        return min(member.offset for member in self.members.values()) - BLOCK


@dataclass(frozen=True)
class Rejection:
    """Event: an input was rejected."""

    source: Source
    reason: Reason
    detail: Text


Event = Packed | Rejection | ShardFile

EVENT_TYPES: dict[str, pydantic.TypeAdapter[Any]] = {
    kind.__name__.lower(): pydantic.TypeAdapter(kind) for kind in (Packed, Rejection, ShardFile)
}

MAX_LINE_BYTES = 2**27  # more than a record with the maximum number of pictures takes

# Causes outside of the video's content: the next packing tries these inputs again.
RETRY = frozenset({Reason.UNREADABLE, Reason.TIMED_OUT, Reason.DECODER_CRASHED})


class Journal:
    """The journal of one folder, locked against other packers while it is open."""

    def __init__(self, folder: Path, settings: PackSettings, *, shard_bytes: int) -> None:
        """Open or create the journal of `folder`.

        Raises ValueError when another packer has it open, when it has other settings, when it is damaged (a last line
        torn by a kill is dropped), or when the folder has shards that it lacks.
        """
        self._path = folder / JOURNAL
        self._pending: list[bytes] = []
        self._end = 0
        self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115 - closed by `close`
        try:
            lock(self._file, taken=_lock_message(folder))
            fields = {"format": FORMAT_VERSION, "settings": settings.to_json(), "shard_bytes": shard_bytes}
            header = _encode_line(fields)
            sizes = [len(line) for line in _read_lines(self._path)]
            if len(sizes) > 1:
                self._check_header(header)
                self._end = self._file.truncate(sum(sizes))
            else:  # nothing was packed yet: accept any settings
                # The header is on the disk before the first shard, and records before their shard gets its name.
                unknown = list_shards(folder) | (set() if sizes else {path.name for path in folder.glob(f"*{PART}")})
                if unknown:
                    raise lost_lines(self._path, min(unknown))
                self._file.truncate(0)
                self._pending.append(header)
                self.flush()
        except BaseException:
            self._file.close()
            raise

    def _check_header(self, header: bytes) -> None:
        with open(self._path, "rb") as file:
            line = file.readline()
        if line == header:
            return
        try:
            previous, current = json.loads(line), json.loads(header)
        except ValueError:
            raise _damaged_error(self._path, 1) from None
        old, new = ({**header.get("settings", {}), **header, "settings": None} for header in (previous, current))
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        differences = ", ".join(f"{name} {old.get(name)!r} and not {new.get(name)!r}" for name in names)
        raise ValueError(
            f"{self._path.parent} was begun with other settings: {differences}. "
            "Give the same ones to resume there, or pack into another folder"
        )

    def append(self, event: Event) -> None:
        """Queue an event for the next `flush`."""
        fields = asdict(event)
        if not fields.get("flow_sizes", True):
            del fields["flow_sizes"]  # for lines identical to those of earlier releases
        self._pending.append(_encode_line({type(event).__name__.lower(): fields}))

    def flush(self) -> None:
        """Write the queued events; the caller must have flushed the shards before.

        Raises ValueError where another packer wrote to the file, which happens on file systems without locks.
        """
        if not self._pending:
            return
        end = self._file.seek(0, os.SEEK_END)
        if end != self._end:
            raise ValueError(
                f"another `avc pack` has written to {self._path} at the same time, so this one ends. When the other "
                "has ended too, `avc verify` tells whether the folder is complete; or pack into a new one"
            )
        data = memoryview(b"".join(self._pending))
        try:
            while data:
                data = data[self._file.write(data) :]
            sync(self._file.fileno())
            self._end = self._file.tell()
            self._pending.clear()
        except BaseException:  # undo: a full disk tears a line, and after an interrupt all would be written twice
            self._end = self._file.truncate(end)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def keep_version(settings: PackSettings, folder: Path, task: Task | None) -> PackSettings:
    """The settings with the version of an earlier packing into `folder`, or of other tasks beside it.

    Raises ValueError for a version of a later release.
    """
    siblings = [folder.parent / sibling.name for sibling in find_tasks(folder.parent)] if task else []
    for begun in (folder, *siblings):
        try:
            version = json.loads(next(_read_lines(begun / JOURNAL)))["settings"].get("version", 1)
        except (FileNotFoundError, StopIteration, ValueError, TypeError, KeyError, AttributeError):
            continue  # no packing, or a damaged one, for which Journal raises an error
        if version not in range(1, PACKING_VERSION + 1):
            raise ValueError(
                f"{begun} was begun as version {version} of packing, and this program knows {PACKING_VERSION} at most: "
                "resume with the release that began it, or pack into a new folder"
            )
        return replace(settings, version=version)
    return settings


def list_shards(folder: Path) -> set[str]:
    """Names of the complete shards in a folder."""
    return {path.name for split in SPLITS for path in folder.glob(f"{split}-*.tar")}


def lost_lines(path: Path, shard: str) -> ValueError:
    """The error for a journal that lacks lines of an existing shard."""
    return ValueError(
        f"{path} lacks lines about {shard}: resuming would overwrite packed records. "
        "Restore that file, or pack into a new folder"
    )


def read_events(path: Path) -> Iterator[Event]:
    """The events of the journal at `path`, in order, without a torn last line.

    Raises ValueError where a line is damaged or missing: records must follow each other without a gap.
    """
    extents: dict[str, tuple[int, int]] = {}  # end and number of records of each open shard
    for number, line in enumerate(_read_lines(path), start=1):
        if number == 1:
            continue
        event = _parse_event(path, number, line)
        if isinstance(event, Packed):
            end, records = extents.get(event.shard, (0, 0))
            if event.start != end:
                raise lost_lines(path, event.shard)
            extents[event.shard] = event.end, records + 1
        elif isinstance(event, ShardFile) and extents.pop(event.name, (0, 0))[1] != event.records:
            raise lost_lines(path, event.name)
        yield event


def read_finished(path: Path) -> Iterator[Event]:
    """`read_events` while locked against packers; raises ValueError when one is running."""
    with open(path, "r+b") as file:  # some network file systems lock only writable files
        lock(file, taken=_lock_message(path.parent))
        yield from read_events(path)


def _lock_message(folder: Path) -> str:
    return f"another `avc pack` is at work in {folder}: wait for it, or pack into another folder"


def _read_lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), start=1):
            if len(line) == MAX_LINE_BYTES:
                raise _damaged_error(path, number)
            if not line.endswith(b"\n"):
                return  # torn by a kill: its input will be packed again
            yield line


def _encode_line(content: dict[str, Any]) -> bytes:
    # ASCII: names that are not UTF-8 have lone surrogates, which only JSON's escapes can encode.
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"


def _parse_event(path: Path, number: int, line: bytes) -> Event:
    try:
        ((name, fields),) = json.loads(line).items()
        event: Event = EVENT_TYPES[name].validate_python(fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _damaged_error(path, number) from None
    return event


def _damaged_error(path: Path, number: int) -> ValueError:
    return ValueError(
        f"line {number} of {path} is damaged, so the packed records are unknown. "
        "Restore that file, or pack again into a new folder"
    )
