"""The training loop. torchrun, srun and a plain `python` all end here."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from avc.config import dump_config
from avc.data.loader import BatchSharding, Loader, on_device, shard_batch
from avc.distributed.join import refuse_wrong_numbers
from avc.distributed.model import convert_sync_batchnorm, share_statistics, wrap
from avc.distributed.stopping import Stopped
from avc.distributed.world import World
from avc.models import to_channels_last
from avc.runs.attempt import CONFIG, Attempt, start_attempt
from avc.runs.checkpoint import Checkpoint, CheckpointWriter, load_newest
from avc.runs.resuming import digests, refuse_unfit, resume, set_aside
from avc.settings import Config, OptimSettings
from avc.tasks import task_of
from avc.tasks.task import Losses, Task
from avc.training.dashboard import require_wandb
from avc.training.log import RunLog, opening
from avc.training.metrics import IntervalMetrics, StepSums
from avc.training.optimizer import build_optimizer
from avc.training.pacing import Pacing, garbage_collection_by_hand
from shards import Report


@garbage_collection_by_hand()
def train(
    config: Config, world: World, *, report: Report | None = None, stop: Callable[[], bool] | None = None
) -> bool:
    """Train the network that `config` describes, going on from the newest checkpoint in `run.dir` if there is one.

    Leaves in run.dir: config.yaml, metrics.jsonl, checkpoints/, and model.safetensors, the weights with the best
    validation score so far (the last ones where validation is off). Every rank calls it. `report`, if given, is told
    after each step how many are done, of how many, and the loss. `stop` is polled between micro-batches and between
    batches of a validation: if it is true on any rank, all ranks leave the step or the validation undone, checkpoint,
    and train() returns False. Returns True when the last step is done. Raises ValueError for settings that do not fit
    the shards, the ranks or the run in the folder; NonFiniteLoss; StaleAttempt on the main rank once a later attempt at
    the run has begun.
    """
    # Build.
    require_wandb(config.log)
    world = replace(world, stop=stop)
    device = world.device
    shards = config.data.opened()
    task = task_of(config, shards)
    sampler = task.reader.sampler
    sharding = shard_batch(
        sampler,
        batch_pairs=config.optim.batch_pairs,
        micro_batch_pairs=config.optim.micro_batch_pairs,
        rank=world.rank,
        world_size=world.world_size,
        accumulate=task.accumulates,
    )
    ahead = None
    if shards.cache is not None:
        from avc.data.stored import FetchAhead  # which shards of this machine need not load

        ahead = FetchAhead(shards, sampler, sharding, config)
    rows, pin = sharding.rows_per_micro_batch, device.type == "cuda"
    loader = Loader(task.reader, rows=rows, num_workers=config.data.num_workers, pin=pin)
    torch.manual_seed(config.run.seed)
    model = task.network()
    cudnn = torch.backends.cudnn.version() if pin else None  # type: ignore[no-untyped-call]
    refuse_wrong_numbers(model, config.training, cudnn=cudnn)
    if config.training.sync_batchnorm:
        model = convert_sync_batchnorm(model, world)
    model.to(device)
    to_channels_last(model)
    optimizer = build_optimizer(model, config.optim)

    # Resume.
    inputs = digests(shards, task.inputs)

    def begin() -> tuple[Attempt, tuple[str, ...]]:  # on the main rank alone: it clears away what others see
        resumption = resume(config, inputs)
        if resumption.path is not None and resumption.checkpoint is not None:
            refuse_unfit(resumption.path, resumption.checkpoint, model, optimizer)
        attempt = start_attempt(
            config.run.dir, world_size=world.world_size, micro_batch_pairs=rows * sampler.pairs_per_row
        )
        set_aside(attempt.folder, resumption.damaged)
        return attempt, resumption.remarks + attempt.remarks

    attempt, remarks = world.from_main(begin)
    step, best = 0, -1.0  # scores begin at 0
    checkpoint = load_newest(attempt.folder)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.model)
        # Of the optimizer its moments: of the settings in the file only some are compared, and all have an effect.
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": checkpoint.optimizer["state"], "param_groups": groups})
        step, best = checkpoint.step, checkpoint.best_score
    log = None
    if world.is_main:
        attempt.write(CONFIG, lambda file: file.write(dump_config(config).encode()))
        log = RunLog(config, attempt, first_step=step, inputs=inputs)
        log.say("\n".join([opening(config, world, attempt, task, step=step), *remarks]))
    network = wrap(TrainingStep(task, model), world, config.training)
    model.train()

    # Step.
    if ahead is not None:
        ahead.at(step)
    batches = on_device(loader.batches(sharding.row_ranges(step, config.training.steps)), device)
    interval = IntervalMetrics(
        world, pairs_per_step=config.optim.batch_pairs, rows_per_step=sharding.rows_per_step, metrics=task.metrics
    )
    pacing = Pacing(config.training.steps, config.log, config.validation, config.checkpoint)
    writer = CheckpointWriter(attempt, keep=config.checkpoint.keep)
    world.at(step, "warming up")
    batches = warm_up(network, optimizer, batches, world, accumulating=sharding.micro_batches > 1)
    if world.is_main:
        writer.prepare(model.state_dict(), optimizer.state_dict())
    left = pacing.left(step, interval) if checkpoint is not None and checkpoint.unvalidated else None
    stopped = False
    while not stopped and (left or step < config.training.steps):
        due, left = left, None
        if due is None:
            if ahead is not None:
                ahead.at(step)
            # Whatever draws in a step depends on the step alone.
            torch.manual_seed(_mix(config.run.seed, step, world.rank))
            epoch = step * sharding.rows_per_step // sampler.rows_per_epoch
            lr = learning_rate(epoch, config.optim)
            for group in optimizer.param_groups:
                group["lr"] = lr
            try:
                with interval.step():
                    optimizer.zero_grad(set_to_none=True)
                    sums = forward_backward(network, batches, sharding, world, interval, step=step)
                    sums.over_ranks(world, save=world.is_main and pacing.minutes_are_over())
                    optimizer.found_inf = sums.not_finite  # type: ignore[attr-defined]  # no rank takes the step
                    optimizer.step()
                    step += 1
                    interval.add(sums, step=step)  # and read the totals of the step before
                    if any(pacing.due(step, interval)):
                        interval.catch_up()
                due = pacing.due(step, interval)
            except Stopped:
                interval.catch_up()
                due, stopped = pacing.stopped(interval), True
            if report is not None and interval.last_loss is not None:
                report(step, config.training.steps, f"loss {interval.last_loss / config.optim.batch_pairs:.3f}")
            if not any(due):
                continue

        # Log, validate, save when due.
        world.at(step, "logging, validating, saving")
        if due.log:
            epochs = step * sharding.rows_per_step / sampler.rows_per_epoch
            measured = interval.close(step) | {"lr": lr, "epoch": epochs}
            if not stopped:  # which leaves the gradients of a step that was not taken
                gradients = [p.grad for p in model.parameters() if p.grad is not None]
                measured["gradient_norm"] = float(torch.nn.utils.get_total_norm(gradients))
            if log is not None:
                log.write("train", step, measured)
                if remark := pacing.remark(measured["speed/step_seconds"] / sharding.micro_batches):
                    log.say(remark)
        improved = due.save and not config.validation.every_steps
        if due.validate and (due.finished or world.from_main(pacing.may_validate)):
            share_statistics(model, world)
            try:
                with pacing.validating():
                    result = task.validate(model, world)
            except Stopped:
                due, stopped = due._replace(save=True), True
            else:
                improved = result.score > best
                best = max(best, result.score)
                if log is not None:
                    log.write("validation", step, result.metrics | {"best_score": best}, result.examples)
        written = None
        if world.is_main and (due.save or improved):
            checkpoint = Checkpoint(
                step=step,
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                config=config.model_dump(mode="json"),
                best_score=best,
                inputs=inputs,
                unvalidated=stopped and due.validate,
            )
            written = writer.write(checkpoint, resumable=due.save, weights=improved)
            if log is not None and log.dashboard is not None:
                log.dashboard.saved(written, step=step, resumable=due.save, weights=improved)
        if due.save:
            interval.save = False
            pacing.saved(written)
        writer.check()
        gc.collect(2 if due.validate or due.save else 1)
    writer.wait()
    world.barrier()
    if log is not None:
        log.close()
        attempt.ended(step, "asked to stop" if stopped else "finished")
    return not stopped


def forward_backward(
    network: nn.Module,
    batches: Iterator[Any],
    sharding: BatchSharding,
    world: World,
    interval: IntervalMetrics,
    *,
    step: int,
) -> StepSums:
    """Accumulate the gradients of this rank's micro-batches of a step; what their losses and metrics sum up to.

    DDP averages gradients over the ranks. The loss is scaled so that they are of the mean over the global batch, which
    does not depend on the number of ranks. Raises Stopped before one of them, on all ranks, once one has been asked to
    stop; the network is then as it was.
    """
    sums = StepSums(metrics=interval.metrics, device=world.device)
    scale = world.world_size / interval.pairs_per_step
    kept = [buffer.clone() for buffer in network.buffers()] if sharding.micro_batches > 1 else []
    for micro_batch in range(sharding.micro_batches):
        interval.keep_up()
        if world.stops_here():
            _put_back(kept, network)
            raise Stopped
        world.at(step, "reading")
        with interval.waiting_for_data():
            batch = next(batches)
        last = micro_batch == sharding.micro_batches - 1
        with world.waiting(), _accumulating(network, not last):
            losses: Losses = network(batch)
            if last:
                interval.ready()
            (losses.total * scale).backward()  # type: ignore[no-untyped-call]
        sums.add(losses, digest=batch.digest)
    return sums


def warm_up(
    network: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Any], world: World, *, accumulating: bool
) -> Iterator[Any]:
    """Take a step on the first batch that changes nothing; the batches, that one included.

    This compiles the network, makes the optimizer's state, and lets DDP put its buckets in the order in which gradients
    become ready, which it does once. Otherwise a resumed run would sum the gradients of its first step in another order
    than the uninterrupted run did: different last bits.
    """
    first = next(batches, None)
    if first is None:
        return batches
    kept = [buffer.clone() for buffer in network.buffers()]
    for accumulate in (True, False) if accumulating else (False,):
        with world.waiting(), _accumulating(network, accumulate):
            network(first).total.backward()
    _put_back(kept, network)
    optimizer.found_inf = torch.ones((), device=world.device)  # type: ignore[attr-defined]  # leave out the step
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return chain([first], batches)


def learning_rate(epoch: int, settings: OptimSettings) -> float:
    """× 0.94 every 16 epochs (Objects that Sound 3.3); `epoch` counts from 0."""
    return settings.lr * settings.lr_decay ** (epoch // settings.lr_decay_epochs)


class TrainingStep(nn.Module):
    """Transforms, network and loss as one module, so that DDP and the compiler see the whole step."""

    def __init__(self, task: Task[Any], network: nn.Module) -> None:
        super().__init__()
        self.task, self.network = task, network

    def forward(self, batch: Any) -> Losses:
        """`Task.loss` of the network."""
        return self.task.loss(self.network, batch)


def _put_back(kept: list[Tensor], network: nn.Module) -> None:
    for buffer, value in zip(network.buffers(), kept, strict=bool(kept)):
        buffer.copy_(value)


def _accumulating(network: Any, on: bool) -> AbstractContextManager[None]:
    """Keep the gradients of the block to this rank, where there are others."""
    return network.no_sync() if on and hasattr(network, "no_sync") else nullcontext()


def _mix(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 65_537 + rank) % 2**63
