"""A checkpoint is everything that a run needs to go on as if it had never stopped.

`checkpoints/step-00001000.pt` in an attempt's folder holds the step (and with it the position in the plan), the
network, the optimiser, the configuration and the best validation so far. There are no generator states in it: the plan
draws every sample from the row's number, and the loop seeds torch's generators from the step.

A file is written aside, flushed to the disk and renamed, so whatever bears the name is complete. Loading runs no code
from the file (`weights_only=True`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from avc.config import Config
from avc.training.attempt import CHECKPOINTS, WEIGHTS, Attempt, newest_folder

FORMAT_VERSION = 2
_NAME = re.compile(r"step-(\d{8})\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """step: optimiser steps done. model, optimiser: state dictionaries. config: as nested plain values."""

    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    config: dict[str, Any]
    best_accuracy: float
    format: int = FORMAT_VERSION


def save(attempt: Attempt, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint of an attempt and delete all but its `keep` newest. One rank calls it. Raises Superseded."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    name = f"{CHECKPOINTS}/step-{checkpoint.step:08d}.pt"
    path = attempt.write(name, lambda aside: torch.save(content, aside))
    for old in _complete(attempt.folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def export(attempt: Attempt, model: nn.Module, *, name: str, step: int, accuracy: float) -> None:
    """Write the weights of the network of that name for those who use it. One rank calls it. Raises Superseded."""
    weights = {part: tensor.detach().cpu().contiguous() for part, tensor in model.state_dict().items()}
    about = {"step": str(step), "validation_accuracy": f"{accuracy:.6f}", "model": name}
    attempt.write(WEIGHTS, lambda aside: save_file(weights, aside, metadata=about))


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint in an attempt's folder, tensors on the CPU; None where there is none.

    Raises ValueError for a checkpoint of another format.
    """
    complete = _complete(folder)
    return Checkpoint(**_content(complete[-1], mapped=False)) if complete else None


def refuse_other_run(config: Config) -> None:
    """Raise ValueError unless the run in `run.dir`, if any, has the settings that decide what is learnt."""
    folder = newest_folder(config.run.dir)
    complete = _complete(folder) if folder is not None else []
    if not complete:
        return
    before = _content(complete[-1], mapped=True)["config"]
    free = {"data": {"shards", "teachers", "num_workers"}, "optim": {"micro_batch_pairs"}}
    now, default = config.model_dump(mode="json"), Config().model_dump(mode="json")
    # A setting that was not there when the run began had what is now its default.
    changed = [
        f"{section}.{name} was {was!r} and is now {value!r}"
        for section in ("data", "negatives", "model", "optim")
        for name, value in now[section].items()
        if name not in free.get(section, set())
        and (was := before.get(section, {}).get(name, default[section][name])) != value
    ]
    if now["run"]["seed"] != before["run"]["seed"]:
        changed.append(f"run.seed was {before['run']['seed']} and is now {now['run']['seed']}")
    if changed:
        raise ValueError(
            f"{config.run.dir} holds a run with other settings: {'; '.join(changed)}. "
            "Choose another run.dir, or give the old settings to go on with it"
        )


def _content(path: Path, *, mapped: bool) -> dict[str, Any]:
    """What a checkpoint holds; where it is `mapped`, tensors are only read when they are used."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if content.get("format") != FORMAT_VERSION:
        raise ValueError(f"{path} has checkpoint format {content.get('format')}; this version reads {FORMAT_VERSION}")
    return content


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / CHECKPOINTS).glob("step-*.pt") if _NAME.fullmatch(path.name))
