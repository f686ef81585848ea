"""The journal of a packing: what became of each input, so that a killed packing goes on and the index can be built.

One JSON object a line. The first says with which settings the folder is packed; after it, each line is one event. A
line is written after the bytes that it speaks of are on the disk, so the journal is never ahead of the shards.
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
    """Where the content of a record's member lies in its tar file."""

    offset: Bytes
    size: Bytes
    crc: Count  # CRC-32


@dataclass(frozen=True)
class Packed:
    """An input became a record."""

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
    picture_sizes: list[Count]  # bytes, in the order of time
    flow_sizes: list[Count] = field(default_factory=list)  # likewise; none where no optical flow was packed

    @property
    def start(self) -> int:
        """Of the record in the shard, bytes."""
        return min(member.offset for member in self.members.values()) - BLOCK


@dataclass(frozen=True)
class Rejection:
    """An input did not become a record."""

    source: Source
    reason: Reason
    detail: Text


Event = Packed | Rejection | ShardFile

KINDS: dict[str, pydantic.TypeAdapter[Any]] = {
    kind.__name__.lower(): pydantic.TypeAdapter(kind) for kind in (Packed, Rejection, ShardFile)
}

LONGEST_LINE = 2**27  # bytes: more than of a record with as many pictures as its member can hold

# What lay outside of the video's content may be otherwise next time: these inputs are tried again by the next packing.
TRIED_AGAIN = frozenset({Reason.UNREADABLE, Reason.TIMED_OUT, Reason.DECODER_CRASHED})


class Journal:
    """The journal of one folder, locked against a second packer for as long as it is open."""

    def __init__(self, folder: Path, settings: PackSettings, *, shard_bytes: int) -> None:
        """Open or begin the journal of `folder`.

        Raises ValueError when another packer has it open, when it was begun with other settings, when it is damaged
        elsewhere than in its last line, which a kill may have torn, or when it knows nothing of shards that are there.
        """
        self._path = folder / JOURNAL
        self._waiting: list[bytes] = []
        self._end = 0
        self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115 - closed by `close`
        try:
            lock(self._file, taken=_taken(folder))
            header = _line({"format": FORMAT_VERSION, "settings": settings.written(), "shard_bytes": shard_bytes})
            sizes = [len(line) for line in _lines(self._path)]
            if len(sizes) > 1:
                self._check_header(header)
                self._end = self._file.truncate(sum(sizes))
            else:  # nothing was packed yet, so any settings will do
                # The header is on the disk before a shard is begun, and records before their shard takes its name.
                unknown = shards_in(folder) | (set() if sizes else {path.name for path in folder.glob(f"*{PART}")})
                if unknown:
                    raise lines_lost(self._path, min(unknown))
                self._file.truncate(0)
                self._waiting.append(header)
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
            begun, wanted = json.loads(line), json.loads(header)
        except ValueError:
            raise _damaged(self._path, 1) from None
        flat = [{**header.get("settings", {}), **header, "settings": None} for header in (begun, wanted)]
        names = sorted(name for name in flat[0].keys() | flat[1].keys() if flat[0].get(name) != flat[1].get(name))
        differences = ", ".join(f"{name} {flat[0].get(name)!r} and not {flat[1].get(name)!r}" for name in names)
        raise ValueError(
            f"{self._path.parent} was begun with other settings: {differences}. "
            "Give the same ones to go on there, or pack into another folder"
        )

    def events(self) -> Iterator[Event]:
        """Every event that is on the disk, in order."""
        return read_events(self._path)

    def append(self, event: Event) -> None:
        """Keep an event for the next `flush`."""
        fields = asdict(event)
        if not fields.get("flow_sizes", True):
            del fields["flow_sizes"]  # a line without flow stays what it was before there was any
        self._waiting.append(_line({type(event).__name__.lower(): fields}))

    def flush(self) -> None:
        """Write what waits. The caller has brought the shards to the disk before.

        Raises ValueError where another packer has written, as it may where the file system has no locks.
        """
        if not self._waiting:
            return
        end = self._file.seek(0, os.SEEK_END)
        if end != self._end:
            raise ValueError(
                f"another `avc pack` has written to {self._path} at the same time, so this one ends. When the other "
                "has ended too, `avc verify` tells whether the folder is whole; or pack into a new one"
            )
        data = memoryview(b"".join(self._waiting))
        try:
            while data:
                data = data[self._file.write(data) :]
            sync(self._file.fileno())
            self._end = self._file.tell()
            self._waiting.clear()
        except BaseException:  # a full disk tears a line, which must stay the last; an interrupt would write all twice
            self._end = self._file.truncate(end)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def as_begun(settings: PackSettings, folder: Path, task: Task | None) -> PackSettings:
    """The settings with the version that a packing into `folder` was begun as, or other tasks beside it.

    Raises ValueError for a version that only a later program knows.
    """
    beside = [folder.parent / other.name for other in find_tasks(folder.parent)] if task else []
    for begun in (folder, *beside):
        try:
            version = json.loads(next(_lines(begun / JOURNAL)))["settings"].get("version", 1)
        except (FileNotFoundError, StopIteration, ValueError, TypeError, KeyError, AttributeError):
            continue  # nothing is on record there, or Journal will say that it is damaged
        if version not in range(1, PACKING_VERSION + 1):
            raise ValueError(
                f"{begun} was begun as version {version} of packing, and this program knows {PACKING_VERSION} at most: "
                "go on with the release that began it, or pack into a new folder"
            )
        return replace(settings, version=version)
    return settings


