"""Where a run's numbers go: a line on the terminal, a line of JSON beside the run, and W&B."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from avc.distributed.join import bf16_speedup
from avc.distributed.world import World
from avc.runs.attempt import METRICS, Attempt
from avc.settings import Config
from avc.tasks.task import Examples, Task
from avc.training.dashboard import Dashboard, open_run
from shards.text import counted

SLOW, SLOW_LINES = 1.5, 3  # of two ranks, one that takes three times as long is 1.5 times as slow as their median
ON_TERMINAL = {"speed/pairs_per_second", "data/wait_seconds_max"}  # of the groups' figures; the rest is in the files


class RunLog:
    """Writes the metrics of one run; only the main rank has one.

    metrics.jsonl has one object per line with `kind` (train or validation), `step` and its numbers. W&B has the same
    numbers in the groups train, validation, speed, data and system: `speed/step_seconds` bears that name in both,
    `loss` is train/loss or validation/loss there. A run that resumes at an earlier step than it had logged drops the
    lines that it is about to write again.
    """

    def __init__(self, config: Config, attempt: Attempt, *, first_step: int, inputs: dict[str, str]) -> None:
        self.attempt = attempt
        _forget_after(attempt, first_step)
        self.file = (attempt.folder / METRICS).open("ab", buffering=0)  # or closing would fail again on a full disk
        self.steps, self.first_step, self.started = config.training.steps, first_step, time.monotonic()
        run = open_run(config, attempt.record.wandb_id)
        self.dashboard = None if run is None else Dashboard(config, attempt, run, inputs=inputs)
        self._straggler = Straggler()
        if self.dashboard is not None and attempt.before is not None and attempt.before.end is None:
            self.dashboard.alert(
                "A rank was lost",
                f"attempt {attempt.before.number} ended without a word: a rank or a node was lost, or all were killed; "
                f"attempt {attempt.record.number} goes on from step {first_step}",
            )

    def write(self, kind: str, step: int, values: dict[str, float], examples: Examples | None = None) -> None:
        """Log `values` at the end of `step` (steps done so far) in all three places. Raises StaleAttempt.

        examples: for W&B alone.
        """
        line = json.dumps({"kind": kind, "step": step} | values).encode() + b"\n"
        with self.attempt.writing(METRICS):
            while line:
                line = line[self.file.write(line) :]
        if self.dashboard is not None:
            charts = {name if "/" in name else f"{kind}/{name}": value for name, value in values.items()}
            self.dashboard.log(charts | {"step": step})
            if examples is not None:
                self.dashboard.show(step, examples)
            if (text := self._straggler.seen(values)) is not None:
                self.dashboard.alert("A rank is slow", f"{text}, at step {step}")
        shown = [_in_words(*item) for item in values.items() if "/" not in item[0] or item[0] in ON_TERMINAL]
        self.say(f"step {step}/{self.steps}  {kind}  {'  '.join(shown)}{self._left(step)}")

    def say(self, line: str) -> None:
        """One line on the terminal, in one call, so that ranks do not write into each other's lines."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Close the file and end the W&B run."""
        self.file.close()
        if self.dashboard is not None:
            self.dashboard.close()

    def _left(self, step: int) -> str:
        done = step - self.first_step
        if done <= 0 or step >= self.steps:
            return ""
        seconds = round((time.monotonic() - self.started) / done * (self.steps - step))
        return f"  {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"


class Straggler:
    """Finds a rank that keeps the others waiting: the slowest, by far, in three logged lines in a row."""

    def __init__(self) -> None:
        self._rank, self._lines = -1, 0

    def seen(self, values: dict[str, float]) -> str | None:
        """Look at a line of metrics; what there is to say, once for each rank that becomes one."""
        if "speed/own_seconds_rank" not in values:
            return None
        largest, median = values["speed/own_seconds_max"], values["speed/own_seconds_median"]
        rank = int(values["speed/own_seconds_rank"]) if largest > SLOW * median else -1
        self._rank, self._lines = rank, self._lines + 1 if rank == self._rank else 1
        if rank < 0 or self._lines != SLOW_LINES:
            return None
        return f"rank {rank} needs {largest:.3g} s of its own in a step, and the median of the ranks is {median:.3g} s"


def opening(config: Config, world: World, attempt: Attempt, task: Task[Any], *, step: int) -> str:
    """What is about to be trained, from which step, and what is unusual about it; a line for each."""
    now, before = attempt.record, attempt.before
    lines = [
        f"{config.model.name} at width {config.model.width:g} on {len(task.reader.sampler.clips)} clips; "
        f"{counted(now.world_size, 'ranks')} on {world.device.type}; {config.optim.batch_pairs} pairs a step in "
        f"{counted(config.optim.batch_pairs // (now.world_size * now.micro_batch_pairs), 'micro-batches')} a rank; "
        f"{task.summary}; {config.run.dir}: attempt {now.number}, from step {step}"
    ]
    if config.training.precision == "bf16" and world.device.type == "cpu" and (speedup := bf16_speedup()) < 1:
        lines.append(
            f"training.precision is bf16, in which this processor takes {1 / speedup:.2g} times as long as in fp32: "
            "take training.precision=fp32 for a new run"
        )
    spread = [(record.world_size, record.micro_batch_pairs) for record in (now, before or now)]
    if before is not None and spread[0] != spread[1] and step:
        over, was_over = (
            record.micro_batch_pairs * (record.world_size if config.training.sync_batchnorm else 1)
            for record in (now, before)
        )
        lines.append(
            f"resumed on {counted(now.world_size, 'ranks')} (was {before.world_size}): the same pairs, "
            f"{config.optim.batch_pairs} in a step. Batch norm is over {over} pairs (was {was_over}), and its running "
            "statistics are rank 0's. Weights differ from those of a run that kept its ranks, in the last bits or by "
            "more where batch norm does"
        )
    return "\n".join([*lines, *task.warnings])


def _in_words(name: str, value: float) -> str:
    return f"{name.rpartition('/')[2].replace('_', ' ')} {value:.4g}"


def _forget_after(attempt: Attempt, step: int) -> None:
    path = attempt.folder / METRICS
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        try:
            kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError(
                f"{path} is not what a training wrote: not every line is metrics with their step. Restore it, or "
                "remove it: the run goes on without the figures of its past"
            ) from None
        attempt.write(METRICS, lambda file: file.write(b"".join(kept)))
