"""Places pictures and pieces of sound on a clip's time line, from their timestamps alone.

Pure arithmetic: no media library, no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from shards.format import TICKS_PER_SECOND

# A time base of 1 ms (mkv, webm, flv, asf) rounds timestamps, so a picture's may be up to one unit after its tick. No
# container rounds more: a coarser time base is a picture's duration (avi) and exact.
COARSEST_ROUNDING = Fraction(1, 1000)

# Sound is shifted against its count of samples only where its timestamps differ by more than this: far above their
# rounding, below the 5 ms by which packed sound may be misplaced.
STAMP_TOLERANCE_SECONDS = 0.004
# Timestamps are first smoothed by a running median over this much time to either side. It preserves gaps, which are
# steps, and removes bursts of wrong timestamps: in real files up to nine pieces in a row were 10 to 20 ms early (aac
# after an edit, vorbis with short blocks) although their sound has no gap.
SMOOTHING_SECONDS = 0.5
GRID_SECONDS = 0.005


# A player holds the last picture while sound continues. Packing does so where it is for longer than this; in most files
# the two end only some frames apart.
MIN_HELD_SECONDS = 1


def clip_ticks(pictures_end: int, sound_end: int, *, limit: float) -> int:
    """A clip's length in ticks, from the ends of its pictures and its sound (ticks); `limit` at most."""
    held = sound_end - pictures_end > MIN_HELD_SECONDS * TICKS_PER_SECOND
    return int(max(0, min(limit, sound_end if held else pictures_end)))


class TickClock:
    """Converts timestamps of one video stream to ticks of the clip, in exact integers."""

    def __init__(self, *, start: Fraction, unit: Fraction, per_second: Fraction = Fraction(TICKS_PER_SECOND)) -> None:
        """`start` of the clip and `unit` of the stream's timestamps in seconds."""
        rounding = min(unit * Fraction(999, 1000), COARSEST_ROUNDING)
        per_stamp, offset = unit * per_second, (start + rounding) * per_second
        self._denominator = math.lcm(per_stamp.denominator, offset.denominator)
        self._per_stamp = int(per_stamp * self._denominator)
        self._offset = int(offset * self._denominator)

    def first_tick(self, stamp: int) -> int:
        """The first tick at or after a picture's timestamp; negative before the clip."""
        return -((self._offset - stamp * self._per_stamp) // self._denominator)


class StampSelector:
    """Selects presentation or decoding timestamps for the decoded pictures of a stream.

    Presentation timestamps are right where a container has them. Where it has none (avi) or wrong ones, they run
    backwards, and the decoding timestamps of the packets that released the pictures are better. The backward steps of
    both are counted and those with fewer are used, as in libav's own tools.
    """

    def __init__(self) -> None:
        self._faults = {"pts": 0, "dts": 0}
        self._latest: dict[str, int] = {}
        self._chosen: tuple[int, int] | None = None  # the previous picture's selected timestamp and its dts
        self._delay: int | None = None  # dts - pts, while decoding timestamps are used

    def observe(self, *, pts: int | None, dts: int | None) -> None:
        """Record the next picture's timestamps."""
        for kind, stamp in (("pts", pts), ("dts", dts)):
            if stamp is not None:
                self._faults[kind] += stamp <= self._latest.get(kind, stamp - 1)
                self._latest[kind] = stamp

    def select(self, *, pts: int | None, dts: int | None) -> int | None:
        """The timestamp to use; None where a picture has no reliable one."""
        if self._faults["pts"] <= self._faults["dts"] or "dts" not in self._latest:
            self._delay = None
            stamp = dts if pts is None else pts
        else:
            if self._delay is None:  # continue from the last presentation timestamp
                self._delay = self._chosen[1] - self._chosen[0] if self._chosen else 0
            stamp = None if dts is None else dts - self._delay
        if stamp is not None and dts is not None:
            self._chosen = stamp, dts
        return stamp


@dataclass(frozen=True)
class SoundFormat:
    """Format of decoded sound: libav's names of sample format and channel layout, samples per second."""

    samples: str
    layout: str
    rate_hz: int


@dataclass(frozen=True)
class Run:
    """Pieces `first` to `last` (exclusive) of a sound, gapless, from `start_seconds`."""

    first: int
    last: int
    start_seconds: float


def runs_of_sound(stamps: list[float], lengths: list[int], formats: list[SoundFormat]) -> list[Run]:
    """Groups decoded pieces of sound into gapless runs and places each run by its pieces' timestamps.

    `stamps` are in seconds (NaN for none), `lengths` in samples. Within a run time is counted in samples. A new run
    begins where the format changes, or where the timestamps permanently differ from that count by more than
    STAMP_TOLERANCE_SECONDS: a gap, an overlap or clock drift. The median of its pieces' timestamps places a run.
    """
    runs: list[Run] = []
    first = 0
    expected = 0.0
    while first < len(stamps):
        last = first + 1
        while last < len(stamps) and formats[last] == formats[first]:
            last += 1
        counted = np.concatenate([[0], np.cumsum(lengths[first:last], dtype=np.int64)]) / formats[first].rate_hz
        departures = _fill_missing(np.array(stamps[first:last]) - counted[:-1], expected)
        smooth = _smooth(departures, counted)
        begin = 0
        while begin < last - first:
            changes = np.flatnonzero(np.abs(smooth[begin:] - smooth[begin]) > STAMP_TOLERANCE_SECONDS)
            end = begin + int(changes[0]) if changes.size else last - first
            start = float(np.median(departures[begin:end]) + counted[begin])
            runs.append(Run(first + begin, first + end, start))
            expected = start + float(counted[end] - counted[begin])
            begin = end
        first = last
    return runs


def _fill_missing(departures: np.ndarray, expected: float) -> np.ndarray:
    """Gives pieces without a timestamp the departure of the piece before them; the first ones the expected one."""
    stamped = ~np.isnan(departures)
    source = np.maximum.accumulate(np.where(stamped, np.arange(len(departures)), -1))
    return np.where(source >= 0, departures[np.maximum(source, 0)], expected)


def _smooth(departures: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The running median over time of `departures` (n,), each from counted[i] to counted[i + 1] seconds."""
    if np.ptp(departures) <= STAMP_TOLERANCE_SECONDS:  # as in nearly every file
        return departures
    times = np.arange(counted[0], counted[-1], GRID_SECONDS)
    on_grid = departures[np.searchsorted(counted[1:-1], times, side="right")]
    half = round(SMOOTHING_SECONDS / GRID_SECONDS)
    smooth = on_grid.copy()
    if len(on_grid) > 2 * half:
        windows = np.lib.stride_tricks.sliding_window_view(on_grid, 2 * half + 1)
        parts = np.array_split(windows, len(windows) // 4096 + 1)  # np.median copies what it is given
        smooth[half:-half] = np.concatenate([np.median(part, axis=1) for part in parts])
    for i in range(min(half, len(on_grid) // 2)):  # symmetric, shorter windows at the ends, or steps there would move
        smooth[i] = np.median(on_grid[: 2 * i + 1])
        smooth[-1 - i] = np.median(on_grid[len(on_grid) - 2 * i - 1 :])
    middles = (counted[:-1] + counted[1:]) / 2
    result: np.ndarray = smooth[np.minimum(((middles - counted[0]) / GRID_SECONDS).astype(np.int64), len(smooth) - 1)]
    return result
