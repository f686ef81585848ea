"""A figure over several seeds, with its interval, and whether it lies where a claim wants it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats

Verdict = Literal["agrees", "agrees on average", "not here"]
VERDICTS: tuple[Verdict, ...] = ("agrees", "agrees on average", "not here")


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval, where there is one."""

    mean: float
    interval_95: tuple[float, float] | None

    @property
    def half(self) -> float:
        """Half of the interval, NaN without one."""
        return math.nan if self.interval_95 is None else self.interval_95[1] - self.mean

    def text(self, *, percent: bool = False, sign: bool = False) -> str:
        """Such as "0.412 (0.350 to 0.474)". sign: of a difference; what has none is a share, from 0 to 1."""
        scale, digits, unit = (100.0, 1, " %") if percent else (1.0, 3, "")
        low, high = self.interval_95 or (self.mean, self.mean)
        if not sign:
            low, high = max(low, 0.0), min(high, 1.0)
        mean, low_text, high_text = (
            f"{scale * value:{'+' if sign else ''}.{digits}f}" for value in (self.mean, low, high)
        )
        return mean + (f" ({low_text} to {high_text})" if self.interval_95 else "") + unit

    def within(self, low: float, high: float) -> Verdict:
        """Whether it lies in a range."""
        if not low <= self.mean <= high:
            return "not here"
        if self.interval_95 is not None and low <= self.interval_95[0] and self.interval_95[1] <= high:
            return "agrees"
        return "agrees on average"


def over_seeds(values: Iterable[float]) -> Estimate:
    """Mean and Student's interval of a figure that each seed gave once."""
    sample = np.array(list(values))
    mean = float(sample.mean())
    if len(sample) == 1:
        return Estimate(mean, None)
    half = float(scipy.stats.t.ppf(0.975, len(sample) - 1) * scipy.stats.sem(sample))
    return Estimate(mean, (mean - half, mean + half))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim that several estimates must bear out."""
    return max(verdicts, key=VERDICTS.index)
