"""Building the index of a packed folder from its journal: the tables, the list of rejections, and the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from shards.durable import sync_folder, written_aside
from shards.format import CLIP, CLIPS, FORMAT_VERSION, MANIFEST, PICTURES, SPLITS, PackSettings, Reason
from shards.index import Manifest, ShardFile, StoredFile
from shards.journal import Event, Packed, Rejection

REJECTED = "rejected.tsv"  # name, reason and detail of every input that is not in the shards, for people


def write_index(folder: Path, settings: PackSettings, events: Iterable[Event]) -> Manifest:
    """Write clips.npy, pictures.npy, rejected.tsv and then manifest.json from a journal's events.

    Every shard must be complete.
    """
    shards: dict[str, ShardFile] = {}
    shard_rows: dict[str, int] = {}  # in the order of their first records, which is the same for every run
    packed: list[tuple[tuple[object, ...], np.ndarray]] = []
    rejected: dict[tuple[str, int | None], Rejection] = {}
    for event in events:
        if isinstance(event, ShardFile):
            shards[event.name] = event
            continue
        name = event.source.name, event.source.offset
        if isinstance(event, Rejection):
            rejected[name] = event
            continue
        rejected.pop(name, None)  # it was tried again, and packed
        shard_row = shard_rows.setdefault(event.shard, len(shard_rows))
        starts = np.cumsum([0, *event.picture_sizes], dtype=np.uint32)  # lists would take ten times the memory
        packed.append((_row(event, shard_row=shard_row, every=settings.every), starts))
    packed.sort(key=lambda pair: pair[0][:1])
    clips = np.array([row for row, _ in packed], dtype=CLIP)
    owned = np.array([len(starts) for _, starts in packed], dtype=np.uint64)
    clips["first_picture"] = np.cumsum(owned) - owned

    with written_aside(folder / CLIPS) as file:
        np.save(file, clips, allow_pickle=False)
    with written_aside(folder / PICTURES) as file:
        # Row by row, and not by np.save: half a million clips' table need not be in memory twice.
        header = {"descr": "<u4", "fortran_order": False, "shape": (int(owned.sum()),)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, starts in packed:
            file.write(starts.astype("<u4").tobytes())
    with written_aside(folder / REJECTED) as file:
        for name in sorted(rejected, key=str):
            fields = (name[0], rejected[name].reason.value, rejected[name].detail)
            file.write("\t".join(map(_on_one_line, fields)).encode("utf-8", "backslashreplace") + b"\n")

    splits = Counter(clips["split"].tolist())
    reasons = Counter(rejection.reason for rejection in rejected.values())
    manifest = Manifest(
        format=FORMAT_VERSION,
        settings=settings,
        shards=tuple(shards[name] for name in shard_rows),
        tables=tuple(_stored(folder, name) for name in (CLIPS, PICTURES)),
        packed={split: splits[code] for code, split in enumerate(SPLITS)},
        rejected={reason.value: reasons[reason] for reason in Reason if reasons[reason]},
    )
    with written_aside(folder / MANIFEST) as file:
        file.write(json.dumps(asdict(manifest), indent=1).encode("ascii") + b"\n")
    return manifest


def remove_manifest(folder: Path) -> None:
    """Mark the folder as one that is being packed."""
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)


def _row(event: Packed, *, shard_row: int, every: int) -> tuple[object, ...]:
    sound = event.members["wav"] if "wav" in event.members else event.members["flac"]
    values = {
        "key": event.key.encode("ascii"),
        "split": SPLITS.index(event.split),
        "shard": shard_row,
        "ticks": event.ticks,
        "every": every,
        "width": event.width,
        "height": event.height,
        "first_picture": 0,
        "sound_from": event.sound_from,
        "sound_to": event.sound_to,
    }
    for name, member in (("mjpeg", event.members["mjpeg"]), ("sound", sound), ("json", event.members["json"])):
        values |= {f"{name}_offset": member.offset, f"{name}_size": member.size, f"{name}_crc": member.crc}
    assert CLIP.names is not None
    return tuple(values[name] for name in CLIP.names)


def _stored(folder: Path, name: str) -> StoredFile:
    with open(folder / name, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(name=name, bytes=file.tell(), sha256=digest)


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
