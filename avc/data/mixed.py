"""The plan over several sets in stated proportions. A training on one set does not load this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avc.data.partitions import SeveralPlans, joined
from avc.data.sampler import PairRows, PairSampler


class MixedSampler(SeveralPlans):
    """The plans of several sets, each with pairs of its own, in turns: of every `sum(weights)` groups a set has its
    weight, spread evenly. So its share of any stretch is right but for a group or two.

    Negatives are drawn inside a set: were they drawn across, what tells the sets apart, a codec or loudness, would give
    them away.
    """

    def __init__(self, sets: Sequence[PairSampler], weights: Sequence[int]) -> None:
        super().__init__(sets)
        self.sets, self._weights = sets, np.array(weights, dtype=np.int64)
        # The j-th of a set's w groups is due at (2 j + 1) / 2 w of a turn.
        due = np.concatenate([(2 * np.arange(weight) + 1) / (2 * weight) for weight in weights])
        order = np.repeat(np.arange(len(sets)), weights)[np.argsort(due, kind="stable")]
        self._before = np.zeros((len(order) + 1, len(sets)), dtype=np.int64)  # of each set, in a turn
        np.cumsum(order[:, None] == np.arange(len(sets)), axis=0, out=self._before[1:])

    def rows(self, start: int, stop: int) -> PairRows:
        """Rows [start, stop) of the plan, set by set; both are multiples of `group_size`."""
        bounds = zip(self.sets, self._of_each(start), self._of_each(stop), strict=True)
        return joined([sampler.rows(first, last) for sampler, first, last in bounds if first < last])

    def _of_each(self, row: int) -> list[int]:
        """How many rows of each set are among the first `row`."""
        turns, place = divmod(row // self.group_size, len(self._before) - 1)
        rows: list[int] = (self.group_size * (turns * self._weights + self._before[place])).tolist()
        return rows
