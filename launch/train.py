"""What `avc train` and torchrun start: a configuration becomes a trained network.

TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600 torchrun --nproc-per-node 4 \\
    -m launch.train configs/ave.yaml data.shards=~/shards run.dir=runs/ave

The framework is imported in functions: a rank begins to follow torchrun's agent before.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from avc.distributed.agent import follow_agent, leave
from launch.config_file import find_config
from launch.stop_request import StopRequest
from launch.user_errors import user_errors


def run_here(path: str, overrides: Sequence[str]) -> None:
    """`run` under a terminal or torchrun: on SIGINT (Ctrl-C) or SIGTERM all ranks checkpoint at one step and exit.

    The exit status is then 128 plus the signal's number, and torchrun's is 1. A second Ctrl-C interrupts at once.
    """
    follow_agent()
    import_module("avc.training.loop")  # takes seconds in which a signal may end this process: there is nothing to save
    with StopRequest(signal.SIGINT, signal.SIGTERM) as stop:
        if run(path, overrides, stop=stop):
            return
    if os.environ.get("RANK", "0") == "0":
        _report("stopped and saved; the same command goes on from this step")
    sys.exit(128 + min(stop.signals(), default=signal.SIGTERM))  # where the signal is still on its way to this rank


def run(path: str, overrides: Sequence[str], *, stop: Callable[[], bool] | None = None) -> bool:
    """Train what a configuration file and its overrides describe, as the rank that the environment names.

    `stop` is `avc.training.loop.train`'s, and so is what is returned: whether the last step is done.
    Raises ValueError for the user's mistakes; exits with status 1, in words, for a damaged record, a loss that is
    not finite, an attempt that a later one has superseded, a rank or a worker that is gone, and with 130 when
    interrupted.
    """
    from avc.config import load_config
    from avc.data.prefetch import WorkerLost
    from avc.distributed.heartbeat import PeerLost
    from avc.distributed.join import join
    from avc.runs.attempt import StaleAttempt
    from avc.training.dashboard import last_words
    from avc.training.loop import train
    from avc.training.metrics import NonFiniteLoss
    from launch.progress import progress
    from shards.read import BadRecord

    config = load_config(find_config(path), overrides)
    try:
        with join(config.training, stop=stop) as world:
            if world.is_main and sys.stderr.isatty():
                with progress("training", unit="steps") as report:
                    return train(config, world, report=report, stop=stop)
            return train(config, world, stop=stop)
    except (BadRecord, NonFiniteLoss, StaleAttempt) as error:
        last_words(str(error))
        _report(str(error))
        sys.exit(1)
    except (PeerLost, WorkerLost) as error:
        last_words(str(error))
        leave(str(error))  # not sys.exit: taking down what is connected to a lost rank could wait for it
    except KeyboardInterrupt:
        _report("interrupted; the same command goes on from the newest checkpoint")
        sys.exit(130)


def _report(message: str) -> None:
    rank = os.environ.get("RANK")
    sys.stderr.write(f"rank {rank}: {message}\n" if rank is not None else f"{message}\n")  # at once: ranks share it
    sys.stderr.flush()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m launch.train CONFIG.yaml [section.name=value ...]")
    with user_errors("launch.train"):
        run_here(sys.argv[1], sys.argv[2:])
