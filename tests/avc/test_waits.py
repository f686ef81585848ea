"""A training step never makes the host wait for a GPU; seen without one, by the calls that would wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from avc.config import parse_config
from avc.data.reader import Batch
from avc.distributed.world import World
from avc.models import build
from avc.settings import PairConfig
from avc.training.metrics import StepSums
from workshop.bench.synthetic import synthetic, task_on_noise

META = torch.device("meta")
READS = {"item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "unique", "__bool__", "__int__", "__float__"}


class Waits(TorchFunctionMode):
    """Records calls that read a tensor from the host, or copy a number of the host's into one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in READS:
            self.found.append(name)
        if name == "__setitem__" and not isinstance(args[2], torch.Tensor) and args[0][args[1]].dim() == 0:
            self.found.append("a number into a place")
        return function(*args, **(kwargs or {}))


def step() -> StepSums:
    config = parse_config({"model": {"name": "ave", "width": 0.0625}, "data": {"image_size": 32}})
    assert isinstance(config, PairConfig)
    batch = Batch(*(torch.empty_like(tensor, device=META) for tensor in synthetic(config, 8, "cpu")))
    with META:
        network = build(config.model)
    losses = task_on_noise(config).loss(network, batch)
    losses.total.backward()
    sums = StepSums(metrics=("accuracy",), device=META)
    sums.add(losses, digest=batch.digest)
    sums.over_ranks(World(rank=0, world_size=1, device=META), save=True)
    assert sums.not_finite.shape == ()
    return sums


def test_a_step_reads_nothing_and_copies_no_number_to_the_device() -> None:
    with Waits() as waits:
        step()
    assert waits.found == []


def test_a_planted_wait_is_seen() -> None:
    with Waits() as waits:
        sums = torch.zeros(3, device=META)
        sums[-1] = True
        with pytest.raises(RuntimeError):
            sums[0].item()
    assert waits.found == ["a number into a place", "item"]
