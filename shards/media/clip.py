"""Defines a clip, and rejects clips that are too short, silent or still."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, PackSettings, Reason, centers

# Sound is silent where its standard deviation over the clip is below this. Open inputs without a source (noise, a
# click when switched) measured -74 dBFS, quiet but real rooms -59 dBFS and more. Two seconds of such a room in ten of
# digital silence are above the limit.
SILENT_DBFS = -66.0

# Channels are lost in mixing where their mean is more than this below that of uncorrelated channels.
CANCELLED_DB = 10.0

# A clip is still where no picture differs from the first by this many gray levels in the mean of any 8x8 block of the
# stored size. Coding noise and a covered lens measured up to 3.8, a talking head 24.
STILL_GRAY_LEVELS = 6.0


class Rejected(Exception):
    """A file that cannot be packed: `reason` from the closed list, `detail` in one line."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Clip:
    """Pictures and sound of one clip on one time line; its zero is the clip's first picture."""

    pictures: list[bytes]  # one JPEG for each kept tick: 0, every, 2 * every, ...
    width: int  # of the stored pictures, pixels
    height: int
    ticks: int  # length, in ticks of 0.04 s
    sound: np.ndarray  # int16 (ticks * 1920,), mono, 48 kHz
    sound_from: int  # samples before this one are padding
    sound_to: int  # samples from this one on are padding
    source: dict[str, Any]  # the container's declarations and facts of decoding; plain values for JSON
    flow: list[bytes] = field(default_factory=list)  # if enabled, for each step to the next tick (shards/flow.py)


def reject_unusable(
    clip: Clip, settings: PackSettings, *, difference: float, channel_levels: Callable[[], list[float]]
) -> None:
    """Raises Rejected for a clip that is too short, silent or still.

    `difference` is the largest difference of a picture from the first, measured as for STILL_GRAY_LEVELS.
    `channel_levels` returns the levels of the channels before they were mixed, dBFS; called only for silent clips.
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
        message = lost_in_mixing(loudness, levels)  # no silence: rejected even if silent clips are kept
        if message or not settings.keep_silent:
            raise Rejected(Reason.SILENT, message or _silence_message(loudness, levels))
    if difference < STILL_GRAY_LEVELS and not settings.keep_still:
        raise Rejected(Reason.STILL, f"no picture is further than {difference:.1f} gray levels from the first")


def dbfs(amplitude: float) -> float:
    """An amplitude (full scale: 1) in dBFS."""
    return 20 * math.log10(amplitude) if amplitude else -math.inf


def _silence_message(loudness: float, channels: list[float]) -> str:
    """Describes a silent clip by its levels, dBFS; names the loudest channel if that is not silent."""
    message = f"its sound is at {loudness:.0f} dBFS on average"
    loudest = max(channels, default=-math.inf)
    if loudest >= SILENT_DBFS:
        message += f"; the loudest of its {len(channels)} channels is at {loudest:.0f}"
    return message


def lost_in_mixing(loudness: float, channels: list[float]) -> str:
    """Describes sound that mixing to `loudness`, dBFS, has removed; empty where it has not.

    Channels cancel each other, or the only one with sound has no part in the mean: a low-frequency channel.
    """
    audible = sorted(level for level in channels if level >= SILENT_DBFS)
    if loudness >= SILENT_DBFS or not audible:
        return ""
    unrelated = dbfs(math.sqrt(sum(10 ** (level / 10) for level in channels)) / len(channels))
    if loudness > unrelated - CANCELLED_DB:
        return ""
    if len(audible) == 1:
        return _silence_message(loudness, channels)
    quietest, loudest = f"{audible[0]:.0f}", f"{audible[-1]:.0f}"
    each = f"each at {loudest}" if quietest == loudest else f"at {quietest} to {loudest}"
    return f"its channels cancel each other: {each} dBFS, their mean at {loudness:.0f}"
