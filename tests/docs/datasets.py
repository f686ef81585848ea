"""Data sets in the forms in which they are published, a few files each, of rendered videos and noise."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import soundfile

SEGMENTS = 16  # videos of each data set, every fourth of its test part


def write_datasets(home: Path) -> None:
    """Write VGGSound, AudioSet, Kinetics, UrbanSound8K and ESC-50 into a folder that has rendered videos."""
    rows = map(json.loads, (home / "demo-world" / "world" / "labels.jsonl").read_text().splitlines())
    videos = [(home / "demo-world" / "world" / "videos" / row["file"], row["kind"]) for row in rows][:SEGMENTS]
    vggsound, audioset, kinetics = (home / name for name in ("vggsound", "audioset", "kinetics"))
    tables: dict[Path, list[list[object]]] = {}
    for number, (video, kind) in enumerate(videos):
        test, name = number % 4 == 0, f"abcdefgh-{number:02}"
        for folder, file in (
            (vggsound, f"{name}_{number:06}"),
            (audioset, f"{name}_{number:06}"),
            (kinetics, f"{name}_{number:06}_{number + 10:06}"),
        ):
            (folder / "videos").mkdir(parents=True, exist_ok=True)
            (folder / "videos" / f"{file}{video.suffix}").hardlink_to(video)
        part = "test" if test else "train"
        tables.setdefault(vggsound / "vggsound.csv", []).append([name, number, f"playing a {kind}", part])
        table = audioset / ("eval_segments.csv" if test else "balanced_train_segments.csv")
        tables.setdefault(table, []).append([name, f" {number}.000", f" {number + 10}.000", f' "/m/{kind}"'])
        head: list[object] = ["label", "youtube_id", "time_start", "time_end", "split"]
        table = kinetics / ("validate.csv" if test else "train.csv")
        tables.setdefault(table, [head]).append([f"playing {kind}", name, number, number + 10, part])
    for path, lines in tables.items():
        if path.parent == audioset:
            text = "".join(",".join(map(str, line)) + "\n" for line in lines)
            path.write_text(
                f"# Segments csv\n# num_ytids={len(lines)}\n# YTID, start_seconds, end_seconds, labels\n{text}"
            )
        else:
            with path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
    kinds = sorted({kind for _, kind in videos})
    ontology = [{"id": "/m/top", "name": "Sounds", "child_ids": [f"/m/{kind}" for kind in kinds]}]
    ontology += [{"id": f"/m/{kind}", "name": kind, "child_ids": []} for kind in kinds]
    (audioset / "ontology.json").write_text(json.dumps(ontology))
    _urbansound8k(home / "UrbanSound8K")
    _esc50(home / "ESC-50")


def _urbansound8k(root: Path) -> None:
    rows = [
        (f"{number}-{kind}-0-0.wav", f"{number}", 0.0, 1.0, 1, fold, kind, f"class {kind}")
        for number, (fold, kind) in enumerate((fold, kind) for fold in range(1, 11) for kind in range(3))
    ]
    names = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    _write_table(root / "metadata" / "UrbanSound8K.csv", names, rows)
    for row in rows:
        _write_recording(root / "audio" / f"fold{row[5]}" / row[0], kind=row[6])


def _esc50(root: Path) -> None:
    rows = [
        (f"{fold}-{kind}-A-{kind}.wav", fold, kind, f"class {kind:02}", kind < 10, kind, "A")
        for fold in (1, 2, 3)
        for kind in range(50)
    ]
    _write_table(
        root / "meta" / "esc50.csv", ("filename", "fold", "target", "category", "esc10", "src_file", "take"), rows
    )
    for row in rows:
        _write_recording(root / "audio" / row[0], kind=row[2])


def _write_table(path: Path, names: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *rows])


def _write_recording(path: Path, *, kind: int) -> None:
    """A tone of 1 s in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(8000) / 8000
    noise = np.random.default_rng(list(path.name.encode())).normal(0, 0.05, len(time))
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 40 * (kind + 2) * time) + noise, 8000)
