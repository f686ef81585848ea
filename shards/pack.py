"""Packs videos into a folder of shards: in parallel, resumable, with the outcome of each input in a journal.

::

    sources ──► worker processes ──► results in the order of the sources ──► shards ──► journal ──► index
                (shards/workers.py)                                         (fsync first, then the journal)

Records are committed in an order defined by the sources (`in_packing_order`), so the shards' bytes depend on inputs and
settings alone, not on the number of workers or on interruptions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from shards import Report
from shards.atomic import LACKING, PART
from shards.build_index import remove_manifest, write_index
from shards.format import JOURNAL, SPLITS, PackSettings, Reason, check_settings
from shards.index import Manifest, ShardFile
from shards.journal import RETRY, Journal, Packed, Rejection, keep_version, list_shards, lost_lines, read_events
from shards.processes import refuse_unguarded
from shards.record import Record, make_record
from shards.sources import Source, in_packing_order, list_sources
from shards.split import ListCoverage, Splitter
from shards.tasks import Task, make_folder
from shards.workers import run_in_workers, worker_count
from shards.writer import ShardWriter, render_record

SECONDS_BETWEEN_SYNCS = 2.0  # work lost by a kill, beside the results in the queue


@dataclass(frozen=True)
class Summary:
    """Result of a packing: the folder's manifest and the counts of this run."""

    manifest: Manifest
    done: int  # inputs packed or rejected by this run
    skipped: int  # inputs packed or rejected by earlier runs
    lists: tuple[ListCoverage, ...] = ()  # of the lists of splits


def pack(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: PackSettings | None = None,
    *,
    split_lists: Mapping[str, Path] | None = None,
    task: Task | None = None,
    workers: int | None = None,
    time_limit_seconds: float = 120.0,
    shard_bytes: int = 256_000_000,
    progress: Report | None = None,
) -> Summary:
    """Pack videos into the folder `out`, or resume an earlier packing into it.

    inputs: as in `list_sources`. split_lists: as in `Splitter`. workers: number of processes, by default that of cores.
    Inputs that the journal has (by name, size and modification time) are skipped; those that could not be read, timed
    out or crashed their decoder are tried again. New inputs go into new shards.

    task: pack only its share of the inputs, into its own folder in `out`; tasks may run at the same time.
    `shards.build_index.merge` writes the index of `out` when all of them have finished.

    Raises ValueError for wrong settings, a missing input, a folder that was packed with other settings or is in use by
    another packer; OSError when `out` cannot be written to. Committed records are kept.
    """
    settings = settings or PackSettings()
    sources, splitter = list_inputs(inputs, out, settings, split_lists=split_lists, task=task)
    return pack_sources(
        sources,
        out,
        settings,
        splitter,
        task=task,
        workers=workers,
        time_limit_seconds=time_limit_seconds,
        shard_bytes=shard_bytes,
        progress=progress,
    )


