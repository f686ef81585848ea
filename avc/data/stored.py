"""Shards at a URL, kept on this machine while a training draws from them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avc.data.interfaces import AnySampler
from avc.data.loader import BatchSharding
from avc.data.partitions import PartitionedSampler, WindowedSampler
from avc.settings import Config
from shards.processes import Processes
from shards.read import Shards
from shards.store import IN_FLIGHT


class FetchAhead:
    """Has processes fetch what this rank draws from into the cache, in the order in which it needs them.

    These are the shards of its partitions, or of their present and next windows, and those of the validation. A shard
    that another rank or run is fetching is left to that one; what is read before it is there is waited for, or fetched
    by who reads it. Raises ValueError where the cache is too small for what is ever needed at a time.
    """

    def __init__(self, shards: Shards, sampler: AnySampler, sharding: BatchSharding, config: Config) -> None:
        self._shards, self._sampler, self._sharding = shards, sampler, sharding
        self._now: list[int] | None = None
        self._asked: list[int] = []
        if (cache := shards.cache) is None:
            return
        self._rows, parts = sharding.rows_per_step, [sampler]
        if isinstance(sampler, PartitionedSampler):
            self._rows //= len(sampler.partitions)
            parts = [*sampler.of_rank(sharding.rank, sharding.world_size)]
        self._drawn = self._shards_of(np.concatenate([part.clips for part in parts]))
        self._windowed = [part for part in parts if isinstance(part, WindowedSampler)]
        self._held_out = self._shards_of(shards.clips(config.validation.split)) if config.validation.every_steps else []
        sizes = np.array([file.bytes for file in shards.manifest.shards])
        tables = sum(file.bytes for file in shards.manifest.tables)

        def room(windows: int) -> int:
            most = [np.sort(sizes[part.shards])[-windows * part.shards_per_window :] for part in self._windowed]
            return tables + sum(int(part.sum()) for part in [*(most or [sizes[self._drawn]]), sizes[self._held_out]])

        # Of ranks that share windows one may be a step ahead of another, and then in the next window.
        self._most = room(2), room(3)
        self._of = f"{config.run.dir.absolute()} {[part.partition for part in self._windowed]}"
        # What does not change is named at once: other ranks of this machine draw from the same files.
        drawn = [] if self._windowed else self._drawn
        files = [shards.manifest.shards[number] for number in [*drawn, *self._held_out]]
        cache.need([*shards.manifest.tables, *files], at_most=self._most, of=self._of)

    def at(self, step: int) -> None:
        """Have what this and later steps need fetched; what was needed before it may go."""
        cache = self._shards.cache
        if cache is None:
            return
        windows = [part.window(step * self._rows) for part in self._windowed]
        if self._now == (numbers := [window.number for window in windows]):
            return
        now = [number for window in windows for number in window.shards.tolist()] or self._drawn
        later = [part.window(each.stop).shards for part, each in zip(self._windowed, windows, strict=True)]
        order = [*self._in_order(now, step), *(number for shards in later for number in shards.tolist())]
        files = {number: self._shards.manifest.shards[number] for number in [*order, *self._held_out]}
        cache.need([*self._shards.manifest.tables, *files.values()], at_most=self._most, of=self._of)
        fetching = Processes(operator.call, count=IN_FLIGHT)
        for number, file in files.items():
            if number not in self._asked:
                sets = self._shards.sets
                owner: Any = next((member.shards for member in sets if number in member.files), self._shards)
                fetching.submit(partial(cache.fetch, owner.store, file, wait=False))
        fetching.finish()
        self._now, self._asked = numbers, [*files]

    def _shards_of(self, clips: NDArray[np.int64]) -> list[int]:
        shards: list[int] = np.unique(self._shards.index["shard"][clips]).tolist()
        return shards

    def _in_order(self, shards: Sequence[int], step: int) -> Iterator[int]:
        """The shards in the order of this rank's rows, from a step on."""
        of_clip, left = self._shards.index["shard"], set(shards)
        steps = -(-self._sampler.rows_per_epoch // self._sharding.rows_per_step)
        for start, stop in self._sharding.row_ranges(step, step + steps) if left else ():
            rows = vars(self._sampler.rows(start, stop))
            for clips in (value for name, value in rows.items() if name.endswith("clip")):
                needed = [number for number in dict.fromkeys(of_clip[clips].tolist()) if number in left]
                left.difference_update(needed)
                yield from needed
            if not left:
                return
        yield from sorted(left)
