"""A sweep on a cluster: each trial is a job of `avc submit`, in a folder of its own that says all about it.

    sweeps/lr/sweep.json            which sweep this is
    sweeps/lr/0007/trial.json       {"parameters": {"optim.lr": 0.001}}, written before the job is
    sweeps/lr/0007/                 the run, with its slurm/ as of `avc submit`

Nothing else is remembered, so the same command goes on: trials that have ended are left alone, those in the queue are
waited for, those that were about to be submitted are. What SLURM preempts or a node loses is queued again by its own
job, under its own run id.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avc.runs.attempt import METRICS, place
from avc.runs.events import starts, submitted_job
from launch.slurm.jobs import queue_state
from launch.slurm.submit import OVER, submit
from launch.slurm.sweep_file import Metric, SweepFile
from shards import Report
from shards.atomic import lock, written_aside

POLL_SECONDS = 2.0
QUEUE_SECONDS = 20.0  # between questions to the queue, which has more to do than to answer us
TRIAL, SWEEP = "trial.json", "sweep.json"


@dataclass(frozen=True)
class Trial:
    """run: its folder. parameters: settings by their full names."""

    run: Path
    parameters: dict[str, Any]

    @property
    def overrides(self) -> list[str]:
        """As the command line has them."""
        settings = self.parameters | {"run.dir": str(self.run)}
        return [f"{name}={json.dumps(value)}" for name, value in settings.items()]

    def said(self) -> str | None:
        """How it has ended, by its own words; None where it has not, or without a word."""
        history = starts(self.run)
        words = history[-1].words if history else {}
        if "failed" in words:
            return f"failed: {words['failed']['why']}"
        return "finished" if "finished" in words else None

    def queued(self) -> str | None:
        """The queue's word for its job; None where there is no such job, or not any more."""
        job = submitted_job(self.run)
        state = queue_state(job) if job is not None else None
        return None if state is None else state[0]

    def measured(self, metric: Metric) -> float | None:
        """The last value of the metric."""
        kind, _, name = metric.name.partition("/")
        with suppress(FileNotFoundError):
            for line in reversed(place(self.run, METRICS).read_bytes().splitlines()):
                with suppress(ValueError):
                    values = json.loads(line)
                    value = values.get(name) if values.get("kind") == kind else values.get(metric.name)
                    if isinstance(value, int | float):
                        return float(value)
        return None


def run_sweep(
    file: SweepFile,
    overrides: list[str],
    *,
    folder: Path,
    identity: dict[str, Any],
    cluster: Path,
    parallel: int,
    report: Report,
) -> list[Trial]:
    """Submit trial after trial, `parallel` in the queue at most, until all have ended; the trials.

    identity: what must be the same when the sweep is gone on with. `report` is told how many have ended, of how many.
    Raises ValueError where the folder holds another sweep or another process works on it, and for whatever `submit`
    refuses.
    """
    parameters = file.trials()
    with _alone(folder, identity):
        trials = [_read(path) for path in sorted(folder.glob(f"*/{TRIAL}"))]
        waiting = [trial for trial in trials if trial.said() is None]
        active: list[Trial] = []
        asked = time.monotonic()
        while True:
            while len(active) < parallel and (waiting or len(trials) < len(parameters)):
                if not waiting:
                    waiting = [_create(folder / f"{len(trials):04d}", parameters[len(trials)])]
                    trials += waiting
                active.append(waiting.pop(0))
                if active[-1].queued() in (None, *OVER):
                    submit(Path(file.program), [*overrides, *active[-1].overrides], cluster_path=cluster)
            report(len(trials) - len(active) - len(waiting), len(parameters), f"{len(active)} in the queue")
            if not active and len(trials) >= len(parameters):
                return trials
            time.sleep(POLL_SECONDS)
            active = [trial for trial in active if trial.said() is None]
            if time.monotonic() - asked > QUEUE_SECONDS:
                asked = time.monotonic()
                with suppress(ValueError):  # the queue does not answer now
                    active = [trial for trial in active if trial.queued() not in (None, *OVER)]


def trial_rows(trials: list[Trial], metric: Metric) -> list[tuple[str, ...]]:
    """A row for each trial, the best first: its folder, parameters, how it ended, its metric."""
    sign = 1 if metric.goal == "minimize" else -1
    measured = [(trial, trial.measured(metric)) for trial in trials]
    measured.sort(key=lambda pair: (pair[1] is None, sign * (pair[1] or 0)))
    return [
        (
            trial.run.name,
            ", ".join(
                f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in trial.parameters.items()
            ),
            trial.said() or f"ended without a word; its job is {trial.queued() or 'gone'}",
            "" if value is None else f"{value:.4g}",
        )
        for trial, value in measured
    ]


@contextmanager
def _alone(folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SWEEP
    if not path.exists():
        if any(folder.iterdir()):
            raise ValueError(f"{folder} holds something else than a sweep; choose another run.dir")
        with written_aside(path) as file:
            file.write(json.dumps(identity).encode())
    if json.loads(path.read_bytes()) != identity:
        raise ValueError(
            f"{folder} holds another sweep, or this one before its file or its settings were changed: choose another "
            "run.dir, or give what it began with"
        )
    with path.open("r+b") as file:  # some network file systems lock only what may be written to
        lock(file, taken=f"another `avc sweep` is at work on {folder}: let it go on, or end it first")
        yield


def _create(run: Path, parameters: dict[str, Any]) -> Trial:
    run.mkdir()
    with written_aside(run / TRIAL) as file:
        file.write(json.dumps({"parameters": parameters}).encode())
    return Trial(run, parameters)


def _read(path: Path) -> Trial:
    try:
        return Trial(path.parent, dict(json.loads(path.read_bytes())["parameters"]))
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is not what a sweep wrote: restore it, or remove its folder") from None
