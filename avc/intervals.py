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

    Guesses about one clip are not worth as many independent ones. Wilson's interval therefore counts N over the design
    effect: how many times the share varies more, from clip to clip, than that of independent guesses would. Less
    variation than that is not credited (Korn and Graubard, Survey Methodology 1998).
    """
    share, count = float(right.mean()), len(right)
    _, which = np.unique(clip, return_inverse=True)
    clips = int(which.max()) + 1
    independent = share * (1 - share) / count
    if clips < 2 or independent == 0:
        return wilson_interval(share, clips)
    excess = np.bincount(which, weights=right - share)
    effect = clips / (clips - 1) * float((excess**2).sum()) / count**2 / independent
    return wilson_interval(share, count / max(1.0, effect))
