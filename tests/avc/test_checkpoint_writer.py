"""Checkpoints are written beside the training, which waits for a copy in memory alone."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from avc.config import parse_config
from avc.models import build
from avc.runs import checkpoint as checkpoints
from avc.runs.attempt import StaleAttempt, start_attempt
from avc.runs.checkpoint import Checkpoint, CheckpointWriter, load_newest
from avc.training.optimizer import build_optimizer


@pytest.fixture
def trained():
    """AVE-Net at full width after a step, and its optimizer."""
    config = parse_config({"model": {"name": "ave"}})
    model = build(config.model)
    optimizer = build_optimizer(model, config.optim)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other busily where the machine has other work
    yield config, model, optimizer
    torch.set_num_threads(threads)


def snapshot(trained, step: int) -> Checkpoint:
    config, model, optimizer = trained
    return Checkpoint(
        step=step,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        config=config.model_dump(mode="json"),
        best_score=0.5,
    )


def test_a_checkpoint_holds_a_training_up_for_less_than_50_ms_and_is_of_that_moment(
    trained, tmp_path, monkeypatch
) -> None:
    _, model, optimizer = trained
    attempt = start_attempt(tmp_path / "run", world_size=1, micro_batch_pairs=2)
    may_write, write = threading.Event(), checkpoints.save

    def late(*arguments, **settings):
        assert may_write.wait(60)
        return write(*arguments, **settings)

    monkeypatch.setattr(checkpoints, "save", late)
    writer = CheckpointWriter(attempt, keep=1)
    writer.prepare(model.state_dict(), optimizer.state_dict())
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    began = time.thread_time()  # of this thread: what else runs on the machine does not count
    writer.write(snapshot(trained, 1), resumable=True, weights=False)
    assert time.thread_time() - began < 0.05
    optimizer.step()  # the training goes on while nothing is written yet
    may_write.set()
    writer.wait()
    saved = load_newest(attempt.folder)
    assert saved is not None
    assert all(torch.equal(weight, saved.model[name]) for name, weight in before.items())


def test_what_goes_wrong_in_writing_reaches_the_training(trained, tmp_path) -> None:
    attempt = start_attempt(tmp_path / "run", world_size=1, micro_batch_pairs=2)
    writer = CheckpointWriter(attempt, keep=1)
    start_attempt(tmp_path / "run", world_size=1, micro_batch_pairs=2)
    writer.write(snapshot(trained, 1), resumable=True, weights=True)
    with pytest.raises(StaleAttempt):
        writer.wait()
