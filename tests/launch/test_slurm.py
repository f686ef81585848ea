"""`avc submit` on a real cluster: what a user sees, and every way in which a node or a job can go."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avc.config import load_config
from avc.runs.events import starts
from avc.tasks.correspondence import training_sampler
from shards.read import Shards
from tests.avc.launching import assert_same_bits, final_state, metrics, train_here, write_config
from tests.cluster import Cluster, wait_until

PATIENCE = 240.0  # seconds, on a machine that does other work as well
STEPS = 16
LIMIT_MINUTES = 30

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def jobs(cluster, tmp_path, small_world) -> Iterator["Jobs"]:
    made = Jobs(cluster, tmp_path, small_world)
    yield made
    made.end()


@pytest.fixture(scope="module")
def uninterrupted(cluster, tmp_path_factory, small_world) -> dict:
    """The last state of the run that nothing happens to."""
    made = Jobs(cluster, tmp_path_factory.mktemp("uninterrupted"), small_world)
    made.submit()
    made.finish()
    assert len(starts(made.run)) == 1
    assert_log_is_the_plan(made)
    return final_state(made.run)


class Jobs:
    """A run in a folder of its own, and the jobs that work on it."""

    def __init__(self, cluster: Cluster, folder: Path, shards: Path) -> None:
        self.cluster, self.folder, self.run = cluster, folder, folder / "run"
        self.config = write_config(
            folder,
            shards,
            negatives={"source": "independent"},
            optim={"batch_pairs": 48, "micro_batch_pairs": 4},  # for 1, 2, 3 and 4 ranks
            training={"steps": STEPS, "process_group_timeout_seconds": 240, "heartbeat_timeout_seconds": 240},  # held
            validation={"every_steps": 0},
            checkpoint={"every_steps": 5},
        )

    def avc(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.cluster.run(sys.executable, "-m", "launch.cli", *words)

    def submit(self, *overrides: str, **cluster: object) -> None:
        """Submit the run; `cluster` replaces settings of the cluster file."""
        settings = {"nodes": 3, "ranks_per_node": 1, "gpus": False, "time_limit_minutes": LIMIT_MINUTES}
        path = self.folder / "cluster.yaml"
        path.write_text(json.dumps(settings | {"warning_seconds": 10} | cluster))
        done = self.avc("submit", self.config, "--cluster", path, f"run.dir={self.run}", *overrides)
        assert done.returncode == 0, done.stderr
        self.job = done.stdout.split()[1].rstrip(":")

    def wait(self, done: Callable[[], bool], what: str) -> None:
        try:
            wait_until(done, seconds=PATIENCE, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def finish(self, state: str = "COMPLETED") -> None:
        """Wait until the job has come to its end, which must be `state`."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait(lambda: self.cluster.state(self.job) in ends, "the job ends")
        assert self.cluster.state(self.job) == state, self.told()

    def reach(self, step: int) -> None:
        """Wait until the step stands in the metrics."""
        self.wait(lambda: any(line["step"] >= step for line in metrics(self.run)), f"step {step} is logged")

    def hold(self, rank: int, *, step: int) -> int:
        """Stop a rank after a step, so that the run cannot finish before what is to happen; its process."""
        self.reach(step)
        process = self.cluster.task(SLURM_JOB_ID=self.job, SLURM_PROCID=rank)
        assert process is not None, self.told()
        os.kill(process, signal.SIGSTOP)
        return process

    def release_when_told(self, process: int) -> None:
        """Let a held rank go on when SLURM has told it to stop."""

        def told() -> bool:
            found = Path(f"/proc/{process}/status")
            assert found.exists(), f"the rank is gone\n{self.told()}"
            lines = found.read_text().splitlines()
            pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
            return any(mask >> (signal.SIGUSR2 - 1) & 1 for mask in pending)

        self.wait(told, "SLURM tells the rank to stop")
        os.kill(process, signal.SIGCONT)

    def restarted(self) -> None:
        """Wait until the next attempt has begun."""
        self.wait(lambda: len([one for one in starts(self.run) if "started" in one.words]) > 1, "the job restarts")

    def told(self) -> str:
        """All that is known, for a message."""
        logs = sorted((self.run / "slurm").glob("*/*_0_log.out"))
        ends = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs)
        return f"{self.status()}\n{self.cluster.ask('squeue', '-t', 'all')}\n{ends}\n{self.cluster.log()}"

    def status(self) -> str:
        """What `avc status` prints, with single spaces."""
        done = self.avc("status", self.run)
        assert done.returncode == 0, done.stderr
        return "\n".join(" ".join(line.split()) for line in done.stdout.splitlines())

    def end(self) -> None:
        """Clear the queue and wait until all nodes are free for the next test."""
        self.cluster.run("scancel", "--full", self.job) if hasattr(self, "job") else None
        wait_until(lambda: len(self.cluster.idle()) == 4, seconds=60, what="the nodes are idle again")


