"""How a run is doing, from the files in its folder and the queue. Starts without torch, asks no dashboard."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avc.runs.attempt import CONFIG, METRICS, Record, checkpoints, history, step_of
from avc.runs.events import FOLDER, Start, starts, submitted_job
from launch.slurm.jobs import SUBMITTED, queue_state

TAIL_BYTES = 65_536  # of the metrics, which grow with the run


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its step, and when it was written in seconds since 1970."""

    step: int
    at: float


@dataclass(frozen=True)
class Status:
    """Whatever is None is not known yet. queue: the queue's word for the job and its nodes, or why it waits.

    starts: those of its jobs. by_hand: all attempts of a run that was never submitted.
    """

    run: Path
    job: int | None
    queue: tuple[str, str] | None
    steps: int | None
    step: int | None
    loss: float | None
    accuracy: float | None
    pairs_per_second: float | None
    checkpoint: Saved | None
    starts: list[Start]
    by_hand: list[Record]


def status(run: Path) -> Status:
    """How the run in the folder `run` is doing. Raises ValueError where the folder holds no run."""
    run = run.expanduser().absolute()
    if not (run / METRICS).exists() and not (run / FOLDER).is_dir():
        raise ValueError(f"{run} is not the folder of a run: it has neither {METRICS} nor {FOLDER}/")
    job = submitted_job(run)
    line = _last_line(run / METRICS)
    settings = next((path for path in (run / CONFIG, run / FOLDER / SUBMITTED) if path.exists()), None)
    return Status(
        run=run,
        job=job,
        queue=_queued(job) if job is not None else None,
        steps=_steps(settings) if settings else None,
        step=line.get("step"),
        loss=line.get("loss"),
        accuracy=line.get("accuracy"),
        pairs_per_second=line.get("speed/pairs_per_second"),
        checkpoint=_newest(run),
        starts=starts(run),
        by_hand=history(run) if job is None else [],
    )


def _steps(settings: Path) -> int | None:
    """training.steps of a run's settings; read alone, so that settings of any version do."""
    tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
    return tree.get("training", {}).get("steps") if isinstance(tree, dict) else None


def _queued(job: int) -> tuple[str, str] | None:
    try:
        return queue_state(job)
    except ValueError as error:
        return "not known", str(error)


def in_words(found: Status) -> list[tuple[str, str]]:
    """The status as lines of a name and what there is to say."""
    return [
        ("run", str(found.run)),
        ("queue", _queue(found)),
        ("step", f"{found.step:,} of {found.steps:,}" if found.step is not None and found.steps else "none yet"),
        ("speed", f"{found.pairs_per_second:,.0f} pairs/s" if found.pairs_per_second else "not known yet"),
        ("loss", f"{found.loss:.4f}, accuracy {found.accuracy:.1%}" if found.loss is not None else "not known yet"),
        ("checkpoint", _checkpoint(found.checkpoint)),
        ("restarts", str(max(len(found.starts or found.by_hand) - 1, 0))),
        *_by_hand(found.by_hand),
        *_history(found),
    ]


def why_it_ended(start: Start) -> str:
    """Why a start came to its end, in words; empty where it said nothing and may still run."""
    for word in ("failed", "stopped", "lost"):
        if word in start.words:
            said = start.words[word]
            return f"{word}: {said['why']}" + (f" (rank {said['rank']} on {said['node']})" if "rank" in said else "")
    return "finished" if "finished" in start.words else ""


def _queue(found: Status) -> str:
    if found.job is None:
        return "never submitted: it was started by hand"
    if found.queue is None:
        return f"job {found.job} is not in the queue"
    state, where = found.queue
    silent = not found.starts or found.starts[-1].job != found.job
    if state == "FAILED" and silent:
        where = "no rank wrote into the run's folder; is it on a file system that all nodes share?"
    return f"job {found.job} is {state}" + (f", {where}" if where and where != "None" else "")


def _checkpoint(saved: Saved | None) -> str:
    return f"step {saved.step:,}, {_age(time.time() - saved.at)} ago" if saved else "none yet"


def _history(found: Status) -> list[tuple[str, str]]:
    lines = []
    for start, later in zip(found.starts, [*found.starts, None][1:], strict=True):
        why = why_it_ended(start)
        if not why and later is not None:
            before, after = (set(one.words.get("started", {}).get("nodes", [])) for one in (start, later))
            gone = before - after
            why = "ended by SLURM without a word: scontrol requeue, or a node that failed"
            why += f" (its successor does without {', '.join(sorted(gone))})" if gone else ""
        begun = start.words.get("started")
        where = f"{begun['ranks']} ranks on {','.join(begun['nodes'])} from step {begun['step']:,}" if begun else "?"
        name = f"job {start.job}" + (f", restart {start.restart}" if start.restart else "")
        if not why:
            why = "running" if found.queue is not None and found.queue[0] == "RUNNING" else "running, or killed"
        lines.append((name, f"{where}; {why}"))
    return lines


def _by_hand(records: list[Record]) -> list[tuple[str, str]]:
    return [
        (
            f"attempt {record.number}",
            f"{record.world_size} ranks, the first on {record.host}, from {record.began}; "
            + (f"{record.end.why} at step {record.end.step:,}" if record.end else "running, or killed"),
        )
        for record in records
    ]


def _newest(run: Path) -> Saved | None:
    saved = checkpoints(run)
    return Saved(step_of(saved[-1]), saved[-1].stat().st_mtime) if saved else None


def _last_line(path: Path) -> dict[str, Any]:
    """The newest whole line of training metrics; empty where there is none."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    for text in reversed(lines):
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:  # the first one of the tail is cut
            continue
        if line["kind"] == "train":
            return line
    return {}


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
