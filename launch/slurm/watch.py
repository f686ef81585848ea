"""Several runs in the terminal, as they go: curves, speed, ranks, restarts; from their folders, as `avc status`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from avc.runs.attempt import METRICS, history, place
from avc.runs.events import FOLDER, submitted_job
from launch.progress import printable
from launch.slurm.status import last_lines, queued, restarts, steps_of
from launch.slurm.submit import OVER

SECONDS = 2.0  # between looks
QUEUE_SECONDS = 20.0  # between questions to the queue
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 20  # of a curve


def watch(runs: Sequence[Path], *, console: Console | None = None) -> None:
    """Show the runs until all have ended, or Ctrl-C; once, where there is no terminal.

    Raises ValueError where one of the folders holds no run.
    """
    console = console or Console()
    folders = [run.expanduser().absolute() for run in runs]
    for run in folders:
        if not place(run, METRICS).exists() and not (run / FOLDER).is_dir():
            raise ValueError(f"{run} is not the folder of a run: it has neither {METRICS} nor {FOLDER}/")
    states: dict[Path, str] = {}
    asked = -QUEUE_SECONDS
    with Live(console=console, auto_refresh=False) as live:
        while True:
            if time.monotonic() - asked >= QUEUE_SECONDS:
                states, asked = {run: _state(run) for run in folders}, time.monotonic()
            live.update(_table(states), refresh=True)
            if not console.is_terminal or all(_is_over(run, state) for run, state in states.items()):
                return
            time.sleep(SECONDS)


def sparkline(values: Sequence[float]) -> str:
    """A curve of at most WIDTH bars, each the mean of as many values as the others, from the least to the largest."""
    count = min(WIDTH, len(values))
    cuts = [round(number * len(values) / count) for number in range(count + 1)] if count else []
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(cuts)]
    least, spread = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(BARS[round((mean - least) / spread * (len(BARS) - 1)) if spread else 0] for mean in means)


def _table(states: dict[Path, str]) -> Table:
    table = Table("run", "state", "step", "loss", "best score", "pairs/s", "ranks", "restarts")
    for run, state in states.items():
        lines = last_lines(place(run, METRICS))
        trained = [line for line in lines if line["kind"] == "train"]
        validated = [line for line in lines if line["kind"] == "validation"]
        newest: dict[str, Any] = trained[-1] if trained else {}
        steps = steps_of(run)
        cells = (
            run.name,
            state,
            f"{newest.get('step', 0):,} of {steps:,}" if steps else "none yet",
            _curve(trained, "loss", "{:.3f}"),
            _curve(validated, "best_score", "{:.3f}", once="best_accuracy"),
            _curve(trained, "speed/pairs_per_second", "{:,.0f}"),
            f"{newest['system/ranks']:.0f}" if "system/ranks" in newest else "",
            str(restarts(run)),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _curve(lines: Sequence[dict[str, Any]], name: str, form: str, *, once: str = "") -> str:
    """once: what the metric was called in older runs."""
    values = [line[key] for line in lines for key in (name, once) if key in line]
    return f"{sparkline(values)} {form.format(values[-1])}" if values else ""


def _state(run: Path) -> str:
    job = submitted_job(run)
    if job is not None:
        return queued(job)[0] or "not in the queue"
    attempts = history(run)
    return attempts[-1].end.why if attempts and attempts[-1].end else "by hand"


def _is_over(run: Path, state: str) -> bool:
    attempts = history(run)
    return state in (*OVER, "not in the queue") or bool(attempts and attempts[-1].end and state == attempts[-1].end.why)
