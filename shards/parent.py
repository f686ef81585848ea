"""A process and the one that started it: its end with that one, and its beginning by a script that must be guarded."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import current_process, parent_process

GUARD = 'a script calls this under `if __name__ == "__main__":`, as each process that it starts runs the script again'


def refuse_unguarded() -> None:
    """End a process that is only being started, and runs the script of the one that starts it for that."""
    if getattr(current_process(), "_inheriting", False):  # as the standard library asks before it starts another
        sys.exit(f"a process ends as it starts: {GUARD}")


def follow_parent() -> None:
    """Let this process end with the one that started it, also when that one is killed, and not before."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning reaches every process, and is for that one
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
