"""Appends records to the shards of one split; recovers from a kill at any instant."""

from __future__ import annotations

import io
import os
from pathlib import Path

from shards.atomic import PART, sync, sync_folder
from shards.index import ShardFile

BLOCK = 512  # of a tar file
TAR_RECORD = 20 * BLOCK  # tar files are padded to a multiple of this, as by GNU tar


def render_record(key: str, members: dict[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """The bytes of one record in a tar file, and the offset of each member's content in them.

    Equal members give equal bytes on every machine: time, owner and mode are fixed.
    """
    # Imported here because it imports torch, which takes seconds and which workers do not need.
    from webdataset import TarWriter

    stream = io.BytesIO()
    with TarWriter(stream, encoder=False, mtime=0, user="avc", group="avc", mode=0o444) as writer:
        writer.write({"__key__": key, **members})
    starts = {}
    end = 0
    for extension in sorted(members):  # the order in which webdataset writes them, each after a header of one block
        starts[extension] = end + BLOCK
        end += BLOCK + -(-len(members[extension]) // BLOCK) * BLOCK
    return stream.getvalue()[:end], starts  # without the zero blocks that end a tar file


class ShardWriter:
    """The shards of one split, one open at a time.

    The next one begins when a record would make the open one larger than `shard_bytes`. This depends on lengths alone,
    so interrupted and uninterrupted packings have the same shards.
    """

    def __init__(self, folder: Path, split: str, *, shard_bytes: int) -> None:
        self._folder, self._split, self._shard_bytes = folder, split, shard_bytes
        self._number = 0
        self._file: io.FileIO | None = None
        self._end = 0
        self._records = 0

    @property
    def shard(self) -> str:
        """The name of the open shard, or of the next one."""
        return f"{self._split}-{self._number:06d}.tar"

    def mark_complete(self, shard: str) -> None:
        """Register a complete shard of this split."""
        self._number = max(self._number, int(shard.removesuffix(".tar").rpartition("-")[2]) + 1)

    def reopen(self, *, end: int, records: int) -> ShardFile | None:
        """Resume the open shard after its first `end` bytes, which hold `records` records.

        Returns the shard where it is already complete: a kill came before its event. Raises ValueError when the file
        is missing or shorter.
        """
        part = self._folder / (self.shard + PART)
        if not part.exists() and (self._folder / self.shard).exists():
            complete = ShardFile.of(self._folder, self.shard, split=self._split, records=records)
            if complete.bytes == _complete_size(end):
                self.mark_complete(self.shard)
                return complete
            raise ValueError(
                f"{self._folder / self.shard} has {complete.bytes:,} bytes and the journal beside it tells of {end:,}: "
                "one of the two is not what was written. Restore it, or pack into a new folder"
            )
        size = part.stat().st_size if part.exists() else 0
        if size < end:
            raise ValueError(
                f"{part} has {size:,} bytes and the journal beside it says that {end:,} were written: restore that "
                f"file, or remove {self._folder} and pack again"
            )
        self._file = io.FileIO(part, "r+")
        self._file.truncate(end)
        self._file.seek(end)
        self._end, self._records = end, records
        return None

    def is_full_for(self, record: bytes) -> bool:
        """Whether the open shard must be closed before this record."""
        return self._end > 0 and self._end + len(record) + 2 * BLOCK > self._shard_bytes

    def append(self, record: bytes) -> int:
        """Write one record and return its byte offset in `shard`."""
        if self._file is None:
            self._file = io.FileIO(self._folder / (self.shard + PART), "w")
            sync_folder(self._folder)
        start = self._end
        self._write(record)
        self._end += len(record)
        self._records += 1
        return start

    def sync(self) -> None:
        """Flush all records to the disk."""
        if self._file is not None:
            sync(self._file.fileno())

    def close(self) -> ShardFile | None:
        """Complete the open shard and rename it; None when none is open. The journal must have its records before."""
        if self._file is None:
            return None
        self._write(bytes(_complete_size(self._end) - self._end))
        self.sync()
        self._file.close()
        self._file = None
        os.rename(self._folder / (self.shard + PART), self._folder / self.shard)
        sync_folder(self._folder)
        complete = ShardFile.of(self._folder, self.shard, split=self._split, records=self._records)
        self.mark_complete(self.shard)
        self._end = self._records = 0
        return complete

    def abandon(self) -> None:
        """Close the incomplete file, for a later `reopen`."""
        if self._file is not None:
            self._file.close()

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


def _complete_size(end: int) -> int:
    return -(-(end + 2 * BLOCK) // TAR_RECORD) * TAR_RECORD
