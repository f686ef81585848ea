"""What the loop measures between two logged lines, rank by rank where that shows a straggler."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from avc.distributed.world import World
from avc.tasks.task import Losses

_STATM = Path("/proc/self/statm")


class NonFiniteLoss(RuntimeError):
    """The loss of some rank was infinite or not a number; no rank took the step."""


class StepSums:
    """Sums over the pairs of a step of this rank, on its device. metrics: names of the per-pair sums of the task.

    One vector, so that one collective adds them up over the ranks: loss, metrics, digest, and whether any rank asks for
    a checkpoint.
    """

    def __init__(self, *, metrics: tuple[str, ...], device: torch.device) -> None:
        self._sums = torch.zeros(len(metrics) + 3, dtype=torch.float64, device=device)

    def add(self, losses: Losses, *, digest: Tensor) -> None:
        """Add a micro-batch."""
        self._sums[:-2] += torch.cat([losses.total.detach()[None], losses.metrics])
        self._sums[-2] += digest

    def over_ranks(self, world: World, *, save: bool) -> None:
        """Add up over the ranks, without waiting for a GPU; every rank must call it, with what it asks for."""
        self._sums[-1:].fill_(save)  # a number put into a place would be copied, and the device waited for
        world.all_reduce(self._sums)

    @property
    def not_finite(self) -> Tensor:
        """float32 (), on the device: 1 where the loss is not finite. NaN on every rank if on one."""
        return (~self._sums[0].isfinite()).float()

    def to_host(self) -> tuple[Tensor, torch.cuda.Event | None]:
        """A copy on the host, and the event after which it is there."""
        if self._sums.device.type != "cuda":
            return self._sums, None
        copy = torch.empty_like(self._sums, device="cpu", pin_memory=True).copy_(self._sums, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return copy, arrived


class IntervalMetrics:
    """Sums over the steps since the last logged line. metrics: names of the per-pair sums of the task.

    The totals of a step are read when the next step has been enqueued, so that a GPU never waits for the host.
    last_loss: the sum that was read last. save: whether any rank has asked for a checkpoint since the last one.
    """

    def __init__(self, world: World, *, pairs_per_step: int, rows_per_step: int, metrics: tuple[str, ...]) -> None:
        self._world, self.metrics = world, metrics
        self.pairs_per_step, self._rows_per_step = pairs_per_step, rows_per_step
        self._cuda = world.device.type == "cuda"
        self._unread: tuple[int, Tensor, torch.cuda.Event | None] | None = None
        self.last_loss: float | None = None
        self.save = False
        self._enqueued: torch.cuda.Event | None = None
        self._restart()

    def _restart(self) -> None:
        self._steps: int = 0
        self._digest: int = 0
        self._loss_sum: float = 0.0
        self._sums = [0.0] * len(self.metrics)
        self._seconds: float = 0.0
        self._own_seconds: float = 0.0
        self._own_events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._data_seconds: float = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step and the reading of its totals."""
        self._since = time.monotonic()
        if self._cuda:
            self._began = self._event()
        yield
        self._seconds += time.monotonic() - self._since

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Around the wait for the next batch."""
        since = time.monotonic()
        yield
        self._data_seconds += time.monotonic() - since

    def keep_up(self) -> None:
        """Before a micro-batch is enqueued: a GPU has one to work on at most, or a stop would wait for all of them."""
        if self._cuda:
            before, self._enqueued = self._enqueued, self._event()
            if before is not None:
                with self._world.waiting():
                    before.synchronize()

    @property
    def empty(self) -> bool:
        """Whether no step has been read since the last line."""
        return not self._steps

    def ready(self) -> None:
        """This rank has done what it can do in the step before it needs the others."""
        if self._cuda:
            self._own_events.append((self._began, self._event()))
        else:
            self._own_seconds += time.monotonic() - self._since

    def add(self, sums: StepSums, *, step: int) -> None:
        """Add what `step` sums up to, and read the totals of the step before it. Raises NonFiniteLoss."""
        before, self._unread = self._unread, (step, *sums.to_host())
        self._read(before)

    def catch_up(self) -> None:
        """Read what is not read yet, which waits for the device. Raises NonFiniteLoss."""
        before, self._unread = self._unread, None
        self._read(before)

    def _read(self, unread: tuple[int, Tensor, torch.cuda.Event | None] | None) -> None:
        if unread is None:
            return
        step, sums, arrived = unread
        if arrived is not None:
            with self._world.waiting():
                arrived.synchronize()
        loss, *metrics, digest, save = sums.tolist()
        if not math.isfinite(loss):
            raise NonFiniteLoss(f"the loss is {loss} at step {step - 1}; no rank took the step")
        self.last_loss, self.save = loss, self.save or save > 0
        self._steps += 1
        self._loss_sum += loss
        self._sums = [total + value for total, value in zip(self._sums, metrics, strict=True)]
        self._digest = (self._digest + int(digest)) % 2**32

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def close(self, step: int) -> dict[str, float]:
        """The metrics of the interval that ends after `step`, all read; starts a new one. Every rank must call it.

        A name's group is before the slash; those without are of the training itself. Seconds are of the mean step.
        speed/own_seconds: from a rank's beginning of the step until it needs the others, where a straggler shows.
        data/first_row, data/last_row: of the plan. data/pairs_digest: of what the ranks have really read, see
        `avc.data.sampler.PairRows.digest`.
        """
        pairs = self._steps * self.pairs_per_step
        memory = int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
        device_memory = torch.cuda.max_memory_allocated() / 1e9 if self._cuda else 0.0
        own_seconds = self._own_seconds + sum(began.elapsed_time(ready) for began, ready in self._own_events) / 1e3
        mine = [own_seconds / self._steps, self._data_seconds / self._steps, memory, device_memory]
        seconds, waits, memories, device_memories = zip(*self._world.gather_objects(mine), strict=True)
        values: dict[str, float] = {
            "loss": self._loss_sum / pairs,
            **{name: total / pairs for name, total in zip(self.metrics, self._sums, strict=True)},
            "speed/pairs_per_second": pairs / self._seconds,
            "speed/step_seconds": self._seconds / self._steps,
            **_of_ranks("speed/own_seconds", seconds),
            **_of_ranks("data/wait_seconds", waits),
            "data/first_row": (step - self._steps) * self._rows_per_step,
            "data/last_row": step * self._rows_per_step - 1,
            "data/pairs_digest": self._digest,
            "system/ranks": self._world.world_size,
            **_of_ranks("system/memory_gb", memories),
            **(_of_ranks("system/device_memory_gb", device_memories) if self._cuda else {}),
        }
        self._restart()
        return values


def _of_ranks(name: str, values: tuple[float, ...]) -> dict[str, float]:
    largest = max(values)
    return {f"{name}_median": statistics.median(values), f"{name}_max": largest, f"{name}_rank": values.index(largest)}
