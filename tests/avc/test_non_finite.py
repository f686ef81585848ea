"""A loss that is not finite on one rank: no rank takes the step, all leave and say why."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.multiprocessing

from avc.config import load_config
from avc.distributed.join import join
from avc.runs.checkpoint import load_newest
from avc.tasks.correspondence import Correspondence
from avc.training.loop import train
from avc.training.metrics import NonFiniteLoss
from tests.avc.launching import Training, write_config

STEP, RANKS = 3, 3


def on_rank(rank: int, config_path: str, folder: str, port: int) -> None:
    """Train as one of the ranks; the last one's loss is infinite from STEP on. Leaves what it ends with in a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    whole, made, calls = Correspondence.loss, [], iter(range(-1, 1000))  # the first warms up

    def loss(task, network, *arguments, **settings):
        made[:] = [network]
        losses = whole(task, network, *arguments, **settings)
        infinite = next(calls) >= STEP and rank == RANKS - 1
        return losses._replace(total=losses.total * torch.inf) if infinite else losses

    Correspondence.loss = loss
    config = load_config(config_path, [f"run.dir={folder}/run"])
    with join(config.training) as world, pytest.raises(NonFiniteLoss) as refused:
        train(config, world)
    weights = dict(made[0].named_parameters())
    torch.save({"said": str(refused.value), "weights": weights}, f"{folder}/{rank}.pt")


def test_when_one_rank_has_a_loss_that_is_not_finite_no_rank_takes_the_step(small_world, tmp_path) -> None:
    sizes = {"batch_pairs": 24, "micro_batch_pairs": 8}
    config = write_config(tmp_path, small_world, optim=sizes, validation={"every_steps": 0})
    Training(config, tmp_path / "before", f"training.steps={STEP}", world_size=RANKS).finish()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(on_rank, args=(str(config), str(tmp_path), port), nprocs=RANKS)
    before = load_newest(tmp_path / "before" / "latest")
    assert before is not None
    for rank in range(RANKS):
        left = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert f"at step {STEP}; no rank took the step" in left["said"]
        for name, weight in left["weights"].items():
            assert torch.equal(weight, before.model[name]), (rank, name)
