"""Which clips are the same recording: byte by byte, or encoded anew, scaled, cropped, shifted in time.

Clips whose mean pictures are alike are compared word by word of their sound, at every shift, and picture by picture at
the best of them. Where one is silent the pictures alone decide, by how they change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.format import TICKS_PER_SECOND
from shards.look import EVERY, PRINT_EVERY, Look

ALIKE = 0.7  # cosine of mean pictures from which two clips are compared
SAME_BITS = 0.66  # of words of sound; unrelated ones share half, at the best of all shifts up to 0.61
SAME_PICTURES = 0.6  # mean cosine at the shift of the sound
SAME_WITHOUT_SOUND, SAME_MOTION = 0.9, 0.6  # mean cosine; of what each picture has beyond the clip's mean
MIN_OVERLAP = 0.5  # of the shorter clip
LEAST_WORDS = TICKS_PER_SECOND  # that are heard in both
WORD_BITS = 32
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Pair:
    """first, second: numbers of looks. shift: seconds that the second begins later in the first; exact: same bytes."""

    first: int
    second: int
    exact: bool
    shift: float = 0.0
    sound: float | None = None
    pictures: float | None = None


def pairs(looks: Sequence[Look]) -> list[Pair]:
    """All pairs of clips that are one recording."""
    by_digest: dict[str, list[int]] = defaultdict(list)
    for number, look in enumerate(looks):
        by_digest[look.digest].append(number)
    found = [Pair(same[0], other, True) for same in by_digest.values() for other in same[1:]]
    first_of = [same[0] for same in by_digest.values()]
    for one, other in _alike(looks, first_of) if looks else ():
        if pair := _compare(one, other, looks[one], looks[other]):
            found.append(pair)
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _alike(looks: Sequence[Look], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    if not numbers:
        return
    means = np.stack([looks[n].frames.astype(np.float32).mean(axis=0) for n in numbers])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
    for start in range(0, len(means), ROWS_AT_ONCE):
        alike = means[start : start + ROWS_AT_ONCE] @ means.T > ALIKE
        for row, column in zip(*np.nonzero(alike), strict=True):
            if column > row + start:
                yield numbers[row + start], numbers[column]


def _compare(first: int, second: int, one: Look, other: Look) -> Pair | None:
    a, b = one.frames.astype(np.float64), other.frames.astype(np.float64)
    pictures = _by_shift(a, b, weights=[np.ones((len(rows), 1)) for rows in (a, b)], least=1)
    step = EVERY * PRINT_EVERY
    heard = [look.heard[:, None].astype(np.float64) for look in (one, other)]
    # 1 for each bit that is set, -1 for others: float64 (T, WORD_BITS).
    bits_of = (np.unpackbits(look.words[:, None].view(np.uint8), axis=1) for look in (one, other))
    signs = [mask * (bits * 2.0 - 1) for mask, bits in zip(heard, bits_of, strict=True)]
    sound = _by_shift(*signs, weights=heard, least=LEAST_WORDS)
    if sound:
        ticks, agreement = max(sound.items(), key=lambda item: item[1])
        bits = (agreement / WORD_BITS + 1) / 2
        alike = max(pictures.get(round(ticks / step) + by, -1.0) for by in (-1, 0, 1))
        if bits >= SAME_BITS and alike >= SAME_PICTURES:
            return Pair(first, second, False, ticks / TICKS_PER_SECOND, bits, alike)
        return None
    shift, alike = max(pictures.items(), key=lambda item: item[1])
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b)]
    motion = _by_shift(a, b, weights=lengths, least=0).get(shift, 0.0)
    if alike >= SAME_WITHOUT_SOUND and motion >= SAME_MOTION:
        return Pair(first, second, False, shift * step / TICKS_PER_SECOND, None, alike)
    return None


def _by_shift(a: np.ndarray, b: np.ndarray, *, weights: Sequence[np.ndarray], least: float) -> dict[int, float]:
    """By shift (place in a less place in b): products of the rows that meet, summed, over those of their weights.

    a, b: float64 (T, K), (T', K). Shifts at which less than MIN_OVERLAP of the shorter side overlaps are left out, and
    where weights sum up to less than `least`. By Fourier transforms, for hours have 90,000 rows.
    """
    overlap = max(1, int(MIN_OVERLAP * min(len(a), len(b))))
    shifts = np.arange(overlap - len(b), len(a) - overlap + 1)
    sums, weight = _correlated(a, b)[shifts], _correlated(*weights)[shifts]
    kept = weight > max(least - 0.5, 1e-6)  # those that count are whole numbers
    return dict(zip(shifts[kept].tolist(), (sums[kept] / weight[kept]).tolist(), strict=True))


def _correlated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums of products by shift; those of negative shifts are counted from the end."""
    size = 1 << (len(a) + len(b)).bit_length()
    products = np.fft.rfft(a, size, axis=0) * np.fft.rfft(b, size, axis=0).conj()
    return np.fft.irfft(products.sum(axis=1), size)
