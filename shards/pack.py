"""Many videos become a packed folder: in parallel, resumable, with what became of each input on record.

::

    sources ──► worker processes ──► results in the order of the sources ──► shards ──► journal ──► index
                (shards/workers.py)  (whatever order they end in)           (fsync first, then the journal)

Records are committed in an order that follows from the sources (`in_packing_order`), so the shards' bytes depend on the
inputs and the settings alone: not on the number of workers, not on where a packing was killed and begun again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards import Report
from shards.atomic import LACKING, PART
from shards.build_index import remove_manifest, write_index
from shards.format import JOURNAL, SPLITS, PackSettings, Reason, check_settings
from shards.index import Manifest, ShardFile
from shards.journal import TRIED_AGAIN, Journal, Member, Packed, Rejection, as_begun, lines_lost, read_events, shards_in
from shards.processes import refuse_unguarded
from shards.record import Record, make_records
from shards.sources import Source, in_packing_order, list_sources
from shards.split import ListMet, Splitter
from shards.tasks import Task, make_folder
from shards.writer import ShardWriter, render_record

SECONDS_BETWEEN_SYNCS = 2.0  # what a kill can cost, beside the results that wait


@dataclass(frozen=True)
class Summary:
    """What a packing did, and what the folder holds after it."""

    manifest: Manifest
    done: int  # inputs that this run packed or rejected
    skipped: int  # inputs that an earlier run had done
    lists: tuple[ListMet, ...] = ()  # how many of the names in the lists of splits are those of inputs


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
    """Pack videos into the folder `out`, or go on where an earlier packing into it was stopped.

    `inputs` are as in `list_sources`, `split_lists` as in `Splitter`; `workers` are processes, by default as many as
    there are cores. An input that is on record as done (by name, size and time of change) is skipped; one that could
    not be read, timed out or crashed its decoder is tried again. New inputs go into new shards.

    With a `task`, only its share of the inputs is packed, into a folder of its own inside of `out`, at the same time
    as other tasks' perhaps; `shards.build_index.merge` makes the index of `out` when all of them have ended.

    Raises ValueError for what the user can put right: wrong settings, a missing input, a folder begun with other
    settings or in use by another packer; OSError when `out` cannot be written to. What was committed stays.
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
    """Every input and what chooses its split, with all checks that can be made before anything is packed.

    Raises ValueError as `pack` does.
    """
    check_settings(settings)
    folder = Path(out).expanduser()
    sources = list_sources(inputs, without=folder)
    splitter = Splitter(settings.split, split_lists)
    if not sources:
        raise ValueError(f"there are no files in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    if split_lists:
        journal = (folder / task.name if task else folder) / JOURNAL
        on_record = read_events(journal) if journal.exists() else ()
        names = {event.source.name for event in on_record if not isinstance(event, ShardFile)}
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
    """As `pack`, of what `list_inputs` has listed: a large list need not be made anew by each of many tasks."""
    refuse_unguarded()
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if not time_limit_seconds > 0:
        raise ValueError(f"the time limit per video must be more than 0 seconds, not {time_limit_seconds}")
    if shard_bytes < 1:
        raise ValueError(f"the size of a shard must be positive, not {shard_bytes} bytes")
    folder = make_folder(Path(out).expanduser(), task)
    settings = as_begun(settings, folder, task)
    sources = task.share(sources) if task else sources
    with (
        _disk_explained(folder),
        Journal(folder, settings, shard_bytes=shard_bytes) as journal,
        _Packing(folder, journal, splitter, settings, shard_bytes=shard_bytes) as packing,
    ):
        pending = in_packing_order((each for each in sources if not packing.has_done(each)), settings)
        if pending:
            remove_manifest(folder)
            if task:  # the index of all tasks will no longer be one
                remove_manifest(folder.parent)
        workers = workers or len(os.sched_getaffinity(0))
        results = make_records(pending, settings, workers=workers, time_limit_seconds=time_limit_seconds)
        with contextlib.closing(results):  # whatever happens, its processes are gone afterwards
            for done, result in enumerate(results, start=1):
                packing.commit(result)
                if progress is not None:
                    progress(done, len(pending), result.source.name)
        packing.finish()
        manifest = write_index(folder, settings, journal.events())
        return Summary(manifest, done=len(pending), skipped=len(sources) - len(pending), lists=splitter.met)


class _Packing:
    """The state of one packing: what is done, which keys there are, and the open shard of each split."""

    def __init__(
        self, folder: Path, journal: Journal, splitter: Splitter, settings: PackSettings, *, shard_bytes: int
    ) -> None:
        self._folder, self._journal, self._splitter, self._settings = folder, journal, splitter, settings
        self._writers = {split: ShardWriter(folder, split, shard_bytes=shard_bytes) for split in SPLITS}
        self._done: dict[tuple[str, int | None], tuple[int, int]] = {}  # name and offset -> size and time of change
        self._names: dict[str, str] = {}  # key -> name of the source that was packed under it
        self._synced_at = time.monotonic()
        self._recover()

    def __enter__(self) -> _Packing:
        return self

    def __exit__(self, *error: object) -> None:
        """Keep what is committed: also after an error, where it can still be written."""
        try:
            if error[0] is not None:
                self.sync()
        except OSError:
            pass  # the error that led here is the one to show; what was not synced will be done again
        finally:
            for writer in self._writers.values():
                writer.abandon()

    def _recover(self) -> None:
        complete: set[str] = set()
        ends: dict[str, tuple[str, int, int]] = {}  # shard -> split, end, records
        for event in self._journal.events():
            if isinstance(event, ShardFile):
                complete.add(event.name)
                self._writers[event.split].closed(event.name)
                if not (self._folder / event.name).is_file():
                    raise ValueError(
                        f"{self._folder / event.name} was packed and is no longer there: copy it back, or pack into a "
                        "new folder"
                    )
            elif isinstance(event, Rejection):
                self._note(event.source, reason=event.reason)
            else:
                self._note(event.source)
                self._check_split(event)
                self._names[event.key] = event.source.name
                _, _, records = ends.get(event.shard, ("", 0, 0))
                ends[event.shard] = (event.split, event.end, records + 1)
        still_open = {shard: extent for shard, extent in ends.items() if shard not in complete}
        of_writers = {self._writers[split].shard for split, _, _ in still_open.values()}
        if unknown := (shards_in(self._folder) - complete | still_open.keys()) - of_writers:
            raise lines_lost(self._folder / JOURNAL, min(unknown))
        for path in self._folder.glob(f"*{PART}"):
            if path.name.removesuffix(PART) not in still_open:  # killed before anything of it was on record
                path.unlink()
        for split, end, records in still_open.values():
            if file := self._writers[split].reopen(end=end, records=records):
                self._journal.append(file)

    def _check_split(self, event: Packed) -> None:
        split = self._splitter.split(event.key, event.source.name)
        if split != event.split:
            raise ValueError(
                f"{event.source.name} was packed as {event.split} and would now be {split}: "
                f"give the lists of splits that {self._folder} was begun with, or pack into a new folder"
            )

    def _note(self, source: Source, *, reason: Reason | None = None) -> None:
        if reason in TRIED_AGAIN:
            self._done.pop((source.name, source.offset), None)
        else:
            self._done[source.name, source.offset] = source.size, source.mtime_ns

    def has_done(self, source: Source) -> bool:
        """Whether this input, unchanged, is on record already."""
        return self._done.get((source.name, source.offset)) == (source.size, source.mtime_ns)

    def commit(self, result: Record | Rejection) -> None:
        """Put one result on record, and its bytes into a shard."""
        if isinstance(result, Record) and result.key in self._names:
            detail = self._splitter.same_content(result.key, self._names[result.key], result.source.name)
            result = Rejection(result.source, Reason.DUPLICATE, detail)
        self._journal.append(result if isinstance(result, Rejection) else self._write(result))
        if time.monotonic() - self._synced_at > SECONDS_BETWEEN_SYNCS:
            self.sync()

    def _write(self, record: Record) -> Packed:
        split = self._splitter.split(record.key, record.source.name)
        writer = self._writers[split]
        data, starts = render_record(record.key, record.members)
        if writer.is_full_for(data):
            self._close(writer)
        shard = writer.shard
        offset = writer.append(data)
        self._names[record.key] = record.source.name
        members = {
            extension: Member(offset=offset + starts[extension], size=len(content), crc=record.crcs[extension])
            for extension, content in record.members.items()
        }
        return Packed(
            source=record.source,
            key=record.key,
            split=split,
            shard=shard,
            end=offset + len(data),
            ticks=record.ticks,
            width=record.width,
            height=record.height,
            sound_from=record.sound_from,
            sound_to=record.sound_to,
            members=members,
            picture_sizes=record.picture_sizes,
            flow_sizes=record.flow_sizes,
        )

    def sync(self) -> None:
        """Bring the shards to the disk, and then the journal."""
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
def _disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and error.errno not in LACKING:
            raise
        way_out = ". What was packed is kept: make room there and run the same command again, it goes on where it was"
        raise OSError(error.errno, f"{error.strerror}{way_out if full else ''}", str(folder)) from None
