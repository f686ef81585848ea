"""Partitions and windows: which of the shards a stretch of the plan draws from.

Partitions are parts of the shards that are fixed for a run, each with pairs of its own. Every step has as many rows of
each partition, in the order of the partitions. So a rank, whose rows of a step lie side by side, draws from few of
them, and its machine needs the shards of these alone, while the rows of a step are the same on any number of ranks.

Windows are the shards of a partition by a few, dealt anew in each pass over them. A window's clips are visited several
times, with negatives among themselves, before the next window comes; so a machine needs two windows at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avc.data.sampler import ORDER, Integers, PairRows, PairSampler, refuse_few


class Window(NamedTuple):
    """Shards that rows [start, stop) draw from; `number` counts from the first row of the plan."""

    number: int
    shards: Integers
    start: int
    stop: int


class WindowedSampler(PairSampler):
    """The plan of windows of at least `shuffle_shards` shards, each of whose clips comes `visits` times in each class.

    Where a window's rows are not a multiple of `group_size`, it has a few more or less. An epoch is one visit of every
    clip. partition, partitions: its number, and how many there are, for random words of its own.
    Raises ValueError as `PairSampler`, also where the clips of a window may be too few.
    """

    def __init__(
        self,
        index: NDArray[np.void],
        clips: Integers,
        *,
        shuffle_shards: int,
        visits: int,
        partition: int = 0,
        partitions: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(index, clips, partition=partition, **settings)
        self.shards, self._shard_of, sizes = np.unique(
            index["shard"][self.clips], return_inverse=True, return_counts=True
        )
        self._windows = max(1, len(self.shards) // shuffle_shards)
        self.shards_per_window = -(-len(self.shards) // self._windows)  # at most
        least = int(np.sort(sizes)[: len(sizes) // self._windows].sum())
        try:
            refuse_few(least, source=self.source, block=self.block)
        except ValueError as error:
            raise ValueError(f"a window of {shuffle_shards} shards (data.shuffle_shards): {error}") from None
        self._rows_of_shard = visits * self.rows_per_epoch // len(self.clips) * sizes
        self._rows_per_pass = self._in_groups(int(self._rows_of_shard.sum()))
        self._partitions = partitions
        self._passes: dict[int, tuple[list[Integers], list[int]]] = {}
        self._samplers: dict[int, PairSampler] = {}

    def rows(self, start: int, stop: int) -> PairRows:
        """Rows [start, stop) of the plan; both are multiples of `group_size`."""
        pieces = []
        while start < stop:
            window = self.window(start)
            until = min(window.stop, stop)
            pieces.append(self._sampler(window).rows(start - window.start, until - window.start))
            start = until
        return joined(pieces)

    def window(self, row: int) -> Window:
        """The window that a row lies in."""
        which, place = divmod(row, self._rows_per_pass)
        windows, ends = self._pass(which)
        number = bisect_right(ends, place)
        first = which * self._rows_per_pass
        start = first + (ends[number - 1] if number else 0)
        return Window(which * self._windows + number, self.shards[windows[number]], start, first + ends[number])

    def _pass(self, which: int) -> tuple[list[Integers], list[int]]:
        """The shards of each window of a pass, by their places in `shards`, and the ends of the windows' rows."""
        if which not in self._passes:
            if len(self._passes) >= 2:
                self._passes.clear()
            words = self._words(ORDER, which * len(self.shards), len(self.shards))
            windows = np.array_split(np.argsort(words, kind="stable"), self._windows)
            ends = np.cumsum([self._rows_of_shard[shards].sum() for shards in windows])
            self._passes[which] = windows, [self._in_groups(int(end)) for end in ends]
        return self._passes[which]

    def _sampler(self, window: Window) -> PairSampler:
        if window.number not in self._samplers:
            if len(self._samplers) >= 2:
                self._samplers.clear()
            clips = np.flatnonzero(np.isin(self._shard_of, np.searchsorted(self.shards, window.shards)))
            partition = self.partition + self._partitions * (1 + window.number)
            self._samplers[window.number] = self.over(clips, partition=partition)
        return self._samplers[window.number]

    def _in_groups(self, rows: int) -> int:
        return -(-rows // self.group_size) * self.group_size


class SeveralPlans(PairSampler):
    """A plan made of others. An epoch is as many rows as theirs have together."""

    def __init__(self, plans: Sequence[PairSampler]) -> None:
        first = plans[0]
        self.pairs_per_row, self.group_size, self.group_name = first.pairs_per_row, first.group_size, first.group_name
        self.source, self.grid, self.shuffle_sound = first.source, first.grid, first.shuffle_sound
        self.clips = np.concatenate([each.clips for each in plans])
        self.too_short = sum(each.too_short for each in plans)
        self.rows_per_epoch = sum(each.rows_per_epoch for each in plans)


class PartitionedSampler(SeveralPlans):
    """The plan of several partitions, `rows_per_step` rows a step.

    Raises ValueError where a step cannot be divided over them.
    """

    def __init__(self, partitions: Sequence[PairSampler], *, rows_per_step: int) -> None:
        super().__init__(partitions)
        self.partitions, self.rows_per_step = partitions, rows_per_step
        least = len(partitions) * self.group_size
        if rows_per_step % least:
            pairs = least * self.pairs_per_row
            raise ValueError(
                f"optim.batch_pairs: {rows_per_step * self.pairs_per_row} pairs cannot be divided over "
                f"{len(partitions)} partitions (data.partitions) in {self.group_name}; use a multiple of {pairs}"
            )

    def rows(self, start: int, stop: int) -> PairRows:
        """PairRows [start, stop) of the plan; both are multiples of `group_size`."""
        share = self.rows_per_step // len(self.partitions)
        pieces = []
        while start < stop:
            step, place = divmod(start, self.rows_per_step)
            partition, first = place // share, step * share + place % share
            count = min(share - place % share, stop - start)
            pieces.append(self.partitions[partition].rows(first, first + count))
            start += count
        return joined(pieces)

    def of_rank(self, rank: int, world_size: int) -> Sequence[PairSampler]:
        """The partitions that a rank's part of a step is in."""
        count = len(self.partitions)
        return self.partitions[rank * count // world_size : -(-(rank + 1) * count // world_size)]


def partitioned(
    index: NDArray[np.void],
    clips: Integers,
    *,
    partitions: int,
    batch_pairs: int,
    shuffle_shards: int = 0,
    visits: int = 1,
    sets: Sequence[Any] = (),
    **settings: Any,
) -> PairSampler:
    """The plan over clips whose shards are dealt to `partitions` in turn; of one, `PairSampler` itself.

    shuffle_shards, visits: of `WindowedSampler`; 0 for a partition that is one window for ever. settings: of
    `PairSampler`. sets: where the clips are of several (`shards.mixed.WeightedSet`). Raises ValueError as they do, and
    where there are fewer shards.
    """

    def sampler(clips: Integers, **place: int) -> PairSampler:
        if not shuffle_shards:
            return PairSampler(index, clips, partition=place["partition"], **settings)
        return WindowedSampler(index, clips, shuffle_shards=shuffle_shards, visits=visits, **place, **settings)

    if sets:
        from avc.data.mixed import MixedSampler

        clips_of_sets = [clips[(clips >= member.rows.start) & (clips < member.rows.stop)] for member in sets]
        plans = [sampler(each, partition=number, partitions=len(sets)) for number, each in enumerate(clips_of_sets)]
        return MixedSampler(plans, [member.weight for member in sets])
    if partitions == 1:
        return sampler(clips, partition=0)
    shards, number = np.unique(index["shard"][clips], return_inverse=True)
    if len(shards) < partitions:
        raise ValueError(
            f"data.partitions: {partitions} is more than the {len(shards)} shards that there are to draw from"
        )
    samplers = [
        sampler(clips[number % partitions == which], partition=which, partitions=partitions)
        for which in range(partitions)
    ]
    return PartitionedSampler(samplers, rows_per_step=batch_pairs // samplers[0].pairs_per_row)


def joined(pieces: Sequence[PairRows]) -> PairRows:
    """Several ranges of a plan as one."""
    if len(pieces) == 1:
        return pieces[0]
    frames = np.cumsum([0, *(len(piece.frame_clip) for piece in pieces)])
    sounds = np.cumsum([0, *(len(piece.audio_clip) for piece in pieces)])
    columns = {name: np.concatenate([vars(piece)[name] for piece in pieces]) for name in vars(pieces[0])}
    columns["pair_frame"] = np.concatenate([piece.pair_frame + at for piece, at in zip(pieces, frames, strict=False)])
    columns["pair_audio"] = np.concatenate([piece.pair_audio + at for piece, at in zip(pieces, sounds, strict=False)])
    return PairRows(**columns)
