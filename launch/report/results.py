"""What `avc eval` does: load a run, measure, and write the result down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from avc.config import load_config
from avc.distributed.join import join
from avc.extras import require_package
from avc.inference import load
from avc.runs.attempt import CONFIG, history, place
from avc.tasks.held_out import PairAccuracy, evaluate
from avc.training.dashboard import open_run
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

    `grid` is that of `avc.tasks.held_out.evaluation_sampler`. Raises ValueError where the folder is no run, the
    split has too few clips, or the frames are too small.
    """
    network = load(run)
    config = network.pair_config
    with join(config.training) as world:
        network.model.to(world.device)
        data = Shards(shards or config.data.shards)
        return evaluate(network.model, data, config, world, split=split, passes=passes, grid=grid, report=report)


def as_json(result: PairAccuracy) -> dict[str, Any]:
    """The result as plain values, with what chance would be."""
    return asdict(result) | {"interval_95": list(result.interval_95), "chance": 0.5}


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


def write_wandb(run: Path, name: str, content: dict[str, Any]) -> None:
    """Write the numbers of a result into the summary of the W&B run that a run's folder belongs to.

    They are called eval/NAME/..., by their places in `content`; a list's items by their `name`, if they have one.
    Raises ValueError where the run is on no dashboard, and where W&B is not installed.
    """
    require_package("wandb", extra="wandb", purpose="--wandb")
    config = load_config(place(run, CONFIG))
    attempts = history(run)
    here = config.model_copy(update={"run": config.run.model_copy(update={"dir": run})})
    opened = open_run(here, attempts[-1].wandb_id) if attempts else None
    if opened is None:
        raise ValueError(f"--wandb: {run} is on no dashboard, as log.wandb, or WANDB_MODE here, is disabled")
    opened.summary.update(dict(_numbers(f"eval/{name}", content)))
    opened.finish()


def _numbers(place: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(f"{place}/{name}", part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _numbers(
                f"{place}/{part['name'] if isinstance(part, dict) and 'name' in part else number}", part
            )
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value
