"""Rows of networks that were trained on the recordings as a whole, fine-tuned or from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avc.data.labeled_sets import LabeledSet
from avc.devices import named_devices
from avc.evaluation.extraction import UNREADABLE_SHARE, Unreadable
from avc.evaluation.fine_tuning import train_on_recordings
from avc.evaluation.sound import read_sound
from avc.models.waveform import SAMPLE_RATE
from launch.progress import progress
from launch.report.linear_table import Row
from launch.report.probe_rows import networks, titles


def fine_tuned(paths: Sequence[Path], labeled: LabeledSet, *, passes: int, seed: int, devices: str) -> list[Row]:
    """Each network trained on, and one of the same settings trained from scratch; all recordings are kept in memory.

    Raises ValueError for a network that takes no waveform, and where too many recordings cannot be read.
    """
    sounds, read, unreadable = [], [], []
    with progress("reading", unit="recordings") as report:
        for number, file in enumerate(labeled.files):
            try:
                sounds.append((read_sound(file.path, SAMPLE_RATE) * 32767).short())
                read.append(number)
            except Unreadable as error:
                unreadable.append((file.path.name, str(error)))
            report(number + 1, len(labeled.files), file.path.name)
    if len(unreadable) > UNREADABLE_SHARE * len(labeled.files):
        name, reason = unreadable[0]
        raise ValueError(f"{len(unreadable)} recordings cannot be read, such as {name}: {reason}")
    labels, folds = (np.array([getattr(labeled.files[i], what) for i in read]) for what in ("label", "fold"))
    rows: dict[str, Row] = {}
    for path, title in titles(paths).items():
        for encoders in networks(path, title, seed):
            audio = encoders.audio
            model = getattr(audio, "network", None)
            if audio is None or audio.seconds is not None or model is None:
                raise ValueError(f"--fine-tune trains networks that take a waveform, as SoundNet; {path} is of towers")
            name = f"{encoders.name}, {'from scratch' if 'untrained' in encoders.name else 'fine-tuned'}"
            if name in rows:
                continue
            with progress(f"training {name}", unit="passes") as report:
                result = train_on_recordings(
                    model,
                    sounds,
                    labels,
                    folds,
                    tested_folds=labeled.tested_folds,
                    passes=passes,
                    seed=seed,
                    device=named_devices(devices)[0],
                    report=report,
                )
            rows[name] = Row(name, result, tuple(unreadable), 0)
    return list(rows.values())
