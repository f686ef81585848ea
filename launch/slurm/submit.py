"""From a configuration and a cluster file to a job, refusing before it is queued whatever could not work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from avc.config import dump_config, load_config
from avc.runs.events import FOLDER, JOB, submitted_job
from avc.runs.links import refuse_without_links
from avc.settings import Config
from launch.slurm.cluster_file import Cluster, check_for_script, load_cluster
from launch.slurm.jobs import (
    OVER,
    SUBMITTED,
    concluding,
    executor,
    looking,
    queue_state,
    require_slurm,
    submit_job,
    train_rank,
)
from launch.train import find_config
from shards.atomic import write_whole
from shards.store import Url


def submit(config_path: Path, overrides: Sequence[str], *, cluster_path: Path) -> tuple[str, Config, Cluster]:
    """Queue the training that a configuration describes on the nodes that a cluster file describes; the job's number.

    Raises ValueError for what is wrong with either, for a folder that cannot be written, shards that are missing, a
    batch that cannot be divided over the ranks, a run that is in the queue already, and where there is no SLURM.
    """
    cluster = load_cluster(cluster_path)
    config = _absolute(load_config(find_config(config_path), overrides))
    for name, path in (("run.dir", config.run.dir), *(("data.shards", each.path) for each in config.data.sets)):
        check_for_script(str(path), name)
    require_slurm()
    _refuse_device(config, cluster)
    _refuse_impossible(config, cluster)
    _refuse_queued(config.run.dir)
    folder = config.run.dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / SUBMITTED, dump_config(config).encode())
    except OSError as error:
        raise ValueError(f"the run's folder {config.run.dir} cannot be written: {error.strerror}") from None
    refuse_without_links(config.run.dir, who="submitit")
    from shards.format import MANIFEST  # here, so that `avc status` needs no numpy

    seen = [each.path / MANIFEST for each in config.data.sets if not isinstance(each.path, Url)]  # by a node
    built = executor(
        cluster,
        folder,
        name=config.run.dir.name,
        beforehand=looking(config.run.dir, [folder / SUBMITTED, *seen]),
        afterwards=concluding(config.run.dir),
    )
    job = submit_job(built, partial(train_rank, config.run.dir, cluster))
    write_whole(folder / JOB, json.dumps({"job": int(job), "at": time.time()}).encode())
    return job, config, cluster


def _absolute(config: Config) -> Config:
    """The same settings for a process that starts in another folder."""
    run = config.run.model_copy(update={"dir": Path(os.path.abspath(config.run.dir))})
    paths = [each.path if isinstance(each.path, Url) else Path(os.path.abspath(each.path)) for each in config.data.sets]
    sets = [each.model_copy(update={"path": path}) for each, path in zip(config.data.sets, paths, strict=True)]
    cache = config.data.cache and config.data.cache.absolute()
    data = config.data.model_copy(update={"shards": sets if len(sets) > 1 else paths[0], "cache": cache})
    return config.model_copy(update={"run": run, "data": data})


def _refuse_device(config: Config, cluster: Cluster) -> None:
    if cluster.gpus and config.training.device == "cpu":
        raise ValueError("training.device is cpu and the cluster file asks for GPUs; set one of them otherwise")
    if not cluster.gpus and config.training.device == "cuda":
        raise ValueError("training.device is cuda and the cluster file has gpus: false; set one of them otherwise")


def _refuse_impossible(config: Config, cluster: Cluster) -> None:
    """What the ranks would find out at their start, found out here."""
    from avc.data.loader import shard_batch
    from avc.runs.resuming import digests, resume
    from avc.tasks import task_of

    shards = config.data.model_copy(update={"cache": None}).opened()
    task = task_of(config, shards)
    shard_batch(
        task.reader.sampler,
        batch_pairs=config.optim.batch_pairs,
        micro_batch_pairs=config.optim.micro_batch_pairs,
        rank=0,
        world_size=cluster.world_size,
        accumulate=task.accumulates,
    )
    resume(config, digests(shards, task.inputs))


def _refuse_queued(run: Path) -> None:
    job = submitted_job(run)
    state, _ = queue_state(job)
    if state not in OVER:
        raise ValueError(f"{run} has job {job} in the queue, which is {state}; let it go on, or end it: scancel {job}")
