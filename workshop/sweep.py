"""Try settings, by grid or at random: each trial is a job of as many nodes as the cluster file says.

    python -m workshop.sweep configs/cluster/sweep.yaml --cluster configs/cluster/slurm.yaml \\
        data.shards=/lustre/shards run.dir=/lustre/lr

A trial is a job of `avc submit`, in a folder of its own below run.dir that says all about it. The sweep's file has
W&B's own form: what is tried, by grid or at random, and by which metric trials are ranked. The parameters of a trial
follow from the file and its number alone.

    program: ave                         # the configuration that every trial begins from
    method: random                       # or grid
    metric: {name: validation/accuracy, goal: maximize}
    run_cap: 20                          # trials
    parameters:
      optim.lr: {min: 1e-5, max: 1e-3, distribution: log_uniform_values}
      model.trunk: {values: [vgg, resnet18]}

    sweeps/lr/sweep.json            which sweep this is
    sweeps/lr/0007/trial.json       {"parameters": {"optim.lr": 0.001}}, written before the job is
    sweeps/lr/0007/                 the run, with its slurm/ as of `avc submit`

Nothing else is remembered, so the same command goes on: trials that have ended are left alone, those in the queue are
waited for, those that were about to be submitted are. What SLURM preempts or a node loses is queued again by its own
job, under its own run id.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from avc.config import no_such_setting, read_settings, refusal
from avc.runs.attempt import METRICS, place
from avc.runs.events import starts, submitted_job
from avc.settings import Section
from launch.progress import progress
from launch.report.results import print_table
from launch.slurm.jobs import OVER, queue_state, require_slurm
from launch.slurm.submit import submit
from launch.user_errors import user_errors
from shards import Report
from shards.atomic import lock, write_whole

POLL_SECONDS = 2.0
QUEUE_SECONDS = 20.0  # between questions to the queue, which has more to do than to answer us
TRIAL, SWEEP = "trial.json", "sweep.json"
WANDBS = ("name", "description", "entity", "project", "command")  # W&B's alone
MOST_TRIALS = 100_000
Name = Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$")]
Number = Annotated[int | float, Field(union_mode="left_to_right")]


class Parameter(Section):
    """Values of one setting. Distributions are W&B's; without one, `values` are equally likely, min to max uniform."""

    value: Any = None
    """The same in all trials."""
    values: list[Any] = Field(default=[])
    """One of these."""
    probabilities: list[float] = Field(default=[])
    """Of each of `values`, in random search."""
    min: Number | None = None
    """Smallest, in random search."""
    max: Number | None = None
    """Largest, in random search."""
    distribution: Literal["constant", "categorical", "uniform", "int_uniform", "log_uniform_values"] | None = None
    """By default as the other values say."""

    @model_validator(mode="after")
    def _possible(self) -> Parameter:
        ends = (self.min, self.max)
        given = ["value" in self.model_fields_set, bool(self.values), ends != (None, None)]
        if sum(given) != 1 or (ends[0] is None) != (ends[1] is None):
            raise ValueError("give it a `value`, `values`, or both `min` and `max`")
        if self.probabilities and (
            len(self.probabilities) != len(self.values) or not math.isclose(sum(self.probabilities), 1, abs_tol=1e-6)
        ):
            raise ValueError("`probabilities` must be one for each of `values` and sum to 1")
        if self.min is not None and self.max is not None:
            if self.min >= self.max:
                raise ValueError(f"min is {self.min} and must be less than max, {self.max}")
            if self.distribution == "log_uniform_values" and self.min <= 0:
                raise ValueError(f"min is {self.min} and must be above 0 on a logarithmic scale")
        return self

    @property
    def choices(self) -> list[Any] | None:
        """What a grid goes through; None where that has no end."""
        return self.values or ([self.value] if self.min is None else None)

    def draw(self, generator: np.random.Generator) -> Any:
        """A value at random."""
        if self.choices is not None:
            return self.choices[int(generator.choice(len(self.choices), p=self.probabilities or None))]
        assert self.min is not None and self.max is not None
        if self.distribution == "log_uniform_values":
            return float(math.exp(generator.uniform(math.log(self.min), math.log(self.max))))
        if self.distribution == "int_uniform" or (
            self.distribution is None and isinstance(self.min, int) and isinstance(self.max, int)
        ):
            return int(generator.integers(int(self.min), int(self.max), endpoint=True))
        return float(generator.uniform(self.min, self.max))


class Metric(Section):
    """What trials are ranked by."""

    name: str
    """A name in metrics.jsonl after its kind, as validation/accuracy or train/loss; its last value counts."""
    goal: Literal["minimize", "maximize"] = "minimize"
    """Whether small or large is good."""


