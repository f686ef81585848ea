"""What a family of networks is trained to do: all that the loop leaves to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from avc.data.reading import AnyPlan, B, Reader
from avc.training.distributed import World


@dataclass(frozen=True)
class Validation:
    """score: 0 to 1, larger is better; weights with a higher one than before are exported. figures: for the log."""

    score: float
    figures: dict[str, float]


class Objective(Protocol[B]):
    """Rows, batches, a network, its loss and its validation.

    figures: names of what is summed over a step's pairs beside the loss; the log has their means. about: a few words
    for the log's first line. remarks: what is unusual, a line for each.
    """

    figures: tuple[str, ...]
    about: str
    remarks: tuple[str, ...]

    @property
    def plan(self) -> AnyPlan:
        """The rows of the training clips."""

    @property
    def reader(self) -> Reader[B]:
        """Reads them."""

    def network(self) -> nn.Module:
        """The network with fresh weights from torch's global generator."""

    def loss(self, network: nn.Module, batch: B, *, step: int) -> tuple[Tensor, Tensor]:
        """Of a batch on the network's device: the loss, summed over its pairs, and the sums of `figures` (F,).

        step: how many steps are done.
        """

    def validate(self, model: nn.Module, world: World) -> Validation:
        """Measure `model` on the validation split and leave it as it was; every rank must call it."""
