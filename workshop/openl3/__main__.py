"""Weights of openl3 held against its own regression files: embeddings that it computed, of recordings it ships.

    python -m workshop.openl3 mine.py:encoder chirp_44k_kapre.npz     # mine.py: see workshop/openl3/__init__.py

The exit status is 1 where they disagree. Of openl3's tests chirp_44k_kapre, bento_audio_kapre and daisy are of
mel256_music, those with _linear of linear_env.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avc.encoders.load import load
from avc.encoders.trained import Trained
from avc.files.decoding import pieces_of
from avc.files.settings import Settings, wanted_by
from launch.user_errors import user_errors
from shards.media.clip import Rejected

RECORDINGS = (".wav", ".flac", ".mp4", ".jpg", ".png")
AGREE = 0.1
"""Largest relative difference of a row. openl3 resamples by resampy, whose filter is not soxr's: that alone made 0.06
on chirp_44k.wav, a pure tone, which is the hardest case, under random weights."""


@dataclass(frozen=True)
class Check:
    """rows: how many were compared. difference: the largest. relative: the largest of rows', to a row's length."""

    recording: Path
    rows: int
    difference: float
    relative: float

    @property
    def agrees(self) -> bool:
        return self.relative <= AGREE


def read_regression(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """`embedding` (T, D) and `timestamps` (T,) of a regression file; a picture's has no times and one row.

    Raises ValueError for another file. Nothing in it is executed.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            embedding = file["embedding"].astype(np.float32)
            times = file["timestamps"].astype(np.float64) if "timestamps" in file.files else np.zeros(len(embedding))
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no regression file of openl3: {error}") from None
    if embedding.ndim != 2 or times.shape != embedding.shape[:1] or not len(times):
        raise ValueError(f"{path} is no regression file of openl3: its shapes are {embedding.shape} and {times.shape}")
    return embedding, times


def check(network: Trained, regression: Path, *, recording: Path | None = None) -> Check:
    """Embed the recording of a regression file and compare.

    It is looked for beside the file: chirp_44k.wav belongs to chirp_44k_kapre.npz.
    Raises ValueError where the recording is missing, or its embeddings have another size.
    """
    theirs, times = read_regression(regression)
    recording = recording or _recording_of(regression)
    hop = round(float(times[1] - times[0]), 6) if len(times) > 1 else 0.1
    ours = _embedded(network, recording, hop, rows=len(times))
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"{regression} has embeddings of {theirs.shape[1]} numbers, and the network of {ours.shape[1]}"
        )
    rows = min(len(ours), len(theirs))  # openl3 reads videos by another library, whose sound may end later
    apart = ours[:rows] - theirs[:rows]
    relative = np.linalg.norm(apart, axis=1) / np.maximum(np.linalg.norm(theirs[:rows], axis=1), 1e-9)
    return Check(recording, rows, float(np.abs(apart).max()), float(relative.max()))


def _recording_of(regression: Path) -> Path:
    named = [
        path
        for path in sorted(regression.parent.iterdir())
        if path.suffix in RECORDINGS and f"{regression.stem}_".startswith(f"{path.stem}_")
    ]
    if not named:
        raise ValueError(f"the recording of {regression} is not beside it: give it with --recording")
    return max(named, key=lambda path: len(path.stem))


def _embedded(network: Trained, recording: Path, hop: float, *, rows: int) -> NDArray[np.float32]:
    wanted = wanted_by(network, Settings("audio" if network.hears else "image", hop))
    try:
        with recording.open("rb") as file:
            pieces = [piece for _, piece in pieces_of(file, wanted)]
    except (Rejected, OSError) as error:
        raise ValueError(f"{recording} cannot be read: {error}") from None
    if wanted.content == "image":
        return network.embed_crops(torch.from_numpy(np.stack(pieces))).numpy()
    sound, rate = np.concatenate(pieces), wanted.sample_rate_hz
    centered, plain = (
        network.embed_audio(sound, sample_rate=rate, hop_size=hop, center=center)[0] for center in (True, False)
    )
    return centered if abs(len(centered) - rows) <= abs(len(plain) - rows) else plain


def main(arguments: list[str] | None = None) -> None:
    """Compare, print and exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="FILE.py:NAME, which makes the encoder.")
    parser.add_argument("regression", type=Path, help="A regression file of openl3's tests, .npz.")
    parser.add_argument("--recording", type=Path, help="Of the regression file; else beside it, by its name.")
    asked = parser.parse_args(arguments)
    with user_errors("workshop.openl3"):
        result = check(load(asked.network), asked.regression, recording=asked.recording)
    verdict = "agrees" if result.agrees else "DOES NOT AGREE"
    print(
        f"it {verdict} with {asked.regression.name}, {result.rows} rows of {result.recording.name}: the largest "
        f"difference is {result.difference:.2g}, {result.relative:.2%} of a row's length"
    )
    sys.exit(not result.agrees)


if __name__ == "__main__":
    main()
