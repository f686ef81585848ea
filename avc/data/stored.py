"""Shards at a URL, kept on this machine while a training draws from them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from avc.data.interfaces import AnySampler
from avc.data.loader import BatchSharding
from avc.data.partitions import PartitionedSampler
from avc.settings import Config
from shards.cache import Cache
from shards.processes import Processes
from shards.read import Shards
from shards.store import IN_FLIGHT


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
