"""A recording as windows at even distances, whole or piece by piece: the same samples either way.

openl3's framing: centered, window k is about the time k · hop and half a window of silence precedes the sound;
otherwise it begins there. The last window is padded with silence, so that every sample is in one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from shards.format import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]
SHORTEST_HOP = 0.001  # seconds
MOST_CHANNELS = 64


def hop_in_samples(hop_size: float, sample_rate: int) -> int:
    """Seconds from window to window as samples. Raises ValueError below SHORTEST_HOP and for what is no number."""
    if not SHORTEST_HOP <= hop_size <= 86_400:
        raise ValueError(f"the hop is {hop_size:g} s and must be from {SHORTEST_HOP:g} s to a day")
    return max(1, round(hop_size * sample_rate))


def mono(samples: NDArray[np.generic]) -> Samples:
    """(samples,) or (samples, channels), floats in [-1, 1], int16 or int32 → float32, the mean of the channels.

    Raises ValueError for other types and shapes, no samples and samples that are not finite.
    """
    if samples.ndim not in (1, 2) or not samples.size or (samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS):
        raise ValueError(f"samples must be (samples,) or (samples, channels), at least one, not {samples.shape}")
    if samples.dtype in (np.int16, np.int32):
        scaled = samples.astype(np.float32) / 2 ** (8 * samples.dtype.itemsize - 1)
    elif np.issubdtype(samples.dtype, np.floating):
        scaled = samples.astype(np.float32)
    else:
        raise ValueError(f"samples must be floats in [-1, 1], int16 or int32, not {samples.dtype}")
    averaged: Samples = scaled if scaled.ndim == 1 else scaled.mean(axis=1)
    if not np.isfinite(averaged).all():
        raise ValueError("samples must be finite numbers")
    return averaged


class Resampler:
    """Brings pieces of a mono recording to a sample rate, each piece continuing the last; soxr's high quality."""

    def __init__(self, rate: float, target: int) -> None:
        self._stream = None if rate == target else soxr.ResampleStream(rate, target, 1, dtype="float32")

    def push(self, piece: Samples, *, last: bool = False) -> Samples:
        """What is complete after this piece; after the last one, all."""
        if self._stream is None:
            return piece
        return self._stream.resample_chunk(piece, last=last)  # type: ignore[no-any-return]


def resample(samples: Samples, target: int, rate: int = SAMPLE_RATE_HZ) -> Samples:
    """A whole recording, of packed clips as a rule, at another sample rate."""
    return Resampler(rate, target).push(samples, last=True)


class Framer:
    """Cuts windows of `window` samples, `hop` apart, out of a recording that comes in pieces."""

    def __init__(self, window: int, hop: int, *, center: bool) -> None:
        self._window, self._hop = window, hop
        self._rest = np.zeros(window // 2 if center else 0, np.float32)  # from where the next window begins
        self._skip = 0  # samples to come before that, where the hop is longer than a window
        self._windows = 0
        self._heard = False

    def push(self, piece: Samples) -> Samples:
        """The windows (k, window) that are complete after this piece, k may be 0; a view."""
        self._heard |= bool(len(piece))
        dropped = min(self._skip, len(piece))
        self._skip -= dropped
        self._rest = np.concatenate([self._rest, piece[dropped:]])
        if len(self._rest) < self._window:
            return np.empty((0, self._window), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._rest, self._window)[:: self._hop]
        self._windows += len(windows)
        passed = len(windows) * self._hop
        self._skip = max(0, passed - len(self._rest))
        self._rest = self._rest[passed:]
        return windows

    def end(self) -> Samples:
        """The last window, padded, where samples are left that no window had: (1, window), else (0, window)."""
        new = len(self._rest) - max(0, self._window - self._hop) if self._windows else len(self._rest)
        if not self._heard or new <= 0:
            return np.empty((0, self._window), np.float32)
        return np.pad(self._rest, (0, self._window - len(self._rest)))[None]


def windows_of(samples: Samples, rate: float, *, target: int, hop: int, center: bool) -> Iterator[Samples]:
    """A whole recording at any rate as windows of one second at `target` Hz: arrays (k, target)."""
    framer = Framer(target, hop, center=center)
    yield framer.push(Resampler(rate, target).push(samples, last=True))
    yield framer.end()
