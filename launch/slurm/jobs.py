"""SLURM, by submitit.

    avc submit ──► sbatch: one task per GPU ──► train_rank() in each task ──► launch.train.run
                     │                            told to stop (USR2, TERM): all ranks save at one step and leave
                     └── after srun: `conclude` ──► done, failed in words, or queued again: the next attempt goes on

The batch script decides what follows, not a rank: it outlives all of them, there is one of it, and where its node goes
SLURM itself queues the job again. So nothing depends on a signal: whatever ends the ranks, a kill, a dead node, a bare
`scontrol requeue`, the next attempt goes on from the newest checkpoint. A run that ends without a word three times at
the same checkpoint is given up; a mistake of the user's or a damaged record ends the job at once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avc.extras import require_package
from avc.runs.events import FOLDER, Start, newest_step, say, starts
from launch.slurm.cluster_file import Cluster, check_for_script
from launch.train import StopRequest

if TYPE_CHECKING:
    import submitit

SUBMITTED = "submitted.yaml"  # the settings of the run as they were when it was submitted
UNSEEN = "does not see"
STARTING = "Starting with JobEnvironment"  # what submitit writes into a rank's log at each start
LOG_TAIL_BYTES = 65_536
MOST_TOLD = 500  # characters of what srun says
# Where sbatch was told to export nothing, srun would do so too: ranks without PATH, deaf to the cluster file's setup.
WITH_ENVIRONMENT = "--export=ALL"
SILENT_ENDS = 3  # in a row without a newer checkpoint, before the run is given up
FIRST_PORT, PORTS = 20_000, 12_000  # below the range from which systems take ports for outgoing connections
OVER = (  # the queue's words for a job that has ended; None where it has none
    *(None, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"),
    "PREEMPTED",
)
SECONDS_UNTIL_KILLED = 600.0  # that an attempt which SLURM has ended without a reason waits for SLURM to act


def require_slurm() -> None:
    """Raise ValueError where jobs cannot be submitted."""
    require_package("submitit", extra="slurm", purpose="submitting jobs")
    absent = [name for name in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(name) is None]
    if absent:
        raise ValueError(
            f"there is no {absent[0]} on this machine: submit from a node of a SLURM cluster, or train here with "
            "`avc train` or torchrun"
        )


def executor(
    cluster: Cluster,
    folder: Path,
    *,
    name: str,
    beforehand: Sequence[str] = (),
    afterwards: Sequence[str] = (),
) -> submitit.AutoExecutor:
    """An executor of submitit for jobs of a task for each rank of the cluster; logs and pickles go to folder/JOB.

    beforehand, afterwards: shell lines of the batch script around its tasks. Raises ValueError where the folder's or
    the job's name cannot go into a batch script.
    """
    import submitit

    check_for_script(str(folder), "the folder")
    check_for_script(name, "the job's name")
    python = cluster.container_python if cluster.container else None  # None: the one that submits
    built = submitit.AutoExecutor(folder / "%j", cluster="slurm", slurm_max_num_timeout=1_000_000, slurm_python=python)
    settings: dict[str, Any] = {
        "name": name,
        "nodes": cluster.nodes,
        "tasks_per_node": cluster.ranks_per_node,
        "cpus_per_task": cluster.cpus_per_rank,
        "timeout_min": cluster.time_limit_minutes,
        "stderr_to_stdout": True,
        "mem_gb": cluster.memory_gb_per_node,
        "gpus_per_node": cluster.ranks_per_node if cluster.gpus else None,
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
        "slurm_signal_delay_s": cluster.warning_seconds,
        "slurm_setup": [*cluster.setup, *beforehand],
        "slurm_teardown": list(afterwards),
        "slurm_additional_parameters": {"requeue": True} | cluster.sbatch,
        # Since 22.05 srun does not take the number of CPUs from sbatch.
        "slurm_srun_args": [
            WITH_ENVIRONMENT,
            f"--cpus-per-task={cluster.cpus_per_rank}",
            "--kill-on-bad-exit=1",
            *cluster.container_arguments,
            *cluster.srun,
        ],
    }
    built.update_parameters(**{name: value for name, value in settings.items() if value is not None})
    return built


def submit_job(built: submitit.AutoExecutor, function: Callable[[], None]) -> str:
    """Hand a function to sbatch; the number of its job. Raises ValueError with sbatch's words where it refuses."""
    import submitit

    try:
        return str(built.submit(Requeued(function)).job_id)
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(f"sbatch refuses the job: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class Requeued:
    """A job's function that submitit queues again, unchanged, when SLURM signals it before or outside of its work."""

    function: Callable[[], None]

    def __call__(self) -> None:
        self.function()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def train_rank(run: Path, cluster: Cluster) -> None:
    """What each task of a training job runs. run: the run's folder, absolute."""
    stop = StopRequest(signal.SIGUSR2, signal.SIGTERM)  # before anything that takes time: SLURM may ask early
    import submitit

    job, restart = this_start()
    environment = submitit.JobEnvironment()
    rank = environment.global_rank
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(environment.num_tasks),
        LOCAL_RANK=str(environment.local_rank),
        LOCAL_WORLD_SIZE=str(environment.num_tasks // environment.num_nodes),
        MASTER_ADDR=environment.hostnames[0],
        MASTER_PORT=str(FIRST_PORT + (7 * job + restart) % PORTS),  # not the one that an orphan may still hold
    )
    if rank == 0:
        nodes = list(environment.hostnames)
        say(run, job, restart, "started", nodes=nodes, ranks=environment.num_tasks, step=newest_step(run))
    began = time.monotonic()
    try:
        from launch.train import run as train

        done = train(str(run / FOLDER / SUBMITTED), [], stop=stop)
    except (ValueError, SystemExit) as error:
        # A mistake, a damaged record, a loss that is not finite: another attempt would end in the same way.
        cause = error.__context__ if isinstance(error, SystemExit) and error.__context__ else error
        say(run, job, restart, "failed", rank=rank, node=environment.hostname, why=str(cause))
        raise
    if done:
        if rank == 0:
            say(run, job, restart, "finished", step=newest_step(run))
        return
    why = _why(stop, cluster, ran_seconds=time.monotonic() - began)
    if rank == 0:
        say(run, job, restart, "stopped", why=why, step=newest_step(run))
    if signal.SIGUSR2 not in stop.signals():
        # TERM alone comes from scancel, or from a preemption whose job SLURM queues again by itself: were the job
        # to end now, it would count as done.
        time.sleep(SECONDS_UNTIL_KILLED)
    raise SystemExit(0)  # and not a return, which would leave the result of a job that is done


def _why(stop: StopRequest, cluster: Cluster, *, ran_seconds: float) -> str:
    if signal.SIGUSR2 not in stop.signals():
        return "SIGTERM"
    # SLURM may send the signal up to a minute early, and the job began before the process did.
    left = 60 * cluster.time_limit_minutes - ran_seconds - cluster.warning_seconds
    return "time limit" if left < 90 else "preempted"


def this_start() -> tuple[int, int]:
    """The job that this process belongs to and how often it has been restarted."""
    return int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def looking(run: Path, paths: Sequence[Path]) -> list[str]:
    """The batch script's lines before srun: each node looks for the paths, and no rank starts where one is not seen.

    Where a node cannot look, that is an attempt that was lost.
    """
    look = f'for path; do [ -e "$path" ] || echo "$(hostname) {UNSEEN} $path"; done'
    step = f'srun {WITH_ENVIRONMENT} --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1'
    call = shlex.join([sys.executable, "-m", "launch.slurm.jobs", str(run)])
    return [
        f"seen=$({step} {shlex.join(['sh', '-c', look, 'look', *map(str, paths)])} 2>&1); status=$?",
        f'case "$status $seen" in [!0]*|*"{UNSEEN}"*) echo "$seen"; {call} "$status" "$seen"; exit $?;; esac',
    ]


def concluding(run: Path) -> list[str]:
    """The batch script's lines after srun, which call `conclude`."""
    call = shlex.join([sys.executable, "-m", "launch.slurm.jobs", str(run)])
    return ["status=$?", f'{call} "$status"', "exit $?"]


def conclude(run: Path, status: int, seen: str | None = None) -> int:
    """Decide in the batch script what follows when all tasks have ended; the exit status of the job.

    status: srun's. seen: what it said where nodes could not look or do not see what they need, and no task was started.
    Queues the job again, unless it is done, has failed in words, or ends silently again and again.
    """
    job, restart = this_start()
    if seen is not None and (unseen := sorted(line for line in seen.splitlines() if UNSEEN in line)):
        say(run, job, restart, "failed", why=f"{'; '.join(unseen)}. It must lie on a file system that all nodes share")
        return 2
    history = starts(run)
    words = next((start.words for start in history if (start.job, start.restart) == (job, restart)), {})
    if "failed" in words:
        return status or 1
    if "finished" in words:
        return status
    if "stopped" not in words:
        step = newest_step(run)
        why = last_words(run, job) or f"a rank ended without a word; srun's exit status is {status}"
        if seen is not None:
            told = f"{' '.join(seen.split())[:MOST_TOLD]} (srun's exit status {status})"
            why = f"the nodes could not be asked whether they see run and shards: {told}"
        say(run, job, restart, "lost", why=why, step=step)
        if silent_ends(starts(run), job=job, step=step) >= SILENT_ENDS:
            logs = f"the last lines of their logs are in {run / FOLDER / str(job)}"
            lost = f"{SILENT_ENDS} attempts in a row were lost at step {step}, the last one: {why}"
            say(run, job, restart, "failed", why=f"{lost}; {logs}")
            return status or 1
    sys.stdout.write(f"job {job} is queued again and will go on from step {newest_step(run)}\n")
    sys.stdout.flush()
    requeue(job, restart)
    return status


def last_words(run: Path, job: int) -> str | None:
    """What a rank of the job's last start wrote of its end, as `rank 2: rank 3 is gone`; None where none did."""
    for path in sorted((run / FOLDER / str(job)).glob("*_log.out")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
        if match := re.search(r"^rank \d+: .+", text.rpartition(STARTING)[2], re.MULTILINE):
            return match[0]
    return None


def silent_ends(history: Sequence[Start], *, job: int, step: int) -> int:
    """How many of the job's last starts were lost with `step` as their newest checkpoint."""
    count = 0
    for start in reversed(history):
        if start.job != job or start.words.get("lost", {}).get("step") != step:
            break
        count += 1
    return count


def requeue(job: int, restart: int) -> None:
    """Queue the job again, unless it has been: the script of a node that was cut off must not end its successor."""
    shown = subprocess.run(["scontrol", "show", "job", "-o", str(job)], capture_output=True, text=True, check=True)
    facts = dict(word.partition("=")[::2] for word in shown.stdout.split())
    if facts.get("Restarts") == str(restart) and facts.get("JobState") == "RUNNING":
        subprocess.run(["scontrol", "requeue", str(job)], check=True)


def queue_state(job: int | None) -> tuple[str | None, str]:
    """The queue's word for a job (RUNNING, PENDING, COMPLETED ...) and its nodes, or why it waits.

    The word is None where there is no job, where the queue does not know it, or where there is no queue here. Raises
    ValueError where it does not answer.
    """
    if job is None or shutil.which("squeue") is None:
        return None, ""
    command = ["squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T|%R"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode and "Invalid job id" not in answer.stderr:
        raise ValueError(f"squeue does not tell of job {job}: {' '.join(answer.stderr.split())}")
    state, bar, reason = answer.stdout.strip().partition("|")
    return (state, reason.strip("()")) if bar else (None, "")


if __name__ == "__main__":
    _, given, ended, *said = sys.argv
    sys.exit(conclude(Path(given), int(ended), *said))
