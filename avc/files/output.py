"""The embeddings of a file on the disk: a .npz each, or all in one Parquet."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from avc.extras import require_package
from shards.atomic import written_aside

IN_MEMORY = 2**24  # bytes of one file's embeddings; what is more goes to the disk meanwhile
ROWS_AT_ONCE = 8192
Rows = NDArray[np.float32]


class Growing:
    """The embeddings of a file as they come, of whatever number."""

    def __init__(self, folder: Path) -> None:
        # Where it spills, it has no name: nothing of it is left by a kill.
        self._rows: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115
        self._numbers = array("q")
        self._size = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def append(self, rows: Rows, numbers: Iterable[int]) -> None:
        """float32 (k, D), and the numbers of their hops."""
        self._rows.write(np.ascontiguousarray(rows).data)
        self._numbers.extend(numbers)
        self._size = rows.shape[1]

    def write(self, path: Path, *, hop: Fraction) -> None:
        """Write `embedding`, float32 (T, D), and `seconds`, float64 (T,), as a .npz. hop: seconds."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows.seek(0)
        seconds = np.frombuffer(self._numbers, np.int64) * hop.numerator / hop.denominator
        with written_aside(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            with archive.open(zipfile.ZipInfo("embedding.npy"), "w", force_zip64=True) as member:
                shape = {"descr": "<f4", "fortran_order": False, "shape": (len(self), self._size)}
                npy.write_array_header_1_0(member, shape)
                shutil.copyfileobj(self._rows, member, 2**20)
            with archive.open(zipfile.ZipInfo("seconds.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, seconds.astype("<f8"))
        self.close()

    def close(self) -> None:
        """Let go of what it holds."""
        self._rows.close()


def read_rows(path: Path) -> Iterator[tuple[Rows, NDArray[np.float64]]]:
    """A file that `Growing.write` wrote, a few thousand rows at a time."""
    with zipfile.ZipFile(path) as archive, archive.open("embedding.npy") as member:
        seconds = npy.read_array(io.BytesIO(archive.read("seconds.npy")))
        npy.read_magic(member)
        (count, size), _, _ = npy.read_array_header_1_0(member)
        for start in range(0, count, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, count)
            content = member.read(4 * size * (stop - start))
            yield np.frombuffer(content, "<f4").reshape(-1, size), seconds[start:stop]


def require_parquet() -> None:
    """Raise ValueError where pyarrow is missing."""
    require_package("pyarrow", extra="parquet", purpose="an --out that is one Parquet file, and no folder,")


def write_parquet(path: Path, files: Iterable[tuple[str, Path]]) -> None:
    """All embeddings as one table of file (string), seconds (double) and embedding (list of float), in this order.

    files: what each is called, and its .npz. A file has row groups of its own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def table(name: str, rows: Rows, seconds: NDArray[np.float64]) -> Any:
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([name]))
        return pa.table({"file": names, "seconds": pa.array(seconds), "embedding": embedding})

    def write(file: BinaryIO) -> None:
        writer = None
        for name, npz in files:
            for rows, seconds in read_rows(npz):
                part = table(name, rows, seconds)
                writer = writer or pq.ParquetWriter(file, part.schema)
                writer.write_table(part)
        if writer is not None:
            writer.close()

    with written_aside(path) as file:
        write(file)
