"""The training loop. torchrun, srun and a plain `python` all end here."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avc.config import dump_config
from avc.data.limits import refuse_beyond_limits
from avc.data.prefetch import load, slots_for
from avc.data.sharding import BatchSharding, shard_batch
from avc.distributed.world import World, convert_sync_batchnorm, share_statistics
from avc.models import to_channels_last
from avc.runs.attempt import CONFIG, Attempt, start_attempt
from avc.runs.checkpoint import Checkpoint, export, load_newest, save
from avc.runs.resuming import digests, refuse_unfit, resume, set_aside
from avc.settings import Config
from avc.tasks import task_of
from avc.tasks.task import Losses, TrainingStep
from avc.training.log import RunLog, opening
from avc.training.metrics import IntervalMetrics, StepSums
from avc.training.optimizer import build_optimizer, learning_rate
from shards.read import Shards


class NonFiniteLoss(RuntimeError):
    """The loss of some rank was infinite or not a number; no rank took the step."""


def train(
    config: Config,
    world: World,
    *,
    report: Callable[[int, int, str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Train the network that `config` describes, going on from the newest checkpoint in `run.dir` if there is one.

    Leaves in run.dir: config.yaml, metrics.jsonl, checkpoints/, and model.safetensors, the weights with the best
    validation score so far (the last ones where validation is off). Every rank calls it. `report`, if given, is told
    after each step how many are done, of how many, and the loss. `stop` is polled once per step: if it is true on any
    rank, all ranks checkpoint at that step and train() returns False. Returns True when the last step is done.
    Raises ValueError for settings that do not fit the shards, the ranks or the run in the folder; NonFiniteLoss;
    StaleAttempt on the main rank once a later attempt at the run has begun.
    """
    # Build.
    device = world.device
    shards = Shards(config.data.shards)
    task = task_of(config, shards)
    sampler = task.sampler
    sharding = shard_batch(
        sampler,
        batch_pairs=config.optim.batch_pairs,
        micro_batch_pairs=config.optim.micro_batch_pairs,
        rank=world.rank,
        world_size=world.world_size,
        accumulate=task.accumulates,
    )
    rows, num_workers = sharding.rows_per_micro_batch, config.data.num_workers
    refuse_beyond_limits(task.reader, slots=slots_for(num_workers), rows=rows, num_workers=num_workers)
    torch.manual_seed(config.run.seed)
    model = task.network()
    if config.training.sync_batchnorm:
        model = convert_sync_batchnorm(model, world)
    model.to(device)
    if config.training.channels_last:
        to_channels_last(model)
    optimizer = build_optimizer(model, config.optim)

    # Resume.
    inputs = digests(config, shards)
    micro_batch_pairs = sharding.rows_per_micro_batch * sampler.pairs_per_row

    def begin() -> tuple[Attempt, tuple[str, ...]]:  # on the main rank alone: signing in clears away what others see
        found = resume(config, inputs)
        if found.path is not None and found.checkpoint is not None:
            refuse_unfit(found.path, found.checkpoint, model, optimizer)
        attempt = start_attempt(config.run.dir, world_size=world.world_size, micro_batch_pairs=micro_batch_pairs)
        set_aside(attempt.folder, found.damaged)
        return attempt, found.remarks

    attempt, remarks = world.from_main(begin)
    step, best = 0, -1.0  # scores begin at 0
    checkpoint = load_newest(attempt.folder)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        step, best = checkpoint.step, checkpoint.best_accuracy
    log = None
    if world.is_main:
        attempt.write(CONFIG, lambda file: file.write(dump_config(config).encode()))
        log = RunLog(config, attempt, first_step=step)
        log.say("\n".join([opening(config, world, attempt, task, step=step), *remarks]))
    network = _wrap(TrainingStep(task, model), config, world)
    model.train()

    # Step.
    batches = load(
        task.reader,
        sharding.row_ranges(step, config.training.steps),
        num_workers=num_workers,
        pin=device.type == "cuda",
    )
    interval = IntervalMetrics(world, rows_per_step=sharding.rows_per_step, metrics=task.metrics)
    while step < config.training.steps:
        torch.manual_seed(_mix(config.run.seed, step, world.rank))  # whatever draws in a step depends on the step alone
        epoch = step * sharding.rows_per_step // sampler.rows_per_epoch
        lr = learning_rate(epoch, config.optim)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with interval.step():
            optimizer.zero_grad(set_to_none=True)
            sums = forward_backward(network, batches, sharding, world, interval, step=step, config=config)
            totals = sums.over_ranks(world, stop=stop is not None and stop())
            if not math.isfinite(totals.loss):  # NaN on every rank if on one
                raise NonFiniteLoss(f"the loss is {totals.loss} at step {step}; no rank took the step")
            optimizer.step()
        step += 1
        interval.add(totals, pairs=config.optim.batch_pairs)
        if report is not None:
            report(step, config.training.steps, f"loss {totals.loss / config.optim.batch_pairs:.3f}")

        # Log, validate, save when due.
        world.at(step, "logging, validating, saving")
        finished = step == config.training.steps
        stopped = totals.stop and not finished
        saved = step % config.checkpoint.every_steps == 0 or finished or stopped
        if step % config.log.every_steps == 0 or saved:  # with a checkpoint, so that no step is left out on resuming
            epochs = step * sharding.rows_per_step / sampler.rows_per_epoch
            norm = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
            measured = interval.close(step) | {"lr": lr, "epoch": epochs, "gradient_norm": norm}
            if log is not None:
                log.write("train", step, measured)
        every = config.validation.every_steps
        improved = not every and finished
        if every and (step % every == 0 or finished):
            share_statistics(model, world)
            result = task.validate(model, world)
            improved = result.score > best
            best = max(best, result.score)
            if log is not None:
                log.write("validation", step, result.metrics | {"best_accuracy": best})
        if world.is_main and improved:
            export(attempt, model, name=config.model.name, step=step, accuracy=best)
        if world.is_main and saved:
            save(
                attempt,
                Checkpoint(
                    step=step,
                    model=model.state_dict(),
                    optimizer=optimizer.state_dict(),
                    config=config.model_dump(mode="json"),
                    best_accuracy=best,
                    inputs=inputs,
                ),
                keep=config.checkpoint.keep,
            )
        if stopped:
            break
    world.barrier()
    if log is not None:
        log.close()
        attempt.ended(step, "finished" if step == config.training.steps else "asked to stop")
    return step == config.training.steps


