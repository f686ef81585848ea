"""A table of the index on the disk, read by position.

Not through a memory map: were the file to shrink under it, the process would end by a signal, without a word. And the
pictures' table may take gigabytes, of which a clip needs a thousand bytes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shards.file_slice import Descriptor, Readable


class Table:
    """The rows of a .npy file with one dimension; `table[first:stop]` reads these and no others.

    May be pickled: another process opens the file when it first reads.
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
