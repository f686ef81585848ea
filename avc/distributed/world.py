"""The ranks of a run: who takes part, and the few things that they do together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.nn.functional import all_reduce
from torch.distributed.rendezvous import rendezvous

from avc.distributed.device import take_device
from avc.distributed.heartbeat import Heartbeat, PeerLost
from avc.distributed.stopping import Stopped
from avc.settings import TrainingSettings

T = TypeVar("T")
START_SECONDS = 600  # that ranks may come one after the other


@dataclass(frozen=True)
class World:
    """This process among the others. A single process is a world of one, with no process group.

    stop: whether this process has been asked to stop.
    """

    rank: int
    local_rank: int
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

    def gather(self, values: list[float]) -> list[list[float]]:
        """The values of each rank, by rank; every rank must call it."""
        table = torch.zeros(self.world_size, len(values), dtype=torch.float64, device=self.device)
        table[self.rank] = torch.tensor(values, dtype=torch.float64)
        flat = self.sum(table.flatten())
        return [flat[start : start + len(values)] for start in range(0, len(flat), len(values))]

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


@contextmanager
def join(settings: TrainingSettings, *, stop: Callable[[], bool] | None = None) -> Iterator[World]:
    """The world that RANK, LOCAL_RANK and WORLD_SIZE describe (torchrun sets them), or a world of one.

    nccl on CUDA, gloo on CPU. stop: whether this process has been asked to stop, and waits no longer for the others
    to come. Raises ValueError as `take_device` does,
    PeerLost where ranks do not come.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = take_device(settings, local_rank=local_rank)
    if world_size == 1:
        yield World(rank, local_rank, world_size, device, stop=stop)
        return
    limit = settings.process_group_timeout_seconds
    first_limit = max(limit, settings.first_step_timeout_seconds)
    start = partial(
        Heartbeat,
        rank=rank,
        world_size=world_size,
        limit_seconds=(float(first_limit), float(limit)),
        silence_seconds=settings.heartbeat_timeout_seconds,
        stop=stop,
    )
    store, heartbeat = _meet(rank, world_size, start=start, stop=stop)
    try:
        with heartbeat.waiting():
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=rank,
                world_size=world_size,
                timeout=timedelta(seconds=first_limit + 10),  # the heartbeat comes first, and knows whom to name
                device_id=device if device.type == "cuda" else None,
            )
        yield World(rank, local_rank, world_size, device, heartbeat, stop)
    except BaseException as error:
        heartbeat.close(error)
        raise  # and leave the process group as it is: taking it down may wait for a rank that is gone
    heartbeat.close(None)
    dist.destroy_process_group()


def gather_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of all ranks in the order of the ranks, and int64 (N,), where among them those of this rank are.

    x: (N, ...) on every rank. A gradient of the result reaches the rank that each row came from, from all ranks.
    """
    own = torch.arange(len(x), device=x.device)
    if not dist.is_initialized():
        return x, own
    own = own + dist.get_rank() * len(x)
    table = x.new_zeros(dist.get_world_size() * len(x), *x.shape[1:])
    rows: Tensor = all_reduce(table.index_copy(0, own, x))  # type: ignore[no-untyped-call]
    return rows, own


def _meet(
    rank: int, world_size: int, *, start: Callable[[Store], Heartbeat], stop: Callable[[], bool] | None
) -> tuple[Store, Heartbeat]:
    """The store that the ranks have in common, and the heartbeat that is started on it."""
    met: Future[tuple[Store, Heartbeat]] = Future()

    def meet() -> None:
        try:
            store, _, _ = next(rendezvous("env://", rank, world_size, timeout=timedelta(seconds=START_SECONDS)))
            met.set_result((store, start(PrefixStore("heartbeat", store))))
        except Exception as error:
            met.set_exception(error)

    # In a thread: torch's client takes 2.6 times as long as it may where nobody listens, and for ever where who listens
    # does not answer.
    threading.Thread(target=meet, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while not wait([met], timeout=0.2).done:
        if time.monotonic() > deadline:
            raise PeerLost(f"the {world_size} ranks do not meet within {START_SECONDS:g} s")
        if stop is not None and stop():
            raise PeerLost(f"asked to stop before the {world_size} ranks had met")
    try:
        return met.result()
    except RuntimeError as error:
        raise PeerLost(f"the {world_size} ranks do not meet: {' '.join(str(error).split())}") from error


def share_statistics(model: nn.Module, world: World) -> None:
    """Give every rank the running statistics of rank 0, which are the ones that are saved."""
    if world.world_size > 1:
        with world.waiting():
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)
