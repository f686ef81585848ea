"""What networks are trained to do: samples, forward pass, loss and validation of each family, in one file each."""

from __future__ import annotations

from typing import Any

from avc.networks import network_of, resolve
from avc.settings import Config
from avc.tasks.task import Task
from shards.read import Shards


def task_of(config: Config, shards: Shards) -> Task[Any]:
    """The task of the network that `config` names, on these shards. Raises ValueError where there is none or no fit."""
    place = network_of(config.model.name).task
    if place is None:
        raise ValueError(f"{config.model.name} is not trained here: its weights come from elsewhere, by `avc import`")
    task: Task[Any] = resolve(place).on(config, shards)
    return task
