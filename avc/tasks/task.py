"""A task: all that the training loop leaves to a family of networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.data.interfaces import B, Reader
from avc.data.loader import Loader
from avc.distributed.world import World
from shards import Report
from shards.read import Shards


class Losses(NamedTuple):
    """total: float32 (), the loss summed over the pairs of a batch. metrics: (M,), sums of the task's `metrics`."""

    total: Tensor
    metrics: Tensor


class Pictured(NamedTuple):
    """The pairs themselves, which stay as they are.

    frame, sound: names of P clips and where in them, in seconds. images: uint8 (P, H, W, 3). audio: int16 (P, 48000).
    spectrograms: float32 (P, 257, 199), at least 0. label: int64 (P,), 1 where both are of one moment.
    """

    frame: list[str]
    sound: list[str]
    images: NDArray[np.uint8]
    audio: NDArray[np.int16]
    spectrograms: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """What a network makes of the pairs at one validation.

    score: float32 (P,), probability that they belong together. maps: float32 (P, H', W'), 0 to 1, of a network that
    localizes.
    """

    pairs: Pictured
    score: NDArray[np.float32]
    maps: NDArray[np.float32] | None


@dataclass(frozen=True)
class Validation:
    """score: 0 to 1, larger is better; the weights with the best one are exported. metrics: for the log.

    examples: held-out pairs to look at and listen to, on the main rank alone.
    """

    score: float
    metrics: dict[str, float]
    examples: Examples | None = None


def held_out_batches(
    model: nn.Module,
    reader: Reader[B],
    world: World,
    *,
    rows: int,
    size: int,
    num_workers: int,
    report: Report | None = None,
) -> Iterator[tuple[int, B]]:
    """This rank's batches of the first `rows` rows, of up to `size` rows, each with its first row, on the device.

    Every world_size-th batch, so that each row is read once. The model is in evaluation mode for the while, and so its
    batch statistics stay as they are. report: told how many rows of this rank are done, of how many.
    """
    row_ranges = [(start, min(start + size, rows)) for start in range(world.rank * size, rows, world.world_size * size)]
    loader = Loader(reader, rows=min(size, rows), num_workers=num_workers, pin=world.device.type == "cuda")
    most = math.ceil(rows / (size * world.world_size))
    batches = world.until_stopped(loader.batches(iter(row_ranges)), most=most)
    done, total = 0, sum(stop - start for start, stop in row_ranges)
    was_training = model.training
    model.eval()
    try:
        for (start, stop), batch in zip(row_ranges, batches, strict=True):
            yield start, batch.to(world.device)
            done += stop - start
            if report is not None:
                report(done, total, "")
    finally:
        model.train(was_training)


class Task(Protocol[B]):
    """Samples, a network, its loss and its validation.

    metrics: names of the per-pair sums that loss() returns; logged as means. summary: a few words for the log's first
    line. warnings: what is unusual about the settings, a line for each. inputs: files that it learns from beside the
    shards, by name. accumulates: whether a step may be cut into micro-batches.
    """

    metrics: tuple[str, ...]
    summary: str
    warnings: tuple[str, ...]
    inputs: Mapping[str, Path]
    accumulates: bool

    @classmethod
    def on(cls, config: Any, shards: Shards) -> Self:
        """The task over the training clips. Raises ValueError where settings and shards do not fit."""

    @property
    def reader(self) -> Reader[B]:
        """Reads the rows of the training clips' sampler."""

    def network(self) -> nn.Module:
        """The network with fresh weights from torch's global generator."""

    def loss(self, network: Any, batch: B) -> Losses:
        """The loss of a batch that is on the network's device."""

    def validate(self, model: Any, world: World) -> Validation:
        """Measure `model` on the validation split and leave it as it was; every rank must call it.

        Raises avc.distributed.stopping.Stopped between two batches, on all ranks, once one has been asked to stop.
        """
