"""Rows of features on their way to the disk: what is whole of them outlasts a stop."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save
from torch import Tensor

from shards.atomic import PART, refuse_links, sync

JOURNAL = ".jsonl"  # of rows that are not all there yet
UNREADABLE_SHARE = 0.05
"""More unreadable items than this share are an error: the figure would be another data set's."""


def refuse_unreadable(unreadable: Sequence[tuple[str, str]], items: int) -> None:
    """Raise ValueError where more than 5 % of the items, (name, reason) each, cannot be read."""
    if len(unreadable) > UNREADABLE_SHARE * items:
        name, reason = unreadable[0]
        raise ValueError(f"{len(unreadable)} of {items} items cannot be read, such as {name}: {reason}")


class Rows:
    """A .npy under way, and a journal of what is whole of it: opened again after a stop, both are cut to that.

    of_item: of each item so far how many rows it has, or why there are none.
    """

    def __init__(self, file: BinaryIO, journal: BinaryIO) -> None:
        self.of_item: list[int | str] = []
        self._file, self._journal = file, journal
        self._padded, self._columns, self._checksum = 0, 0, 0
        _write_header(file, (0, 0))
        end, end_of_journal = file.tell(), 0
        for line in journal:
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                data = file.read(told["bytes"])
                if zlib.crc32(data, self._checksum) == told["crc32"]:
                    self._count(told)
                    end, end_of_journal = end + len(data), end_of_journal + len(line)
                    continue
            break
        for each, place in ((file, end), (journal, end_of_journal)):
            each.seek(place)
            each.truncate()

    def add(self, parts: Sequence[Tensor | ValueError], padded: int) -> None:
        """The next items' rows, or why there are none; and how many of the items were shorter than one window."""
        whole = [part for part in parts if isinstance(part, Tensor)]
        data = b"".join(part.contiguous().numpy().tobytes() for part in whole)
        rows = [len(part) if isinstance(part, Tensor) else str(part) for part in parts]
        columns, checksum = whole[0].shape[1] if whole else self._columns, zlib.crc32(data, self._checksum)
        told = {"rows": rows, "padded": padded, "columns": columns, "bytes": len(data), "crc32": checksum}
        for file, content in ((self._file, data), (self._journal, json.dumps(told).encode() + b"\n")):
            file.write(content)
            file.flush()
        self._count(told)

    def _count(self, told: dict[str, Any]) -> None:
        self.of_item += told["rows"]
        self._padded, self._columns, self._checksum = self._padded + told["padded"], told["columns"], told["crc32"]

    def finished(self, names: Sequence[str]) -> bytes:
        """What else there is to remember. Raises ValueError where more than 5 % of the items cannot be read."""
        counts = [rows if isinstance(rows, int) else 0 for rows in self.of_item]
        unreadable = [(name, rows) for name, rows in zip(names, self.of_item, strict=True) if isinstance(rows, str)]
        refuse_unreadable(unreadable, len(names))
        self._file.seek(0)
        _write_header(self._file, (sum(counts), self._columns))
        notes = json.dumps({"unreadable": unreadable, "padded": self._padded, "crc32": self._checksum})
        told: bytes = save({"item": np.repeat(np.arange(len(counts)), counts)}, metadata={"notes": notes})
        return told


@contextmanager
def resume(path: Path) -> Iterator[Rows]:
    """The rows that become the file `path`; a stop leaves what is whole of them, a ValueError nothing."""
    part, journal = path.with_name(path.name + PART), path.with_suffix(JOURNAL)
    refuse_links([part, journal])
    try:
        for each in (part, journal):
            each.touch()
        with open(part, "r+b") as file, open(journal, "r+b") as lines:
            yield Rows(file, lines)
            file.flush()
            sync(file.fileno())
        os.replace(part, path)
        journal.unlink()
    except ValueError:
        part.unlink()
        journal.unlink()
        raise
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    """A .npy file's header, which has room for more rows: of the same length for any number of them."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
