"""How sound lies to pictures in many videos: each is read in a worker process, and what cannot be read is listed."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from shards import Report
from shards.journal import Rejection
from shards.media import read_sync
from shards.sources import Source, list_sources
from shards.sync import Sync
from shards.workers import attempt, in_workers


@dataclass(frozen=True)
class SyncAudit:
    """files: what was found, by the inputs' names and in their order. rejected: what could not be read, and why."""

    files: dict[str, Sync]
    rejected: list[Rejection]


def audit_sync(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    seconds: float = math.inf,
    workers: int | None = None,
    time_limit_seconds: float = 120.0,
    progress: Report | None = None,
) -> SyncAudit:
    """Sync of the first `seconds` of every input; `inputs` are as in `list_sources`.

    workers: processes, by default as many as there are cores; one that crashes, or takes longer than
    `time_limit_seconds` for a file, costs that file. Raises ValueError for what the user can put right.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be more than 0, not {seconds}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if not time_limit_seconds > 0:
        raise ValueError(f"the time limit per video must be more than 0 seconds, not {time_limit_seconds}")
    sources = list_sources(inputs)
    if not sources:
        raise ValueError(f"there are no files in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    work = partial(_sync_of, seconds=seconds)
    cores = len(os.sched_getaffinity(0))
    results = in_workers(work, sources, workers=workers or cores, time_limit_seconds=time_limit_seconds)
    audit = SyncAudit({}, [])
    with contextlib.closing(results):
        for done, (source, result) in enumerate(zip(sources, results, strict=True), start=1):
            if isinstance(result, Rejection):
                audit.rejected.append(result)
            else:
                audit.files[source.name] = result
            if progress is not None:
                progress(done, len(sources), source.name)
    return audit


def _sync_of(source: Source, *, seconds: float) -> Sync | Rejection:
    return attempt(partial(read_sync, seconds=seconds), source)
