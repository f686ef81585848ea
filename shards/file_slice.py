"""Reads files by position: members inside tar files, and tables of the index row by row."""

from __future__ import annotations

import errno
import io
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

MAX_LIMIT = 2**20  # of open files, for processes without a limit


class Descriptor:
    """A file opened for reading by position, closed with the last reference to it.

    Reads do not move a shared position, so threads and forked processes may read at once.
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
        """The file's current status."""
        return os.fstat(self._number)

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)


class Readable(Protocol):
    """Protocol of files that are read by position."""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only where the file ends."""


class Window(io.RawIOBase):
    """Bytes [offset, offset + size) of an open file as a seekable read-only file."""

    def __init__(self, descriptor: Readable, *, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        data = self._descriptor.read(self._offset + self._position, count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset} lies before the start of the file")
        self._position = start + offset
        return self._position


def shards_kept_open() -> int:
    """Number of shards that one `Shards` keeps open: a quarter of the process's limit of open files (`ulimit -n`).

    With more shards than that, the least recently used one is closed; on network file systems opening it again may cost
    more than reading from it.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (MAX_LIMIT if limit == resource.RLIM_INFINITY else limit) // 4


class Table:
    """The rows of a one-dimensional .npy file; `table[first:stop]` reads only these.

    Not a memory map: if the file shrank, a signal would kill the process without a message. The pictures' table may
    take gigabytes, of which a clip needs a thousand bytes. Picklable: another process opens the file at its first read.
    """

    def __init__(self, path: Path, dtype: np.dtype, *, opener: Callable[[], Readable] | None = None) -> None:
        """opener: opens the file instead of `open(path)`.

        Raises ValueError (`is not a table ...`) for another type or length, and OSError.
        """
        self.path, self.dtype, self._open = path, dtype, opener
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise ValueError("is not a regular file")
        with open(path, "rb") as file:
            try:
                if (version := np.lib.format.read_magic(file)) != (1, 0):
                    raise ValueError(f"it is of version {version}")
                shape, _, stored_dtype = np.lib.format.read_array_header_1_0(file)
            except Exception as error:  # whatever a broken header provokes
                raise ValueError(f"cannot be read: {error or type(error).__name__}") from None
            self._start = file.tell()
            self._bytes = os.fstat(file.fileno()).st_size
        if stored_dtype != dtype or len(shape) != 1:
            raise ValueError("is not a table of the type that this version reads")
        self._rows = int(shape[0])
        if self._bytes != self._start + self._rows * dtype.itemsize:
            raise ValueError(f"is to have {self._rows:,} rows, which do not take {self._bytes:,} bytes")
        self._descriptor: Readable | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice) -> np.ndarray:
        """A copy of the rows first:stop. Raises OSError where they cannot be read any more."""
        first, stop, step = rows.indices(self._rows)
        assert step == 1
        size = max(0, stop - first) * self.dtype.itemsize
        data = self._get_descriptor().read(self._start + first * self.dtype.itemsize, size)
        if len(data) < size:
            raise OSError(errno.EIO, "it was cut off since it was opened", str(self.path))
        return np.frombuffer(data, dtype=self.dtype)

    def _get_descriptor(self) -> Readable:
        if self._descriptor is None and self._open is not None:
            self._descriptor = self._open()
        if self._descriptor is None:
            if os.stat(self.path).st_size != self._bytes:
                raise OSError(errno.EIO, "it is no longer the file that was opened at first", str(self.path))
            self._descriptor = Descriptor(self.path)
        return self._descriptor
