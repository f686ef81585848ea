"""The whole line of training, from shards to optimizer steps, beside its two halves.

In turns: the step on batches from the loader, the same step on a batch that is already on the device, and the loader
by itself. The line can be no faster than the slower half; its shares of both say what is lost between them.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from avc.data.loader import Loader, on_device, shard_batch
from avc.distributed.join import take_device
from avc.distributed.model import wrap
from avc.distributed.world import World
from avc.models import to_channels_last
from avc.networks import network_of
from avc.settings import Config
from avc.tasks import task_of
from avc.training.loop import TrainingStep, warm_up
from avc.training.optimizer import build_optimizer
from workshop.bench.device import per_second
from workshop.bench.report import Progress, Report, Rounds, figure, ratio, rounds_of
from workshop.bench.synthetic import optimizer_step

ROUNDS = 5


@dataclass(frozen=True)
class TrainResult:
    """What was measured. waiting: share of the line's time in which it waited for the loader."""

    device: str
    model: str
    workers: int
    pairs_per_step: int
    line: Rounds
    step: Rounds
    loader: Rounds
    share_of_step: Rounds
    share_of_loader: Rounds
    waiting: Rounds


def measure(
    config: Config, *, seconds: float = 30.0, rounds: int = ROUNDS, progress: Progress | None = None
) -> TrainResult:
    """Measure training as the settings describe it, on one device; a step is one micro-batch of one rank.

    seconds: for each of the three, over all rounds. Raises ValueError for settings that do not fit the shards.
    """
    if not seconds > 0:
        raise ValueError(f"--seconds is {seconds} and must be more than 0")
    device = take_device(config.training, local_rank=0)
    pairs = min(config.optim.micro_batch_pairs, config.optim.batch_pairs)
    step, loader, batches, slots = _start(config, device, pairs)
    fixed = next(batches)
    step(fixed)
    ahead = slots + 1
    waits: list[float] = []  # seconds, of each step of the line

    def line() -> None:
        since = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - since)
        step(batch)

    lines, steps, loads, waiting = [], [], [], []
    for number in range(rounds):
        if progress is not None:
            progress(number, rounds, "")
        _drop(loader, ahead)
        waits.clear()
        rate = per_second(line, device, seconds=seconds / rounds)
        lines.append(rate * pairs)
        waiting.append(rate * statistics.mean(waits))
        steps.append(pairs * per_second(partial(step, fixed), device, seconds=seconds / rounds))
        _drop(loader, ahead)
        loads.append(pairs * per_second(partial(next, loader), device, seconds=seconds / rounds))
    if progress is not None:
        progress(rounds, rounds, "")
    line_rate, step_rate, load_rate = (rounds_of(rates, unit="pairs/s") for rates in (lines, steps, loads))
    return TrainResult(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        model=config.model.name,
        workers=config.data.num_workers,
        pairs_per_step=pairs,
        line=line_rate,
        step=step_rate,
        loader=load_rate,
        share_of_step=ratio(line_rate, step_rate),
        share_of_loader=ratio(line_rate, load_rate),
        waiting=rounds_of(waiting, unit="ratio"),
    )


def report(result: TrainResult) -> Report:
    """The result for people."""
    rows = [
        ("training", str(result.line), ""),
        ("limit: the step alone", str(result.step), figure(result.share_of_step.median)),
        ("limit: the loader alone", str(result.loader), figure(result.share_of_loader.median)),
    ]
    return Report(
        title=f"training: {network_of(result.model).title}, {result.pairs_per_step} pairs a step, "
        f"{result.workers} loader processes, on {result.device}",
        columns=("", "pairs/s", "share"),
        rows=rows,
        notes=[
            f"Training waited for its data {100 * result.waiting.median:.1f} % of the time.",
            f"In turns, median (lowest to highest) of {len(result.line.rounds)} rounds; what was read ahead in the "
            "turn of another is left out.",
        ],
    )


def _start(
    config: Config, device: torch.device, pairs: int
) -> tuple[Callable[[Any], None], Iterator[Any], Iterator[Any], int]:
    """A step of so many pairs, the loader's batches, the same on the device, and how many are in memory at once."""
    world = World(rank=0, world_size=1, device=device)
    task = task_of(config, config.data.opened())
    sharding = shard_batch(task.reader.sampler, batch_pairs=pairs, micro_batch_pairs=pairs, rank=0, world_size=1)
    torch.manual_seed(config.run.seed)
    model = task.network().to(device).train()
    to_channels_last(model)
    network = wrap(TrainingStep(task, model), world, config.training)
    optimizer = build_optimizer(model, config.optim)
    step = optimizer_step(network, optimizer, device, metrics=task.metrics)
    rows, workers = sharding.rows_per_micro_batch, config.data.num_workers
    reading = Loader(task.reader, rows=rows, num_workers=workers, pin=device.type == "cuda")
    loader = reading.batches(sharding.row_ranges(0, config.training.steps + 10**9))
    batches = warm_up(network, optimizer, on_device(loader, device), world, accumulating=False)
    return step, loader, batches, reading.slots


def _drop(batches: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass
