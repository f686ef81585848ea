"""AVC accuracy of a run: pairs of a frame and a second of sound, told apart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from avc.distributed.join import join
from avc.encoders.load import load, read_run
from avc.evaluation import options
from avc.evaluation.measures import Request, Result
from avc.tasks.held_out import PairAccuracy, evaluate
from shards import Report
from shards.read import Shards


def judge_pairs(
    run: Path,
    shards: Shards,
    *,
    split: str = "validation",
    passes: int,
    grid: Literal["frame", "free"] = "frame",
    report: Report | None = None,
) -> PairAccuracy:
    """AVC accuracy of a run's best weights on a split, each clip judged `passes` times in each role.

    `grid` is that of `avc.tasks.held_out.evaluation_sampler`. Raises ValueError where the folder is no run, the
    split has too few clips, or the frames are too small.
    """
    network = load(run)
    config = network.pair_config
    with join(config.training) as world:
        network.model.to(world.device)
        return evaluate(network.model, shards, config, world, split=split, passes=passes, grid=grid, report=report)


def correspondence(request: Request, chosen: options.Correspondence) -> Result:
    """The measure of that name."""
    data, split = request.data(read_run(request.source)[0], request.source)
    with request.progress("judging", unit="pairs") as report:
        accuracy = judge_pairs(request.source, data, split=split, passes=chosen.passes, report=report)
    about = {"run": str(request.source), "split": split, "chance": 0.5}
    return Result(about | asdict(accuracy) | request.judged(f"the {split} split"))
