"""`avc status` says how a run is doing from its folder alone."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from avc.runs.attempt import Attempt, history, noting_its_end, start_attempt
from avc.runs.events import say
from launch.slurm.status import status_lines, watch
from tests.avc.launching import train_here, write_config


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run that was preempted at step 40 and has lost a node; its second restart is at step 60 of 100."""
    monkeypatch.setenv("PATH", str(tmp_path))  # on which there is no squeue
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "slurm").mkdir()
    (folder / "config.yaml").write_text("training: {steps: 100}\n")
    (folder / "slurm" / "job.json").write_text('{"job": 12, "at": 0}')
    say(folder, 12, 0, "started", nodes=["n1", "n2"], ranks=4, step=0)
    say(folder, 12, 0, "stopped", why="preempted", step=40)
    say(folder, 12, 1, "started", nodes=["n1", "n2"], ranks=4, step=40)
    say(folder, 12, 2, "started", nodes=["n1", "n3"], ranks=4, step=50)
    lines = [
        {"kind": "train", "step": step, "loss": 0.5, "accuracy": 0.75, "speed/pairs_per_second": 1234.0}
        for step in (60,)
    ]
    lines.append({"kind": "validation", "step": 60, "accuracy": 0.7, "loss": 0.6})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tra')
    checkpoint = folder / "checkpoints" / "step-00000050.pt"
    checkpoint.touch()
    os.utime(checkpoint, (time.time() - 200,) * 2)
    return folder


def test_the_status_tells_step_speed_loss_checkpoint_and_why_it_was_restarted(run) -> None:
    told = [f"{name}: {what}" for name, what in status_lines(run)]
    assert told[1:] == [
        "queue: job 12 is not in the queue",
        "step: 60 of 100",
        "speed: 1,234 pairs/s",
        "loss: 0.5000, accuracy 75.0%",
        "checkpoint: step 50, 3 min ago",
        "restarts: 2",
        "job 12: 4 ranks on n1,n2 from step 0; stopped: preempted",
        "job 12, restart 1: 4 ranks on n1,n2 from step 40; ended by SLURM without a word: scontrol requeue, or a node "
        "that failed (its successor does without n2)",
        "job 12, restart 2: 4 ranks on n1,n3 from step 50; running, or killed",
    ]


def test_a_start_that_left_no_word_and_one_that_may_be_dead_are_told_as_that(run) -> None:
    (run / "slurm" / "12.2" / "started.json").unlink()
    say(run, 12, 3, "started", nodes=["n1"], ranks=2, step=60)
    told = dict(status_lines(run))
    assert told["job 12, restart 2"].startswith("?; ended by SLURM without a word")
    assert told["job 12, restart 3"] == "2 ranks on n1 from step 60; running, or killed"


def test_the_words_of_a_failure_are_shown_with_where_it_was(run) -> None:
    say(run, 12, 2, "failed", rank=3, node="n3", why="/lustre/shards is not a folder")
    assert status_lines(run)[-1][1].endswith("failed: /lustre/shards is not a folder (rank 3 on n3)")


def test_a_job_that_failed_before_any_rank_wrote_is_told_of_the_shared_file_system(run, tmp_path) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 'FAILED|n[1-2]'\n")
    squeue.chmod(0o755)
    (run / "slurm" / "job.json").write_text('{"job": 13, "at": 0}')
    assert "job 13 is FAILED, no rank wrote into the run's folder" in dict(status_lines(run))["queue"]


def test_a_run_that_has_not_begun_has_a_status_too(run) -> None:
    (run / "metrics.jsonl").unlink()
    assert dict(status_lines(run))["step"] == "none yet"


def test_a_job_that_waits_in_the_queue_has_no_restarts(run) -> None:
    for folder in (run / "slurm").glob("12.*"):
        shutil.rmtree(folder)
    assert status_lines(run)[-1] == ("restarts", "0")


