"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self


class StopRequest:
    """Stop flag: true once one of the given signals has been received.

    The handlers only set it. Nothing may be sent between ranks in a handler, as each rank is interrupted at another
    place; the flag is polled, and the ranks agree on where to stop (avc.distributed.stopping). A second SIGINT is a
    KeyboardInterrupt at once. As a context manager it restores the handlers and the mask.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._received: set[int] = set()
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        # Blocked as well, which processes inherit: who signals a training signals the loader's workers too, and they
        # would die of it. (SIGINT they ignore by themselves.) A thread that numpy has begun before may still take the
        # signal, and then the handler above sees it.
        self._blocked = set(numbers) - {signal.SIGINT}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)

    def __call__(self) -> bool:
        return bool(self.signals())

    def signals(self) -> set[int]:
        """Those that have been received."""
        pending: set[int] = signal.sigpending() & self._blocked
        return self._received | pending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)  # pending signals are handled now
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._received.add(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
