"""A video as packing sees it, by time: `avc.media.open(path).frame(1.24)` and `.sound(1.24, 2.24)`."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, PackSettings
from shards.media import Clip, read
from shards.read import decode_picture

AROUND_TICKS = 50  # that are read on either side: a clip has a whole second of sound


class Media:
    """Times are seconds after the first picture. Raises shards.media.Rejected for what packing does not take."""

    def __init__(self, path: str | os.PathLike[str], *, side: int) -> None:
        self._path, self._side = Path(path).expanduser(), side

    def frame(self, seconds: float) -> NDArray[np.uint8]:
        """What a player shows at a time: uint8 (H, W, 3) RGB. Raises ValueError where nothing is shown."""
        clip, tick = self._read(seconds, 0)
        return decode_picture(clip.pictures[tick], width=clip.width, height=clip.height)

    def sound(self, start: float, end: float) -> NDArray[np.int16]:
        """int16 (samples,), mono, 48 kHz, 0 where nothing sounds.

        Raises ValueError where no picture is shown then, and for an end that is not after the start.
        """
        length = Fraction(str(end)) - Fraction(str(start))  # of floats it is a sample too long here and there
        if length <= 0:
            raise ValueError(f"the sound ends at {end:g} s, and must do so after its start at {start:g} s")
        clip, tick = self._read(start, math.ceil(length * TICKS_PER_SECOND) - 1)
        samples: NDArray[np.int16] = clip.sound[tick * SAMPLES_PER_TICK :][: round(length * SAMPLE_RATE_HZ)]
        return samples

    def _read(self, seconds: float, ticks: int) -> tuple[Clip, int]:
        """A clip, and which of its ticks is at a time; so many more follow."""
        if seconds < 0:
            raise ValueError(f"the time is {seconds:g} s, before the first picture")
        time = Fraction(str(seconds))
        before = min(AROUND_TICKS, int(time * TICKS_PER_SECOND))
        start, length = time - Fraction(before, TICKS_PER_SECOND), (before + ticks + AROUND_TICKS) / TICKS_PER_SECOND
        settings = PackSettings(float(start), length, self._side, jpeg_quality=95, keep_silent=True, keep_still=True)
        clip = read(self._path, settings)
        if before + ticks >= clip.ticks:
            raise ValueError(f"{self._path} shows nothing at {seconds + ticks / TICKS_PER_SECOND:g} s")
        return clip, before


def open(path: str | os.PathLike[str], *, side: int = 256) -> Media:
    """A video file; side: pixels of the smallest side of its frames."""
    return Media(path, side=side)
