"""A cluster whose jobs begin without the environment of who submitted them (sbatch's --export=NONE), a real one."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from avc.runs.events import starts
from shards.format import PackSettings
from shards.pack import pack
from tests.avc.launching import metrics, train_here, write_config
from tests.cluster import Cluster, wait_until
from tests.shards.test_tasks import records
from tests.small_videos import render_folder

ENDS = ("COMPLETED", "FAILED", "CANCELLED")
STEPS = 3

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def bare(cluster) -> Cluster:
    """The cluster, as centers advise to use it: what is exported is not for jobs."""
    cluster.environment |= {"SBATCH_EXPORT": "NONE", "ONLY_WHERE_IT_IS_SUBMITTED": "1"}
    return cluster


@pytest.fixture
def config(small_world, tmp_path) -> Path:
    changes = {"training": {"steps": STEPS}, "validation": {"every_steps": 0}}
    return write_config(tmp_path, small_world, **changes)


def avc(cluster: Cluster, *words: object) -> str:
    return cluster.ask(sys.executable, "-m", "launch.cli", *words)


def cluster_file(folder: Path, **changes: object) -> Path:
    path = folder / "cluster.yaml"
    settings = {"nodes": 2, "gpus": False, "time_limit_minutes": 30, "setup": ["export OMP_NUM_THREADS=1"]}
    path.write_text(json.dumps(settings | changes))
    return path


def end_of(cluster: Cluster, job: str) -> str:
    """Wait until a job has ended; its state."""
    wait_until(lambda: cluster.state(job) in ENDS, seconds=240, what=f"job {job} ends")
    return cluster.state(job)


def logs(folder: Path) -> str:
    return "\n".join(f"--- {path}\n{path.read_text()}" for path in sorted(folder.rglob("*_log.out")))


def test_a_training_there_takes_the_steps_that_it_takes_elsewhere(bare, config, tmp_path) -> None:
    run = tmp_path / "run"
    # The premise: what was exported does not reach the batch script.
    seen = [f'echo "${{ONLY_WHERE_IT_IS_SUBMITTED-none}}" >{tmp_path}/seen', "export OMP_NUM_THREADS=1"]
    said = avc(bare, "submit", config, "--cluster", cluster_file(tmp_path, setup=seen), f"run.dir={run}")
    assert end_of(bare, said.split()[1].rstrip(":")) == "COMPLETED", logs(run)
    assert (tmp_path / "seen").read_text() == "none\n"
    assert [start.words.keys() for start in starts(run)] == [{"started", "finished"}]
    train_here(config, tmp_path / "alone")
    digests = [[line["data/pairs_digest"] for line in metrics(one)] for one in (run, tmp_path / "alone")]
    assert digests[0] == digests[1] and len(digests[0]) == STEPS


def test_a_sweep_there_finishes_its_trials(bare, config, tmp_path) -> None:
    sweep = tmp_path / "sweep.yaml"
    parameters = {"optim.lr": {"values": [0.001, 0.002]}}
    content = {"program": str(config), "method": "grid", "metric": {"name": "train/loss"}, "parameters": parameters}
    sweep.write_text(json.dumps(content))
    folder = tmp_path / "trials"
    words = (sweep, "--cluster", cluster_file(tmp_path), f"run.dir={folder}")
    said = bare.ask(sys.executable, "-m", "workshop.sweep", *words)
    assert said.count("finished") == 2, f"{said}\n{logs(folder)}"


def test_an_array_packs_there_and_its_merge_makes_one_set_of_it(bare, tmp_path) -> None:
    videos, out, alone = render_folder(tmp_path / "videos", videos=4), tmp_path / "out", tmp_path / "alone"
    options = ["--tasks", "2", "--side", "32", "--seconds", "2"]
    said = avc(bare, "pack", videos, "--out", out, "--cluster", cluster_file(tmp_path, nodes=1), *options)
    _, merge = (line.split()[1].rstrip(":") for line in said.splitlines()[:2])
    assert end_of(bare, merge) == "COMPLETED", logs(out)
    pack([videos], alone, PackSettings(side=32, seconds=2.0), workers=1)
    assert records(out) == records(alone)


def test_where_the_nodes_cannot_be_asked_what_they_see_no_rank_starts_and_the_run_says_why(
    cluster, config, tmp_path
) -> None:
    # srun refuses a step on a node that there is not: an error of its own, and no answer of the others.
    run, broken = tmp_path / "run", tmp_path / "bin"
    broken.mkdir()
    (broken / "srun").write_text(f'#!/bin/sh\nexec {shutil.which("srun")} --nodelist=nowhere "$@"\n')
    (broken / "srun").chmod(0o755)
    file = cluster_file(tmp_path, setup=[f"export PATH={broken}:$PATH"])
    said = avc(cluster, "submit", config, "--cluster", file, f"run.dir={run}")
    job = said.split()[1].rstrip(":")
    assert end_of(cluster, job) == "FAILED", logs(run)
    told = " ".join(avc(cluster, "status", run).split())
    assert told.count("the nodes could not be asked whether they see run and shards: srun: error: ") == 3, told
    assert "failed: 3 attempts in a row were lost at step 0, the last one: the nodes could not be asked" in told
    assert "Starting with JobEnvironment" not in logs(run)
