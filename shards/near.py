"""Finds duplicate and near-duplicate clips: equal bytes, or re-encoded, scaled, cropped, shifted in time.

Clips with similar mean pictures are compared by their sound words at every shift, then by their pictures at the best
shift. Where one is silent, the pictures and their changes decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.format import TICKS_PER_SECOND
from shards.look import EVERY, PRINT_EVERY, Look

MIN_SIMILARITY = 0.7  # cosine of mean pictures, for a comparison
SAME_BITS = 0.66  # share of equal bits of sound words; unrelated clips: 0.5, at their best shift up to 0.61
SAME_PICTURES = 0.6  # mean cosine at the shift of the sound
SAME_WITHOUT_SOUND, SAME_MOTION = 0.9, 0.6  # mean cosine of pictures; of pictures minus the clip's mean
MIN_OVERLAP = 0.5  # of the shorter clip
MIN_WORDS = TICKS_PER_SECOND  # audible in both
WORD_BITS = 32
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Pair:
    """first, second: indices of looks. exact: same bytes. shift: start of the second in the first, seconds."""

    first: int
    second: int
    exact: bool
    shift: float = 0.0
    sound: float | None = None
    pictures: float | None = None


def find_pairs(looks: Sequence[Look]) -> list[Pair]:
    """All pairs of clips that are duplicates or near-duplicates."""
    by_digest: dict[str, list[int]] = defaultdict(list)
    for number, look in enumerate(looks):
        by_digest[look.digest].append(number)
    pairs = [Pair(copies[0], second, True) for copies in by_digest.values() for second in copies[1:]]
    distinct = [copies[0] for copies in by_digest.values()]
    for first, second in _similar_pairs(looks, distinct) if looks else ():
        if pair := _compare(first, second, looks[first], looks[second]):
            pairs.append(pair)
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def _similar_pairs(looks: Sequence[Look], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    means = np.stack([looks[n].frames.astype(np.float32).mean(axis=0) for n in numbers])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
    for start in range(0, len(means), ROWS_AT_ONCE):
        similarity = means[start : start + ROWS_AT_ONCE] @ means.T > MIN_SIMILARITY
        for row, column in zip(*np.nonzero(similarity), strict=True):
            if column > row + start:
                yield numbers[row + start], numbers[column]


def _compare(first_number: int, second_number: int, first: Look, second: Look) -> Pair | None:
    a, b = first.frames.astype(np.float64), second.frames.astype(np.float64)
    pictures = _similarities(a, b, weights=[np.ones((len(rows), 1)) for rows in (a, b)], minimum=1)
    step = EVERY * PRINT_EVERY
    audible = [look.heard[:, None].astype(np.float64) for look in (first, second)]
    signs = [mask * _signs(look.words) for mask, look in zip(audible, (first, second), strict=True)]
    sound = _similarities(*signs, weights=audible, minimum=MIN_WORDS)
    if sound:
        ticks, agreement = max(sound.items(), key=lambda item: item[1])
        bits = (agreement / WORD_BITS + 1) / 2
        similarity = max(pictures.get(round(ticks / step) + by, -1.0) for by in (-1, 0, 1))
        if bits >= SAME_BITS and similarity >= SAME_PICTURES:
            return Pair(first_number, second_number, False, ticks / TICKS_PER_SECOND, bits, similarity)
        return None
    shift, similarity = max(pictures.items(), key=lambda item: item[1])
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b)]
    motion = _similarities(a, b, weights=lengths, minimum=0).get(shift, 0.0)
    if similarity >= SAME_WITHOUT_SOUND and motion >= SAME_MOTION:
        return Pair(first_number, second_number, False, shift * step / TICKS_PER_SECOND, None, similarity)
    return None


def _signs(words: np.ndarray) -> np.ndarray:
    """The bits of each word as 1 (set) and -1: float64 (T, WORD_BITS)."""
    return np.unpackbits(words[:, None].view(np.uint8), axis=1) * 2.0 - 1


def _similarities(a: np.ndarray, b: np.ndarray, *, weights: Sequence[np.ndarray], minimum: float) -> dict[int, float]:
    """Weighted mean inner product of overlapping rows, by shift (row of a minus row of b).

    a, b: float64 (T, K), (T', K). Excludes shifts where less than MIN_OVERLAP of the shorter clip overlaps, or where
    weights sum to less than `minimum`. By Fourier transforms, since an hour has 90,000 rows.
    """
    overlap = max(1, int(MIN_OVERLAP * min(len(a), len(b))))
    shifts = np.arange(overlap - len(b), len(a) - overlap + 1)
    sums, weight = _correlate(a, b)[shifts], _correlate(*weights)[shifts]
    valid = weight > max(minimum - 0.5, 1e-6)  # masks have integer sums
    return dict(zip(shifts[valid].tolist(), (sums[valid] / weight[valid]).tolist(), strict=True))


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Circular cross-correlation summed over columns; negative shifts are at the end."""
    size = 1 << (len(a) + len(b)).bit_length()
    products = np.fft.rfft(a, size, axis=0) * np.fft.rfft(b, size, axis=0).conj()
    return np.fft.irfft(products.sum(axis=1), size)
