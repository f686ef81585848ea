"""What `avc submit` refuses before anything is queued, and what a cluster file may say. No cluster is needed."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from avc.runs.events import say, starts
from launch.slurm.cluster_file import load_cluster
from launch.slurm.jobs import executor, last_words, silent_ends, submit_job
from launch.slurm.submit import submit
from tests.avc.launching import write_config

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "cluster" / "slurm.yaml"
CLUSTER = {"nodes": 2, "ranks_per_node": 2, "gpus": False}


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A PATH on which SLURM's programs stand; sbatch refuses every job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        program = folder / name
        program.write_text("#!/bin/sh\necho 'invalid partition specified: nowhere' >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def cluster_file(folder: Path, **changes: object) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(json.dumps(CLUSTER | changes))
    return path


def test_the_shipped_cluster_file_asks_for_four_nodes_of_four_gpus(programs, tmp_path) -> None:
    cluster = load_cluster(SHIPPED)
    assert (cluster.nodes, cluster.ranks_per_node, cluster.gpus, cluster.world_size) == (4, 4, True, 16)
    built = executor(cluster, tmp_path, name="ave")
    assert built.parameters["gpus_per_node"] == built.parameters["ntasks_per_node"] == 4


def test_what_a_cluster_file_leaves_to_the_cluster_is_not_asked_of_sbatch(programs, tmp_path) -> None:
    cluster = load_cluster(cluster_file(tmp_path, sbatch={"qos": "long"}, srun=["--cpu-bind=cores"]))
    built = executor(cluster, tmp_path, name="ave")
    assert not {"partition", "account", "gpus_per_node", "mem"} & set(built.parameters)
    assert built.parameters["additional_parameters"] == {"requeue": True, "qos": "long"}
    assert "--cpu-bind=cores" in built.parameters["srun_args"]


def test_ranks_run_in_the_container_and_see_the_folders_that_the_cluster_file_names(programs, tmp_path) -> None:
    inside = {"container": "/images/avc.sqsh", "container_mounts": ["/lustre", "/scratch:/tmp"]}
    cluster = load_cluster(cluster_file(tmp_path, srun=["--cpu-bind=cores"], **inside))
    asked = tmp_path / "asked"
    (programs / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {asked}\necho "Submitted batch job 7"\n')
    built = executor(cluster, tmp_path / "logs", name="ave")
    assert submit_job(built, print) == "7"
    [srun] = [line for line in asked.read_text().splitlines() if line.startswith("srun ")]
    words = shlex.split(srun)
    assert {"--container-image=/images/avc.sqsh", "--container-mounts=/lustre,/scratch:/tmp"} <= set(words)
    assert words.index("--cpu-bind=cores") < words.index("python") == words.index("-u") - 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("container_mounts: [/lustre]", "no container that they are of"),
        ('{container: a, container_mounts: ["/a,/b"]}', "container_mounts"),
        ("nodes: 0", "`nodes` is 0"),
        ("nodes: four", "`nodes` is 'four'"),
        ("node: 4", "did you mean `nodes`"),
        ("optim: {lr: 1}", "settings of the run belong in its own file"),
        ("[1, 2]", "not a bare list"),
        ("nodes: [", "cannot be read as YAML"),
        ("{time_limit_minutes: 1, warning_seconds: 60}", "told to stop before it began"),
    ],
)
def test_a_faulty_cluster_file_is_refused_with_its_name(tmp_path, content, words) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.yaml") as caught:
        load_cluster(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "changes", "words"),
    [
        (["optim.batch_pairs=30"], {}, "cannot be divided over 4 ranks"),
        (["data.shards=/nowhere"], {}, "/nowhere"),
        (["run.dir=/proc/run"], {}, "the run's folder /proc/run cannot be written"),
        (["data.image_size=4000"], {}, "data.image_size: 4000"),
        (["optim.learningrate=1"], {}, "there is no setting"),
        ([], {"gpus": True}, "asks for GPUs"),
        (["training.device=cuda"], {}, "gpus: false"),
        ([], {}, "sbatch refuses the job: .*invalid partition specified: nowhere"),
    ],
)
def test_what_could_not_work_is_refused_before_it_is_queued(
    programs, small_world, tmp_path, overrides, changes, words
) -> None:
    config = write_config(tmp_path, small_world)
    with pytest.raises(ValueError, match=words):
        submit(config, [f"run.dir={tmp_path / 'run'}", *overrides], cluster_path=cluster_file(tmp_path, **changes))


def test_a_run_that_is_in_the_queue_is_not_submitted_again(programs, small_world, tmp_path) -> None:
    (programs / "squeue").write_text("#!/bin/sh\necho 'PENDING|(Resources)'\n")
    folder = tmp_path / "run" / "slurm"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"job": 12, "at": 0}')
    with pytest.raises(ValueError, match=r"has job 12 in the queue, which is PENDING.*scancel 12"):
        submit(
            write_config(tmp_path, small_world), [f"run.dir={tmp_path / 'run'}"], cluster_path=cluster_file(tmp_path)
        )


def test_without_slurm_the_command_ends_in_one_paragraph_and_status_2(small_world, tmp_path) -> None:
    words = ["submit", write_config(tmp_path, small_world), "--cluster", cluster_file(tmp_path), f"run.dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", *map(str, words)],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("avc submit: there is no sbatch on this machine") and done.stderr.count("\n") == 1


def test_a_run_is_given_up_when_its_ends_without_a_word_follow_each_other_at_one_step(tmp_path) -> None:
    for restart, step in enumerate([0, 5, 5, 5]):
        say(tmp_path, 7, restart, "started", nodes=["n1"], ranks=1, step=step)
        say(tmp_path, 7, restart, "lost", why="a rank ended without a word", step=step)
    assert silent_ends(starts(tmp_path), job=7, step=5) == 3
    assert silent_ends(starts(tmp_path), job=7, step=10) == 0
    say(tmp_path, 7, 4, "stopped", why="time limit", step=5)
    assert silent_ends(starts(tmp_path), job=7, step=5) == 0


def test_a_lost_attempt_is_told_in_the_words_of_a_rank_of_the_same_start(tmp_path) -> None:
    folder = tmp_path / "slurm" / "7"
    folder.mkdir(parents=True)
    start = "submitit INFO - Starting with JobEnvironment(job_id=7)\n"
    (folder / "7_0_log.out").write_text(f"{start}rank 0: rank 3 is gone in step 4\n{start}step 5/9\n")
    assert last_words(tmp_path, 7) is None
    (folder / "7_1_log.out").write_text(f"{start}step 5\nrank 1: rank 2 is gone in step 8\nsrun: error\n")
    assert last_words(tmp_path, 7) == "rank 1: rank 2 is gone in step 8"


def test_cluster_files_hold_nothing_of_the_science() -> None:
    config = yaml.safe_load((SHIPPED.parents[1] / "ave.yaml").read_text())
    assert not set(yaml.safe_load(SHIPPED.read_text())) & set(config)
