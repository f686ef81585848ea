"""Partitions: parts of the shards that are fixed for a run, each with pairs of its own.

Every step has as many rows of each partition, in the order of the partitions. So a rank, whose rows of a step lie side
by side, draws from few of them, and its machine needs the shards of these alone, while the rows of a step are the same
on any number of ranks. Shards at a URL are kept on this machine while a training draws from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avc.data.interfaces import AnySampler
from avc.data.loader import BatchSharding
from avc.data.sampler import Integers, PairRows, PairSampler
from avc.settings import Config
from shards.cache import Cache
from shards.processes import Processes
from shards.read import Shards
from shards.store import IN_FLIGHT


class PartitionedSampler(PairSampler):
    """The plan of several partitions, `rows_per_step` rows a step. An epoch is as many rows as theirs have together.

    Raises ValueError where a step cannot be divided over them.
    """

    def __init__(self, partitions: Sequence[PairSampler], *, rows_per_step: int) -> None:
        first = partitions[0]
        self.pairs_per_row, self.group_size, self.group_name = first.pairs_per_row, first.group_size, first.group_name
        self.source, self.grid, self.shuffle_sound = first.source, first.grid, first.shuffle_sound
        self.clips = np.concatenate([each.clips for each in partitions])
        self.too_short = sum(each.too_short for each in partitions)
        self.rows_per_epoch = sum(each.rows_per_epoch for each in partitions)
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
        return _joined(pieces)

    def clips_of(self, rank: int, world_size: int) -> Integers:
        """PairRows of the index that a rank draws from: of the partitions that its part of a step is in."""
        count = len(self.partitions)
        own = self.partitions[rank * count // world_size : -(-(rank + 1) * count // world_size)]
        return np.concatenate([each.clips for each in own])


def partitioned(
    index: NDArray[np.void], clips: Integers, *, partitions: int, batch_pairs: int, **settings: Any
) -> PairSampler:
    """The plan over clips whose shards are dealt to `partitions` in turn; of one, `PairSampler` itself.

    settings: of `PairSampler`. Raises ValueError as it does, and where there are fewer shards.
    """
    if partitions == 1:
        return PairSampler(index, clips, **settings)
    shards, number = np.unique(index["shard"][clips], return_inverse=True)
    if len(shards) < partitions:
        raise ValueError(
            f"data.partitions: {partitions} is more than the {len(shards)} shards that there are to draw from"
        )
    samplers = [
        PairSampler(index, clips[number % partitions == which], partition=which, **settings)
        for which in range(partitions)
    ]
    return PartitionedSampler(samplers, rows_per_step=batch_pairs // samplers[0].pairs_per_row)


def _joined(pieces: Sequence[PairRows]) -> PairRows:
    if len(pieces) == 1:
        return pieces[0]
    frames = np.cumsum([0, *(len(piece.frame_clip) for piece in pieces)])
    sounds = np.cumsum([0, *(len(piece.audio_clip) for piece in pieces)])
    columns = {name: np.concatenate([vars(piece)[name] for piece in pieces]) for name in vars(pieces[0])}
    columns["pair_frame"] = np.concatenate([piece.pair_frame + at for piece, at in zip(pieces, frames, strict=False)])
    columns["pair_audio"] = np.concatenate([piece.pair_audio + at for piece, at in zip(pieces, sounds, strict=False)])
    return PairRows(**columns)


def cache_of(config: Config) -> Cache | None:
    """The folder that the settings name for the shards of a URL, if they do."""
    data = config.data
    return None if data.cache is None else Cache(data.cache, limit_bytes=int(data.cache_gb * 1e9))


def fetch_ahead(shards: Shards, sampler: AnySampler, sharding: BatchSharding, config: Config) -> None:
    """Have processes fetch all shards that this rank draws from into the cache, in the order in which it needs them.

    A shard that another rank or run is fetching is left to that one; what is read before it is there is waited for, or
    fetched by who reads it. Raises ValueError where the cache is too small for all of them.
    """
    cache, store = shards.cache, shards.store
    if cache is None or store is None:
        return
    of_clip = shards.index["shard"]
    drawn = sampler.clips
    if isinstance(sampler, PartitionedSampler):
        drawn = sampler.clips_of(sharding.rank, sharding.world_size)
    own = np.unique(of_clip[drawn])
    held_out = shards.clips(config.validation.split) if config.validation.every_steps else drawn
    needed = [*_in_order(of_clip, own, sampler, sharding), *np.setdiff1d(of_clip[held_out], own).tolist()]
    files = [shards.manifest.shards[number] for number in needed]
    cache.need([*shards.manifest.tables, *files])
    fetching = Processes(partial(cache.fetch, store, wait=False), count=IN_FLIGHT)
    for file in files:
        fetching.submit(file)
    fetching.finish()


def _in_order(
    of_clip: NDArray[np.uint32], own: NDArray[np.uint32], sampler: AnySampler, sharding: BatchSharding
) -> Iterator[int]:
    """The shards of a rank's clips in the order of its rows, from the first step on."""
    left = set(own.tolist())
    steps = -(-sampler.rows_per_epoch // sharding.rows_per_step)
    for start, stop in sharding.row_ranges(0, steps) if left else ():
        rows = vars(sampler.rows(start, stop))
        for clips in (value for name, value in rows.items() if name.endswith("clip")):
            found = [number for number in dict.fromkeys(of_clip[clips].tolist()) if number in left]
            left.difference_update(found)
            yield from found
        if not left:
            return
    yield from sorted(left)
