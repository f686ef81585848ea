"""What became of a run's jobs on a cluster: a folder for each start of a job, a small file for each word that it left.

    runs/ave/slurm/12.0/started.json     job 12 for the first time: {"at": ..., "nodes": [...], "step": 0}
    runs/ave/slurm/12.0/stopped.json     it was told to stop and saved: {"at": ..., "why": "time limit", "step": 1200}
    runs/ave/slurm/12.1/started.json     its first restart

Every word is a file of its own, since a rank, another rank and the batch script may each have one to say and share no
more than a file system. A start that left nothing but `started` and has a successor was killed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avc.runs.attempt import checkpoints, newest_folder, step_of
from shards.atomic import refuse_links, write_whole

FOLDER = "slurm"
JOB = "job.json"


@dataclass(frozen=True)
class Start:
    """One start of a job: restart is 0 for the first. words: what it said, each `at`, in seconds since 1970."""

    job: int
    restart: int
    words: dict[str, dict[str, Any]]


def say(run: Path, job: int, restart: int, word: str, **details: Any) -> None:
    """Leave a word of a job's start in the run's folder. Raises ValueError where a link would lead it elsewhere."""
    folder = run / FOLDER / f"{job}.{restart}"
    refuse_links(path for path in (folder.parent, folder) if path.is_symlink())
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{word}.json", json.dumps({"at": time.time()} | details).encode())


def starts(run: Path) -> list[Start]:
    """All starts that left word, the oldest first. Raises ValueError for words that nobody left in this way."""
    starts = []
    for folder in (run / FOLDER).glob("*.*"):
        job, _, restart = folder.name.partition(".")
        if job.isdigit() and restart.isdigit():
            words = {path.stem: _read(path) for path in folder.glob("*.json")}
            starts.append(Start(int(job), int(restart), words))
    return sorted(starts, key=lambda start: (start.job, start.restart))


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint, by its name; 0 where there is none."""
    return max(map(step_of, checkpoints(newest_folder(run) or run)), default=0)


def submitted_job(run: Path) -> int | None:
    """The job that the run was last submitted as; None where it never was."""
    path = run / FOLDER / JOB
    job = _read(path).get("job") if path.exists() else None
    if path.exists() and not isinstance(job, int):
        raise ValueError(f"{path} names no job: remove it, and the run counts as never submitted")
    return job


def _read(path: Path) -> dict[str, Any]:
    refuse_links([path])
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ValueError(f"{path} is not what a job left there: remove it")
    return said
