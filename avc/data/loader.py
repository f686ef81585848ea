"""Which rows a rank reads in a step, and their batches in that order, read here or by processes ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from avc.data.interfaces import AnySampler, B, Reader, copied
from avc.data.limits import refuse_beyond_limits

PREFETCHED_BATCHES = 2  # that each worker reads ahead


@dataclass(frozen=True)
class BatchSharding:
    """How one step's rows fall to the ranks, and each rank's to micro-batches.

    Step s is rows [s, s + 1) * rows_per_step; rank r takes the r-th of world_size equal ranges, in `micro_batches`
    equal pieces.
    """

    rows_per_step: int
    rank: int
    world_size: int
    micro_batches: int

    @property
    def rows_per_micro_batch(self) -> int:
        return self.rows_per_step // (self.world_size * self.micro_batches)

    def row_ranges(self, first_step: int, last_step: int) -> Iterator[tuple[int, int]]:
        """(start, stop) rows of this rank's micro-batches for steps [first_step, last_step), in order."""
        size = self.rows_per_micro_batch
        for step in range(first_step, last_step):
            start = step * self.rows_per_step + self.rank * self.micro_batches * size
            for _ in range(self.micro_batches):
                yield start, start + size
                start += size


def shard_batch(
    sampler: AnySampler,
    *,
    batch_pairs: int,
    micro_batch_pairs: int,
    rank: int,
    world_size: int,
    accumulate: bool = True,
) -> BatchSharding:
    """Cut `batch_pairs` pairs into equal shares of whole groups, in micro-batches as large as allowed.

    Raises ValueError where that is impossible, with sizes that would do.
    """
    group_size = sampler.group_size * sampler.pairs_per_row  # pairs that cannot be parted
    if batch_pairs % (world_size * group_size):
        step = world_size * group_size
        below, above = batch_pairs // step * step, -(-batch_pairs // step) * step
        raise ValueError(
            f"optim.batch_pairs: {batch_pairs} pairs cannot be divided over {world_size} ranks in "
            f"{sampler.group_name} ({group_size} pairs); use {f'{below} or ' if below else ''}{above}"
        )
    groups = batch_pairs // (world_size * group_size)
    if micro_batch_pairs < group_size:
        raise ValueError(
            f"optim.micro_batch_pairs: {micro_batch_pairs} is less than the {group_size} pairs kept together"
        )
    micro_batches = next(
        n for n in range(1, groups + 1) if groups % n == 0 and groups // n * group_size <= micro_batch_pairs
    )
    if micro_batches > 1 and not accumulate:
        raise ValueError(
            f"optim.micro_batch_pairs: {micro_batch_pairs} is less than a rank's {batch_pairs // world_size} pairs "
            "of a step, and this loss compares all of them at once: raise it, lower optim.batch_pairs, or add ranks"
        )
    return BatchSharding(batch_pairs // sampler.pairs_per_row, rank, world_size, micro_batches)


class Loader(Generic[B]):
    """Reads batches of up to `rows` rows, in order whatever the number of workers.

    pin: give pinned memory, for a CUDA device. slots: how many batches are in memory.
    Raises ValueError where this machine is too small for them.
    """

    def __init__(self, reader: Reader[B], *, rows: int, num_workers: int, pin: bool) -> None:
        self._reader, self._rows, self._num_workers, self._pin = reader, rows, num_workers, pin
        self.slots = max(1, PREFETCHED_BATCHES * num_workers)
        refuse_beyond_limits(reader, slots=self.slots, rows=rows, num_workers=num_workers)
        if num_workers:
            from shards.processes import refuse_unguarded

            refuse_unguarded()  # here, where a worker that runs the script again has not touched the run

    def batches(self, row_ranges: Iterator[tuple[int, int]]) -> Iterator[B]:
        """The batches of these ranges of rows.

        Raises shards.read.BadRecord where the shards are damaged, WorkerLost where a worker is killed.
        """
        if self._num_workers:
            from avc.data.prefetch import prefetch  # not needed where this process reads by itself

            yield from prefetch(
                self._reader, row_ranges, self._num_workers, rows=self._rows, slots=self.slots, pin=self._pin
            )
            return
        for row_range in row_ranges:
            batch = self._reader[row_range]
            yield copied(batch, Tensor.pin_memory) if self._pin else batch


def on_device(batches: Iterator[B], device: torch.device) -> Iterator[B]:
    """The batches on a device; on a GPU they are copied on a stream of their own, beside the work on those before."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copying, working = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(copying):
            batch = batch.to(device)
        working.wait_stream(copying)
        for tensor in batch:
            tensor.record_stream(working)  # its memory is not given away before the work on it is done
        yield batch
