"""What the loop does beside its steps, and when."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from avc.settings import Config
from avc.training.metrics import IntervalMetrics


class Due(NamedTuple):
    """After a step; `save` with a line of the log, so that resuming leaves no step out of it."""

    log: bool
    validate: bool
    save: bool
    finished: bool


class Pacing:
    """Decides what is due after a step, alike on all ranks; what depends on a clock, rank 0 decides for all."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._began = self._last_save = time.monotonic()
        self._validating_seconds = 0.0

    def due(self, step: int, interval: IntervalMetrics) -> Due:
        """What is due after `step` steps, with what any rank has asked for."""
        config = self._config
        finished = step == config.training.steps
        save = finished or interval.stop or interval.save or step % config.checkpoint.every_steps == 0
        every = config.validation.every_steps
        validate = every > 0 and (finished or step % every == 0)
        return Due(save or step % config.log.every_steps == 0, validate, save, finished)

    def minutes_are_over(self) -> bool:
        """Whether this rank's clock asks for a checkpoint."""
        minutes = self._config.checkpoint.every_minutes
        return minutes > 0 and time.monotonic() - self._last_save > 60 * minutes

    def saved(self) -> None:
        """A checkpoint has been made."""
        self._last_save = time.monotonic()

    def may_validate(self) -> bool:
        """Whether validation has taken less than its share of the time since the start, by this rank's clock."""
        share = self._config.validation.max_time_share
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
