"""What networks are trained to do: samples, forward pass, loss and validation of each family, in one file each."""

from __future__ import annotations

from typing import Any

from avc.networks import network_of, resolve
from avc.settings import Config, PairConfig
from avc.tasks.task import Task
from shards.read import Shards


def task_of(config: Config, shards: Shards) -> Task[Any]:
    """The task of the network that `config` names, on these shards.

    Raises ValueError where it does not fit them, and where it is to be validated on a split without clips.
    """
    if shards.sets and not isinstance(config, PairConfig):
        raise ValueError(f"{config.model.name} learns from one set, and data.shards names {len(shards.sets)}")
    held_out, least = len(shards.clips(config.validation.split)), 2 if isinstance(config, PairConfig) else 1
    if config.validation.every_steps and held_out < least:
        folder = shards.sets[0].shards.folder if shards.sets else shards.folder  # the first holds out
        raise ValueError(
            f"{folder} has {held_out} clips in its {config.validation.split} split, and a validation needs at "
            f"least {least}: train with validation.every_steps=0 or another validation.split, or pack into another "
            "folder with other shares (`avc pack --split`)"
        )
    task: Task[Any] = resolve(network_of(config.model.name).task).on(config, shards)
    return task
