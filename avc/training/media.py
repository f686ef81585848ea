"""Held-out pairs as small files for a dashboard: JPEG for what is seen, MP3 for what is heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from avc.tasks.task import Pictured
from shards.format import SAMPLE_RATE_HZ

SIDE = 224  # pixels, at most
QUALITY = 70  # of JPEG
LOUDEST = 12.0  # log-magnitude that is white; tones of full scale reach 14
OPACITY = 0.65  # of a map where it is 1


def write_pairs(pairs: Pictured, folder: Path) -> list[tuple[Path, Path, Path]]:
    """Files of each pair: its frame, its spectrogram (low frequencies at the bottom), its second of audio."""
    files = []
    for number, (image, audio, spectrogram) in enumerate(
        zip(pairs.images, pairs.audio, pairs.spectrograms, strict=True)
    ):
        frame, drawn, sound = (folder / f"{number:02}-{name}" for name in ("frame.jpg", "spectrogram.jpg", "sound.mp3"))
        _small(image).save(frame, quality=QUALITY)
        _colored(spectrogram[::-1] / LOUDEST, "magma").save(drawn, quality=QUALITY)
        soundfile.write(sound, audio.astype(np.float32) / 32768, SAMPLE_RATE_HZ, format="MP3")  # all browsers play it
        files.append((frame, drawn, sound))
    return files


def write_map(image: NDArray[np.uint8], map_: NDArray[np.float32], path: Path) -> None:
    """A frame under its map, float32 (H', W'), 0 to 1."""
    frame = _small(image)
    mask = Image.fromarray((map_ * 255).astype(np.uint8)).resize(frame.size, Image.Resampling.BILINEAR)
    heat = _colored(np.asarray(mask) / 255, "inferno")
    Image.composite(heat, frame, mask.point(lambda value: OPACITY * value)).save(path, quality=QUALITY)


def _small(image: NDArray[np.uint8]) -> Image.Image:
    shown = Image.fromarray(image)
    shown.thumbnail((SIDE, SIDE))
    return shown


def _colored(values: NDArray[np.floating], name: str) -> Image.Image:
    return Image.fromarray(colormaps[name](np.clip(values, 0, 1), bytes=True)[..., :3])
