"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self


class StopRequest:
    """Whether one of the given signals has come: true from then on.

    The handlers only take note. Nothing may be sent between ranks in a handler, as each rank is interrupted at another
    place; the loop asks once in each step, and the ranks agree in the sum that they form there anyway. A second
    SIGINT is a KeyboardInterrupt at once, for whoever does not want to wait.

    As a context manager it puts back what was there before.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._noted: set[int] = set()
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        # Blocked as well, which processes inherit: who signals a training signals the loader's workers too, and they
        # would die of it. (SIGINT they ignore by themselves.) A thread that numpy has begun before may still take the
        # signal, and then the handler above sees it.
        self._blocked = set(numbers) - {signal.SIGINT}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)

    def __call__(self) -> bool:
        return bool(self.signals())

    def signals(self) -> set[int]:
        """Those that have come."""
        pending: set[int] = signal.sigpending() & self._blocked
        return self._noted | pending

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)  # what is pending is noted now
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted.add(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
