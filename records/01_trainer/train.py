"""The trainer itself, with the demo's first settings and the contrastive loss: 450 steps on all cores."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from avc.config import parse_config
from avc.distributed.join import join
from avc.encoders.load import load
from avc.models.pair import PairNetwork
from avc.settings import PairConfig
from avc.training.loop import train as run_trainer
from shards.read import Shards

STEPS = 450
SETTINGS = {
    "model": {"name": "ave_nce", "width": 0.25},
    "negatives": {"source": "shared", "block": 16},
    "data": {"image_size": 112, "num_workers": 1, "max_misalignment_ticks": 12},
    "optim": {"batch_pairs": 64, "micro_batch_pairs": 64, "lr": 1e-3, "lr_decay_epochs": 2},
    "training": {"steps": STEPS, "precision": "bf16"},
    "validation": {"every_steps": 0},
    "log": {"wandb": "disabled"},
}


def train(shards: Shards, seed: int, clock: Any) -> tuple[PairNetwork, PairConfig]:
    """As `avc train` does."""
    with tempfile.TemporaryDirectory() as folder:
        own = [f"data.shards={shards.folder}", f"run.dir={folder}/run", f"run.seed={seed}"]
        config = parse_config(SETTINGS, own)
        with join(config.training) as world:
            run_trainer(config, world, report=lambda step, steps, note: clock.at(step, steps))
        network = load(Path(folder) / "run")
        return network.model, network.pair_config
