"""What the loop measures between two logged lines, rank by rank where that shows a straggler."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import torch

from avc.training.distributed import World

_STATM = Path("/proc/self/statm")


class Window:
    """Sums over the steps since the last line. figures: names of what the objective sums beside the loss."""

    def __init__(self, world: World, *, rows_per_step: int, figures: tuple[str, ...]) -> None:
        self._world, self._rows_per_step, self._figures = world, rows_per_step, figures
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
        self._sums = [0.0] * len(self._figures)
        self._seconds: float = 0.0
        self._own_seconds: float = 0.0
        self.data_seconds: float = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._since = time.monotonic()
        if self._marks is not None:
            self._marks[0].record()

    def ready(self) -> None:
        """This rank has done what it can do in the step before it needs the others."""
        self._ready = time.monotonic()
        if self._marks is not None:
            self._marks[1].record()

    def add(self, *, pairs: int, loss_sum: float, sums: list[float], digest: int) -> None:
        """The step is done; the device has been waited for."""
        self._seconds += time.monotonic() - self._since
        own = self._ready - self._since if self._marks is None else self._marks[0].elapsed_time(self._marks[1]) / 1e3
        self._own_seconds += own
        self._steps, self._pairs = self._steps + 1, self._pairs + pairs
        self._loss_sum += loss_sum
        self._sums = [whole + one for whole, one in zip(self._sums, sums, strict=True)]
        self._digest = (self._digest + digest) % 2**32

    def close(self, step: int) -> dict[str, float]:
        """The figures of the window that ends after `step`, and a new window; every rank must call it.

        A name's group is before the slash; those without are of the training itself. Seconds are of the mean step.
        speed/own_seconds: from a rank's beginning of the step until it needs the others, where a straggler shows.
        data/first_row, data/last_row: of the plan. data/pairs_digest: of what the ranks have really read, see
        `avc.data.plan.Rows.digest`.
        """
        memory = int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
        device_memory = torch.cuda.max_memory_allocated() / 1e9 if self._cuda else 0.0
        mine = [self._own_seconds / self._steps, self.data_seconds / self._steps, memory, device_memory]
        own, waits, memories, device_memories = zip(*self._world.gather(mine), strict=True)
        values: dict[str, float] = {
            "loss": self._loss_sum / self._pairs,
            **{name: whole / self._pairs for name, whole in zip(self._figures, self._sums, strict=True)},
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
