"""What a clip is, and what makes one useless."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, PackSettings, Reason, centers

# Sound whose root mean square, over all that the clip has of it and without its mean, is below this is silence.
# Recordings of nothing (the noise of an open input, a click when it is switched) were seen at -74 dBFS, quiet but real
# rooms from -59 dBFS up. Two seconds of the latter in ten of digital silence are still heard.
SILENT_DBFS = -66.0

# Pictures none of which differs from the first by this many gray levels, in the mean of any block of 8x8 pixels of the
# stored size, are one picture. Coding noise and a covered lens were seen up to 3.8, a man who only talks at 24.
STILL_GREY_LEVELS = 6.0


class Rejected(Exception):
    """A file that cannot be packed: `reason` from the closed list, `detail` one line for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Clip:
    """Pictures and sound of one clip, on one time line whose zero is the clip's first picture."""

    pictures: list[bytes]  # one JPEG for each kept tick: 0, every, 2 * every, ...
    width: int  # of the stored pictures, pixels
    height: int
    ticks: int  # length, in ticks of 0.04 s
    sound: np.ndarray  # int16 (ticks * 1920,), mono, 48 kHz
    sound_from: int  # samples before this one are padding: the sound had not begun
    sound_to: int  # samples from this one on are padding: the sound had ended
    source: dict[str, Any]  # what the container says and what decoding found; plain values for JSON
    flow: list[bytes] = field(default_factory=list)  # where wanted, for each step to the next tick (shards/flow.py)


def refuse_useless(clip: Clip, settings: PackSettings, *, difference: float) -> None:
    """Raises Rejected for a clip that is too short, silent or still.

    `difference` is the furthest that a picture is from the first, as STILL_GREY_LEVELS measures it.
    """
    usable = centers(ticks=clip.ticks, sound_from=clip.sound_from, sound_to=clip.sound_to)
    if not any(tick % settings.every == 0 for tick in usable):
        frames, sound = clip.ticks / TICKS_PER_SECOND, (clip.sound_to - clip.sound_from) / SAMPLE_RATE_HZ
        raise Rejected(
            Reason.TOO_SHORT, f"{frames:.2f} s of pictures, {sound:.2f} s of sound: no whole second around a picture"
        )
    deviation = float(clip.sound[clip.sound_from : clip.sound_to].std()) / 32768
    loudness = 20 * math.log10(deviation) if deviation else -math.inf
    if loudness < SILENT_DBFS and not settings.keep_silent:
        raise Rejected(Reason.SILENT, f"its sound is at {loudness:.0f} dBFS on average")
    if difference < STILL_GREY_LEVELS and not settings.keep_still:
        raise Rejected(Reason.STILL, f"no picture is further than {difference:.1f} gray levels from the first")
