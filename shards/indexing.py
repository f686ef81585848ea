"""Building the index of a packed folder from its journal: the tables, the list of rejections, and the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
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

    Every shard must be complete. Raises ValueError when a key is there twice: one packing cannot do that, tasks that
    packed changing files can.
    """
    shards: dict[str, ShardFile] = {}
    shard_rows: dict[str, int] = {}  # in the order of their first records, which is the same for every run
    packed = bytearray()  # CLIP rows
    starts: list[np.ndarray] = []  # of each row's pictures
    names: set[tuple[str, int | None]] = set()
    rejected: dict[tuple[str, int | None], Rejection] = {}
    for event in events:
        if isinstance(event, ShardFile):
            shards[event.name] = event
            continue
        name = event.source.name, event.source.offset
        if isinstance(event, Rejection):
            rejected[name] = event
            continue
        names.add(name)
        shard_row = shard_rows.setdefault(event.shard, len(shard_rows))
        # Python's objects would take ten times the memory: a large set has millions of clips.
        packed += np.array(_row(event, shard_row=shard_row, every=settings.every), dtype=CLIP).tobytes()
        starts.append(np.cumsum([0, *event.picture_sizes], dtype=np.uint32))
    clips = np.frombuffer(packed, dtype=CLIP)
    order = np.argsort(clips["key"], kind="stable")
    clips = clips[order]
    _check_that_keys_differ(folder, clips, [*shard_rows])
    owned = np.array([len(starts[place]) for place in order], dtype=np.uint64)
    clips["first_picture"] = np.cumsum(owned) - owned
    # It was tried again and packed, by this task or, when its size was first unknown, by another one.
    left = [rejection for name, rejection in rejected.items() if name not in names]

    with written_aside(folder / CLIPS) as file:
        np.save(file, clips, allow_pickle=False)
    with written_aside(folder / PICTURES) as file:
        # Row by row, and not by np.save: half a million clips' table need not be in memory twice.
        header = {"descr": "<u4", "fortran_order": False, "shape": (int(owned.sum()),)}
        np.lib.format.write_array_header_1_0(file, header)
        for place in order:
            file.write(starts[place].astype("<u4").tobytes())
    with written_aside(folder / REJECTED) as file:
        file.writelines(sorted(map(_line, left)))

    splits = Counter(clips["split"].tolist())
    reasons = Counter(rejection.reason for rejection in left)
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


def _check_that_keys_differ(folder: Path, clips: np.ndarray, shards: Sequence[str]) -> None:
    twice = np.flatnonzero(clips["key"][1:] == clips["key"][:-1])
    if len(twice):
        key = str(clips["key"][twice[0]], "ascii")
        first, second = (folder / shards[row] for row in clips["shard"][twice[0] : twice[0] + 2])
        raise ValueError(
            f"record {key} is in {first} and in {second}, and {len(twice) - 1} more are in two tasks: videos changed "
            f"while they were packed. Remove {first.parent} and {second.parent}, pack these tasks again, and merge"
        )


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


def _line(rejection: Rejection) -> bytes:
    fields = (rejection.source.name, rejection.reason.value, rejection.detail)
    return "\t".join(map(_on_one_line, fields)).encode("utf-8", "backslashreplace") + b"\n"


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
