"""Real training processes for tests: one, or several under torchrun; killed for real."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import launch.train
from avc.config import load_config, settings_of
from avc.data.loader import Loader
from avc.data.reader import Batch
from avc.distributed.world import World
from avc.models import to_channels_last
from avc.runs.attempt import newest_folder
from avc.runs.checkpoint import load_newest
from avc.settings import Config
from avc.tasks.correspondence import forward
from avc.training.loop import train

SETTINGS = {
    "model": {"name": "ave", "width": 0.0625},
    "data": {"image_size": 28, "num_workers": 0},  # a worker takes as long to start as a rank
    "negatives": {"source": "shared", "block": 4},
    "optim": {"batch_pairs": 32, "micro_batch_pairs": 8, "lr": 1e-3},
    "training": {"steps": 8, "device": "cpu", "process_group_timeout_seconds": 60},
    "validation": {"every_steps": 4, "batch_pairs": 8},
    "checkpoint": {"every_steps": 3},
    "log": {"every_steps": 1, "wandb": "disabled"},
}


def write_config(folder: Path, shards: Path, **changes: dict[str, Any]) -> Path:
    """SETTINGS that the network has, with some changed, as a file."""
    known = settings_of((SETTINGS["model"] | changes.get("model", {}))["name"])
    sections = {
        name: own
        for name, section in SETTINGS.items()
        if (own := {key: value for key, value in section.items() if f"{name}.{key}" in known})
    }
    sections["data"]["shards"] = str(shards)
    for name, section in changes.items():
        sections[name] = sections.get(name, {}) | section
    path = folder / f"{uuid.uuid4().hex}.yaml"
    path.write_text(json.dumps(sections))  # JSON is YAML
    return path


def train_here(config: Path, run: Path, *overrides: str) -> str:
    """Train to the end in this very process, where torch is imported already; what was printed.

    Raises ValueError for what a user would be told as a mistake.
    """
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        assert launch.train.run(str(config), [f"run.dir={run}", *overrides])
    return said.getvalue()


def train_in_two(config: Path, folder: Path, *, stop_at: int) -> Path:
    """Train whole, and asked to stop after a step and gone on with; the first run's folder.

    Both took the same pairs in each step and end with the same bits, or this fails.
    """
    alone = World(rank=0, world_size=1, device=torch.device("cpu"))
    whole, halves = (load_config(config, [f"run.dir={folder / name}"]) for name in ("whole", "halves"))
    assert train(whole, alone)
    done = [0]
    assert not train(halves, alone, report=lambda step, *_: done.append(step), stop=lambda: done[-1] >= stop_at)
    stopped = load_newest(halves.run.dir / "latest")
    assert stopped is not None and stopped.step == stop_at
    assert train(halves, alone, stop=lambda: False)
    assert_same_bits(final_state(whole.run.dir), final_state(halves.run.dir))
    digests = [
        [line["data/pairs_digest"] for line in metrics(run.run.dir) if line["kind"] == "train"]
        for run in (whole, halves)
    ]
    assert digests[0] == digests[1] and len(set(digests[0])) == whole.training.steps
    return whole.run.dir


def batches_of(reader: Any, row_ranges: Iterator[tuple[int, int]], *, num_workers: int) -> Iterator[Any]:
    """The batches of ranges of up to 64 rows, as a training on a CPU reads them."""
    return Loader(reader, rows=64, num_workers=num_workers, pin=False).batches(row_ranges)


def memorize(model: nn.Module, batch: Batch, config: Config) -> list[float]:
    """The losses of 25 steps on one batch."""
    to_channels_last(model.train())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(forward(model, batch, config, augment=False)[1], batch.label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


class Training:
    """A training under way in its own processes, which carry a mark by which all of them can be killed."""

    def __init__(self, config: Path, run: Path, *overrides: str, world_size: int = 1, **environment: str) -> None:
        self.run, self.mark = run, uuid.uuid4().hex
        start = [sys.executable, "-m"]
        if world_size > 1:
            start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size), "-m"]
        self.process = subprocess.Popen(
            [*start, "launch.train", str(config), f"run.dir={run}", *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "AVC_TEST_MARK": self.mark} | environment,
        )

    def finish(self, status: int = 0) -> str:
        """Wait for the end and give back what was printed."""
        output, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == status, output
        return output

    def wait_for_step(self, step: int) -> None:
        """Wait until the step stands in the metrics."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if any(line["step"] >= step for line in metrics(self.run)):
                return
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.01)
        raise AssertionError(f"step {step} was never logged")

    def signal(self, number: int) -> None:
        """Send a signal to every process of this training."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def kill(self) -> str:
        """kill -9 for every process of this training: launcher, ranks, loader workers; gives back what was printed."""
        while marked := self.processes():  # again: one that was being started is seen in the next round
            for process in marked:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        return self.process.communicate(timeout=60)[0]

    def processes(self) -> dict[int, str]:
        """The processes of this training by their ids: agent (torchrun's), rank, server (of workers), worker, other."""
        commands, parents = {}, {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (entry / "environ").read_bytes():  # a zombie's is empty
                    commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode()
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])

        def kind(process: int) -> str:
            command = commands[process]
            if "forkserver" in command:
                return "worker" if "forkserver" in commands.get(parents[process], "") else "server"
            if "torch.distributed.run" in command:
                return "agent"
            return "rank" if "launch.train" in command else "other"

        return {process: kind(process) for process in commands}

    def shared_memory(self) -> set[Path]:
        """Files in /dev/shm that the processes of this training have open or mapped now."""
        names: set[str] = set()
        for process in self.processes():
            with suppress(OSError):
                entry = Path("/proc", str(process))
                names |= {os.readlink(path) for path in (entry / "fd").iterdir()}
                names |= {line.split(maxsplit=5)[-1] for line in (entry / "maps").read_text().splitlines()}
        return {Path(name) for name in names if name.startswith("/dev/shm/") and not name.endswith("(deleted)")}


