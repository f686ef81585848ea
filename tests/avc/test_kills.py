"""Whatever of a training is killed with -9: the rest of it leaves, nothing stays, and it goes on as if nothing was.

AVC_TEST_KILLS and AVC_TEST_SEED ask for more kills, and for others.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.avc.launching import Training, assert_same_bits, final_state, metrics, write_config

KILLS = int(os.environ.get("AVC_TEST_KILLS", "3"))
SEED = int(os.environ.get("AVC_TEST_SEED", "1"))
GONE_SECONDS = 15
PROCESSES = 9  # torchrun's agent; two ranks with a tracker, a server and a worker each; and one to go without
CHANGES = {"data": {"num_workers": 1}, "validation": {"every_steps": 0}}


def wait_for(training: Training, what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not what():
        assert training.process.poll() is None and time.monotonic() < deadline, training.kill()
        time.sleep(0.005)


def steps_done(run: Path) -> int:
    return max((line["step"] for line in metrics(run)), default=0)


def kill_one(training: Training, victim: str, rng: random.Random) -> str:
    """Kill a process of the kind at a random moment: while processes come, or some steps later; says when."""
    if rng.random() < 0.5:
        count = rng.randrange(1, PROCESSES)
        wait_for(training, lambda: len(training.processes()) >= count)
        when = f"with {count} processes"
    else:
        step = steps_done(training.run) + rng.randrange(1, 4)
        wait_for(training, lambda: steps_done(training.run) >= step)
        when = f"after step {step}"
    wait_for(training, lambda: victim in training.processes().values())
    time.sleep(rng.uniform(0, 0.3))
    processes = [process for process, kind in sorted(training.processes().items()) if kind == victim]
    os.kill(rng.choice(processes), signal.SIGKILL)
    return when


@pytest.mark.timeout(300 + 120 * KILLS)
def test_after_random_kills_nothing_of_a_run_is_left_and_it_ends_with_the_same_bits(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, **CHANGES)
    killed = tmp_path / "killed"
    rng = random.Random(SEED)
    victims: list[str] = []
    for number in range(KILLS):
        victims = victims or rng.sample(["agent", "rank", "worker"], 3)
        victim = victims.pop()
        training = Training(config, killed, "training.steps=100000", world_size=2)
        try:
            when = kill_one(training, victim, rng)
            began, files = time.monotonic(), training.shared_memory()
            while training.processes() and time.monotonic() < began + GONE_SECONDS:
                files |= training.shared_memory()
                time.sleep(0.02)
            seconds, left = time.monotonic() - began, training.processes()
        finally:
            said = training.kill()
        print(f"kill {number}: {victim} {when}, step {steps_done(killed)}: all gone after {seconds:.1f} s")
        assert not left, (left, said)
        assert not [file for file in files if file.exists()], said
    steps = f"training.steps={steps_done(killed) + 4}"
    for run in (killed, tmp_path / "whole"):
        Training(config, run, steps, world_size=2).finish()
    assert_same_bits(final_state(tmp_path / "whole"), final_state(killed))
    assert [line["step"] for line in metrics(killed)] == list(range(1, steps_done(killed) + 1))


def test_a_worker_that_is_killed_ends_the_training_in_one_line_in_words(small_world, tmp_path) -> None:
    training = Training(write_config(tmp_path, small_world, **CHANGES), tmp_path / "run", "training.steps=100000")
    training.wait_for_step(2)
    [worker] = [process for process, kind in training.processes().items() if kind == "worker"]
    os.kill(worker, signal.SIGKILL)
    said = training.finish(status=1)
    assert "signal 9" in said.splitlines()[-1]
    assert not [word for word in ("Traceback", "Aborted", "Error") if word in said], said
    assert not training.processes()
