"""Features of many files or clips: on every given device, remembered by the content of the network and of the items."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import os
import queue
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avc.encoders.encoder import Encoder
from avc.encoders.rows import Rows, resume
from shards import Report
from shards.atomic import written_aside
from shards.processes import Threads
from shards.store import user_cache

VERSION = "7"  # of what this code makes of an item; another number leaves old caches unread
ITEMS_AT_ONCE = 8
ROWS_AT_ONCE = 32
ROWS = ".npy"  # beside the .safetensors that tells what they are

Item = TypeVar("Item")


@dataclass(frozen=True)
class Features:
    """Rows of features, (N, D) float32 or float16, and the item (recording or image) of each, (N,) int64, ascending.

    The rows may be a memory-mapped file that is larger than memory.
    """

    rows: NDArray[Any]
    item: NDArray[np.int64]


class Unreadable(ValueError):
    """An item of the data set cannot be decoded, or holds nothing."""


@dataclass(frozen=True)
class Identity:
    """name: for messages. digest: of the content, whatever it is called and wherever it lies."""

    name: str
    digest: bytes


@dataclass(frozen=True)
class Inputs(Generic[Item]):
    """How an item, the path of a file or the number of a clip, becomes rows for an encoder.

    what: which features they give, in tables; with the encoder and its layer it must say everything that decides them.
    load: item → rows for the encoder, (rows, ...), and whether they had to be padded; raises Unreadable. select: of
    the encoder's (N, D), what is taken: (N, D'), or as many for each row, one after the other, (k · N, D').
    """

    what: str
    load: Callable[[Item], tuple[Tensor, bool]]
    identify: Callable[[Item], Identity]
    select: Callable[[Tensor], Tensor] = lambda features: features


@dataclass(frozen=True)
class Extraction:
    """features: item is its place in the list, the rows a memory-mapped file of the cache. unreadable: (name, reason).
    padded: items shorter than one window. file: of the rows. origin: where they come from, in words.
    """

    features: Features
    unreadable: tuple[tuple[str, str], ...]
    padded: int
    file: Path = Path()
    origin: str = ""


def file_identity(path: Path) -> Identity:
    """A file's name and the digest of its bytes, or of why it cannot be opened; reading it will tell of that."""
    try:
        with open(path, "rb") as file:
            return Identity(path.name, hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        return Identity(path.name, hashlib.sha256(os.fsencode(f"{path.name}: {error.strerror}")).digest())


@torch.inference_mode()
def extract(
    encoder: Encoder,
    layer: str,
    inputs: Inputs[Item],
    items: Sequence[Item],
    *,
    devices: Sequence[torch.device],
    cache: Path | None,
    report: Report | None = None,
) -> Extraction:
    """The features of all items, computed on all devices at once, or read from `cache` if they were computed before.

    Rows go to the disk as they are computed and are mapped from there: they need not fit in memory. Without `cache`
    that is a folder of `shards.store.user_cache`. Stopped, it resumes where it was, if the file system has locks. What
    could not be read then is tried again: once any of it can be, all is computed anew. Raises ValueError where more
    than 5 % of the items cannot be read; that is not kept.
    """
    digest = hashlib.sha256(f"{VERSION}\0{encoder.key}\0{layer}\0{inputs.what}".encode())
    for item in items:
        digest.update(inputs.identify(item).digest)
    cache = (cache or user_cache() / "features").expanduser()
    stored = cache / f"{digest.hexdigest()}.safetensors"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(stored) as target:
        kept = _stored(stored, f"read from {cache}")
        if kept is not None and not _mended(kept, inputs, items):
            return kept
        damaged = kept is None and stored.is_file() and stored.with_suffix(ROWS).is_file()
        names = [inputs.identify(item).name for item in items]
        target.unlink(missing_ok=True)  # what tells that the rows are whole
        with resume(target.with_suffix(ROWS)) as rows:
            before = len(rows.of_item)
            _write_rows(_Computation(encoder, layer, inputs, devices), items, into=rows, report=report)
            notes = rows.finished(names)
            with written_aside(target) as file:  # before the rows are in their place: a kill then costs none of them
                file.write(notes)
        how = f"computed, {before:,} of them before a stop" if before else "computed"
        extraction = _stored(target, "what was kept of them was damaged, computed anew" if damaged else how)
        if extraction is None:
            raise ValueError(f"{cache} is on a file system that maps no files into memory: give another cache=FOLDER")
        if target == stored:
            return extraction
        placed = _stored(stored, extraction.origin) if kept is None else None  # by a process that was faster
        if placed is None:
            for suffix in (ROWS, stored.suffix):
                os.replace(target.with_suffix(suffix), stored.with_suffix(suffix))
            placed = replace(extraction, file=stored.with_suffix(ROWS))
        return placed


@contextmanager
def _locked(stored: Path) -> Iterator[Path]:
    """The file to write, `stored` where several processes need it and one computes.

    On a file system without locks each computes, under a name of its own.
    """
    with open(stored.with_suffix(".lock"), "ab") as lock:
        target = stored
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            target = stored.with_stem(f"{stored.stem}-{uuid.uuid4().hex}")
        try:
            yield target
        finally:
            if target != stored:
                for left in stored.parent.glob(f"{target.stem}*"):
                    left.unlink()


class _Computation(Generic[Item]):
    """Rows of groups of items, by copies of an encoder on several devices; safe to call from several threads."""

    def __init__(self, encoder: Encoder, layer: str, inputs: Inputs[Item], devices: Sequence[torch.device]) -> None:
        self.layer, self.inputs = layer, inputs
        # More threads than devices: while a device computes, others decode what it will be given next.
        self.threads = len(devices) + len(os.sched_getaffinity(0))
        self.idle: queue.SimpleQueue[tuple[Encoder, torch.device]] = queue.SimpleQueue()
        for device in devices:
            self.idle.put((copy.deepcopy(encoder).eval().to(device), device))

    @torch.inference_mode()
    def __call__(self, items: Sequence[Item]) -> tuple[list[Tensor | Unreadable], int]:
        """The rows of each item, or why there are none; and how many were shorter than one window."""
        loaded: list[Tensor | Unreadable] = []
        short = 0
        for item in items:
            try:
                windows, was_short = self.inputs.load(item)
            except Unreadable as error:
                loaded.append(error)
            else:
                loaded.append(windows)
                short += was_short
        whole = [windows for windows in loaded if isinstance(windows, Tensor)]
        if not whole:
            return loaded, short
        rows = self._rows(torch.cat(whole))
        of_each = len(rows) // sum(map(len, whole))
        parts = iter(torch.split(rows, [of_each * len(windows) for windows in whole]))
        return [next(parts) if isinstance(windows, Tensor) else windows for windows in loaded], short

    def _rows(self, x: Tensor) -> Tensor:
        encoder, device = self.idle.get()
        try:
            pieces = torch.split(x, ROWS_AT_ONCE)
            rows = [self.inputs.select(encoder(piece.to(device), self.layer)).float().cpu() for piece in pieces]
        finally:
            self.idle.put((encoder, device))  # after an error as well, or the other threads would wait for it
        return torch.cat(rows)


def _write_rows(compute: _Computation[Item], items: Sequence[Item], *, into: Rows, report: Report | None) -> None:
    starts = range(len(into.of_item), len(items), ITEMS_AT_ONCE)
    if report is not None:
        report(starts.start, len(items), "")
    with Threads(compute.threads) as pool:
        for parts, padded in pool.map(lambda start: compute(items[start : start + ITEMS_AT_ONCE]), starts):
            into.add(parts, padded)
            if report is not None:
                report(len(into.of_item), len(items), "")


def _mended(extraction: Extraction, inputs: Inputs[Item], items: Sequence[Item]) -> bool:
    """Whether an item that could not be read can be now."""
    for number in np.setdiff1d(np.arange(len(items)), extraction.features.item).tolist():
        with suppress(Unreadable):
            inputs.load(items[number])
            return True
    return False


def _stored(path: Path, origin: str) -> Extraction | None:
    if not path.is_file():
        return None
    file = path.with_suffix(ROWS)
    try:
        with safe_open(path, framework="np") as told:
            notes = json.loads(told.metadata()["notes"])
            item = told.get_tensor("item")
        rows = np.load(file, mmap_mode="r", allow_pickle=False)
        if len(rows) != len(item) or zlib.crc32(rows) != notes["crc32"]:  # the whole file, read as it is needed anyway
            return None
    except (OSError, SafetensorError, TypeError, KeyError, ValueError, EOFError):
        return None  # not wholly written, or not ours: computed again and replaced
    unreadable = tuple((name, reason) for name, reason in notes["unreadable"])
    return Extraction(Features(rows, item), unreadable, notes["padded"], file, origin)
