"""How sound lies to pictures in many files, for people and for machines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Column

from launch.progress import printable
from launch.report.results import print_table
from shards.journal import Rejection
from shards.sync import PIPELINES, Sync
from shards.text import counted

HEADS = dict(zip(PIPELINES, ("rate", "start", "count", "all", "edits"), strict=True))  # of columns

FILES_SHOWN = 40
REJECTED_SHOWN = 20
BAR = 20  # characters

# Largest errors below these, milliseconds. Half a frame at 25 a second is 20 ms: a pair that is off by more is of
# another frame.
BINS = (5, 20, 40, 100, 500, float("inf"))


def show_sync(syncs: Mapping[str, Sync], rejected: Sequence[Rejection]) -> None:
    """Print the files with the largest errors, the histogram of errors over all files, and what was rejected."""
    files = sorted(syncs.items(), key=lambda item: -item[1].worst)
    if files:
        header: list[str | Column] = [
            "file",
            _right("offset"),
            "what there is, and what packing does",
            *map(_right, HEADS.values()),
        ]
        rows = [_row(os.path.basename(name), sync) for name, sync in files[:FILES_SHOWN]]
        print_table(header, rows, title="Offsets, and the largest error of each pipeline, ms", title_justify="left")
        if len(files) > FILES_SHOWN:
            print(f"and {len(files) - FILES_SHOWN:,} files with smaller errors: --json writes all of them")
        _show_histogram([sync for _, sync in files])
        print("An error is the time of the sound that a frame gets, less the frame's own. What each pipeline does:")
        for name, head in HEADS.items():
            print(f"  {head:<6} {PIPELINES[name]}")
    _show_rejected(rejected)


def as_json(syncs: Mapping[str, Sync], rejected: Sequence[Rejection]) -> dict[str, Any]:
    """Everything, as plain values; times in seconds."""
    refused = [{"file": it.source.name, "reason": str(it.reason), "detail": it.detail} for it in rejected]
    files = [{"file": name} | asdict(sync) for name, sync in syncs.items()]
    return {"pipelines": PIPELINES, "files": files, "rejected": refused}


def _row(name: str, sync: Sync) -> tuple[str, ...]:
    errors = (_ms(sync.errors[each].worst) if each in sync.errors else "" for each in PIPELINES)
    return (name, _ms(sync.offset), "; ".join([*_facts(sync), *_packing(sync)]), *errors)


def _right(head: str) -> Column:
    return Column(head, justify="right")


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000) + 0:,}"


def _facts(sync: Sync) -> list[str]:
    pictures, sound = sync.pictures, sync.sound
    facts = []
    if pictures.fps is not None:
        mismatch = pictures.declared_fps is not None and abs(pictures.declared_fps / pictures.fps - 1) > 0.005
        declared = f", declared {pictures.declared_fps:.3f}" if mismatch else ""
        facts.append(f"{'variable, ' if pictures.variable_rate else ''}{pictures.fps:.3f} fps{declared}")
    if sound.rate_hz != sound.declared_rate_hz:
        facts.append(f"sound declared at {sound.declared_rate_hz:,} Hz, decoded at {sound.rate_hz:,}")
    if sound.left_out:
        facts.append(f"priming {_ms(sound.left_out)} ms")
    if sync.edits:
        facts.append(f"edit lists move picture {_ms(sync.edits.pictures)}, sound {_ms(sync.edits.sound)} ms")
    if sound.gaps:
        gap = max(sound.gaps, key=lambda gap: abs(gap.seconds))
        facts.append(f"{counted(len(sound.gaps), 'gaps')} in the sound, {_ms(gap.seconds)} ms at {gap.at:.2f} s")
    if sound.drift:
        facts.append(f"drift {_ms(sound.drift)} ms ({sound.drift_ppm:,.0f} ppm)")
    return facts


def _packing(sync: Sync) -> list[str]:
    packing = sync.packing
    what = (
        (packing.too_short, "finds no whole second of sound around a frame"),
        (packing.edit_list_ignored, "ignores the edit lists"),
        (packing.frames_left_out, f"leaves out {counted(packing.frames_left_out, 'frames')}"),
        (packing.frames_repeated, f"repeats {counted(packing.frames_repeated, 'frames')}"),
        (packing.held, f"holds its last frame for {packing.held:.2f} s"),
        (round(packing.silence * 1000), f"{_ms(packing.silence)} ms of silence first"),
        (round(packing.cut * 1000), f"cuts {_ms(packing.cut)} ms of sound before the picture"),
        (sync.parts > 1, f"puts {sync.parts} parts, whose stamps start over, one after the other"),
        (sync.sound.runs > 1, f"places {sync.sound.runs} pieces of sound"),
    )
    done = [words for is_so, words in what if is_so]
    return [f"packing {', '.join(done)}"] if done else []


def _show_histogram(files: Sequence[Sync]) -> None:
    """Files by their largest error, for each pipeline; the bar is of the worst pipeline of each file."""
    columns = {name: [sync.errors[name].worst for sync in files if name in sync.errors] for name in HEADS}
    counts = {name: Counter(_bin(abs(error)) for error in errors) for name, errors in columns.items()}
    worst = Counter(_bin(sync.worst) for sync in files)
    rows = []
    for number, (low, high) in enumerate(zip((0, *BINS), BINS, strict=False)):
        name = f"{low:g} to {high:g} ms" if high != BINS[-1] else f"{low:g} ms and more"
        bar = "█" * round(BAR * worst[number] / len(files)) or ("▏" if worst[number] else "")
        rows.append((name, *(f"{counts[pipeline][number]:,}" for pipeline in HEADS), f"{worst[number]:,}", bar))
    header: list[str | Column] = ["largest error", *map(_right, [*HEADS.values(), "any"]), ""]
    print_table(header, rows, title=f"{counted(len(files), 'files')} by their largest error", title_justify="left")


def _bin(seconds: float) -> int:
    return next(number for number, limit in enumerate(BINS) if seconds * 1000 < limit)


def _show_rejected(rejected: Sequence[Rejection]) -> None:
    if not rejected:
        return
    reasons = Counter(str(each.reason) for each in rejected).most_common()
    print(f"rejected: {len(rejected):,} ({', '.join(f'{reason} {count:,}' for reason, count in reasons)})")
    for each in rejected[:REJECTED_SHOWN]:
        print(printable(f"  {os.path.basename(each.source.name)}: {each.reason}: {each.detail}"))
    if len(rejected) > REJECTED_SHOWN:
        print(f"  and {len(rejected) - REJECTED_SHOWN:,} more: --json writes all of them")
