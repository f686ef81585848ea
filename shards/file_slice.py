"""Files read by position: members of tar files where they lie, and tables of the index row by row."""

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


class Table:
    """The rows of a .npy file with one dimension; `table[first:stop]` reads these and no others.

    Not through a memory map: were the file to shrink under it, the process would end by a signal, without a word. And
    the pictures' table may take gigabytes, of which a clip needs a thousand bytes. May be pickled: another process
    opens the file when it first reads.
    """

    def __init__(self, path: Path, dtype: np.dtype, *, opened: Callable[[], Readable] | None = None) -> None:
        """opened: opens it for reading, instead of its path.

        Raises ValueError, as `is not a table ...`, where it is none of that type and of its own length; OSError.
        """
        self.path, self.dtype, self._open = path, dtype, opened
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise ValueError("is not a regular file")
        with open(path, "rb") as file:
            try:
                if (version := np.lib.format.read_magic(file)) != (1, 0):
                    raise ValueError(f"it is of version {version}")
                shape, _, found = np.lib.format.read_array_header_1_0(file)
            except Exception as error:  # whatever a broken header provokes
                raise ValueError(f"cannot be read: {error or type(error).__name__}") from None
            self._start = file.tell()
            self._bytes = os.fstat(file.fileno()).st_size
        if found != dtype or len(shape) != 1:
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
        """A copy of the rows first:stop. Raises OSError where they are no longer there."""
        first, stop, step = rows.indices(self._rows)
        assert step == 1
        size = max(0, stop - first) * self.dtype.itemsize
        data = self._opened().read(self._start + first * self.dtype.itemsize, size)
        if len(data) < size:
            raise OSError(errno.EIO, "it was cut off since it was opened", str(self.path))
        return np.frombuffer(data, dtype=self.dtype)

    def _opened(self) -> Readable:
        if self._descriptor is None and self._open is not None:
            self._descriptor = self._open()
        if self._descriptor is None:
            if os.stat(self.path).st_size != self._bytes:
                raise OSError(errno.EIO, "it is no longer the file that was opened at first", str(self.path))
            self._descriptor = Descriptor(self.path)
        return self._descriptor
