"""What is wrong in a set of videos: for people, for machines, and as a list of what to drop."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from launch.progress import printable
from launch.report.page import Part, write_page
from launch.report.results import print_table
from shards.atomic import written_aside
from shards.survey import KINDS, Survey
from shards.text import on_one_line

SHOWN = 20  # faults of a kind on the terminal
DROP, NOTES = "drop.tsv", "looks.jsonl"
HEADER = ("fault", "clips", "to drop", "rejected by packing", "")


def show_survey(result: Survey) -> None:
    """Print how many clips have which fault, and the first of each kind."""
    print_table(HEADER, _counts(result), title=_heading(result), title_justify="left")
    for kind in KINDS:
        faults = [fault for fault in result.faults if fault.kind == kind]
        for fault in faults[:SHOWN]:
            print(printable(f"{kind}: {os.path.basename(fault.name)}: {fault.detail}"))
        if len(faults) > SHOWN:
            print(f"  and {len(faults) - SHOWN:,} more: --json and --out write all of them")
    for each in result.rejected[:SHOWN]:
        print(printable(f"rejected by packing: {each.source.basename}: {each.reason}: {each.detail}"))
    if len(result.rejected) > SHOWN:
        print(f"  and {len(result.rejected) - SHOWN:,} more: --json and --out write all of them")


def as_json(result: Survey) -> dict[str, Any]:
    """Everything but the fingerprints, as plain values."""
    clips = [
        {
            "file": look.name,
            "group": look.group,
            "digest": look.digest,
            "seconds": look.seconds,
            "still_seconds": look.still,
            "silent_seconds": look.silent,
            "cuts": look.cuts,
            "loudness_dbfs": max(look.loudness, -200.0),
            "clipped": look.clipped,
            "borders": look.borders,
            "sample_rate_hz": look.rate_hz,
            "wall_hz": look.wall_hz,
            "side_db": None if look.side_db is None else max(look.side_db, -200.0),
            "faults": [
                {"kind": fault.kind, "detail": fault.detail, "drop": fault.drop, "rejected": fault.rejected}
                for fault in result.faults
                if fault.name == look.name
            ],
        }
        for look in result.looks
    ]
    rejected = [{"file": it.source.name, "reason": str(it.reason), "detail": it.detail} for it in result.rejected]
    counts = {kind: count for kind, count, *_ in _totals(result)}
    inside = {kind: inside for kind, *_, inside in _totals(result)}
    return {"kinds": KINDS, "counts": counts, "counts_rejected": inside, "files": clips, "rejected": rejected}


def write_survey(folder: Path, result: Survey) -> None:
    """Write index.html and drop.tsv (name, kind, detail) to a folder. Raises ValueError where that cannot be."""
    rows = [(fault.kind, fault.name, fault.detail, "drop" if fault.drop else "") for fault in result.faults]
    parts = [
        Part(_heading(result), header=HEADER, cells=_counts(result)),
        Part("Each", header=("fault", "clip", "what", ""), cells=rows, marked=("drop",)),
        Part(
            "Rejected by packing",
            header=("file", "reason", ""),
            cells=[(each.source.name, str(each.reason), each.detail) for each in result.rejected],
        ),
    ]
    try:
        write_page(folder / "index.html", "What is wrong in this set", parts)
        with written_aside(folder / DROP) as file:
            for fault in result.faults:
                if fault.drop:
                    line = on_one_line(fault.name, fault.kind, fault.detail)
                    file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror}") from None


def _heading(result: Survey) -> str:
    drop = len({fault.name for fault in result.faults if fault.drop})
    return f"{len(result.looks):,} clips, {drop:,} of them to drop; {len(result.rejected):,} that packing rejects"


def _totals(result: Survey) -> list[tuple[str, int, int, int]]:
    every = Counter(kind for kind, _ in {(fault.kind, fault.name) for fault in result.faults})
    drop = Counter(kind for kind, _ in {(fault.kind, fault.name) for fault in result.faults if fault.drop})
    inside = Counter(kind for kind, _ in {(fault.kind, fault.name) for fault in result.faults if fault.rejected})
    return [(kind, every[kind], drop[kind], inside[kind]) for kind in KINDS]


def _counts(result: Survey) -> list[tuple[str, ...]]:
    return [(kind, *(f"{count:,}" for count in counts), KINDS[kind]) for kind, *counts in _totals(result)]
