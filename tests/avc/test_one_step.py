"""A training step can be read in one sitting: the files of the project that one step runs through are few and short."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

from avc.config import load_config
from avc.distributed.join import join
from avc.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
STEP = 3  # beyond what is made once
MOST_FILES, MOST_LINES = 15, 2400


def files_of_a_step(shards: Path, run: Path) -> set[Path]:
    """The files of the project with a function that is called in a step of configs/small.yaml."""
    overrides = [f"data.shards={shards}", f"run.dir={run}", "training.device=cpu", f"training.steps={STEP + 2}"]
    # Numbers that only make it fit the small world.
    overrides += ["data.num_workers=0", "data.image_size=56", "validation.every_steps=0", "log.wandb=disabled"]
    config = load_config(ROOT / "configs" / "small.yaml", overrides)
    called: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    def report(done: int, steps: int, what: str) -> None:
        sys.setprofile(note if done == STEP - 1 else None)

    try:
        with join(config.training) as world:
            assert train(config, world, report=report)
    finally:
        sys.setprofile(None)
    # The loop itself is never called anew.
    files = {ROOT / "avc" / "training" / "loop.py"} | {Path(name) for name in called if name.startswith(str(ROOT))}
    return {path for path in files if path.relative_to(ROOT).parts[0] in ("avc", "shards", "launch")}


def test_a_step_runs_through_few_files_and_lines(small_world, tmp_path) -> None:
    files = files_of_a_step(small_world, tmp_path / "run")
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in sorted(files)}
    assert {"avc/training/loop.py", "avc/tasks/correspondence.py", "avc/models/ave.py", "shards/read.py"} <= {*lines}
    table = "\n".join(f"{count:5} {name}" for name, count in lines.items())
    measured = f"{len(lines)} files, {sum(lines.values()):,} lines\n{table}"
    assert len(lines) <= MOST_FILES and sum(lines.values()) <= MOST_LINES, measured
