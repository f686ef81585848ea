"""How runs are doing, by the files in their folders and the queue, once or as they go. No torch, no dashboard."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from avc.runs.attempt import CONFIG, METRICS, AttemptRecord, checkpoints, history, newest_folder, place, step_of
from avc.runs.events import FOLDER, Start, starts, submitted_job
from launch.progress import printable
from launch.slurm.jobs import OVER, SUBMITTED, queue_state
from shards.text import counted

TAIL_BYTES = 65_536  # of the metrics, which grow with the run
SECONDS = 2.0  # between looks
QUEUE_SECONDS = 20.0  # between questions to the queue
WATCHED = ("step", "loss", "speed", "checkpoint", "restarts")


def status_lines(run: Path, *, queue: tuple[str | None, str] | None = None) -> list[tuple[str, str]]:
    """How the run in a folder is doing: names, and what there is to say of each.

    queue: as of `queued`, which is asked where it is not given. Restarts are those of its jobs; of a run that was never
    submitted, its attempts. A finished run that is started again trains nothing: that is no restart. Raises ValueError
    where the folder holds no run.
    """
    run = _run_at(run)
    job, newest, jobs = submitted_job(run), _last_line(place(run, METRICS)), starts(run)
    attempts = history(run)
    state, where = queue or queued(job)
    steps, step, loss = steps_of(run), newest.get("step"), newest.get("loss")
    rate = newest.get("speed/pairs_per_second")
    return [
        ("run", str(run)),
        ("queue", _queue(job, state, where, silent=not jobs or jobs[-1].job != job)),
        ("step", f"{step:,} of {steps:,}" if step is not None and steps else "none yet"),
        ("speed", f"{rate:,.0f} pairs/s" if rate else "not known yet"),
        ("loss", f"{loss:.4f}, accuracy {newest['accuracy']:.1%}" if loss is not None else "not known yet"),
        ("checkpoint", _checkpoint(run)),
        ("restarts", str(_restarts(jobs, attempts))),
        *map(_attempt, attempts if job is None else ()),
        *_jobs(jobs, running=state == "RUNNING"),
    ]


def _run_at(path: Path) -> Path:
    run = path.expanduser().absolute()
    if not place(run, METRICS).exists() and not (run / FOLDER).is_dir():
        raise ValueError(f"there is no run at {run}, nor {METRICS} or {FOLDER}/ there")
    return run


def _why_it_ended(start: Start) -> str:
    """Why a start came to its end, in words; empty where it said nothing and may still run."""
    for word in ("failed", "stopped", "lost"):
        if word in start.words:
            said = start.words[word]
            return f"{word}: {said['why']}" + (f" (rank {said['rank']} on {said['node']})" if "rank" in said else "")
    return "finished" if "finished" in start.words else ""


def queued(job: int | None) -> tuple[str | None, str]:
    """The queue's word for a job, None where it has none, and the job's nodes or why it waits."""
    try:
        return queue_state(job)
    except ValueError as error:
        return "not known", str(error)


def _queue(job: int | None, state: str | None, where: str, *, silent: bool) -> str:
    if job is None:
        return "never submitted: it was started by hand"
    if state is None:
        return f"job {job} is not in the queue"
    if state == "FAILED" and silent:
        where = "no rank wrote into the run's folder; is it on a file system that all nodes share?"
    return f"job {job} is {state}" + (f", {where}" if where and where != "None" else "")


def steps_of(run: Path) -> int | None:
    """training.steps of a run's settings; read alone, so that settings of any version do."""
    path = next((path for path in (place(run, CONFIG), run / FOLDER / SUBMITTED) if path.exists()), None)
    tree = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    return tree.get("training", {}).get("steps") if isinstance(tree, dict) else None


def _checkpoint(run: Path) -> str:
    saved = checkpoints(newest_folder(run) or run)
    return f"step {step_of(saved[-1]):,}, {_age(time.time() - saved[-1].stat().st_mtime)} ago" if saved else "none yet"


def _jobs(jobs: Sequence[Start], *, running: bool) -> list[tuple[str, str]]:
    lines = []
    for start, later in zip(jobs, [*jobs, None][1:], strict=True):
        begun = start.words.get("started")
        why = _why_it_ended(start)
        if not why and later is not None:
            why = "ended by SLURM without a word: scontrol requeue, or a node that failed"
            gone = set(begun["nodes"] if begun else ()) - set(later.words.get("started", {}).get("nodes", ()))
            why += f" (its successor does without {', '.join(sorted(gone))})" if gone else ""
        where = (
            f"{counted(begun['ranks'], 'ranks')} on {','.join(begun['nodes'])} from step {begun['step']:,}"
            if begun
            else "?"
        )
        name = f"job {start.job}" + (f", restart {start.restart}" if start.restart else "")
        lines.append((name, f"{where}; {why or ('running' if running else 'running, or killed')}"))
    return lines


def _restarts(jobs: Sequence[Start], attempts: Sequence[AttemptRecord]) -> int:
    if jobs:
        finished = [start.words.get("finished", {}).get("step") for start in jobs]
    else:
        finished = [each.end.step if each.end and each.end.why == "finished" else None for each in attempts]
    return sum(step is None or step != before for before, step in pairwise(finished))


def _attempt(record: AttemptRecord) -> tuple[str, str]:
    end = "running, or killed"
    if record.end is not None:
        saved = f"saved at step {record.end.step:,}" if record.end.step else "nothing is saved"
        noted = record.end.why == "interrupted" or record.end.why.startswith("failed: ")
        end = f"{record.end.why}; {saved}" if noted else f"{record.end.why} at step {record.end.step:,}"
    where = f"{counted(record.world_size, 'ranks')}, the first on {record.host}, from {record.began}"
    return f"attempt {record.number}", f"{where}; {end}"


def _last_line(path: Path) -> dict[str, Any]:
    """The newest whole line of training metrics; empty where there is none."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    for text in reversed(lines):
        with suppress(ValueError):  # the first one of the tail is cut
            line = json.loads(text)
            if isinstance(line, dict) and line["kind"] == "train":
                return line
    return {}


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def watch(runs: Sequence[Path], *, console: Console | None = None) -> None:
    """Show the runs until all have ended, or Ctrl-C; once, where there is no terminal.

    Raises ValueError where one of the folders holds no run.
    """
    console = console or Console()
    folders = list(map(_run_at, runs))
    queue: dict[Path, tuple[str | None, str]] = {}
    asked = -QUEUE_SECONDS
    with Live(console=console, auto_refresh=False) as live:
        while True:
            if time.monotonic() - asked >= QUEUE_SECONDS:
                queue, asked = {run: queued(submitted_job(run)) for run in folders}, time.monotonic()
            table, over = Table("run", "state", *WATCHED), True
            for run, where in queue.items():
                told = dict(status_lines(run, queue=where))
                state, ended = _state(run, where[0])
                over = over and ended
                cells = (run.name, state, *(told[name] for name in WATCHED))
                table.add_row(*(Text(printable(cell)) for cell in cells))
            live.update(table, refresh=True)
            if over or not console.is_terminal:
                return
            time.sleep(SECONDS)


def _state(run: Path, state: str | None) -> tuple[str, bool]:
    """The run's state in words, and whether it has ended; state: the queue's word."""
    if submitted_job(run) is not None:
        return state or "not in the queue", state in OVER
    attempts = history(run)
    end = attempts[-1].end if attempts else None
    return (end.why.partition(":")[0], True) if end else ("by hand", False)
