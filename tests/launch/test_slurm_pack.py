"""`avc pack --cluster` on a real SLURM cluster, and what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from shards.build_index import merge
from shards.format import PackSettings
from shards.pack import pack
from shards.verify import verify
from tests.cluster import Cluster, wait_until
from tests.shards.test_tasks import records
from tests.small_videos import render_folder, render_video

SETTINGS = PackSettings(side=32, seconds=2.0)
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
CLUSTER = """
nodes: 1
gpus: false
cpus_per_rank: 1
time_limit_minutes: 30
setup: [export OMP_NUM_THREADS=1]
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = render_folder(tmp_path_factory.mktemp("videos"), videos=12)
    shutil.copy(folder / "video-03.mp4", folder / "copy.mp4")
    render_video(folder / "mute.mp4", seed=20, sound=False)
    return folder


@pytest.fixture(scope="module")
def alone(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "out"
    pack([videos], folder, SETTINGS, workers=2)
    return folder


def command(videos: Path, out: Path, tmp_path: Path, *, tasks: int = 3, side: int = 32) -> list[str]:
    """The command line that submits the packing."""
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER)
    options = ["--out", str(out), "--cluster", str(file), "--tasks", str(tasks), "--side", str(side), "--seconds", "2"]
    return [sys.executable, "-m", "launch.cli", "pack", str(videos), *options]


def submit(cluster: Cluster, words: list[str]) -> tuple[str, str]:
    """Submit; the numbers of the array and of the merge."""
    done = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert " inputs in " in done.stdout
    array, job = (line.split()[1].rstrip(":") for line in done.stdout.splitlines()[:2])
    return array, job


def wait_for(cluster: Cluster, job: str, *, seconds: float = 120) -> str:
    """Wait until the merge has ended, in whatever way; its state."""
    wait_until(lambda: cluster.state(job) in ENDED, seconds=seconds, what="the merge ends")
    return cluster.state(job)


def array_index(task: Path) -> int:
    """Of a task's folder in the job array."""
    return int(task.name.split("-")[1]) - 1


def logs(out: Path) -> str:
    """What the jobs wrote."""
    return "\n".join(f"--- {path}\n{path.read_text()}" for path in sorted((out / "slurm").rglob("*.out")))


def assert_packed_as(alone: Path, out: Path) -> None:
    assert records(out) == records(alone), logs(out)
    assert (out / "rejected.tsv").read_bytes() == (alone / "rejected.tsv").read_bytes()
    assert verify(out) == []


