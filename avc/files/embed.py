"""Embeddings of many files with their times: decoded ahead, computed in batches, resumable."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avc.data.windows import Framer, hop_in_samples
from avc.encoders.trained import Trained
from avc.files.decoding import Piece, Refused, Wanted, decode
from avc.files.output import Growing
from avc.files.settings import Settings, agree, is_there, wanted_by
from shards import Report
from shards.atomic import written_aside
from shards.format import Reason
from shards.processes import refuse_unguarded
from shards.sources import Source
from shards.text import counted, on_one_line

REJECTED = "rejected.tsv"
WRITERS = 4  # threads that wait for the disk


@dataclass(frozen=True)
class Embedded:
    """written: files that have embeddings now; before: those that had them. rejected: name, reason, detail."""

    written: int
    before: int
    windows: int
    rejected: tuple[tuple[str, str, str], ...]


@dataclass
class _File:
    """A file that is being embedded. asked, done: its windows that were put into batches, and computed."""

    source: Source
    target: Path
    rows: Growing
    framer: Framer | None
    asked: int = 0
    done: int = 0
    ended: bool = False
    refused: Refused | None = None


@dataclass
class _Batch:
    """Rows for the network, and whose they are: (file, how many, numbers of their hops)."""

    rows: NDArray[Any]
    owners: list[tuple[_File, Sequence[int]]] = field(default_factory=list)
    filled: int = 0


def embed_files(
    networks: Sequence[Trained],
    files: Sequence[tuple[Source, Path]],
    folder: Path,
    settings: Settings,
    *,
    processes: int,
    time_limit_seconds: float = 300,
    report: Report | None = None,
    rejected_name: str = REJECTED,
) -> Embedded:
    """Write the embeddings of each source to its .npz, which lies in `folder`; those that are there stay as they are.

    networks: the same one on each device that is to compute. A batch always has `settings.batch` rows, the last one
    with zeros behind, so that a file's numbers do not depend on what is computed beside it: killed and called again,
    the files have the same bytes. What is rejected is listed in `rejected_name`, and tried again by the next call.
    Raises ValueError where the folder has embeddings by another network or other settings, and where the network lacks
    the tower that is asked for.
    """
    refuse_unguarded()
    network = networks[0]
    wanted = wanted_by(network, settings)
    agree(folder, network, settings)
    missing = [row for row, (_, target) in enumerate(files) if not is_there(target)]
    before = len(files) - len(missing)
    worker = _Embedder(networks, files, folder, settings, wanted)
    with open(folder / rejected_name, "w", encoding="utf-8", errors="surrogateescape") as listed:
        decoded = decode(
            ((row, files[row][0]) for row in missing),
            wanted,
            processes=min(processes, max(1, len(missing))),
            time_limit_seconds=time_limit_seconds,
        )
        with closing(worker), closing(decoded):
            for file in worker.run(decoded):
                if file.refused is not None:
                    listed.write("\t".join(_line(file)) + "\n")
                    listed.flush()
                if report is not None:
                    report(before + worker.files_done, len(files), counted(worker.windows, "embeddings"))
    rejected = tuple(sorted(map(_line, worker.rejected)))
    with written_aside(folder / rejected_name) as out:
        out.write("".join("\t".join(line) + "\n" for line in rejected).encode("utf-8", "surrogateescape"))
    return Embedded(len(files) - len(rejected), before, worker.windows, rejected)


class _Embedder:
    """Takes pieces of files as they come, and gives files as they are done."""

    def __init__(
        self,
        networks: Sequence[Trained],
        files: Sequence[tuple[Source, Path]],
        folder: Path,
        settings: Settings,
        wanted: Wanted,
    ) -> None:
        self.windows = self.files_done = 0
        self.rejected: list[_File] = []
        self._files, self._folder, self._settings, self._wanted = files, folder, settings, wanted
        self._audio = settings.content == "audio"
        side = wanted.image_size
        self._shape = (wanted.sample_rate_hz,) if self._audio else (side, side, 3)
        self._hop_samples = hop_in_samples(settings.hop_size, wanted.sample_rate_hz)
        self._open: dict[int, _File] = {}
        self._batch = self._empty()
        self._idle: queue.SimpleQueue[Trained] = queue.SimpleQueue()
        for network in networks:
            self._idle.put(network)
        self._in_flight = 2 * len(networks)
        self._computing: deque[tuple[_Batch, Future[NDArray[np.float32]]]] = deque()
        self._writing: deque[tuple[_File, Future[None]]] = deque()
        self._threads = ThreadPoolExecutor(len(networks))
        self._writers = ThreadPoolExecutor(WRITERS)

    def close(self) -> None:
        """End the threads; what they have begun is done first."""
        self._threads.shutdown(cancel_futures=True)
        self._writers.shutdown(cancel_futures=True)

    def run(self, decoded: Iterator[tuple[int, Piece | Refused | None]]) -> Iterator[_File]:
        """Each file when its embeddings are on the disk, or when it is refused."""
        for row, message in decoded:
            file = self._open.get(row) or self._begin(row)
            if message is None:
                if file.framer is not None:
                    yield from self._add(file, file.framer.end(), range(file.asked, file.asked + 1))
                yield from self._end(row)
            elif isinstance(message[0], Reason):
                file.refused = (message[0], str(message[1]))
                yield from self._end(row)
            elif file.framer is not None:
                windows = file.framer.push(message[1])  # type: ignore[arg-type]
                yield from self._add(file, windows, range(file.asked, file.asked + len(windows)))
            else:
                yield from self._add(file, message[1][None], [message[0]])
        if self._batch.filled:
            yield from self._submit()
        while self._computing:
            yield from self._collect()
        while self._writing:
            yield self._written()

    def _begin(self, row: int) -> _File:
        source, target = self._files[row]
        framer = None
        if self._audio:
            framer = Framer(self._wanted.sample_rate_hz, self._hop_samples, center=self._settings.center)
        self._open[row] = _File(source, target, Growing(self._folder), framer)
        return self._open[row]

    def _end(self, row: int) -> Iterator[_File]:
        file = self._open.pop(row)
        file.ended = True
        if file.refused is None and not file.asked:
            sampled, shown = f"at {self._wanted.sample_rate_hz:,} Hz", f"at a multiple of {self._settings.hop_size:g} s"
            nothing = f"no sample of it is left {sampled}" if self._audio else f"nothing of it is shown {shown}"
            file.refused = (Reason.TOO_SHORT, nothing)
        yield from self._finished(file)

    def _add(self, file: _File, rows: NDArray[Any], numbers: Sequence[int]) -> Iterator[_File]:
        start = 0
        while start < len(rows):
            batch = self._batch
            count = min(len(rows) - start, len(batch.rows) - batch.filled)
            batch.rows[batch.filled : batch.filled + count] = rows[start : start + count]
            batch.owners.append((file, numbers[start : start + count]))
            batch.filled += count
            file.asked += count
            start += count
            if batch.filled == len(batch.rows):
                yield from self._submit()

    def _submit(self) -> Iterator[_File]:
        batch, self._batch = self._batch, self._empty()
        self._computing.append((batch, self._threads.submit(self._compute, batch.rows)))
        while len(self._computing) > self._in_flight or (self._computing and self._computing[0][1].done()):
            yield from self._collect()

    def _empty(self) -> _Batch:
        return _Batch(np.zeros((self._settings.batch, *self._shape), np.float32 if self._audio else np.uint8))

    def _compute(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        network = self._idle.get()
        try:
            tensor = torch.from_numpy(rows)
            embedded = network.embed_windows(tensor) if self._audio else network.embed_crops(tensor)
        finally:
            self._idle.put(network)  # after an error as well, or the other threads would wait for it
        return embedded.numpy()

    def _collect(self) -> Iterator[_File]:
        batch, future = self._computing.popleft()
        computed, start = future.result(), 0
        for file, numbers in batch.owners:
            rows = computed[start : start + len(numbers)]
            start += len(numbers)
            file.done += len(numbers)
            if file.refused is None and not np.isfinite(rows).all():
                file.refused = (Reason.UNDECODABLE, "its embeddings are not finite numbers")
            if file.refused is None:
                file.rows.append(rows, numbers)
                self.windows += len(numbers)
            yield from self._finished(file)

    def _finished(self, file: _File) -> Iterator[_File]:
        if file.ended and file.done == file.asked:
            if file.refused is not None:
                file.rows.close()
                self.files_done += 1
                self.rejected.append(file)
                yield file
            else:
                hop = Fraction(self._hop_samples, self._wanted.sample_rate_hz) if self._audio else self._wanted.hop
                self._writing.append((file, self._writers.submit(file.rows.write, file.target, hop=hop)))
        while self._writing and (self._writing[0][1].done() or len(self._writing) > 4 * WRITERS):
            yield self._written()

    def _written(self) -> _File:
        file, future = self._writing.popleft()
        future.result()
        self.files_done += 1
        return file


def _line(file: _File) -> tuple[str, str, str]:
    assert file.refused is not None
    name, reason, detail = on_one_line(file.source.name, str(file.refused[0]), file.refused[1]).split("\t")
    return name, reason, detail
