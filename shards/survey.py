"""What is wrong in a set of videos, or of packed ones: each is looked at in a worker process, then all are compared.

Looks are kept as they come, so that a survey which was stopped resumes behind them.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from shards import Report, near
from shards.format import MANIFEST, SPLITS, TICKS_PER_SECOND, PackSettings, Reason
from shards.journal import Rejection
from shards.look import EVERY, Look, look, note, read_notes
from shards.media import read, read_side_level
from shards.media.clip import Rejected
from shards.processes import refuse_unguarded
from shards.read import BadRecord, Shards, decode_picture
from shards.record import KEY_DIGITS
from shards.sources import Source, list_sources
from shards.store import Store, Url, as_url, place
from shards.workers import attempt, in_workers

SIDE = 128  # pixels of the smallest side of the pictures that are looked at
SPLIT_NAMES = {*SPLITS, "training", "valid", "val", "dev", "eval"}  # of folders

DUAL_MONO_DB = -40.0  # and less: what two channels do not share
CLIPPED_SHARE = 1e-4
# Frames of 20 ms, so each tick begins with one; those of MP3, AAC and AC-3 fall on several places of a tick in turn.
ON_THE_GRID = {"opus", "libopus", "amrnb", "amrwb", "speex", "libspeex", "gsm", "gsm_ms", "ilbc"}
SLIDES_STAND = 0.8  # of the pictures are like the one before them, and others begin at a cut


@dataclass(frozen=True)
class Fault:
    """kind: of KINDS. detail: for people.

    drop: whether the clip is of no use, or leaks from one group into another. rejected: whether packing leaves it out
    anyway.
    """

    name: str
    kind: str
    detail: str
    drop: bool
    rejected: bool


KINDS = {  # what `Fault.kind` may be
    "duplicate": "the same bytes",
    "near-duplicate": "the same recording: encoded anew, scaled, cropped or shifted",
    "still": "no picture moves in half of its seconds or more",
    "slides": "pictures that stand, and cuts between them",
    "silent": "nothing is heard in half of its seconds or more",
    "borders": "black borders",
    "watermark": "a part that stands where all else moves",
    "grid": "sound that repeats itself every 0.04 s, as by a codec's frames: a shortcut off the grid",
    "band-limited": "nothing above a frequency far below what its rate can hold: resampled upward, or cut by a codec",
    "dual mono": "two channels that are one",
    "clipped": "samples at full scale",
}


@dataclass(frozen=True)
class Survey:
    """looks: of the clips, in the order of their names. rejected: what packing rejects because it cannot be read."""

    looks: list[Look]
    rejected: list[Rejection]
    faults: list[Fault]


def survey(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    seconds: float = 10.0,
    workers: int | None = None,
    time_limit_seconds: float = 120.0,
    progress: Report | None = None,
    notes: Path | None = None,
) -> Survey:
    """Look at the first `seconds` of every video of `inputs`, which are as in `list_sources`; or at a packed folder.

    workers, time_limit_seconds: as of `shards.workers.audit_sync`. notes: a file of what was looked at, from which a
    survey of the same inputs resumes; what was rejected is tried again. Clips are of the split that they are packed in;
    videos of the folder train, validation, ... or of the input, where there are several: the smallest that they are in.
    Raises ValueError for what the user can put right.
    """
    refuse_unguarded()
    if not 1 <= seconds < math.inf:
        raise ValueError(f"seconds must be at least 1, and finite, not {seconds}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    work: Callable[[Source], Look | Rejection]
    asked: list[float | str] = [seconds, *(os.fspath(path) for path in inputs)]
    groups: dict[Source, str] = {}
    packed = _packed(place(inputs[0])) if len(inputs) == 1 else None
    if packed is not None:
        sources = [Source(packed.key(row), str(packed.folder), row, -1, 0) for row in range(len(packed))]
        asked.append(packed.digest)  # for a folder may be packed anew
        work = partial(_of_clip, packed)
    else:
        groups = _listed(inputs)
        sources = list(groups)
        work = partial(_of_video, seconds=seconds)
    if not sources:
        raise ValueError(f"there are no videos in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    count = workers or len(os.sched_getaffinity(0))
    known = read_notes(notes, asked=asked) if notes is not None else {}
    left = [source for source in sources if _key(source) not in known]
    rejected = []
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(open(notes, "ab")) if notes is not None else None
        results = in_workers(work, left, workers=count, time_limit_seconds=time_limit_seconds)
        opened.enter_context(contextlib.closing(results))
        for done, (source, result) in enumerate(zip(left, results, strict=True), start=1 + len(sources) - len(left)):
            if isinstance(result, Rejection):
                rejected.append(result)
            else:
                known[_key(source)] = result
                if file is not None:
                    file.write(note(_key(source), result))
                    file.flush()
            if progress is not None:
                progress(done, len(sources), source.basename)
    found = ((source, known[_key(source)]) for source in sources if _key(source) in known)
    looks = [replace(one, group=groups.get(source, one.group)) for source, one in found]  # a list may change
    faults = [fault for one in looks for fault in _own(one)] + _shared(looks)
    return Survey(looks, rejected, sorted(faults, key=lambda fault: (list(KINDS).index(fault.kind), fault.name)))


def _key(source: Source) -> tuple[str, int | None, int, int]:
    return source.name, source.offset, source.size, source.mtime_ns


def _packed(folder: Path) -> Shards | None:
    """What is packed in a folder; None where there is no manifest, as beside videos."""
    try:
        if not (Store(folder).facts(MANIFEST) if isinstance(folder, Url) else (folder / MANIFEST).is_file()):
            return None
    except FileNotFoundError:
        return None
    packed = Shards(folder)
    if (every := int(packed.index["every"].max(initial=1))) > TICKS_PER_SECOND:
        raise ValueError(
            f"{folder} keeps less than a picture a second (--every {every}), of which nobody can tell what stands "
            "still: give the videos themselves"
        )
    return packed


def _listed(inputs: Sequence[str | os.PathLike[str]]) -> dict[Source, str]:
    """Each video once, in order of name, with its group; where inputs overlap, that of the smallest of them."""
    listed = sorted(((list_sources([given]), os.fspath(given)) for given in inputs), key=lambda each: -len(each[0]))
    found: dict[tuple[str, int | None], tuple[Source, str]] = {}
    for sources, given in listed:
        root = str(as_url(given) or os.path.abspath(os.path.expanduser(given)))
        whole = os.path.basename(root).removesuffix(".txt") if len(inputs) > 1 else None
        for source in sources:
            found[source.name, source.offset] = source, _group(source.name, root) if whole is None else whole
    return dict(sorted(found.values(), key=lambda each: (os.fsencode(each[0].name), each[0].offset or 0)))


def _of_video(source: Source, *, seconds: float) -> Look | Rejection:
    settings = PackSettings(seconds=seconds, side=SIDE, every=EVERY, keep_silent=True, keep_still=True)
    return attempt(partial(_look, source=source, settings=settings), source)


def _look(file: BinaryIO, *, source: Source, settings: PackSettings) -> Look:
    digest = hashlib.file_digest(file, "sha256").hexdigest()[:KEY_DIGITS]  # type: ignore[arg-type]
    try:
        clip, step = read(file, settings), 1
    except Rejected as error:
        if error.reason is not Reason.TOO_SHORT:
            raise
        clip, step = read(file, replace(settings, every=1)), EVERY  # of a second or so, whose middle is at any tick
    pictures = [decode_picture(data, width=clip.width, height=clip.height) for data in clip.pictures[::step]]
    return look(
        pictures,
        clip.sound[clip.sound_from : clip.sound_to],
        name=source.name,
        group="",  # which depends on the other inputs
        digest=digest,
        source=clip.source,
        side_db=read_side_level(file, seconds=settings.seconds),
    )


def _of_clip(packed: Shards, source: Source) -> Look | Rejection:
    assert source.offset is not None
    clip = source.offset
    row, every = packed.row(clip), int(packed.row(clip)["every"])
    reduce = max(by for by in (1, 2, 4, 8) if by == 1 or min(row["width"], row["height"]) >= SIDE * by)
    try:
        ticks = range(0, int(row["ticks"]), EVERY)
        pictures = [packed.picture(clip, tick - tick % every, reduce=reduce) for tick in ticks]
        begins, ends = int(row["sound_from"]), int(row["sound_to"])
        info = packed.info(clip)
        return look(
            pictures,
            packed.sound(clip, begins, ends - begins),
            name=f"{source.name} ({info.get('name')})",
            group=SPLITS[row["split"]],
            digest=source.name,
            source=info.get("source", {}),
            side_db=None,
            every=every,
        )
    except BadRecord as error:
        return Rejection(source, Reason.UNDECODABLE, str(error))


def _group(name: str, root: str) -> str:
    inside = name.removeprefix(f"{root}/").split("/")
    return inside[0] if len(inside) > 1 and inside[0].lower() in SPLIT_NAMES else ""


def _own(one: Look) -> list[Fault]:
    """What is wrong with a clip by itself."""
    found = []

    def add(kind: str, detail: str, *, drop: bool = False) -> None:
        found.append(Fault(one.name, kind, detail, drop, one.refused))

    seconds = max(1, round(one.seconds))
    if 2 * len(one.still) >= seconds:
        add("still", f"seconds {_numbers(one.still)} of {seconds}", drop=True)
    if one.cuts and one.stood >= SLIDES_STAND * (one.pictures - 1):
        add("slides", f"{one.stood} of {one.pictures} pictures are like the one before, {one.cuts} cuts", drop=True)
    if 2 * len(one.silent) >= seconds:
        add("silent", f"seconds {_numbers(one.silent)} of {seconds}", drop=True)
    if any(one.borders):
        left, right, top, bottom = (f"{share:.0%}" for share in one.borders)
        add("borders", f"left {left}, right {right}, top {top}, bottom {bottom}")
    if one.mark is not None:
        left, right, top, bottom = (f"{share:.0%}" for share in one.mark)
        add("watermark", f"from {left} to {right} of the width, {top} to {bottom} of the height")
    if one.repeats_hz is not None:
        add("grid", f"a pattern at {one.repeats_hz:,.0f} Hz that comes again every 0.04 s")
    elif one.codec in ON_THE_GRID:
        add("grid", f"{one.codec} has frames of 20 ms")
    if one.wall_hz is not None:
        add("band-limited", f"nothing above {one.wall_hz / 1000:.1f} kHz at {one.rate_hz:,} Hz")
    if one.side_db is not None and one.side_db < DUAL_MONO_DB:
        add("dual mono", "the channels are equal" if one.side_db == float("-inf") else f"{one.side_db:.0f} dB apart")
    if one.clipped >= CLIPPED_SHARE:
        add("clipped", f"{one.clipped:.2%} of its samples")
    return found


def _shared(looks: Sequence[Look]) -> list[Fault]:
    """What is there twice: to be dropped is that of training, then the smaller, the shorter, the later."""
    best_first = sorted(
        looks, key=lambda one: (not one.group.lower().startswith("train"), one.pixels, one.seconds), reverse=True
    )
    found: dict[int, Fault] = {}
    for pair in near.pairs(best_first):
        kept, dropped = best_first[pair.first], best_first[pair.second]
        across = f", in {kept.group} while this is in {dropped.group}" if kept.group != dropped.group else ""
        kind = "duplicate" if pair.exact else "near-duplicate"
        shift = "" if pair.exact else f", {abs(pair.shift):.2f} s apart"
        detail, rejected = f"of {kept.name}{shift}{across}", pair.exact or dropped.refused
        found.setdefault(pair.second, Fault(dropped.name, kind, detail, True, rejected))
    return list(found.values())


def _numbers(numbers: Sequence[int]) -> str:
    """Ascending numbers as 0-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
