"""The commands that train, here or on a cluster, and tell how a run is doing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
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


def submit(
    config: Annotated[Path, typer.Argument(help="A YAML file of settings, as those in configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.NAME=VALUE]...", help="Settings that replace the file's.")
    ] = None,
    *,
    cluster: Annotated[Path, typer.Option(help="Nodes, GPUs, partition, account: see configs/cluster/slurm.yaml.")],
) -> None:
    """Train on a SLURM cluster: one process per GPU, as many nodes as the cluster file says.

    Told to stop by the time limit or by a job of higher priority, the run saves, queues again and goes on at the same
    step. After a kill, a failed node or `scontrol requeue` it goes on from its newest checkpoint. Ended by `scancel`
    and submitted again, with another number of nodes if need be, it goes on as well.

    **Example**

        avc submit configs/ave.yaml --cluster configs/cluster/slurm.yaml data.shards=/lustre/shards run.dir=/lustre/ave
    """
    from launch.slurm.submit import submit as submit_training
    from shards.text import counted

    job, settings, where = submit_training(config, overrides or [], cluster_path=cluster)
    ranks = f"{counted(where.world_size, 'ranks')} on {counted(where.nodes, 'nodes')}"
    print(f"job {job}: {ranks}; see how it does: avc status {settings.run.dir}")


def status(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The folders of runs (run.dir).")],
    watch: Annotated[bool, typer.Option("--watch", help="Show all of them as they go, until all have ended.")] = False,
) -> None:
    """How a run is doing: its place in the queue, step, speed, loss, checkpoint, and its restarts with their reasons.

    All but its place in the queue is read from its folder, so that any machine that sees the folder can tell. With
    --watch a line for each run, as it goes.

    **Examples**

        avc status runs/ave
        avc status --watch runs/ave runs/l3
    """
    from launch.progress import printable
    from launch.slurm.status import status_lines

    if watch:
        from launch.slurm.status import watch as watch_runs

        with suppress(KeyboardInterrupt):
            watch_runs(runs)
        return
    for number, run in enumerate(runs):
        lines = status_lines(run)
        width = max(len(name) for name, _ in lines)
        print(end="\n" * (number > 0))
        for name, text in lines:
            print(f"{name:<{width}}  {printable(text)}")
