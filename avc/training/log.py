"""Where a run's numbers go: a line on the terminal, a line of JSON beside the run, and W&B."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from avc.config import Config
from avc.training.attempt import METRICS, Attempt

FOR_FILES = {"pairs_digest"}  # proof for those who compare runs; no chart, nothing to read


class RunLog:
    """Writes the metrics of one run; only the main rank has one.

    metrics.jsonl has one object per line with `kind` (train or validation), `step` and its numbers. A run that resumes
    at an earlier step than it had logged drops the lines that it is about to write again.
    """

    def __init__(self, config: Config, attempt: Attempt, *, first_step: int) -> None:
        self.attempt = attempt
        _forget_after(attempt, first_step)
        self.file = (attempt.folder / METRICS).open("a", encoding="utf-8")
        self.steps, self.first_step, self.started = config.training.steps, first_step, time.monotonic()
        self.wandb = _start_wandb(config, attempt.record.wandb_id)

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Log `values` at the end of `step` (steps done so far) in all three places. Raises Superseded."""
        with self.attempt.writing():
            self.file.write(json.dumps({"kind": kind, "step": step} | values) + "\n")
            self.file.flush()
        values = {name: value for name, value in values.items() if name not in FOR_FILES}
        if self.wandb is not None:
            self.wandb.log({f"{kind}/{name}": value for name, value in values.items()} | {"step": step})
        self.say(
            f"step {step}/{self.steps}  {kind}  "
            + "  ".join(_in_words(*item) for item in values.items())
            + self._left(step)
        )

    def say(self, line: str) -> None:
        """One line on the terminal, in one call, so that ranks do not write into each other's lines."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Close the file and end the W&B run."""
        self.file.close()
        if self.wandb is not None:
            self.wandb.finish()

    def _left(self, step: int) -> str:
        done = step - self.first_step
        if done <= 0 or step >= self.steps:
            return ""
        seconds = round((time.monotonic() - self.started) / done * (self.steps - step))
        return f"  {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"


class Window:
    """What the loop measured since the last logged line."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.pairs, self.loss_sum, self.right, self.digest = 0, 0.0, 0.0, 0
        self.data_seconds, self.seconds = 0.0, 0.0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the speed what lay between two steps (validation)."""
        self.since = time.monotonic()

    def add(self, *, pairs: int, loss_sum: float, right: float, digest: int) -> None:
        now = time.monotonic()
        self.seconds += now - self.since
        self.since = now
        self.pairs, self.loss_sum, self.right = self.pairs + pairs, self.loss_sum + loss_sum, self.right + right
        self.digest = (self.digest + digest) % 2**32

    def close(self) -> dict[str, float]:
        values = {
            "loss": self.loss_sum / self.pairs,
            "accuracy": self.right / self.pairs,
            "pairs_per_second": self.pairs / self.seconds,
            "data_wait": self.data_seconds / self.seconds,
            "pairs_digest": self.digest,
        }
        self.restart()
        return values


def _in_words(name: str, value: float) -> str:
    return f"{name.replace('_', ' ')} {value:.4g}"


def _forget_after(attempt: Attempt, step: int) -> None:
    path = attempt.folder / METRICS
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        attempt.write(METRICS, lambda aside: aside.write_text("".join(kept), encoding="utf-8"))


def _start_wandb(config: Config, wandb_id: str) -> Any:
    """The W&B run under its id, new or going on; offline where there is no account or no network; None if disabled."""
    mode: Any = config.log.wandb
    if mode == "disabled":
        return None
    import wandb  # takes a second, and is not needed above

    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            run = wandb.init(
                project=config.log.wandb_project,
                id=wandb_id,
                name=config.run.dir.name,
                dir=config.run.dir,
                config=config.model_dump(mode="json"),
                resume="allow",
                mode=attempt,
                settings=wandb.Settings(silent=True),
            )
            run.define_metric("*", step_metric="step")
            return run
        except Exception as error:  # whatever W&B raises, a dashboard must not stop the training
            sys.stdout.write(f"W&B ({attempt}) does not start: {error}\n")
    return None
