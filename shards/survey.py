"""Surveys videos or packed clips for faults: analyzes each in a worker process, then compares all of them.

Looks are saved as they are made, so an interrupted survey resumes.
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
from shards.look import EVERY, Look, encode_note, look, read_notes
from shards.media import read, read_side_level
from shards.media.clip import Rejected
from shards.processes import refuse_unguarded
from shards.read import BadRecord, Shards, decode_picture
from shards.record import KEY_DIGITS
from shards.sources import Source, list_sources
from shards.store import Store, Url, as_url, place
from shards.workers import attempt, run_in_workers, worker_count

SIDE = 128  # smallest side of the analyzed pictures, pixels
SPLIT_NAMES = {*SPLITS, "training", "valid", "val", "dev", "eval"}  # of folders

DUAL_MONO_DB = -40.0  # maximum of the side signal relative to the middle
CLIPPED_SHARE = 1e-4
# Frames of 20 ms, so each tick begins with one; frames of MP3, AAC and AC-3 begin at varying positions in a tick.
GRID_CODECS = {"opus", "libopus", "amrnb", "amrwb", "speex", "libspeex", "gsm", "gsm_ms", "ilbc"}
SLIDES_SHARE = 0.8  # minimum share of pictures without a change


@dataclass(frozen=True)
class Fault:
    """kind: of KINDS. detail: for people.

    drop: whether the clip is useless, or a duplicate. rejected: whether packing rejects it anyway.
    """

    name: str
    kind: str
    detail: str
    drop: bool
    rejected: bool


KINDS = {  # of `Fault.kind`
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
    """looks: of the clips, in order of their names. rejected: inputs that packing rejects as unreadable."""

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
    """Survey the first `seconds` of every video of `inputs`, which are as in `list_sources`, or a packed folder.

    workers, time_limit_seconds: as in `shards.workers.audit_sync`. notes: file of looks, from which a survey of the
    same inputs resumes; rejected inputs are tried again. The group of a clip is its split; that of a video is its
    folder train, validation, ..., or with several inputs the smallest input that has it. Raises ValueError for invalid
    arguments and missing inputs.
    """
    refuse_unguarded()
    if not 1 <= seconds < math.inf:
        raise ValueError(f"seconds must be at least 1, and finite, not {seconds}")
    count = worker_count(workers, time_limit_seconds)
    work: Callable[[Source], Look | Rejection]
    settings: list[float | str] = [seconds, *(os.fspath(path) for path in inputs)]
    groups: dict[Source, str] = {}
    packed = _open_packed(place(inputs[0])) if len(inputs) == 1 else None
    if packed is not None:
        sources = [Source(packed.key(row), str(packed.folder), row, -1, 0) for row in range(len(packed))]
        settings.append(packed.digest)  # the folder may be packed again
        work = partial(_look_at_clip, packed)
    else:
        groups = _list_groups(inputs)
        sources = list(groups)
        work = partial(_look_at_video, seconds=seconds)
    if not sources:
        raise ValueError(f"there are no videos in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    looks_by_key = read_notes(notes, settings=settings) if notes is not None else {}
    pending = [source for source in sources if _key(source) not in looks_by_key]
    rejected = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(notes, "ab")) if notes is not None else None
        results = run_in_workers(work, pending, workers=count, time_limit_seconds=time_limit_seconds)
        stack.enter_context(contextlib.closing(results))
        first = len(sources) - len(pending) + 1
        for done, (source, result) in enumerate(zip(pending, results, strict=True), start=first):
            if isinstance(result, Rejection):
                rejected.append(result)
            else:
                looks_by_key[_key(source)] = result
                if file is not None:
                    file.write(encode_note(_key(source), result))
                    file.flush()
            if progress is not None:
                progress(done, len(sources), source.basename)
    pairs = ((source, looks_by_key[_key(source)]) for source in sources if _key(source) in looks_by_key)
    looks = [
        replace(look, group=groups.get(source, look.group)) for source, look in pairs
    ]  # groups depend on the inputs
    faults = [fault for look in looks for fault in _clip_faults(look)] + _duplicate_faults(looks)
    return Survey(looks, rejected, sorted(faults, key=lambda fault: (list(KINDS).index(fault.kind), fault.name)))


def _key(source: Source) -> tuple[str, int | None, int, int]:
    return source.name, source.offset, source.size, source.mtime_ns


def _open_packed(folder: Path) -> Shards | None:
    """The shards of a packed folder; None without a manifest, as in a folder of videos."""
    try:
        if not (Store(folder).facts(MANIFEST) if isinstance(folder, Url) else (folder / MANIFEST).is_file()):
            return None
    except FileNotFoundError:
        return None
    packed = Shards(folder)
    if (every := int(packed.index["every"].max(initial=1))) > TICKS_PER_SECOND:
        raise ValueError(
            f"{folder} keeps less than a picture a second (--every {every}), too few to detect still ones: "
            "give the videos themselves"
        )
    return packed


def _list_groups(inputs: Sequence[str | os.PathLike[str]]) -> dict[Source, str]:
    """The videos in order of name, each with its group; where inputs overlap, that of the smallest input."""
    by_size = sorted(((list_sources([input_]), os.fspath(input_)) for input_ in inputs), key=lambda item: -len(item[0]))
    groups: dict[tuple[str, int | None], tuple[Source, str]] = {}
    for sources, input_ in by_size:
        root = str(as_url(input_) or os.path.abspath(os.path.expanduser(input_)))
        group = os.path.basename(root).removesuffix(".txt") if len(inputs) > 1 else None
        for source in sources:
            groups[source.name, source.offset] = source, _split_of(source.name, root) if group is None else group
    return dict(sorted(groups.values(), key=lambda item: (os.fsencode(item[0].name), item[0].offset or 0)))


def _look_at_video(source: Source, *, seconds: float) -> Look | Rejection:
    settings = PackSettings(seconds=seconds, side=SIDE, every=EVERY, keep_silent=True, keep_still=True)
    return attempt(partial(_look_at_file, source=source, settings=settings), source)


def _look_at_file(file: BinaryIO, *, source: Source, settings: PackSettings) -> Look:
    digest = hashlib.file_digest(file, "sha256").hexdigest()[:KEY_DIGITS]  # type: ignore[arg-type]
    try:
        clip, step = read(file, settings), 1
    except Rejected as error:
        if error.reason is not Reason.TOO_SHORT:
            raise
        clip, step = read(file, replace(settings, every=1)), EVERY  # about one second: any tick may be its middle
    pictures = [decode_picture(data, width=clip.width, height=clip.height) for data in clip.pictures[::step]]
    return look(
        pictures,
        clip.sound[clip.sound_from : clip.sound_to],
        name=source.name,
        group="",  # depends on the other inputs
        digest=digest,
        source=clip.source,
        side_db=read_side_level(file, seconds=settings.seconds),
    )


def _look_at_clip(packed: Shards, source: Source) -> Look | Rejection:
    assert source.offset is not None
    clip = source.offset
    row, every = packed.row(clip), int(packed.row(clip)["every"])
    reduce = max(by for by in (1, 2, 4, 8) if by == 1 or min(row["width"], row["height"]) >= SIDE * by)
    try:
        ticks = range(0, int(row["ticks"]), EVERY)
        pictures = [packed.picture(clip, tick - tick % every, reduce=reduce) for tick in ticks]
        start, stop = int(row["sound_from"]), int(row["sound_to"])
        info = packed.info(clip)
        return look(
            pictures,
            packed.sound(clip, start, stop - start),
            name=f"{source.name} ({info.get('name')})",
            group=SPLITS[row["split"]],
            digest=source.name,
            source=info.get("source", {}),
            side_db=None,
            every=every,
        )
    except BadRecord as error:
        return Rejection(source, Reason.UNDECODABLE, str(error))


def _split_of(name: str, root: str) -> str:
    parts = name.removeprefix(f"{root}/").split("/")
    return parts[0] if len(parts) > 1 and parts[0].lower() in SPLIT_NAMES else ""


def _clip_faults(look: Look) -> list[Fault]:
    """Faults of a single clip."""
    faults = []

    def add(kind: str, detail: str, *, drop: bool = False) -> None:
        faults.append(Fault(look.name, kind, detail, drop, look.refused))

    seconds = max(1, round(look.seconds))
    if 2 * len(look.still) >= seconds:
        add("still", f"seconds {_format_ranges(look.still)} of {seconds}", drop=True)
    if look.cuts and look.stood >= SLIDES_SHARE * (look.pictures - 1):
        add(
            "slides",
            f"{look.stood} of {look.pictures} pictures are like the one before, {look.cuts} cuts",
            drop=True,
        )
    if 2 * len(look.silent) >= seconds:
        add("silent", f"seconds {_format_ranges(look.silent)} of {seconds}", drop=True)
    if any(look.borders):
        left, right, top, bottom = (f"{share:.0%}" for share in look.borders)
        add("borders", f"left {left}, right {right}, top {top}, bottom {bottom}")
    if look.mark is not None:
        left, right, top, bottom = (f"{share:.0%}" for share in look.mark)
        add("watermark", f"from {left} to {right} of the width, {top} to {bottom} of the height")
    if look.repeats_hz is not None:
        add("grid", f"a pattern at {look.repeats_hz:,.0f} Hz that comes again every 0.04 s")
    elif look.codec in GRID_CODECS:
        add("grid", f"{look.codec} has frames of 20 ms")
    if look.wall_hz is not None:
        add("band-limited", f"nothing above {look.wall_hz / 1000:.1f} kHz at {look.rate_hz:,} Hz")
    if look.side_db is not None and look.side_db < DUAL_MONO_DB:
        add("dual mono", "the channels are equal" if look.side_db == float("-inf") else f"{look.side_db:.0f} dB apart")
    if look.clipped >= CLIPPED_SHARE:
        add("clipped", f"{look.clipped:.2%} of its samples")
    return faults


def _duplicate_faults(looks: Sequence[Look]) -> list[Fault]:
    """Duplicates; the one to drop is that of training, else the smaller, the shorter, the later."""
    best_first = sorted(looks, key=_quality, reverse=True)
    faults: dict[int, Fault] = {}
    for pair in near.find_pairs(best_first):
        kept, dropped = best_first[pair.first], best_first[pair.second]
        across = f", in {kept.group} while this is in {dropped.group}" if kept.group != dropped.group else ""
        kind = "duplicate" if pair.exact else "near-duplicate"
        shift = "" if pair.exact else f", {abs(pair.shift):.2f} s apart"
        detail, rejected = f"of {kept.name}{shift}{across}", pair.exact or dropped.refused
        faults.setdefault(pair.second, Fault(dropped.name, kind, detail, True, rejected))
    return list(faults.values())


def _quality(look: Look) -> tuple[bool, int, float]:
    return not look.group.lower().startswith("train"), look.pixels, look.seconds


def _format_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as 0-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