class SweepFile(Section):
    """All that a sweep's file may say, but for what is W&B's alone."""

    program: str
    """The configuration that every trial begins from: a name in configs/, or a YAML file's path."""
    method: Literal["grid", "random"]
    """grid: every combination once. random: run_cap draws."""
    metric: Metric
    """What trials are ranked by."""
    parameters: dict[Name, Parameter] = Field(min_length=1)
    """Settings by their full names, as optim.lr."""
    run_cap: int | None = Field(default=None, ge=1, le=MOST_TRIALS)
    """Most trials; random search needs it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the random search."""

    @model_validator(mode="before")
    @classmethod
    def _without_wandbs(cls, tree: Any) -> Any:
        return {name: value for name, value in tree.items() if name not in WANDBS}

    def trials(self) -> list[dict[str, Any]]:
        """The parameters of all trials, in their order. Raises ValueError for a grid without values or end."""
        if self.method == "grid":
            choices = [parameter.choices for parameter in self.parameters.values()]
            count = math.prod(len(some or ()) for some in choices)
            if any(some is None for some in choices) or count > MOST_TRIALS:
                raise ValueError(
                    "method: grid needs `value` or `values` for each parameter, and no more than "
                    f"{MOST_TRIALS:,} combinations; method: random takes min and max"
                )
            combinations = itertools.product(*(some or () for some in choices))
            grid = [dict(zip(self.parameters, values, strict=True)) for values in combinations]
            return grid[: self.run_cap]
        if self.run_cap is None:
            raise ValueError("method: random has no end by itself: give run_cap, the number of trials")
        return [
            {name: parameter.draw(generator) for name, parameter in self.parameters.items()}
            for generator in (np.random.default_rng([self.seed, number]) for number in range(self.run_cap))
        ]


def load_sweep(path: Path) -> SweepFile:
    """Read a sweep's file. Raises ValueError for an unreadable file, an unknown name or a wrong value."""
    tree = read_settings(path, missing=f"there is no sweep file {path}", example="method: grid")
    try:
        return SweepFile.model_validate(tree)
    except ValidationError as error:
        known = [*SweepFile.model_fields, *Parameter.model_fields, *Metric.model_fields]
        raise refusal(error, origin=str(path), unknown=lambda place: no_such_setting(place, known)) from None


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
        return queue_state(submitted_job(self.run))[0]

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
                    waiting = [Trial(folder / f"{len(trials):04d}", parameters[len(trials)])]
                    waiting[0].run.mkdir()
                    write_whole(waiting[0].run / TRIAL, json.dumps({"parameters": waiting[0].parameters}).encode())
                    trials += waiting
                active.append(waiting.pop(0))
                if active[-1].queued() in OVER:
                    submit(Path(file.program), [*overrides, *active[-1].overrides], cluster_path=cluster)
            report(len(trials) - len(active) - len(waiting), len(parameters), f"{len(active)} in the queue")
            if not active and len(trials) >= len(parameters):
                return trials
            time.sleep(POLL_SECONDS)
            active = [trial for trial in active if trial.said() is None]
            if time.monotonic() - asked > QUEUE_SECONDS:
                asked = time.monotonic()
                with suppress(ValueError):  # the queue does not answer now
                    active = [trial for trial in active if trial.queued() not in OVER]


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
        write_whole(path, json.dumps(identity).encode())
    if json.loads(path.read_bytes()) != identity:
        raise ValueError(
            f"{folder} holds another sweep, or this one before its file or its settings were changed: choose another "
            "run.dir, or give what it began with"
        )
    with path.open("r+b") as file:  # some network file systems lock only what may be written to
        lock(file, taken=f"another sweep is at work on {folder}: let it go on, or end it first")
        yield


def _read(path: Path) -> Trial:
    try:
        return Trial(path.parent, dict(json.loads(path.read_bytes())["parameters"]))
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is not what a sweep wrote: restore it, or remove its folder") from None


def main(arguments: list[str] | None = None) -> None:
    """Run the sweep to its end and print its trials."""
    parser = argparse.ArgumentParser(
        "python -m workshop.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="A sweep's file in W&B's form, as configs/cluster/sweep.yaml.")
    parser.add_argument("overrides", nargs="*", metavar="SECTION.NAME=VALUE", help="Settings of all trials.")
    parser.add_argument("--cluster", type=Path, required=True, help="Nodes, GPUs: see configs/cluster/slurm.yaml.")
    parser.add_argument("--parallel", type=int, default=8, help="Most trials that are in the queue at once.")
    asked = parser.parse_intermixed_args(arguments)
    with user_errors("workshop.sweep", resumes=True):
        if asked.parallel < 1:
            raise ValueError(f"--parallel is {asked.parallel} and must be at least 1")
        settings, given = load_sweep(asked.file), asked.overrides
        runs = [text[8:] for text in given if text.startswith("run.dir=")]
        folder = Path(runs[-1] if runs else f"runs/{asked.file.stem}").expanduser().absolute()
        given = [f"log.group={folder.name}", *(text for text in given if not text.startswith("run.dir="))]
        require_slurm()
        identity = {"file": settings.model_dump(mode="json"), "overrides": given}
        many = {"cluster": asked.cluster, "parallel": asked.parallel}
        with progress("sweep", unit="trials") as report:
            trials = run_sweep(settings, given, folder=folder, identity=identity, report=report, **many)
        print_table(("trial", "parameters", "end", settings.metric.name), trial_rows(trials, settings.metric))


if __name__ == "__main__":
    main()
