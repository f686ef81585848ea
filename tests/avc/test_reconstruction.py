"""The autoencoder is trained by the same loop as the others, on the shards' sound alone."""

import json

import torch

from avc.config import parse_config
from avc.distributed.join import join
from avc.tasks.reconstruction import Reconstruction
from avc.training.loop import train
from shards.read import Shards
from tests.avc.launching import batches_of


def settings(small_world, **training):
    return {
        "data": {"shards": str(small_world), "sound_seconds": 0.5, "num_workers": 0},
        "model": {"name": "autoencoder", "width": 0.25},
        "optim": {"batch_pairs": 15, "micro_batch_pairs": 15, "lr": 3e-3, "weight_decay": 0},
        "training": {"steps": 20, "device": "cpu"},
        "validation": {"every_steps": 20, "batch_pairs": 5},
        "checkpoint": {"every_steps": 20},
        "log": {"every_steps": 10, "wandb": "disabled"},
    }


def test_the_loop_trains_it_and_its_score_is_the_power_that_comes_back(small_world, tmp_path) -> None:
    config = parse_config(settings(small_world), [f"run.dir={tmp_path / 'run'}"])
    with join(config.training) as world:
        train(config, world)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    *training, validation = lines
    assert training[-1]["loss"] / training[-1]["power"] < training[0]["loss"] / training[0]["power"]
    assert validation["score"] == max(0.0, 1 - validation["loss"] / validation["power"])


def test_the_error_is_that_of_the_waveform(small_world) -> None:
    task = Reconstruction.on(parse_config(settings(small_world)), Shards(small_world))
    [batch] = batches_of(task.reader, iter([(0, 6)]), num_workers=0)
    assert batch.audio.shape == (6, 12 * 882)
    waveform = batch.audio.float() / 128
    error, [power] = task.loss(lambda heard: heard, batch)
    assert error == 0
    error, _ = task.loss(torch.zeros_like, batch)
    torch.testing.assert_close(error, power)
    torch.testing.assert_close(power, waveform.square().mean(dim=1).sum())


def test_loader_workers_read_the_same_sound(small_world) -> None:
    task = Reconstruction.on(parse_config(settings(small_world)), Shards(small_world))
    row_ranges = [(0, 4), (4, 8), (8, 12)]
    alone = list(batches_of(task.reader, iter(row_ranges), num_workers=0))
    helped = list(batches_of(task.reader, iter(row_ranges), num_workers=1))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.audio, other.audio) and one.digest == other.digest