def shards_in(folder: Path) -> set[str]:
    """The names of the complete shards that are in a folder."""
    return {path.name for split in SPLITS for path in folder.glob(f"{split}-*.tar")}


def lines_lost(path: Path, shard: str) -> ValueError:
    """The error of a journal that lacks lines about a shard which is there."""
    return ValueError(
        f"{path} does not tell all of {shard}, so lines of it are lost, and to go on would write over what was packed. "
        "Restore that file, or pack into a new folder"
    )


def read_events(path: Path) -> Iterator[Event]:
    """The events of the journal at `path`, in order, without a torn last line.

    Raises ValueError where a line is damaged, or where one is lost: records follow each other without a gap.
    """
    extents: dict[str, tuple[int, int]] = {}  # end and records of each shard that is not complete
    for number, line in enumerate(_lines(path), start=1):
        if number == 1:
            continue
        event = _event(path, number, line)
        if isinstance(event, Packed):
            end, records = extents.get(event.shard, (0, 0))
            if event.start != end:
                raise lines_lost(path, event.shard)
            extents[event.shard] = event.end, records + 1
        elif isinstance(event, ShardFile) and extents.pop(event.name, (0, 0))[1] != event.records:
            raise lines_lost(path, event.name)
        yield event


def read_finished(path: Path) -> Iterator[Event]:
    """As `read_events`, and no packer can write there meanwhile; ValueError when one is at work."""
    with open(path, "r+b") as file:  # some network file systems lock only what may be written to
        lock(file, taken=_taken(path.parent))
        yield from read_events(path)


def _taken(folder: Path) -> str:
    return f"another `avc pack` is at work in {folder}: wait for it, or pack into another folder"


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), b""), start=1):
            if len(line) == LONGEST_LINE:
                raise _damaged(path, number)
            if not line.endswith(b"\n"):
                return  # torn by a kill: what it spoke of will be done again
            yield line


def _line(content: dict[str, Any]) -> bytes:
    # ASCII: names that are not UTF-8 hold lone surrogates, which only JSON's escapes can carry.
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        ((kind, fields),) = json.loads(line).items()
        event: Event = KINDS[kind].validate_python(fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _damaged(path, number) from None
    return event


def _damaged(path: Path, number: int) -> ValueError:
    return ValueError(
        f"line {number} of {path} is damaged: what was packed can no longer be told from it. "
        "Restore that file, or pack again into a new folder"
    )
