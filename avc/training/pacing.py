"""What the loop does beside its steps, and when."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple

from avc.distributed.agent import shutdown_seconds
from avc.settings import CheckpointSettings, LogSettings, ValidationSettings
from avc.training.metrics import IntervalMetrics

AGREED_SECONDS = 2.0  # that the ranks take to agree on where they stop


class Due(NamedTuple):
    """After a step; `save` with a line of the log, so that resuming leaves no step out of it."""

    log: bool
    validate: bool
    save: bool
    finished: bool


class Pacing:
    """Decides what is due after a step, alike on all ranks; what depends on a clock, rank 0 decides for all."""

    def __init__(
        self, steps: int, log: LogSettings, validation: ValidationSettings, checkpoint: CheckpointSettings
    ) -> None:
        self._steps, self._log, self._validation, self._checkpoint = steps, log, validation, checkpoint
        self._began = self._last_save = time.monotonic()
        self._validating_seconds = 0.0
        self._writing_seconds = 0.0
        self._shutdown_seconds = shutdown_seconds()

    def due(self, step: int, interval: IntervalMetrics) -> Due:
        """What is due after `step` steps, with what any rank has asked for."""
        finished = step == self._steps
        save = finished or interval.save or step % self._checkpoint.every_steps == 0
        every = self._validation.every_steps
        validate = every > 0 and (finished or step % every == 0)
        return Due(save or step % self._log.every_steps == 0, validate, save, finished)

    def stopped(self, interval: IntervalMetrics) -> Due:
        """What is due where all ranks stop."""
        return Due(log=not interval.empty, validate=False, save=True, finished=False)

    def left(self, step: int, interval: IntervalMetrics) -> Due:
        """What is due after `step` steps where a stop has cut its validation short."""
        return self.due(step, interval)._replace(log=False, save=True)

    def minutes_are_over(self) -> bool:
        """Whether this rank's clock asks for a checkpoint."""
        minutes = self._checkpoint.every_minutes
        return minutes > 0 and time.monotonic() - self._last_save > 60 * minutes

    def saved(self, written: Future[None] | None) -> None:
        """A checkpoint has been made; `written` when it is on the disk, where this rank writes it."""
        self._last_save = began = time.monotonic()

        def note(_: Future[None]) -> None:
            self._writing_seconds = time.monotonic() - began

        if written is not None:
            written.add_done_callback(note)

    def remark(self, micro_batch_seconds: float) -> str | None:
        """What is to be said, once, where torchrun's agent kills its ranks before a stop can have been saved."""
        limit = self._shutdown_seconds
        if limit is None or 2 * micro_batch_seconds + self._writing_seconds + AGREED_SECONDS <= limit:
            return None
        self._shutdown_seconds = None
        needed = math.ceil(2 * (2 * micro_batch_seconds + self._writing_seconds + AGREED_SECONDS))
        return (
            f"torchrun kills its processes {limit:g} s after a signal, too soon to save a stop: a micro-batch takes "
            f"{micro_batch_seconds:.2g} s and a checkpoint {self._writing_seconds:.2g} s. Give it more time: "
            f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={needed} torchrun ..."
        )

    def may_validate(self) -> bool:
        """Whether validation has taken less than its share of the time since the start, by this rank's clock."""
        share = self._validation.max_time_share
        return self._validating_seconds <= share * (time.monotonic() - self._began)

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Around a validation."""
        since = time.monotonic()
        yield
        self._validating_seconds += time.monotonic() - since


@contextmanager
def garbage_collection_by_hand() -> Iterator[None]:
    """Keep Python from collecting garbage whenever it likes: one rank would do it now, another then, and all wait."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
