"""A part of a file as a file: for members of tar files, read where they lie."""

from __future__ import annotations

import io
import os
import resource
from typing import Any, Protocol

LARGEST_LIMIT = 2**20  # of open files, where a process has none


class Descriptor:
    """A file opened for reading by position, closed when nothing refers to it any more.

    Reading does not move a shared file position, so threads, and processes forked from this one, may read at once.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._number = -1
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only where the file ends."""
        data = os.pread(self._number, size, offset)
        while len(data) < size:  # Linux returns at most 2 GiB at once, network file systems may return less
            more = os.pread(self._number, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def facts(self) -> os.stat_result:
        """Its size and times now."""
        return os.fstat(self._number)

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)


class Readable(Protocol):
    """What is read by position."""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only where the file ends."""


class Window(io.RawIOBase):
    """Bytes [offset, offset + size) of an opened file as a seekable file that is read-only."""

    def __init__(self, descriptor: Readable, *, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        data = self._descriptor.read(self._offset + self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset} lies before the start of the file")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position


def shards_kept_open() -> int:
    """How many shards one `Shards` keeps open: a quarter of the files that a process may have open (`ulimit -n`).

    A large set has more shards than the customary 256; the longest unused is closed then, and opening it again may
    cost a network file system more than reading from it.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (LARGEST_LIMIT if limit == resource.RLIM_INFINITY else limit) // 4
