"""A file that somebody sent, decoded in a process of its own, within the bounds of packing.

Imports no torch, so that the process starts at once; it may hang, crash or ask for too much memory, and nothing else
notices.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avc.data.media import read_loudest_second, read_rgb
from shards.media.headers import is_picture
from shards.processes import Ended, NeverBegan, Processes

MAX_BYTES = 64 * 2**20  # ten minutes of WAV, mono at 48 kHz, are 58 MB
MAX_SECONDS = 20
MAX_MEMORY_BYTES = 4 * 2**30
SIDE = 512  # pixels of the smallest side from which a picture is reduced: far more than a network takes
WANTED = (
    "wanted is a picture (JPEG, PNG, WebP, AVIF, BMP, GIF) or a recording (WAV, FLAC, Ogg, MP3) of a second or more"
)

Decoded = tuple[Literal["image", "audio"], NDArray[np.uint8] | NDArray[np.int16]]


class Decoder(Processes[Decoded]):
    """One process that decodes one file at a time; a context manager, at whose end it is gone."""

    def __init__(self) -> None:
        super().__init__(_decode, count=1, time_limit_seconds=MAX_SECONDS, begin=_start)

    def decode(self, path: Path) -> Decoded:
        """A picture, uint8 (H, W, 3) RGB, or the loudest second of a recording, int16 (48000,) at 48 kHz.

        Raises ValueError, in words for the sender, for whatever is neither.
        """
        try:
            return self.submit(path).result()
        except TimeoutError:
            raise ValueError(f"decoding it took longer than {MAX_SECONDS} s") from None
        except (Ended, NeverBegan, MemoryError):
            raise ValueError("decoding it crashed, or took more memory than one upload may") from None


def _start(_place: int) -> None:
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decode(path: Path) -> Decoded:
    with path.open("rb") as file:
        head = file.read(12)
    if is_picture(head):
        picture = read_rgb(path)
        return "image", np.asarray(picture.reduce(max(1, min(picture.size) // SIDE)))
    try:
        return "audio", read_loudest_second(path)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; {WANTED}") from None