def assert_log_is_the_plan(jobs: Jobs, *overrides: str) -> None:
    """Each step stands in the log once, and its pairs are those of the plan."""
    config = load_config(jobs.config, [f"run.dir={jobs.run}", *overrides])
    plan = training_sampler(config, Shards(config.data.shards))
    rows = config.optim.batch_pairs // plan.pairs_per_row
    logged = [(line["step"], line["data/pairs_digest"]) for line in metrics(jobs.run) if line["kind"] == "train"]
    expected = [plan.rows(step * rows, (step + 1) * rows).digest() % 2**32 for step in range(config.training.steps)]
    assert logged == list(enumerate(expected, start=1))


def test_four_nodes_of_four_ranks_consume_the_pairs_of_a_single_process(jobs, cluster) -> None:
    overrides = ["training.steps=3", "optim.batch_pairs=32", "optim.micro_batch_pairs=2"]
    jobs.submit(*overrides, nodes=4, ranks_per_node=4)
    jobs.finish()
    assert_log_is_the_plan(jobs, *overrides)
    alone = jobs.folder / "alone"
    train_here(jobs.config, alone, *overrides)
    digests = [[line["data/pairs_digest"] for line in metrics(run)] for run in (jobs.run, alone)]
    assert digests[0] == digests[1] and len(set(digests[0])) == 3
    assert "16 ranks on n1,n2,n3,n4 from step 0; finished" in jobs.status()


def test_at_its_time_limit_a_run_saves_and_goes_on_at_the_same_step(jobs, uninterrupted, cluster) -> None:
    jobs.submit(time_limit_minutes=1)
    held = jobs.hold(2, step=2)
    jobs.release_when_told(held)
    jobs.wait(lambda: "stopped" in starts(jobs.run)[0].words, "the run has saved")
    jobs.wait(lambda: cluster.state(jobs.job) == "PENDING", "the job is queued again")
    more_time = ["scontrol", "update", f"JobId={jobs.job}", f"TimeLimit={LIMIT_MINUTES}"]
    cluster.ask(*more_time)
    jobs.restarted()
    cluster.run(*more_time)  # again, should that have been while it was still being queued
    jobs.finish()
    first, second = starts(jobs.run)[:2]  # on a busy machine it may have met the limit again before
    assert first.words["stopped"]["why"] == "time limit"
    assert first.words["stopped"]["step"] == second.words["started"]["step"] < STEPS
    assert_log_is_the_plan(jobs)
    assert_same_bits(uninterrupted, final_state(jobs.run))