def test_an_array_packs_and_its_merge_makes_one_set_of_it(
    cluster: Cluster, videos: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    array, job = submit(cluster, command(videos, out, tmp_path))
    wait_for(cluster, job)
    assert_packed_as(alone, out)
    assert set(cluster.state(array).split()) == {"COMPLETED"}
    assert "rejected.tsv lists the 2 that were rejected" in logs(out)


def test_a_node_killed_under_a_task_costs_nothing(cluster: Cluster, videos: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cluster.ask("scontrol", "update", "nodename=n3,n4", "state=drain", "reason=later")
    try:
        _, job = submit(cluster, command(videos, out, tmp_path))
        journals = [out / f"task-000{number}-of-0003" / "journal.jsonl" for number in (1, 2, 3)]
        wait_until(lambda: any(path.exists() for path in journals), seconds=60, what="a task packs")
        node = next(node for node in ("n1", "n2") if cluster.processes(node, "submitit.core._submit"))
        cluster.kill_node(node)
    finally:
        cluster.ask("scontrol", "update", "nodename=n3,n4", "state=resume")
    try:
        wait_for(cluster, job, seconds=180)
        assert_packed_as(alone, out)
    finally:
        cluster.start_node(node)
        wait_until(lambda: len(cluster.idle()) == 4, seconds=60, what="all nodes are idle")


def test_tasks_that_are_warned_queue_again_and_the_merge_waits_for_them(
    cluster: Cluster, videos: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    array, job = submit(cluster, command(videos, out, tmp_path))
    wait_until(lambda: any(out.glob("task-*/journal.jsonl")), seconds=60, what="a task packs")
    [packing, *_] = out.glob("task-*/journal.jsonl")  # others may still be starting, and deaf
    cluster.ask("scancel", "--signal=USR2", f"{array}_{array_index(packing.parent)}")
    assert wait_for(cluster, job, seconds=180) == "COMPLETED"
    assert "Requeued job" in logs(out)
    assert "decoder crashed" not in logs(out)
    assert_packed_as(alone, out)


def test_a_task_that_fails_leaves_no_merge_waiting_and_the_same_command_goes_on(
    cluster: Cluster, videos: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    blocked = out / "task-0002-of-0003" / "journal.jsonl"
    blocked.parent.mkdir(parents=True)
    blocked.mkdir()
    _, job = submit(cluster, command(videos, out, tmp_path))
    assert wait_for(cluster, job) == "CANCELLED"
    assert not (out / "manifest.json").exists()
    blocked.rmdir()
    _, job = submit(cluster, command(videos, out, tmp_path))
    wait_for(cluster, job)
    assert_packed_as(alone, out)


@pytest.mark.timeout(900)
def test_real_videos_packed_as_1_3_and_8_tasks_one_of_them_killed_are_the_same_records(
    cluster: Cluster, shared_data: Path, tmp_path: Path
) -> None:
    def submit_as(tasks: int) -> tuple[str, str]:
        words = command(shared_data / "videos", tmp_path / str(tasks), tmp_path, tasks=tasks, side=64)
        return submit(cluster, words)

    def in_work() -> list[Path]:
        journals = [path for path in eight.glob("task-*/journal.jsonl") if path.read_bytes().count(b"\n") > 2]
        return [path.parent for path in journals if not (path.parent / "manifest.json").exists()]

    def one_is_killed_midway() -> bool:
        for task in in_work():
            process = cluster.task(SLURM_ARRAY_JOB_ID=array, SLURM_ARRAY_TASK_ID=array_index(task))
            if process is not None:
                os.kill(process, signal.SIGSTOP)  # so that it cannot end between the look and the blow
                midway = task in in_work()
                os.kill(process, signal.SIGKILL if midway else signal.SIGCONT)
                if midway:
                    return True
        return False

    eight = tmp_path / "8"
    array, merge_of_eight = submit_as(8)
    wait_until(one_is_killed_midway, seconds=300, what="a task is midway")  # now: none waits for the next submission
    merges = [merge_of_eight, *(submit_as(tasks)[1] for tasks in (3, 1))]
    assert [wait_for(cluster, job, seconds=500) for job in merges] == [
        "CANCELLED",
        "COMPLETED",
        "COMPLETED",
    ]
    with pytest.raises(ValueError, match=r"1 of the 8 tasks in .* have not finished"):
        merge(eight)
    assert wait_for(cluster, submit_as(8)[1]) == "COMPLETED"
    assert len(records(eight)) == 113
    for tasks in (3, 1):
        assert records(tmp_path / str(tasks)) == records(eight)
        assert (tmp_path / str(tasks) / "rejected.tsv").read_bytes() == (eight / "rejected.tsv").read_bytes()
    assert verify(eight) == []


def test_videos_that_the_nodes_do_not_see_are_a_failure_and_not_rejections(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch.slurm.pack_array import pack_share
    from shards.pack import list_inputs, pack_sources
    from shards.tasks import Task

    elsewhere = shutil.copytree(videos, tmp_path / "elsewhere")
    sources, splitter = list_inputs([elsewhere], tmp_path / "out", SETTINGS)
    shutil.rmtree(elsewhere)
    pack = partial(pack_sources, out=tmp_path / "out", settings=SETTINGS, splitter=splitter)
    with pytest.raises(ValueError, match=r"none of the 14 inputs of task-0001-of-0001 is on "):
        pack_share(Task(1, 1), sources, tmp_path / "out", pack)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_submitted_is_refused_in_words(videos: Path, alone: Path, tmp_path: Path) -> None:
    commands = tmp_path / "bin"  # stand in where there is no SLURM: nothing of them is called
    commands.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        (commands / name).write_text("#!/bin/sh\nexit 1\n")
        (commands / name).chmod(0o755)

    def refusal(*words: str, path: str) -> str:
        done = subprocess.run(words, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2, done.stderr
        return done.stderr

    words = command(videos, tmp_path / "out", tmp_path)
    assert refusal(*words, path="/nowhere").startswith("avc pack: there is no sbatch on this machine")
    assert "--tasks is 0 and must be at least 1" in refusal(
        *command(videos, tmp_path, tmp_path, tasks=0), path=str(commands)
    )
    taken = command(videos, alone, tmp_path)
    assert "was begun without tasks" in refusal(*taken, path=str(commands))
    assert "leave out --task and --workers" in refusal(*words, "--workers", "2", path=str(commands))
    assert "sbatch refuses the tasks" in refusal(*words, path=f"{commands}:/usr/bin:/bin")
