"""The end of a process with the one that started it."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process


def follow_parent() -> None:
    """Let this process end with the one that started it, also when that one is killed, and not before."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning reaches every process, and is for that one
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
