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

# Sound is moved against its count of samples only where its stamps say so by more than this: far above the rounding of
# stamps, below the 5 ms that a packed sound may be off its true place.
STAMP_TOLERANCE_SECONDS = 0.004
# Before that they are smoothed by a running median over this much time to either side. It leaves a gap, which is a
# step, where it is; what it takes away are wrong stamps that come in bursts: real files were seen to stamp up to nine
# pieces in a row 10 to 20 ms early (aac after an edit, vorbis with short blocks), though their sound has no gap.
SMOOTHING_SECONDS = 0.5
GRID_SECONDS = 0.005


# A player goes on to show the last picture while sound goes on. Where that is for longer than this, so does packing; in
# nearly every file the two merely end some frames apart.
HELD_SECONDS = 1


def held_ticks(pictures_end: int, sound_ends: int, *, limit: float) -> int:
    """How many ticks a clip has: `pictures_end` by its pictures, `sound_ends` by its sound, `limit` at most."""
    held = sound_ends - pictures_end > HELD_SECONDS * TICKS_PER_SECOND
    return int(max(0, min(limit, sound_ends if held else pictures_end)))


class Ticks:
    """The ticks of a clip on the time line of one stream of pictures, in exact integers."""

    def __init__(self, *, start: Fraction, unit: Fraction, per_second: Fraction = Fraction(TICKS_PER_SECOND)) -> None:
        """`start` of the clip and `unit` of the stream's stamps in seconds."""
        rounding = min(unit * Fraction(999, 1000), COARSEST_ROUNDING)
        per_stamp, before = unit * per_second, (start + rounding) * per_second
        self._whole = math.lcm(per_stamp.denominator, before.denominator)
        self._per_stamp = int(per_stamp * self._whole)
        self._before = int(before * self._whole)

    def first_showing(self, stamp: int) -> int:
        """The first tick at or after the stamp of a picture; negative for one before the clip."""
        return -((self._before - stamp * self._per_stamp) // self._whole)


class Trust:
    """Which of the two stamps of the decoded pictures of a stream to believe.

    Presentation stamps are right where a container has them. Some do not (avi), or have them wrong; then they run
    backwards, and the decoding stamps at which the decoder gave the pictures out are the better ones. Both kinds'
    steps backwards are counted and the kind with fewer is believed, as libav's own tools do.
    """

    def __init__(self) -> None:
        self._faults = {"pts": 0, "dts": 0}
        self._latest: dict[str, int] = {}
        self._chosen: tuple[int, int] | None = None  # the stamp given to the picture before, and its decoding stamp
        self._delay: int | None = None  # from presentation to decoding stamps, while the latter are believed

    def witness(self, *, pts: int | None, dts: int | None) -> None:
        """Takes note of the next picture's stamps."""
        for kind, stamp in (("pts", pts), ("dts", dts)):
            if stamp is not None:
                self._faults[kind] += stamp <= self._latest.get(kind, stamp - 1)
                self._latest[kind] = stamp

    def choose(self, *, pts: int | None, dts: int | None) -> int | None:
        """The stamp to use, None where a picture has none to be trusted."""
        if self._faults["pts"] <= self._faults["dts"] or "dts" not in self._latest:
            self._delay = None
            stamp = dts if pts is None else pts
        else:
            if self._delay is None:  # go on from where the presentation stamps have led
                self._delay = self._chosen[1] - self._chosen[0] if self._chosen else 0
            stamp = None if dts is None else dts - self._delay
        if stamp is not None and dts is not None:
            self._chosen = stamp, dts
        return stamp


@dataclass(frozen=True)
class Form:
    """How a piece of sound is stored: the names of sample format and channel layout, samples per second."""

    samples: str
    layout: str
    rate_hz: int


@dataclass(frozen=True)
class Run:
    """Pieces `first` to `last` (exclusive) of a sound follow each other without a gap, from `start_seconds` on."""

    first: int
    last: int
    start_seconds: float


def runs_of_sound(stamps: list[float], lengths: list[int], forms: list[Form]) -> list[Run]:
    """Groups decoded pieces of sound into gapless runs and places each run by its pieces' stamps.

    `stamps` are in seconds (NaN where a piece has none), `lengths` in samples. Within a run time is counted in samples;
    a new one begins where the form changes, or where the stamps depart from that count for good and by more than
    STAMP_TOLERANCE_SECONDS: a gap, an overlap or a clock that drifts. A run lies where the median of its pieces'
    stamps puts it.
    """
    runs: list[Run] = []
    first = 0
    expected = 0.0
    while first < len(stamps):
        last = first + 1
        while last < len(stamps) and forms[last] == forms[first]:
            last += 1
        counted = np.concatenate([[0], np.cumsum(lengths[first:last], dtype=np.int64)]) / forms[first].rate_hz
        departures = _without_holes(np.array(stamps[first:last]) - counted[:-1], expected)
        smooth = _smoothed(departures, counted)
        begin = 0
        while begin < last - first:
            parted = np.flatnonzero(np.abs(smooth[begin:] - smooth[begin]) > STAMP_TOLERANCE_SECONDS)
            end = begin + int(parted[0]) if parted.size else last - first
            start = float(np.median(departures[begin:end]) + counted[begin])
            runs.append(Run(first + begin, first + end, start))
            expected = start + float(counted[end] - counted[begin])
            begin = end
        first = last
    return runs


def _without_holes(departures: np.ndarray, expected: float) -> np.ndarray:
    """Pieces without a stamp follow the piece before them; at the very beginning they lie where sound is expected."""
    known = ~np.isnan(departures)
    source = np.maximum.accumulate(np.where(known, np.arange(len(departures)), -1))
    return np.where(source >= 0, departures[np.maximum(source, 0)], expected)


def _smoothed(departures: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The running median over time of departures that hold from each of `counted` (one more, seconds) to the next."""
    if np.ptp(departures) <= STAMP_TOLERANCE_SECONDS:  # nearly every file: nothing to find
        return departures
    times = np.arange(counted[0], counted[-1], GRID_SECONDS)
    held = departures[np.searchsorted(counted[1:-1], times, side="right")]
    half = round(SMOOTHING_SECONDS / GRID_SECONDS)
    smooth = held.copy()
    if len(held) > 2 * half:
        windows = np.lib.stride_tricks.sliding_window_view(held, 2 * half + 1)
        parts = np.array_split(windows, len(windows) // 4096 + 1)  # np.median copies what it is given
        smooth[half:-half] = np.concatenate([np.median(part, axis=1) for part in parts])
    for i in range(min(half, len(held) // 2)):  # shorter at the ends, but symmetric: or a step near one would move
        smooth[i] = np.median(held[: 2 * i + 1])
        smooth[-1 - i] = np.median(held[len(held) - 2 * i - 1 :])
    middles = (counted[:-1] + counted[1:]) / 2
    at_middles: np.ndarray = smooth[
        np.minimum(((middles - counted[0]) / GRID_SECONDS).astype(np.int64), len(smooth) - 1)
    ]
    return at_middles