def test_a_run_that_was_started_by_hand_is_told_from_its_own_records(tmp_path) -> None:
    start_attempt(tmp_path, world_size=2, micro_batch_pairs=8)
    start_attempt(tmp_path, world_size=1, micro_batch_pairs=16).ended(100, "finished")
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 100, "loss": 0.5, "accuracy": 0.75}\n')
    told = dict(status_lines(tmp_path))
    assert told["queue"] == "never submitted: it was started by hand"
    assert told["restarts"] == "1"
    assert told["attempt 1"].startswith("2 ranks") and told["attempt 1"].endswith("running, or killed")
    assert told["attempt 2"].endswith("finished at step 100")


def test_a_finished_run_that_is_started_again_has_no_restart_more(run, small_world, tmp_path) -> None:
    say(run, 12, 2, "finished", step=100)
    say(run, 13, 0, "started", nodes=["n1"], ranks=4, step=100)
    say(run, 13, 0, "finished", step=100)
    assert dict(status_lines(run))["restarts"] == "2"
    config = write_config(tmp_path, small_world, training={"steps": 2}, validation={"every_steps": 0})
    by_hand = tmp_path / "by-hand"
    for steps, restarts in ((2, "0"), (2, "0"), (3, "1")):
        train_here(config, by_hand, f"training.steps={steps}")
        assert dict(status_lines(by_hand))["restarts"] == restarts


def test_a_run_that_ended_with_an_error_says_which_and_what_is_saved(small_world, tmp_path) -> None:
    damaged = shutil.copytree(small_world, tmp_path / "damaged")
    for shard in damaged.glob("*.tar"):
        shard.write_bytes(bytes(shard.stat().st_size))
    config = write_config(tmp_path, damaged, validation={"every_steps": 0})
    with pytest.raises(SystemExit):
        train_here(config, tmp_path / "run")
    with pytest.raises(ValueError, match="nowhere"):  # before there is an attempt
        train_here(config, tmp_path / "run", f"data.shards={tmp_path / 'nowhere'}")
    (told,) = [what for name, what in status_lines(tmp_path / "run") if name.startswith("attempt")]
    assert re.search(r"; failed: .*\.tar.*; nothing is saved$", told)
    console = Console(file=io.StringIO(), width=120)
    watch([tmp_path / "run"], console=console)
    assert "failed" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_folder_that_holds_no_run_is_refused(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "status", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no run at" in done.stderr


def test_several_runs_are_watched_until_all_have_ended(run, tmp_path) -> None:
    other = tmp_path / "by hand"
    start_attempt(other, world_size=2, micro_batch_pairs=8)
    start_attempt(other, world_size=2, micro_batch_pairs=8).ended(3, "finished")
    (other / "metrics.jsonl").write_text(
        '{"kind": "train", "step": 3, "loss": 0.25, "accuracy": 0.75, "speed/pairs_per_second": 99.6}\n'
    )
    (other / "config.yaml").write_text("training: {steps: 3}\n")
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    watch([run, other], console=console)  # comes back, as both are over
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in shown.splitlines()
        if "│" in line
    }
    assert rows["run"][:3] == ["not in the queue", "60 of 100", "0.5000, accuracy 75.0%"] and rows["run"][-1] == "2"
    assert rows["by hand"] == ["finished", "3 of 3", "0.2500, accuracy 75.0%", "100 pairs/s", "none yet", "1"]


def test_an_error_is_not_noted_in_an_attempt_of_another_process_nor_over_its_end(tmp_path) -> None:
    begin = f"""if True:
        from pathlib import Path
        from avc.runs.attempt import Attempt, history, noting_its_end, start_attempt
        start_attempt(Path({str(tmp_path)!r}), world_size=1, micro_batch_pairs=1)"""

    def ends(why: str, before: Callable[[], object]) -> str | None:
        """What is noted of the newest attempt, where an error ends a block in which something came before."""
        with suppress(ValueError), noting_its_end(tmp_path):
            before()
            raise ValueError(why)
        end = history(tmp_path)[-1].end
        return end and end.why

    def begun() -> Attempt:
        return start_attempt(tmp_path, world_size=1, micro_batch_pairs=1)

    assert ends("mine", lambda: subprocess.run([sys.executable, "-c", begin], check=True)) is None
    assert ends("later", lambda: begun().ended(8, "finished")) == "finished"
    assert ends("noted", begun) == "failed: noted"
