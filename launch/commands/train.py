"""`avc train`: train here, in one process."""

from __future__ import annotations

from typing import Annotated

import typer


def train(
    config: Annotated[
        str, typer.Argument(help="A YAML file of settings, or the name of one in configs/: ave, l3, small.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.NAME=VALUE]...", help="Settings that replace the file's.")
    ] = None,
) -> None:
    """Train a network on packed videos, in this process.

    The run's folder (run.dir) receives the settings, a line of metrics every few steps, checkpoints, and
    model.safetensors, the best weights so far. Ctrl-C saves a checkpoint first. Started again with the same folder, the
    run goes on from its newest checkpoint and ends with the weights that it would have had without the stop.

    On several GPUs or nodes, let torchrun start one process for each:
    `TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600 torchrun --nproc-per-node 4 -m launch.train CONFIG SECTION.NAME=VALUE ...`

    **Examples**

        avc train ave data.shards=~/shards run.dir=runs/ave
        avc train my-settings.yaml data.shards=~/shards run.dir=runs/small model.width=0.25 optim.lr=1e-3
    """
    from launch.train import run_here

    run_here(config, overrides or [])
