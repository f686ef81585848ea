"""How sure a share is: intervals of the share of right answers among so many."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def wilson_interval(share: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share seen in `count` independent trials; z = 1.96 gives 95 %."""
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, center - half), min(1.0, center + half)


def clustered_interval(right: NDArray[np.bool_], clip: Integers) -> tuple[float, float]:
    """95 % interval of the share of right guesses, whose clips are a sample of more: bool (N,), int64 (N,).

    Of guesses about a frame of one clip and the sound of another, int64 (N, 2): both clips; where they are one, twice.
    Guesses about one clip are not worth as many independent ones. Wilson's interval therefore counts N over the design
    effect: how many times the share varies more, from clip to clip, than that of independent guesses would. Less
    variation than that is not credited (Korn and Graubard, Survey Methodology 1998). With two clips, whatever has one
    in common varies together (Aronow, Samii and Assenova, Political Analysis 2015, section 2).
    """
    share, count = float(right.mean()), len(right)
    _, which = np.unique(clip, return_inverse=True)
    which = which.reshape(count, -1)
    clips = int(which.max()) + 1
    independent = share * (1 - share) / count
    if clips < 2 or independent == 0:
        return wilson_interval(share, clips)

    def squares(group: Integers, right: NDArray[np.bool_]) -> float:
        excess = np.bincount(group, weights=right) - share * np.bincount(group)
        return float((excess**2).sum())

    two = which[:, 0] != which[:, -1]
    variation = squares(np.append(which[:, 0], which[two, -1]), np.append(right, right[two]))
    # What two guesses have in common was counted once for each clip: if that is both, once too often.
    if two.any():
        _, both = np.unique(np.sort(which[two], axis=1) @ (clips, 1), return_inverse=True)
        variation -= squares(both, right[two])
    effect = clips / (clips - 1) * variation / count**2 / independent
    return wilson_interval(share, count / max(1.0, effect))
