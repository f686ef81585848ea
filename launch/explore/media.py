"""Thumbnails, spectrograms and sounds of 64 clips each in one file: WebP, and Opus in WebM."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from launch.explore.moments import Moments, second
from launch.report.page import ImageArray
from launch.report.units import spectrogram
from shards import Report
from shards.format import SAMPLE_RATE_HZ
from shards.read import Shards

COLUMNS = 8
PER_FILE = COLUMNS * COLUMNS  # 100,000 clips are 4,689 files
LARGEST = (240, 180)  # pixels of a thumbnail at most, which keeps its shape
SPECTROGRAM = (120, 90)
QUALITY = 72  # of WebP
BIT_RATE = 32_000  # of Opus, which takes less where there is less to hear
SLOT_SAMPLES = SAMPLE_RATE_HZ * 3 // 2  # a second of sound and half a second of silence, in which a player may stop


def fitted(width: int, height: int) -> tuple[int, int]:
    """Size of the thumbnail of a picture: within LARGEST, of the same shape, never enlarged."""
    scale = min(LARGEST[0] / width, LARGEST[1] / height, 1)
    return max(1, round(width * scale)), max(1, round(height * scale))


def write_media(folder: Path, shards: Shards, moments: Moments, sizes: NDArray[np.int64], report: Report) -> None:
    """Write frames-K.webp, spectrograms-K.webp and sounds-K.webm for the moments 64 K to 64 K + 63.

    sizes: of each thumbnail, int64 (N, 2). A sheet has 8 columns of cells as large as the largest of all thumbnails.
    """
    cell = (int(sizes[:, 0].max()), int(sizes[:, 1].max()))

    def write(number: int) -> int:
        part = range(number * PER_FILE, min((number + 1) * PER_FILE, len(moments)))
        sounds = [second(shards, moments, i) for i in part]
        frames = (_thumbnail(shards, int(moments.clip[i]), int(moments.tick[i]), *sizes[i].tolist()) for i in part)
        _sheet(folder / f"frames-{number}.webp", frames, cell, len(part))
        _sheet(folder / f"spectrograms-{number}.webp", map(_colored, sounds), SPECTROGRAM, len(part))
        write_sounds(folder / f"sounds-{number}.webm", sounds)
        return len(part)

    done = 0
    # Threads: the decoders and encoders, which take the time, let go of Python's lock.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for future in as_completed([pool.submit(write, n) for n in range(-(-len(moments) // PER_FILE))]):
            done += future.result()
            report(done, len(moments), "")


def write_sounds(path: Path, sounds: list[NDArray[np.int16]]) -> None:
    """Write seconds of mono sound at 48 kHz one after another, each in a slot of 1.5 s, as Opus in WebM."""
    samples = np.zeros((len(sounds), SLOT_SAMPLES), dtype=np.int16)
    samples[:, :SAMPLE_RATE_HZ] = sounds
    # Absolute, or what stands before a colon would be taken for a protocol.
    with av.open(path.absolute(), "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = BIT_RATE
        for start, slot in enumerate(samples):
            frame = av.AudioFrame.from_ndarray(slot[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start * SLOT_SAMPLES
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _thumbnail(shards: Shards, clip: int, tick: int, width: int, height: int) -> ImageArray:
    side = int(shards.row(clip)["width"])
    reduce = max(reduce for reduce in (1, 2, 4, 8) if reduce == 1 or side // reduce >= width)
    image = Image.fromarray(shards.picture(clip, tick, reduce=reduce))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _colored(sound: NDArray[np.int16]) -> ImageArray:
    gray = Image.fromarray(spectrogram(sound)[..., 0]).resize(SPECTROGRAM, Image.Resampling.BOX)
    colored: ImageArray = colormaps["magma"](np.asarray(gray), bytes=True)[..., :3]
    return colored


def _sheet(path: Path, images: Iterable[ImageArray], cell: tuple[int, int], count: int) -> None:
    width, height = cell
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * height, COLUMNS * width, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, COLUMNS)
        top = row * height + (height - image.shape[0]) // 2
        left = column * width + (width - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    Image.fromarray(sheet).save(path, "WEBP", quality=QUALITY, method=3)
