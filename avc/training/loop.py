"""The training loop. torchrun, srun and a plain `python` all end here."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avc.config import Config, dump_config
from avc.data.limits import refuse_beyond_limits
from avc.data.loader import share
from avc.data.prefetch import load, slots_for
from avc.models import to_channels_last
from avc.training.attempt import CONFIG, Attempt, sign_in
from avc.training.checkpoint import Checkpoint, export, load_newest, save
from avc.training.distributed import World, share_statistics, synchronise_batchnorm
from avc.training.families import objective_of
from avc.training.log import RunLog, opening
from avc.training.optim import build_optimiser, learning_rate
from avc.training.resuming import digests, refuse_unfit, resume, set_aside
from avc.training.window import Window
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
    after each step how many are done, of how many, and the loss. `stop`, if given, is asked in each step: once it is
    true on any rank, all of them save at that step and return False. Returns True when the last step is done.
    Raises ValueError for settings that do not fit the shards, the ranks or the run in the folder; NonFiniteLoss;
    Superseded on the main rank once a later attempt at the run has begun.
    """
    # Build.
    device = world.device
    shards = Shards(config.data.shards)
    objective = objective_of(config, shards)
    plan = objective.plan
    portion = share(
        plan,
        batch_pairs=config.optim.batch_pairs,
        micro_batch_pairs=config.optim.micro_batch_pairs,
        rank=world.rank,
        world_size=world.world_size,
    )
    rows, num_workers = portion.rows_per_micro_batch, config.data.num_workers
    refuse_beyond_limits(objective.reader, slots=slots_for(num_workers), rows=rows, num_workers=num_workers)
    torch.manual_seed(config.run.seed)
    model = objective.network()
    if config.training.sync_batchnorm:
        model = synchronise_batchnorm(model, world)
    model.to(device)
    if config.training.channels_last:
        to_channels_last(model)
    optimiser = build_optimiser(model, config.optim)

    # Resume.
    inputs = digests(config, shards)
    micro_batch_pairs = portion.rows_per_micro_batch * plan.pairs_per_row

    def begin() -> tuple[Attempt, tuple[str, ...]]:  # on the main rank alone: signing in clears away what others see
        found = resume(config, inputs)
        if found.path is not None and found.checkpoint is not None:
            refuse_unfit(found.path, found.checkpoint, model, optimiser)
        attempt = sign_in(config.run.dir, world_size=world.world_size, micro_batch_pairs=micro_batch_pairs)
        set_aside(attempt.folder, found.damaged)
        return attempt, found.remarks

    attempt, remarks = world.from_main(begin)
    step, best = 0, -1.0  # scores begin at 0
    checkpoint = load_newest(attempt.folder)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.model)
        optimiser.load_state_dict(checkpoint.optimiser)
        step, best = checkpoint.step, checkpoint.best_accuracy
    log = None
    if world.is_main:
        attempt.write(CONFIG, lambda file: file.write(dump_config(config).encode()))
        log = RunLog(config, attempt, first_step=step)
        log.say("\n".join([opening(config, world, attempt, objective, step=step), *remarks]))
    network = _wrap(model, config, world)
    model.train()

    # Step.
    batches = load(
        objective.reader,
        portion.stretches(step, config.training.steps),
        num_workers=num_workers,
        pin=device.type == "cuda",
    )
    window = Window(world, rows_per_step=portion.rows_per_step, figures=objective.figures)
    while step < config.training.steps:
        window.begin()
        torch.manual_seed(_mix(config.run.seed, step, world.rank))  # whatever draws in a step depends on the step alone
        epoch = step * portion.rows_per_step // plan.rows_per_epoch
        lr = learning_rate(epoch, config.optim)
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.zero_grad(set_to_none=True)
        # The loss, the objective's figures, the digest of the pairs, whether to stop: one sum over the ranks for all.
        totals = torch.zeros(len(objective.figures) + 3, dtype=torch.float64, device=device)
        for micro_batch in range(portion.micro_batches):
            asked = time.monotonic()
            world.at(step, "reading")
            batch = next(batches)
            window.data_seconds += time.monotonic() - asked
            batch = batch.to(device)
            totals[-2] += batch.digest
            last = micro_batch == portion.micro_batches - 1
            alone = not last and world.world_size > 1
            with world.waiting(), network.no_sync() if alone else nullcontext():  # type: ignore[operator]
                loss, figures = objective.loss(network, batch, step=step)
                # DDP averages over the ranks; the mean over the global batch is what does not depend on their number.
                if last:
                    window.ready()
                (loss * (world.world_size / config.optim.batch_pairs)).backward()  # type: ignore[no-untyped-call]
            totals[:-2] += torch.cat([loss.detach()[None], figures])
        totals[-1] = stop is not None and stop()
        loss_sum, *sums, digest, stops = world.sum(totals)  # NaN on every rank if on one; so with stopping
        if not math.isfinite(loss_sum):
            raise NonFiniteLoss(f"the loss is {loss_sum} at step {step}; no rank took the step")
        optimiser.step()
        step += 1
        window.add(pairs=config.optim.batch_pairs, loss_sum=loss_sum, sums=sums, digest=int(digest))
        if report is not None:
            report(step, config.training.steps, f"loss {loss_sum / config.optim.batch_pairs:.3f}")

        # Log, validate, save when due.
        world.at(step, "logging, validating, saving")
        finished = step == config.training.steps
        stopped = stops > 0 and not finished
        saved = step % config.checkpoint.every_steps == 0 or finished or stopped
        if step % config.log.every_steps == 0 or saved:  # with a checkpoint, so that no step is left out on resuming
            measured = window.close(step) | {"lr": lr, "epoch": step * portion.rows_per_step / plan.rows_per_epoch}
            if log is not None:
                log.write("train", step, measured)
        every = config.validation.every_steps
        improved = not every and finished
        if every and (step % every == 0 or finished):
            share_statistics(model, world)
            result = objective.validate(model, world)
            improved = result.score > best
            best = max(best, result.score)
            if log is not None:
                log.write("validation", step, result.figures | {"best_accuracy": best})
        if world.is_main and improved:
            export(attempt, model, name=config.model.name, step=step, accuracy=best)
        if world.is_main and saved:
            save(
                attempt,
                Checkpoint(
                    step=step,
                    model=model.state_dict(),
                    optimiser=optimiser.state_dict(),
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