def list_inputs(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: PackSettings,
    *,
    split_lists: Mapping[str, Path] | None = None,
    task: Task | None = None,
) -> tuple[list[Source], Splitter]:
    """List the inputs and make their splitter, with all checks that are possible before packing.

    Raises ValueError as `pack` does.
    """
    check_settings(settings)
    folder = Path(out).expanduser()
    sources = list_sources(inputs, without=folder)
    splitter = Splitter(settings.split, split_lists)
    if not sources and any(Path(each).expanduser().absolute() == folder.absolute() for each in inputs):
        raise ValueError(f"{folder} is what is to be packed, and where to: give another --out")
    if not sources:
        raise ValueError(f"there are no files in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    if split_lists:
        journal = (folder / task.name if task else folder) / JOURNAL
        events = read_events(journal) if journal.exists() else ()
        names = {event.source.name for event in events if not isinstance(event, ShardFile)}
        splitter.check(names | {source.name for source in sources})
    return sources, splitter


def pack_sources(
    sources: Sequence[Source],
    out: str | os.PathLike[str],
    settings: PackSettings,
    splitter: Splitter,
    *,
    task: Task | None = None,
    workers: int | None = None,
    time_limit_seconds: float = 120.0,
    shard_bytes: int = 256_000_000,
    progress: Report | None = None,
) -> Summary:
    """`pack` for the result of `list_inputs`, so that many tasks need not list a large set again."""
    refuse_unguarded()
    workers = worker_count(workers, time_limit_seconds)
    if shard_bytes < 1:
        raise ValueError(f"the size of a shard must be positive, not {shard_bytes} bytes")
    folder = make_folder(Path(out).expanduser(), task)
    settings = keep_version(settings, folder, task)
    sources = task.select(sources) if task else sources
    with (
        _explain_disk_errors(folder),
        Journal(folder, settings, shard_bytes=shard_bytes) as journal,
        _Packing(folder, journal, splitter, settings, shard_bytes=shard_bytes) as packing,
    ):
        pending = in_packing_order((source for source in sources if not packing.is_done(source)), settings)
        if pending:
            remove_manifest(folder)
            if task:  # the merged index becomes outdated
                remove_manifest(folder.parent)
        make = partial(make_record, settings=settings)
        results = run_in_workers(make, pending, workers=workers, time_limit_seconds=time_limit_seconds)
        with contextlib.closing(results):  # ends the worker processes
            for done, (source, result) in enumerate(zip(pending, results, strict=True), start=1):
                packing.commit(result)
                if progress is not None:
                    progress(done, len(pending), source.name)
        packing.finish()
        manifest = write_index(folder, settings, read_events(folder / JOURNAL))
        return Summary(manifest, done=len(pending), skipped=len(sources) - len(pending), lists=splitter.coverage)


class _Packing:
    """State of a packing: the finished inputs, the packed keys and the open shard of each split."""

    def __init__(
        self, folder: Path, journal: Journal, splitter: Splitter, settings: PackSettings, *, shard_bytes: int
    ) -> None:
        self._folder, self._journal, self._splitter, self._settings = folder, journal, splitter, settings
        self._writers = {split: ShardWriter(folder, split, shard_bytes=shard_bytes) for split in SPLITS}
        self._done: dict[tuple[str, int | None], tuple[int, int]] = {}  # name, offset -> size, modification time
        self._names: dict[str, str] = {}  # key -> name of the packed source
        self._synced_at = time.monotonic()
        self._recover()

    def __enter__(self) -> _Packing:
        return self

    def __exit__(self, *error: object) -> None:
        """Keep committed records, also after an error if they can still be written."""
        try:
            if error[0] is not None:
                self.sync()
        except OSError:
            pass  # the first error is the one to show; unsynced records will be packed again
        finally:
            for writer in self._writers.values():
                writer.abandon()

    def _recover(self) -> None:
        complete: set[str] = set()
        ends: dict[str, tuple[str, int, int]] = {}  # shard -> split, end, records
        for event in read_events(self._folder / JOURNAL):
            if isinstance(event, ShardFile):
                complete.add(event.name)
                self._writers[event.split].mark_complete(event.name)
                if not (self._folder / event.name).is_file():
                    raise ValueError(
                        f"{self._folder / event.name} was packed and is no longer there: copy it back, or pack into a "
                        "new folder"
                    )
                continue
            source = event.source
            if isinstance(event, Rejection) and event.reason in RETRY:
                self._done.pop((source.name, source.offset), None)
            else:
                self._done[source.name, source.offset] = source.size, source.mtime_ns
            if isinstance(event, Packed):
                self._check_split(event)
                self._names[event.key] = source.name
                _, _, records = ends.get(event.shard, ("", 0, 0))
                ends[event.shard] = (event.split, event.end, records + 1)
        open_shards = {shard: extent for shard, extent in ends.items() if shard not in complete}
        writer_shards = {self._writers[split].shard for split, _, _ in open_shards.values()}
        if unknown_shards := (list_shards(self._folder) - complete | open_shards.keys()) - writer_shards:
            raise lost_lines(self._folder / JOURNAL, min(unknown_shards))
        for path in self._folder.glob(f"*{PART}"):
            if path.name.removesuffix(PART) not in open_shards:  # the journal has none of its records
                path.unlink()
        for split, end, records in open_shards.values():
            if file := self._writers[split].reopen(end=end, records=records):
                self._journal.append(file)

    def _check_split(self, event: Packed) -> None:
        split = self._splitter.split(event.key, event.source.name)
        if split != event.split:
            raise ValueError(
                f"{event.source.name} was packed as {event.split} and would now be {split}: "
                f"give the lists of splits that {self._folder} was begun with, or pack into a new folder"
            )

    def is_done(self, source: Source) -> bool:
        """Whether the journal has this input, unchanged."""
        return self._done.get((source.name, source.offset)) == (source.size, source.mtime_ns)

    def commit(self, result: Record | Rejection) -> None:
        """Append a record to its shard, and the result to the journal."""
        if isinstance(result, Record) and (key := result.packed.key) in self._names:
            source = result.packed.source
            detail = self._splitter.duplicate_message(key, self._names[key], source.name)
            result = Rejection(source, Reason.DUPLICATE, detail)
        self._journal.append(result if isinstance(result, Rejection) else self._write(result))
        if time.monotonic() - self._synced_at > SECONDS_BETWEEN_SYNCS:
            self.sync()

    def _write(self, record: Record) -> Packed:
        packed = record.packed
        split = self._splitter.split(packed.key, packed.source.name)
        writer = self._writers[split]
        data, starts = render_record(packed.key, record.contents)
        if writer.is_full_for(data):
            self._close(writer)
        shard = writer.shard
        offset = writer.append(data)
        self._names[packed.key] = packed.source.name
        members = {name: replace(member, offset=offset + starts[name]) for name, member in packed.members.items()}
        return replace(packed, split=split, shard=shard, end=offset + len(data), members=members)

    def sync(self) -> None:
        """Flush the shards to the disk, then the journal."""
        for writer in self._writers.values():
            writer.sync()
        self._journal.flush()
        self._synced_at = time.monotonic()

    def _close(self, writer: ShardWriter) -> None:
        self.sync()
        if file := writer.close():
            self._journal.append(file)

    def finish(self) -> None:
        """Complete every shard."""
        for writer in self._writers.values():
            self._close(writer)
        self.sync()


@contextlib.contextmanager
def _explain_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and error.errno not in LACKING:
            raise
        advice = ". What was packed is kept: make room there and run the same command again to resume"
        raise OSError(error.errno, f"{error.strerror}{advice if full else ''}", str(folder)) from None