def test_preempted_a_run_saves_and_goes_on_when_the_nodes_are_free(jobs, uninterrupted, cluster) -> None:
    # With a process that reads: SLURM signals it too.
    jobs.submit("data.num_workers=1", partition="low")
    held = jobs.hold(2, step=7)
    cluster.ask("sbatch", "-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    jobs.release_when_told(held)
    jobs.restarted()
    jobs.finish()
    first, second = starts(jobs.run)
    assert first.words["stopped"]["why"] == "preempted"
    assert first.words["stopped"]["step"] == second.words["started"]["step"] >= 7
    assert_log_is_the_plan(jobs)
    assert_same_bits(uninterrupted, final_state(jobs.run))
    told = jobs.status()
    assert f"queue job {jobs.job} is COMPLETED" in told
    assert f"step {STEPS} of {STEPS}\n" in told and "restarts 1\n" in told
    assert "from step 0; stopped: preempted\n" in told


def test_after_a_bare_requeue_a_run_goes_on_from_its_newest_checkpoint(jobs, uninterrupted, cluster) -> None:
    jobs.submit()
    jobs.hold(2, step=7)
    cluster.ask("scontrol", "requeue", jobs.job)
    jobs.restarted()
    jobs.finish()
    # At 5, or further on: SLURM sends TERM and kills a moment later, and the ranks may have had the time to save.
    assert [one.words["started"]["step"] >= 5 for one in starts(jobs.run)] == [False, True]
    assert_log_is_the_plan(jobs)
    assert_same_bits(uninterrupted, final_state(jobs.run))


def test_a_rank_that_is_killed_has_the_job_queued_again(jobs, uninterrupted) -> None:
    jobs.submit()
    os.kill(jobs.hold(2, step=7), signal.SIGKILL)
    jobs.restarted()
    jobs.finish()
    assert "lost" in starts(jobs.run)[0].words
    assert starts(jobs.run)[1].words["started"]["step"] == 5
    assert_log_is_the_plan(jobs)
    assert_same_bits(uninterrupted, final_state(jobs.run))


def test_without_one_of_its_nodes_a_run_goes_on_on_others(jobs, uninterrupted, cluster) -> None:
    jobs.submit()
    jobs.hold(2, step=7)
    lost = starts(jobs.run)[0].words["started"]["nodes"][1]
    cluster.kill_node(lost)
    try:
        jobs.restarted()
        jobs.finish()
    finally:
        cluster.start_node(lost)
    assert lost not in starts(jobs.run)[-1].words["started"]["nodes"]
    assert_log_is_the_plan(jobs)
    assert_same_bits(uninterrupted, final_state(jobs.run))


def test_a_link_that_is_cut_and_healed_leaves_one_run(jobs, uninterrupted, cluster) -> None:
    timeout = 25
    jobs.submit(f"training.process_group_timeout_seconds={timeout}")
    jobs.hold(2, step=7)
    lost = starts(jobs.run)[0].words["started"]["nodes"][0]  # of the main rank, which writes the checkpoints
    cluster.cut(lost)
    began = time.monotonic()
    try:
        jobs.restarted()
        wait_until(lambda: time.monotonic() - began > timeout + 5, seconds=60, what="the ranks' timeout is over")
    finally:
        cluster.heal(lost)
    jobs.finish()
    assert lost not in starts(jobs.run)[-1].words["started"]["nodes"]
    assert_log_is_the_plan(jobs)
    assert_same_bits(uninterrupted, final_state(jobs.run))


def test_on_two_nodes_after_four_no_position_is_left_out_or_repeated(jobs, cluster) -> None:
    jobs.submit(nodes=4, ranks_per_node=1)
    jobs.reach(7)
    cluster.ask("scancel", jobs.job)
    jobs.finish("CANCELLED")
    jobs.submit(nodes=2, ranks_per_node=1)
    jobs.finish()
    assert_log_is_the_plan(jobs)
    first, second = starts(jobs.run)
    assert (first.words["started"]["ranks"], second.words["started"]["ranks"]) == (4, 2)
    assert 0 < second.words["started"]["step"] < STEPS


def test_shards_that_a_node_does_not_see_end_the_job_in_words(jobs, cluster, small_world) -> None:
    daemon = cluster.processes("n2", "slurmd -D")[0]
    inside = ["nsenter", f"--mount=/proc/{daemon}/ns/mnt"]
    subprocess.run([*inside, "mount", "-t", "tmpfs", "none", small_world], check=True)
    try:
        jobs.submit(sbatch={"nodelist": "n1,n2"})
        jobs.finish("FAILED")
    finally:
        subprocess.run([*inside, "umount", small_world], check=True)
    assert len(starts(jobs.run)) == 1
    assert f"failed: n2 does not see {small_world}/manifest.json." in jobs.status()
    assert not list((jobs.run / "slurm" / jobs.job).glob("*_3_log.out"))  # no rank was started
