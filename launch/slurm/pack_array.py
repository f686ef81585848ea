"""Packing as a SLURM job array, and the merge as a job that waits for it.

::

    avc pack --cluster ──► lists the inputs once ──► job array: PackTask 1 ... N, a node's cores each
                                                     └── afterok ──► Merge

A task that SLURM warns, kills or moves queues again and goes on where its journal ends; nothing depends on the warning.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avc.runs.events import FOLDER
from avc.runs.links import refuse_without_links
from launch.progress import progress
from launch.report.results import show_packed
from launch.slurm.cluster_file import Cluster, check_for_script
from launch.slurm.jobs import Requeued, executor, require_slurm, submit_job
from shards.build_index import merge
from shards.pack import Summary
from shards.sources import Source
from shards.store import as_url
from shards.tasks import Task, assign_tasks, make_folder

if TYPE_CHECKING:
    import submitit


@dataclass(frozen=True)
class PackTask(Requeued):
    """What one task of the array runs on its share of the sources.

    out: absolute. pack: `shards.pack.pack_sources` with what is alike for all tasks.
    """

    task: Task
    sources: list[Source]
    out: Path
    pack: Callable[..., Summary]

    def __call__(self) -> None:
        paths = [source.path for source in self.sources if not source.problem and not as_url(source.path)]
        if paths and not any(map(os.path.exists, paths)):
            raise ValueError(
                f"none of the {len(paths):,} inputs of {self.task.name} is on {socket.gethostname()}: they must "
                "lie under the same name on the nodes as where they were submitted"
            )
        with progress("packing", unit="videos") as report:
            summary = self.pack(self.sources, task=self.task, progress=report)
        show_packed(self.out / self.task.name, summary.manifest)


@dataclass(frozen=True)
class Merge(Requeued):
    """What the job after the array runs. out: absolute."""

    out: Path

    def __call__(self) -> None:
        show_packed(self.out, merge(self.out))


@dataclass(frozen=True)
class Submitted:
    """The numbers of the jobs, how many inputs each task has, and where the logs go."""

    array: str
    merge: str
    shares: list[int]
    logs: Path


def submit_pack(
    sources: Sequence[Source], out: Path, pack: Callable[..., Summary], *, cluster: Cluster, tasks: int
) -> Submitted:
    """Submit the packing of what `shards.pack.list_inputs` has listed; pack: as of PackTask.

    Each task takes one node's cores and memory by the cluster file. Raises ValueError where there is no SLURM, when
    sbatch refuses, and for an `out` that holds something else.
    """
    require_slurm()
    import submitit

    if tasks < 1:
        raise ValueError(f"--tasks is {tasks} and must be at least 1")
    out = out.expanduser().resolve()
    check_for_script(str(out), "--out")
    workers = cluster.ranks_per_node * cluster.cpus_per_rank
    node = cluster.model_copy(update={"ranks_per_node": 1, "cpus_per_rank": workers})
    everyone = [Task(number, tasks) for number in range(1, tasks + 1)]
    for task in everyone:
        make_folder(out, task)
    shares = assign_tasks(sources, tasks)
    refuse_without_links(out, who="submitit")
    array = _executor(node, out, name="avc-pack")
    array.update_parameters(slurm_array_parallelism=tasks)
    pack = partial(pack, out=out, workers=workers)
    try:
        with array.batch():
            jobs = [
                array.submit(PackTask(task, share, out, pack)) for task, share in zip(everyone, shares, strict=True)
            ]
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(f"sbatch refuses the tasks: {' '.join(str(error).split())}") from None
    number = str(jobs[0].job_id).partition("_")[0]
    after = _executor(node, out, name="avc-merge")
    # Without the second one, a merge whose tasks have failed would wait in the queue for ever.
    more = {"requeue": True, "kill-on-invalid-dep": "yes"} | cluster.sbatch
    after.update_parameters(slurm_dependency=f"afterok:{number}", slurm_additional_parameters=more)
    return Submitted(number, submit_job(after, Merge(out)), [len(share) for share in shares], out / FOLDER)


def _executor(cluster: Cluster, out: Path, *, name: str) -> submitit.AutoExecutor:
    return executor(cluster, out / FOLDER, name=name, nodes=1, tasks_per_node=1, gpus=False, afterwards=[])
