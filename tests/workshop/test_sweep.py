"""`python -m workshop.sweep`: what its file may say, and six trials on a real cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avc.runs.attempt import history
from avc.runs.events import starts, submitted_job
from tests.avc.launching import metrics, write_config
from tests.cluster import wait_until
from workshop.sweep import load_sweep

PATIENCE = 400.0  # seconds, on a machine that does other work as well
SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "cluster" / "sweep.yaml"


def sweep_file(folder: Path, **changes: Any) -> Path:
    path = folder / "sweep.yaml"
    content = {"program": "ave", "method": "grid", "metric": {"name": "train/loss"}}
    path.write_text(json.dumps(content | {"parameters": {"optim.lr": {"values": [0.1, 0.2]}}} | changes))
    return path


def test_a_grid_has_every_combination_once_in_a_fixed_order(tmp_path) -> None:
    parameters = {"optim.lr": {"values": [0.1, 0.2]}, "model.width": {"value": 0.5}, "run.seed": {"values": [0, 1, 2]}}
    trials = load_sweep(sweep_file(tmp_path, parameters=parameters)).trials()
    assert [(one["optim.lr"], one["run.seed"]) for one in trials] == [(lr, n) for lr in (0.1, 0.2) for n in range(3)]
    assert all(one["model.width"] == 0.5 for one in trials)


def test_a_trial_of_random_search_follows_from_the_file_and_its_number_alone(tmp_path) -> None:
    file = load_sweep(SHIPPED)
    trials = file.trials()
    assert trials == load_sweep(SHIPPED).trials() and len({one["optim.lr"] for one in trials}) == 20
    assert file.model_copy(update={"run_cap": 5}).trials() == trials[:5]
    assert all(1e-5 <= one["optim.lr"] <= 1e-3 for one in trials)
    assert {one["model.trunk"] for one in trials} == {"vgg", "resnet18"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": {"optim.lr": {"min": 1e-4, "max": 1e-3}}}, "method: grid needs `value` or `values`"),
        ({"method": "random"}, "give run_cap"),
        ({"method": "bayes"}, "`method` is 'bayes'"),
        ({"early_terminate": {"type": "hyperband"}}, "no setting `early_terminate`"),
        ({"run_cpa": 3}, "did you mean `run_cap`"),
        ({"parameters": {"lr": {"value": 1}}}, "'lr'"),
        ({"parameters": {"optim.lr": {"min": 1}}}, "both `min` and `max`"),
        ({"parameters": {"optim.lr": {"min": 0, "max": 1, "distribution": "log_uniform_values"}}}, "above 0"),
        ({"parameters": {"optim.lr": {"values": [1, 2], "probabilities": [0.5, 0.6]}}}, "sum to 1"),
    ],
)
def test_what_a_sweep_file_may_not_say_is_refused_in_words(tmp_path, changes, words) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        load_sweep(sweep_file(tmp_path, **changes)).trials()


@pytest.mark.timeout(900)
def test_six_trials_of_two_nodes_end_each_once_though_one_is_requeued_one_killed_and_the_sweep_too(
    cluster, small_world, tmp_path
) -> None:
    config = write_config(
        tmp_path,
        small_world,
        optim={"batch_pairs": 16, "micro_batch_pairs": 8},
        training={"process_group_timeout_seconds": 240, "heartbeat_timeout_seconds": 240},  # ranks are held
        validation={"every_steps": 0},
        checkpoint={"every_steps": 2},
    )
    where = tmp_path / "cluster.yaml"
    where.write_text(json.dumps({"nodes": 2, "ranks_per_node": 1, "gpus": False, "time_limit_minutes": 30}))
    folder = tmp_path / "sweep"
    parameters = {"training.steps": {"values": [80, 3]}, "run.seed": {"values": [0, 1, 2]}}
    file = sweep_file(tmp_path, program=str(config), parameters=parameters)
    command = [sys.executable, "-m", "workshop.sweep", file]
    command += ["--cluster", where, "--parallel", "3", f"run.dir={folder}"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(map(str, command)),
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def hold(number: int) -> tuple[str, int]:
        """Stop a rank of a trial when there is a checkpoint; its job and process."""
        run = folder / f"{number:04d}"

        def trains() -> bool:
            assert sweep.poll() is None, sweep.communicate()[0]
            return any(line["step"] >= 3 for line in metrics(run))

        wait_until(trains, seconds=PATIENCE, what=f"{run} trains")
        job = str(submitted_job(run))
        process = cluster.task(SLURM_JOB_ID=job, SLURM_PROCID=1)
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        return job, process

    sweep = start()
    try:
        job, _ = hold(0)
        cluster.ask("scontrol", "requeue", job)  # as a preemption does
        _, process = hold(1)
        os.kill(process, signal.SIGKILL)
        sweep.kill()
        sweep.communicate()
        before = len(list(folder.glob("0*")))
        sweep = start()
        said, _ = sweep.communicate(timeout=PATIENCE)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, said
    assert before < 6
    runs = sorted(folder.glob("0*"))
    assert len(runs) == 6 and [len(starts(run)) for run in runs] == [2, 2, 1, 1, 1, 1]
    assert len({submitted_job(run) for run in runs}) == 6
    for number, run in enumerate(runs):
        assert "finished" in starts(run)[-1].words
        steps = [line["step"] for line in metrics(run)]
        assert steps == list(range(1, 81 if number < 3 else 4))
        assert len({record.wandb_id for record in history(run)}) == 1
        assert [one.words["started"]["ranks"] for one in starts(run)] == [2] * len(starts(run))
    assert all(starts(run)[1].words["started"]["step"] >= 2 for run in runs[:2])
    assert said.count("finished") == 6
    began = time.monotonic()
    again = start()
    assert again.communicate(timeout=PATIENCE)[0].count("finished") == 6 and again.returncode == 0
    assert [len(starts(run)) for run in runs] == [2, 2, 1, 1, 1, 1], time.monotonic() - began
