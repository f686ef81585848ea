"""torchrun's agent, which starts the ranks of a node and keeps the store that they meet at.

Imported before anything that takes time: a rank looks after its agent from the beginning.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

LOOKED_SECONDS = 0.5  # between two looks at whether it lives
REFUSED_SECONDS = 3.0  # that nobody may listen where its store is; it is open before there are ranks
SHUTDOWN_SECONDS = 30.0  # that it waits, where nothing else is said, between a signal and the end of its ranks


def follow_agent() -> None:
    """Under torchrun, let this process end with the agent that has started it, also where that one is killed.

    Elsewhere a training may outlive what has started it, a shell for example.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    agent = os.getppid()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # only an answer shows that `agent` is not its heir
        _refuse_absent(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))

    def follow() -> None:
        # Signals are for the main thread: taken here, they would be noted only once that one is back from what it does.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while os.getppid() == agent:
            time.sleep(LOOKED_SECONDS)
        leave("torchrun's agent is gone; the same command goes on from the newest checkpoint")

    threading.Thread(target=follow, daemon=True).start()


def shutdown_seconds() -> float | None:
    """How long the agent lets its ranks live once it has passed a signal on to them; None where there is no agent."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    said = [os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT"), os.environ.get("PET_SHUTDOWN_TIMEOUT")]
    with suppress(OSError):
        words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
        options = [*pairwise(words), *(tuple(word.split("=", 1)) for word in words if "=" in word)]
        said += [value for name, value in options if name.replace("_", "-") == "--shutdown-timeout"]
    given = [float(text) for text in said if text is not None and text.isdecimal()]
    return given[-1] if given else SHUTDOWN_SECONDS


def leave(text: str) -> NoReturn:
    """End this process now with status 1, in a line of its own; what would be cleaned up may wait for what is gone."""
    rank = os.environ.get("RANK")
    try:
        # Not by sys.stderr, whose lock another thread may hold; where nobody reads any more, the line is lost.
        os.write(2, f"{text}\n".encode() if rank is None else f"rank {rank}: {text}\n".encode())
    finally:
        os._exit(1)


def _refuse_absent(host: str, port: int) -> None:
    deadline = time.monotonic() + REFUSED_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=REFUSED_SECONDS).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                leave(f"torchrun's agent, which keeps the store of the ranks at {host}:{port}, is gone")
            time.sleep(LOOKED_SECONDS)
        except OSError:  # a slow network, or none: meeting the other ranks will show it
            return
