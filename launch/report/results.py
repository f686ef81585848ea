"""What `avc eval` does: load a run, measure, and write the result down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from avc.distributed.world import join
from avc.inference import load
from avc.tasks.correspondence import PairAccuracy, evaluate
from shards.atomic import written_aside
from shards.read import Shards


def correspondence(
    run: Path,
    *,
    shards: Path | None = None,
    split: str = "validation",
    passes: int = 10,
    grid: Literal["frame", "free"] = "frame",
    report: Callable[[int, int, str], None] | None = None,
) -> PairAccuracy:
    """AVC accuracy of a run's best weights on a split of its own shards, or of others.

    `grid` is that of `avc.tasks.correspondence.evaluation_sampler`. Raises ValueError where the folder is no run, the
    split has too few clips, or the frames are too small.
    """
    network = load(run)
    config = network.config
    with join(config.training) as world:
        network.model.to(world.device)
        data = Shards(shards or config.data.shards)
        return evaluate(network.model, data, config, world, split=split, passes=passes, grid=grid, report=report)


def as_json(result: PairAccuracy) -> dict[str, Any]:
    """The result as plain values, with what chance would be."""
    return asdict(result) | {"chance": 0.5}


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write results for machines, where a path is given. Raises ValueError where the file cannot be written."""
    if path is None:
        return
    path = path.expanduser()
    try:
        with written_aside(path) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
