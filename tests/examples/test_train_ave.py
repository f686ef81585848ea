"""The flat example is the trainer: the same losses to the last bit, whole and resumed, and the same weights."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import avc
from tests.avc.launching import metrics, train_here, write_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def example(capsys, monkeypatch) -> Callable[..., list[float]]:
    """Runs the example as it stands and gives the losses that it prints."""

    def run(*arguments: object) -> list[float]:
        monkeypatch.setattr(sys, "argv", ["train_ave.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / "train_ave.py"))
        return [float(loss) for loss in re.findall(r"^step \d+ loss (\S+)$", capsys.readouterr().out, re.MULTILINE)]

    return run


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_flat_example_has_the_trainers_losses_and_weights_bit_for_bit(
    example, small_world, tmp_path, precision
) -> None:
    config = write_config(
        tmp_path,
        small_world,
        training={"steps": 6, "device": "cpu", "precision": precision},
        validation={"every_steps": 0},
        checkpoint={"every_steps": 3},
        optim={"batch_pairs": 32, "micro_batch_pairs": 8, "lr": 1e-3, "lr_decay_epochs": 1},
    )
    train_here(config, tmp_path / "trainer")
    trained = [line["loss"] for line in metrics(tmp_path / "trainer") if line["kind"] == "train"]
    assert example(config, f"run.dir={tmp_path / 'flat'}") == trained and len(set(trained)) == 6
    weights = load_file(tmp_path / "trainer" / "model.safetensors")
    flat = load_file(tmp_path / "flat" / "model.safetensors")
    assert weights.keys() == flat.keys() and all(torch.equal(weights[name], flat[name]) for name in weights)

    halves = f"run.dir={tmp_path / 'halves'}"
    assert example(config, halves, "training.steps=3") + example(config, halves) == trained
    images = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
    embedded = [avc.load(tmp_path / run).embed_image(images) for run in ("trainer", "halves")]
    assert torch.equal(*embedded)
