"""The ranks of a run: who takes part, and the few things that they do together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from avc.distributed.heartbeat import Heartbeat
from avc.distributed.stopping import Stopped

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among the others. A single process is a world of one, with no process group.

    stop: whether this process has been asked to stop.
    """

    rank: int
    world_size: int
    device: torch.device
    heartbeat: Heartbeat | None = None
    stop: Callable[[], bool] | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def at(self, step: int, doing: str) -> None:
        """Note where the training is, for the others to read should this rank be missed."""
        if self.heartbeat is not None:
            self.heartbeat.at(step, doing)

    def waiting(self) -> AbstractContextManager[None]:
        """Around what needs the other ranks: it ends within the limit, and raises PeerLost where one is gone."""
        return nullcontext() if self.heartbeat is None else self.heartbeat.waiting()

    def stops_here(self) -> bool:
        """Whether all ranks stop at this point, as one has been asked to; every rank must ask, at the same points."""
        if self.heartbeat is not None:
            return self.heartbeat.stops_here()
        return self.stop is not None and self.stop()

    def until_stopped(self, batches: Iterable[T], *, most: int) -> Iterator[T]:
        """This rank's batches, with a point before each at which all ranks may stop: raises Stopped there.

        most: as many as the rank with most of them has, so that all ranks have the same points.
        """
        coming = iter(batches)
        for _ in range(most):
            if self.stops_here():
                raise Stopped
            yield from islice(coming, 1)
        yield from coming

    def sum(self, values: Tensor) -> list[float]:
        """Element-wise sums over all ranks; every rank must call it."""
        self.all_reduce(values)
        with self.waiting():
            sums: list[float] = values.tolist()
        return sums

    def all_reduce(self, values: Tensor) -> None:
        """Put element-wise sums over all ranks in the place of the values; a GPU is not waited for."""
        if self.world_size > 1:
            with self.waiting():
                dist.all_reduce(values)

    def gather_objects(self, value: T) -> list[T]:
        """The value of each rank, by rank; every rank must call it."""
        values: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            with self.waiting():
                dist.all_gather_object(values, value)
        return values

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns on the main rank, which alone calls it, on all ranks."""
        shared = [make() if self.is_main else None]
        if self.world_size > 1:
            with self.waiting():
                dist.broadcast_object_list(shared, src=0, device=self.device)
        return cast("T", shared[0])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            with self.waiting():
                dist.barrier()


def gather_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of all ranks in the order of the ranks, and int64 (N,), where among them those of this rank are.

    x: (N, ...) on every rank. A gradient of the result reaches the rank that each row came from, from all ranks.
    """
    positions = torch.arange(len(x), device=x.device)
    if not dist.is_initialized():
        return x, positions
    positions = positions + dist.get_rank() * len(x)
    table = x.new_zeros(dist.get_world_size() * len(x), *x.shape[1:])
    rows: Tensor = all_reduce(table.index_copy(0, positions, x))  # type: ignore[no-untyped-call]
    return rows, positions
