"""A figure over several seeds, with its interval, and whether it lies where a claim wants it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["agrees", "agrees on average", "not here"]
VERDICTS: tuple[Verdict, ...] = ("agrees", "agrees on average", "not here")
MOST_SEEDS = 10

# Student's t, two-sided 95 %, for 1 to 9 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval, where there is one."""

    mean: float
    interval_95: tuple[float, float] | None

    def text(self, *, percent: bool = False, sign: bool = False) -> str:
        """Such as "0.412 (0.350 to 0.474)". sign: of a difference; what has none is a share, from 0 to 1."""
        scale, digits = (100.0, 1) if percent else (1.0, 3)

        def number(value: float) -> str:
            return f"{scale * value:{'+' if sign else ''}.{digits}f}"

        unit = " %" if percent else ""
        if self.interval_95 is None:
            return number(self.mean) + unit
        low, high = self.interval_95
        if not sign:
            low, high = max(low, 0.0), min(high, 1.0)
        return f"{number(self.mean)} ({number(low)} to {number(high)}){unit}"

    def within(self, low: float, high: float) -> Verdict:
        """Whether it lies in a range."""
        if not low <= self.mean <= high:
            return "not here"
        if self.interval_95 is not None and low <= self.interval_95[0] and self.interval_95[1] <= high:
            return "agrees"
        return "agrees on average"


def over_seeds(values: Iterable[float]) -> Estimate:
    """Mean and Student's interval of a figure that each seed gave once, for at most MOST_SEEDS of them."""
    values = list(values)
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = _T[len(values) - 2] * math.sqrt(variance / len(values))
    return Estimate(mean, (mean - half, mean + half))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim that several estimates must bear out."""
    return max(verdicts, key=VERDICTS.index)
