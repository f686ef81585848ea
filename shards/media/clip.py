"""What a clip is, and what makes one useless."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, PackSettings, Reason, centers

# Sound whose root mean square, over all that the clip has of it and without its mean, is below this is silence.
# Recordings of nothing (the noise of an open input, a click when it is switched) were seen at -74 dBFS, quiet but real
# rooms from -59 dBFS up. Two seconds of the latter in ten of digital silence are still heard.
SILENT_DBFS = -66.0

# Channels cancel each other where their mean is further than this below that of unrelated ones.
CANCELLED_DB = 10.0

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


def refuse_useless(
    clip: Clip, settings: PackSettings, *, difference: float, channel_levels: Callable[[], list[float]]
) -> None:
    """Raises Rejected for a clip that is too short, silent or still.

    `difference` is the furthest that a picture is from the first, as STILL_GREY_LEVELS measures it. `channel_levels`
    gives the levels of the sound's channels before they were mixed, dBFS; it is asked where the clip is silent.
    """
    usable = centers(ticks=clip.ticks, sound_from=clip.sound_from, sound_to=clip.sound_to)
    if not any(tick % settings.every == 0 for tick in usable):
        frames, sound = clip.ticks / TICKS_PER_SECOND, (clip.sound_to - clip.sound_from) / SAMPLE_RATE_HZ
        raise Rejected(
            Reason.TOO_SHORT, f"{frames:.2f} s of pictures, {sound:.2f} s of sound: no whole second around a picture"
        )
    loudness = dbfs(float(clip.sound[clip.sound_from : clip.sound_to].std()) / 32768)
    if loudness < SILENT_DBFS:
        levels = channel_levels()
        cancelled = cancellation(loudness, levels)  # which is no silence, and refused where that is kept
        if cancelled or not settings.keep_silent:
            raise Rejected(Reason.SILENT, cancelled or _silence(loudness, levels))
    if difference < STILL_GREY_LEVELS and not settings.keep_still:
        raise Rejected(Reason.STILL, f"no picture is further than {difference:.1f} gray levels from the first")


def dbfs(amplitude: float) -> float:
    """An amplitude, of which 1 is full scale, in dBFS."""
    return 20 * math.log10(amplitude) if amplitude else -math.inf


def _silence(loudness: float, channels: list[float]) -> str:
    """What a silent clip is like, all in dBFS; channels that are not silent are few."""
    said = f"its sound is at {loudness:.0f} dBFS on average"
    loudest = max(channels, default=-math.inf)
    return said if loudest < SILENT_DBFS else f"{said}; the loudest of its {len(channels)} channels is at {loudest:.0f}"


def cancellation(loudness: float, channels: list[float]) -> str:
    """What is said of channels, by their levels, that leave a mean of `loudness` (dBFS); empty where they are heard."""
    heard = sorted(level for level in channels if level >= SILENT_DBFS)
    if loudness >= SILENT_DBFS or len(heard) < 2:
        return ""
    unrelated = dbfs(math.sqrt(sum(10 ** (level / 10) for level in channels)) / len(channels))
    if loudness > unrelated - CANCELLED_DB:
        return ""
    quietest, loudest = f"{heard[0]:.0f}", f"{heard[-1]:.0f}"
    each = f"each at {loudest}" if quietest == loudest else f"at {quietest} to {loudest}"
    return f"its channels cancel each other: {each} dBFS, their mean at {loudness:.0f}"
