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
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Self

from avc.distributed.agent import follow_agent, leave
from launch.user_errors import user_errors

HERE = Path(__file__).resolve().parent
# A wheel has them beside this file, a checkout at its root.
CONFIGS = HERE / "configs" if (HERE / "configs").is_dir() else HERE.parent / "configs"


def find_config(name: str | Path) -> Path:
    """The file of settings at a path, or the one of that name in configs/. Raises ValueError where there is neither."""
    path, shipped = Path(name).expanduser(), CONFIGS / f"{name}.yaml"
    if path.is_dir() and not shipped.exists():
        if (path / "config.yaml").is_file():
            raise ValueError(f"{path} is a run: avc train {path / 'config.yaml'} run.dir={path} goes on with it")
        raise ValueError(
            f"{path} is a folder, and a YAML file of settings comes first: avc train ave data.shards={path}"
        )
    if path.suffix or path.is_file() or len(path.parts) > 1:
        return path
    if not shipped.exists():
        names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise ValueError(f"there is no configuration {name}: give the path of a YAML file, or one of {names}")
    return shipped


class StopRequest:
    """Stop flag: true once one of the given signals has been received.

    The handlers only set it. Nothing may be sent between ranks in a handler, as each rank is interrupted at another
    place; the flag is polled, and the ranks agree on where to stop (avc.distributed.stopping). A second SIGINT is a
    KeyboardInterrupt at once, and so is the first where nobody has polled yet: there is nothing to save. As a context
    manager it restores the handlers and the mask.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._received: set[int] = set()
        self._polled = False
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        # Blocked as well, which processes inherit: who signals a training signals the loader's workers too, and they
        # would die of it. (SIGINT they ignore by themselves.) A thread that numpy has begun before may still take the
        # signal, and then the handler above sees it.
        self._blocked = set(numbers) - {signal.SIGINT}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)

    def __call__(self) -> bool:
        self._polled = True
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
            if not self._polled:
                raise KeyboardInterrupt


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
    not finite, an attempt that a later one has superseded, or a rank or a worker that is gone.
    """
    from avc.config import load_config
    from avc.data.prefetch import WorkerLost
    from avc.distributed.heartbeat import PeerLost
    from avc.distributed.join import join
    from avc.runs.attempt import StaleAttempt, noting_its_end
    from avc.settings import Config
    from avc.training.dashboard import last_words
    from avc.training.loop import train
    from avc.training.metrics import NonFiniteLoss
    from launch.progress import progress
    from shards.read import BadRecord

    config = load_config(find_config(path), overrides)
    if config.data.shards == Config().data.shards:
        raise ValueError("data.shards is not given: data.shards=FOLDER, which `avc pack ... --out FOLDER` made")
    folder = config.run.dir.absolute()
    if (there := next(each for each in [folder, *folder.parents] if each.exists())) and not there.is_dir():
        raise ValueError(f"run.dir is {config.run.dir}, and {there} is a file: give another folder")
    try:
        main = os.environ.get("RANK", "0") == "0"
        noting = noting_its_end(config.run.dir) if main else nullcontext()
        with noting, join(config.training, stop=stop) as world:
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


def _report(message: str) -> None:
    rank = os.environ.get("RANK")
    sys.stderr.write(f"rank {rank}: {message}\n" if rank is not None else f"{message}\n")  # at once: ranks share it
    sys.stderr.flush()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m launch.train CONFIG.yaml [section.name=value ...]")
    with user_errors("launch.train", resumes=True):
        run_here(sys.argv[1], sys.argv[2:])
