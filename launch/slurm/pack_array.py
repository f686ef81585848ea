"""Packing as a SLURM job array, and the merge as a job that waits for it.

::

    avc pack --cluster ──► lists the inputs once ──► job array: pack_share 1 ... N, a node's cores each
                                                     └── afterok ──► merge_shares

A task that SLURM warns, kills or moves queues again and goes on where its journal ends; nothing depends on the warning.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

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
from shards.text import counted


def pack_share(task: Task, sources: Sequence[Source], out: Path, pack: Callable[..., Summary]) -> None:
    """What one task of the array runs: pack its share of the sources.

    out: absolute. pack: `shards.pack.pack_sources` with what is alike for all tasks. Raises ValueError where this node
    sees none of the sources.
    """
    paths = [source.path for source in sources if not source.problem and not as_url(source.path)]
    if paths and not any(map(os.path.exists, paths)):
        raise ValueError(
            f"none of the {len(paths):,} inputs of {task.name} is on {socket.gethostname()}: they must lie under the "
            "same name on the nodes as where they were submitted"
        )
    with progress("packing", unit="videos") as report:
        summary = pack(sources, task=task, progress=report)
    show_packed(out / task.name, summary.manifest)


def merge_shares(out: Path) -> None:
    """What the job after the array runs. out: absolute."""
    show_packed(out, merge(out))


def submit_pack(
    sources: Sequence[Source], out: Path, pack: Callable[..., Summary], *, cluster: Cluster, tasks: int
) -> None:
    """Submit the packing of what `shards.pack.list_inputs` has listed, and say as which jobs; pack: as of `pack_share`.

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
    single = {"nodes": 1, "ranks_per_node": 1, "gpus": False}
    node = cluster.model_copy(update=single | {"cpus_per_rank": workers})
    everyone = [Task(number, tasks) for number in range(1, tasks + 1)]
    for task in everyone:
        make_folder(out, task)
    shares = assign_tasks(sources, tasks)
    refuse_without_links(out, who="submitit")
    array = executor(node, out / FOLDER, name="avc-pack")
    array.update_parameters(slurm_array_parallelism=tasks)
    pack = partial(pack, out=out, workers=workers)
    try:
        with array.batch():
            jobs = [
                array.submit(Requeued(partial(pack_share, task, share, out, pack)))
                for task, share in zip(everyone, shares, strict=True)
            ]
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(f"sbatch refuses the tasks: {' '.join(str(error).split())}") from None
    number = str(jobs[0].job_id).partition("_")[0]
    after = executor(node, out / FOLDER, name="avc-merge")
    # Without the second one, a merge whose tasks have failed would wait in the queue for ever.
    more = {"requeue": True, "kill-on-invalid-dep": "yes"} | cluster.sbatch
    after.update_parameters(slurm_dependency=f"afterok:{number}", slurm_additional_parameters=more)
    merging = submit_job(after, partial(merge_shares, out))
    fewest, most = min(map(len, shares)), max(map(len, shares))
    shared = f"{counted(len(sources), 'inputs')} in {counted(tasks, 'tasks')}"
    print(f"job {number}: {shared} of {fewest:,} to {most:,}")
    print(f"job {merging}: the merge, when all of them have ended well")
    print(f"their logs are in {out / FOLDER}. If a task fails, give the same command again: what is packed is kept")