class Ranks:
    """A training whose ranks no launcher watches over, each a process with an output of its own.

    for_last: an override that the last rank alone is given. one_gpu: all share the first GPU, which NCCL permits ranks
    that it takes to be on different hosts.
    """

    def __init__(
        self, config: Path, run: Path, *overrides: str, world_size: int, for_last: str = "", one_gpu: bool = False
    ) -> None:
        self.run = run
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = []
        for rank in range(world_size):
            places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
            environment = {name: str(value) for name, value in places.items()}
            if one_gpu:
                environment |= {"LOCAL_RANK": "0", "NCCL_HOSTID": f"host{rank}", "NCCL_SOCKET_IFNAME": "lo"}
            own = [for_last] if for_last and rank == world_size - 1 else []
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "launch.train", str(config), f"run.dir={run}", *overrides, *own],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"} | environment,
                )
            )

    def wait_for_step(self, step: int) -> None:
        """Wait until the step stands in the metrics."""
        deadline = time.monotonic() + 240
        while not any(line["step"] >= step for line in metrics(self.run)):
            assert time.monotonic() < deadline, f"step {step} was never logged"
            assert all(process.poll() is None for process in self.processes), self.kill()
            time.sleep(0.01)

    def kill(self) -> list[str]:
        """kill -9 for every rank; gives back what each has printed."""
        for process in self.processes:
            process.kill()
        return [process.communicate(timeout=60)[0] for process in self.processes]


def metrics(run: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's metrics.jsonl."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def final_state(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint: weights, running statistics, the optimizer's moments."""
    checkpoint = load_newest(newest_folder(run) or run)
    assert checkpoint is not None
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint.model.items()}
    for number, moments in checkpoint.optimizer["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Both have the same tensors, bit for bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, different
