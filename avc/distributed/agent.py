"""torchrun's agent, which starts the ranks of a node and keeps the store that they meet at.

Imported before anything that takes time: a rank looks after its agent from the beginning.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

from avc.distributed.leaving import leave

LOOKED_SECONDS = 0.5  # between two looks at whether it lives
REFUSED_SECONDS = 3.0  # that nobody may listen where its store is; it is open before there are ranks


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
