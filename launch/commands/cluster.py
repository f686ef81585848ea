"""The commands that have to do with a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

    job, settings, where = submit_training(config, overrides or [], cluster_path=cluster)
    print(f"job {job}: {where.world_size} ranks on {where.nodes} nodes; see how it does: avc status {settings.run.dir}")


def status(
    run: Annotated[Path, typer.Argument(help="The folder of a run (run.dir).")],
) -> None:
    """How a run is doing: its place in the queue, step, speed, loss, checkpoint, and its restarts with their reasons.

    All but its place in the queue is read from its folder, so that any machine that sees the folder can tell.

    **Example**

        avc status runs/ave
    """
    from launch.progress import printable
    from launch.slurm.status import status_lines

    lines = status_lines(run)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {printable(text)}")
