"""Where pictures and pieces of sound lie on a clip's time line, from their time stamps alone.

Pure arithmetic: no media library, no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from shards.format import TICKS_PER_SECOND

# A time base of 1 ms (mkv, webm, flv, asf) rounds every stamp, so a picture may be stamped up to one unit later than
# the tick that it belongs to. One millisecond is the coarsest rounding that is met; a coarser time base is a whole
# picture's duration (avi) and exact.
COARSEST_ROUNDING = Fraction(1, 1000)

# Sound is moved against its sample count only when its stamps say so by more than this: far above the rounding of
# stamps, and below the 5 ms that a packed sound may be off its true place.
STAMP_TOLERANCE_SECONDS = 0.004

# Stamps are smoothed by a running median over this many pieces. A gap is a step, and a median keeps a step where it
# is; a single wrong stamp is ignored.
STAMP_WINDOW = 9


def rounding_of(time_base: Fraction) -> Fraction:
    """How much later than the truth a stamp in units of `time_base` seconds may be: just under one unit, at most 1 ms."""
    return min(time_base * Fraction(999, 1000), COARSEST_ROUNDING)


def first_tick_showing(stamp: Fraction, *, start: Fraction, rounding: Fraction) -> int:
    """The first tick at or after a picture's stamp (seconds), counted from `start` (seconds); may be negative."""
    return math.ceil((stamp - start - rounding) * TICKS_PER_SECOND)


@dataclass(frozen=True)
class Run:
    """Pieces `first` to `last` (exclusive) of a sound follow each other without a gap, from `start_seconds` on."""

    first: int
    last: int
    start_seconds: float


def runs_of_sound(stamps: list[float], lengths: list[int], rates: list[int]) -> list[Run]:
    """Groups decoded pieces of sound into gapless runs and places each run by its pieces' stamps.

    `stamps` are in seconds (NaN where a piece has none), `lengths` in samples, `rates` in samples per second. Within a
    run time is counted in samples; a new one begins where the sampling rate changes or where the stamps depart from
    that count for good, by more than STAMP_TOLERANCE_SECONDS: a gap, an overlap or a clock that drifts. A run lies
    where the median of its pieces' stamps puts it.
    """
    runs: list[Run] = []
    first = 0
    expected = 0.0
    while first < len(stamps):
        last = first + 1
        while last < len(stamps) and rates[last] == rates[first]:
            last += 1
        counted = np.concatenate([[0], np.cumsum(lengths[first:last], dtype=np.int64)]) / rates[first]
        departures = _without_holes(np.array(stamps[first:last]) - counted[:-1], expected)
        smooth = _running_median(departures)
        begin = 0
        while begin < last - first:
            parted = np.flatnonzero(np.abs(smooth[begin:] - smooth[begin]) > STAMP_TOLERANCE_SECONDS)
            end = begin + int(parted[0]) if parted.size else last - first
            start = float(np.median(departures[begin:end])) + counted[begin]
            runs.append(Run(first + begin, first + end, start))
            expected = start + counted[end] - counted[begin]
            begin = end
        first = last
    return runs


def _without_holes(departures: np.ndarray, expected: float) -> np.ndarray:
    """Pieces without a stamp follow the piece before them; at the very beginning they lie where sound is expected."""
    known = ~np.isnan(departures)
    source = np.maximum.accumulate(np.where(known, np.arange(len(departures)), -1))
    return np.where(source >= 0, departures[np.maximum(source, 0)], expected)


def _running_median(values: np.ndarray) -> np.ndarray:
    half = STAMP_WINDOW // 2
    smooth = np.empty_like(values)
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)  # symmetric at the edges as well, or a step near one would move
        smooth[i] = np.median(values[i - reach : i + reach + 1])
    return smooth