def forward_backward(
    network: nn.Module,
    batches: Iterator[Any],
    sharding: BatchSharding,
    world: World,
    interval: IntervalMetrics,
    *,
    step: int,
    config: Config,
) -> StepSums:
    """Accumulate the gradients of this rank's micro-batches of a step; what their losses and metrics sum up to.

    DDP averages gradients over the ranks. The loss is scaled so that they are of the mean over the global batch, which
    does not depend on the number of ranks.
    """
    sums = StepSums(metrics=interval.metrics, device=world.device)
    scale = world.world_size / config.optim.batch_pairs
    for micro_batch in range(sharding.micro_batches):
        world.at(step, "reading")
        with interval.waiting_for_data():
            batch = next(batches)
        batch = batch.to(world.device)
        last = micro_batch == sharding.micro_batches - 1
        accumulating = world.world_size > 1 and not last
        with world.waiting(), network.no_sync() if accumulating else nullcontext():  # type: ignore[operator]
            losses: Losses = network(batch, step)
            if last:
                interval.ready()
            (losses.total * scale).backward()  # type: ignore[no-untyped-call]
        sums.add(losses, digest=batch.digest)
    return sums


def _wrap(model: nn.Module, config: Config, world: World) -> nn.Module:
    network = model
    if world.world_size > 1:
        # By default DDP rebuilds its buckets after the first step, and a resumed run would then sum its first gradients
        # in another order than the uninterrupted run did: different last bits. Asking for unused parameters keeps the
        # buckets, at the price of a walk over the graph. The warning that all were used is what we expect.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        with world.waiting():
            network = DistributedDataParallel(
                model,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                find_unused_parameters=True,
                broadcast_buffers=False,  # running statistics do not enter a training step; rank 0's count
            )
    if config.training.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    return network


def _mix(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 65_537 + rank) % 2**63
