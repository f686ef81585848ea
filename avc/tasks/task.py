"""A task: all that the training loop leaves to a family of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from avc.data.interfaces import AnySampler, B, Reader
from avc.distributed.world import World
from avc.settings import PairConfig
from avc.tasks.examples import Examples


class Losses(NamedTuple):
    """total: float32 (), the loss summed over the pairs of a batch. metrics: (M,), sums of the task's `metrics`."""

    total: Tensor
    metrics: Tensor


@dataclass(frozen=True)
class Validation:
    """score: 0 to 1, larger is better; the weights with the best one are exported. metrics: for the log.

    examples: held-out pairs to look at and listen to, on the main rank alone.
    """

    score: float
    metrics: dict[str, float]
    examples: Examples | None = None


class Task(Protocol[B]):
    """Samples, a network, its loss and its validation.

    metrics: names of the per-pair sums that loss() returns; logged as means. summary: a few words for the log's first
    line. warnings: what is unusual about the settings, a line for each. accumulates: whether a step may be cut into
    micro-batches. hard_from_step: from which step on the negatives are hard ones; 0 is never.
    """

    metrics: tuple[str, ...]
    summary: str
    warnings: tuple[str, ...]
    accumulates: bool
    hard_from_step: int

    @property
    def sampler(self) -> AnySampler:
        """The sampler of the training clips."""

    @property
    def reader(self) -> Reader[B]:
        """Reads its rows."""

    def network(self) -> nn.Module:
        """The network with fresh weights from torch's global generator."""

    def loss(self, network: Any, batch: B, *, hard: bool = False) -> Losses:
        """The loss of a batch that is on the network's device. hard: with hard negatives."""

    def validate(self, model: Any, world: World) -> Validation:
        """Measure `model` on the validation split and leave it as it was; every rank must call it.

        Raises avc.distributed.stopping.Stopped between two batches, on all ranks, once one has been asked to stop.
        """


class TrainingStep(nn.Module):
    """Transforms, network and loss as one module, so that DDP and the compiler see the whole step."""

    def __init__(self, task: Task[Any], network: nn.Module) -> None:
        super().__init__()
        self.task, self.network = task, network

    def forward(self, batch: Any, hard: bool = False) -> Losses:
        """`Task.loss` of the network."""
        return self.task.loss(self.network, batch, hard=hard)


def autocast(device: torch.device, config: PairConfig) -> torch.autocast:
    """bf16 where `training.precision` says so."""
    kind = "cpu" if device.type == "meta" else device.type  # shapes alone have no precision
    return torch.autocast(kind, torch.bfloat16, enabled=config.training.precision == "bf16")
