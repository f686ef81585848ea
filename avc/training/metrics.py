"""What the loop measures between two logged lines, rank by rank where that shows a straggler."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from avc.distributed.world import World
from avc.tasks.task import Losses

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class StepTotals:
    """Of a step, over all ranks: sums over its pairs, and whether any rank has been asked to stop."""

    loss: float
    metrics: list[float]
    digest: int
    stop: bool


class StepSums:
    """The same of one rank, on its device. metrics: names of the per-pair sums of the task.

    One vector, so that one collective adds them up over the ranks: the loss, the metrics, the digest, the stop.
    """

    def __init__(self, *, metrics: tuple[str, ...], device: torch.device) -> None:
        self._sums = torch.zeros(len(metrics) + 3, dtype=torch.float64, device=device)

    def add(self, losses: Losses, *, digest: Tensor) -> None:
        """Add a micro-batch."""
        self._sums[:-2] += torch.cat([losses.total.detach()[None], losses.metrics])
        self._sums[-2] += digest

    def over_ranks(self, world: World, *, stop: bool) -> StepTotals:
        """The totals; every rank must call it, with whether it has been asked to stop."""
        self._sums[-1] = stop
        loss, *metrics, digest, stops = world.sum(self._sums)
        return StepTotals(loss, metrics, int(digest), stops > 0)


class IntervalMetrics:
    """Sums over the steps since the last logged line. metrics: names of the per-pair sums of the task."""

    def __init__(self, world: World, *, rows_per_step: int, metrics: tuple[str, ...]) -> None:
        self._world, self._rows_per_step, self.metrics = world, rows_per_step, metrics
        self._cuda = world.device.type == "cuda"
        self._marks: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        if self._cuda:
            event = torch.cuda.Event
            self._marks = event(enable_timing=True), event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._restart()

    def _restart(self) -> None:
        self._steps: int = 0
        self._pairs: int = 0
        self._digest: int = 0
        self._loss_sum: float = 0.0
        self._sums = [0.0] * len(self.metrics)
        self._seconds: float = 0.0
        self._own_seconds: float = 0.0
        self._data_seconds: float = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step; at its end the device has been waited for."""
        self._since = time.monotonic()
        if self._marks is not None:
            self._marks[0].record()
        yield
        self._seconds += time.monotonic() - self._since
        own = self._ready - self._since if self._marks is None else self._marks[0].elapsed_time(self._marks[1]) / 1e3
        self._own_seconds += own

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Around the wait for the next batch."""
        since = time.monotonic()
        yield
        self._data_seconds += time.monotonic() - since

    def ready(self) -> None:
        """This rank has done what it can do in the step before it needs the others."""
        self._ready = time.monotonic()
        if self._marks is not None:
            self._marks[1].record()

    def add(self, totals: StepTotals, *, pairs: int) -> None:
        """Add what a step over `pairs` pairs has summed up."""
        self._steps, self._pairs = self._steps + 1, self._pairs + pairs
        self._loss_sum += totals.loss
        self._sums = [whole + one for whole, one in zip(self._sums, totals.metrics, strict=True)]
        self._digest = (self._digest + totals.digest) % 2**32

    def close(self, step: int) -> dict[str, float]:
        """The metrics of the interval that ends after `step`; starts a new one. Every rank must call it.

        A name's group is before the slash; those without are of the training itself. Seconds are of the mean step.
        speed/own_seconds: from a rank's beginning of the step until it needs the others, where a straggler shows.
        data/first_row, data/last_row: of the plan. data/pairs_digest: of what the ranks have really read, see
        `avc.data.sampler.Rows.digest`.
        """
        memory = int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
        device_memory = torch.cuda.max_memory_allocated() / 1e9 if self._cuda else 0.0
        mine = [self._own_seconds / self._steps, self._data_seconds / self._steps, memory, device_memory]
        own, waits, memories, device_memories = zip(*self._world.gather(mine), strict=True)
        values: dict[str, float] = {
            "loss": self._loss_sum / self._pairs,
            **{name: whole / self._pairs for name, whole in zip(self.metrics, self._sums, strict=True)},
            "speed/pairs_per_second": self._pairs / self._seconds,
            "speed/step_seconds": self._seconds / self._steps,
            **_of_ranks("speed/own_seconds", own),
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
