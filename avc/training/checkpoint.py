"""A checkpoint is everything that a run needs to go on as if it had never stopped.

`checkpoints/step-00001000.pt` holds the step (and with it the position in the plan), the network, the optimiser, the
configuration, the W&B run id, the attempt number and the best validation so far. There are no generator states in it:
the plan draws every sample from the row's number, and the loop seeds torch's generators from the step.

A file is written aside, flushed to the disk and renamed, so whatever bears the name is complete. Loading runs no code
from the file (`weights_only=True`).
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from avc.config import Config

FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d{8})\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """step: optimiser steps done. model, optimiser: state dictionaries. config: as nested plain values."""

    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    config: dict[str, Any]
    wandb_id: str
    attempt: int
    best_accuracy: float
    format: int = FORMAT_VERSION


@dataclass(frozen=True)
class Identity:
    """Who a run is on its dashboard, and how many times it has been started."""

    wandb_id: str
    attempt: int


def sign_in(folder: Path) -> Identity:
    """Count one more attempt at the run in `folder`. One rank calls it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    before = Identity(**json.loads(path.read_text())) if path.exists() else Identity(uuid.uuid4().hex[:12], 0)
    now = replace(before, attempt=before.attempt + 1)
    write_aside(path, lambda aside: aside.write_text(json.dumps(asdict(now))))
    for leftover in (folder / "checkpoints").glob(".step-*"):  # of an attempt that was killed while it wrote
        leftover.unlink(missing_ok=True)
    return now


def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint into `folder` and delete all but the `keep` newest. One rank calls it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:08d}.pt"
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    write_aside(path, lambda aside: torch.save(content, aside))
    for old in _complete(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint, tensors on the CPU; None where there is none.

    Raises ValueError for a checkpoint of another format.
    """
    complete = _complete(folder)
    if not complete:
        return None
    content = torch.load(complete[-1], map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT_VERSION:
        raise ValueError(
            f"{complete[-1]} has checkpoint format {content.get('format')}; this version reads {FORMAT_VERSION}"
        )
    return Checkpoint(**content)


def refuse_other_run(config: Config, checkpoint: Checkpoint) -> None:
    """Raise ValueError unless the checkpoint was written under the settings that decide what is learnt."""
    free = {"data": {"shards", "num_workers"}, "optim": {"micro_batch_pairs"}}
    now = config.model_dump(mode="json")
    changed = [
        f"{section}.{name} was {checkpoint.config[section].get(name)!r} and is now {value!r}"
        for section in ("data", "negatives", "model", "optim")
        for name, value in now[section].items()
        if name not in free.get(section, set()) and checkpoint.config[section].get(name) != value
    ]
    if now["run"]["seed"] != checkpoint.config["run"]["seed"]:
        changed.append(f"run.seed was {checkpoint.config['run']['seed']} and is now {now['run']['seed']}")
    if changed:
        raise ValueError(
            f"{config.run.dir} holds a run with other settings: {'; '.join(changed)}. "
            "Choose another run.dir, or give the old settings to go on with it"
        )


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write(aside)` make a file beside `path`, flush it to the disk and give it its name in one step."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the new name itself
    finally:
        os.close(descriptor)


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))
