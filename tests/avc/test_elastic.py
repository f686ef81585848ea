"""The same run goes on with another number of ranks, and its log tells what each rank did."""

import signal
import time

from avc.config import load_config
from avc.tasks.correspondence import training_sampler
from shards.read import Shards
from tests.avc.launching import Ranks, Training, metrics, train_here, write_config

STEPS = 9
CHANGES = {
    "training": {"steps": STEPS},
    "validation": {"every_steps": 0},
    "checkpoint": {"every_steps": 2},
    "log": {"every_steps": 3},
}


def test_four_ranks_then_two_then_one_leave_no_pair_out_and_take_none_twice(small_world, tmp_path) -> None:
    path = write_config(tmp_path, small_world, **CHANGES)
    run = tmp_path / "run"
    said = []
    for world_size, until in ((4, 3), (2, 6), (1, STEPS)):
        part = Training(path, run, world_size=world_size)
        if until < STEPS:
            part.wait_for_step(until)
            said.append(part.kill())
        else:
            said.append(part.finish())
    assert "2 ranks on cpu; 32 pairs a step in 2 micro-batches a rank" in said[1]
    assert "resumed on 2 ranks (was 4): the same pairs, 32 in a step. Batch norm is over 8 pairs (was 8)" in said[1]
    assert "resumed on 1 rank (was 2)" in said[2]
    config = load_config(path)
    sampler = training_sampler(config, Shards(config.data.shards))
    rows = config.optim.batch_pairs // sampler.pairs_per_row
    lines = [line for line in metrics(run) if line["kind"] == "train"]
    following = 0
    for line in lines:
        assert line["data/first_row"] == following
        following = line["data/last_row"] + 1
        assert following == line["step"] * rows
        assert line["data/pairs_digest"] == sampler.rows(line["data/first_row"], following).digest() % 2**32
    assert following == STEPS * rows
    ranks = [line["system/ranks"] for line in lines]
    assert ranks == sorted(ranks, reverse=True) and ranks[0] == 4 and ranks[-1] == 1


def test_other_micro_batches_are_said_to_change_the_batch_statistics(small_world, tmp_path) -> None:
    path = write_config(tmp_path, small_world, **CHANGES)
    train_here(path, tmp_path / "run", "training.steps=1")
    output = Training(path, tmp_path / "run", "training.steps=2", "optim.micro_batch_pairs=16", world_size=2).finish()
    assert "Batch norm is over 16 pairs (was 8)" in output


def test_a_straggler_shows_in_the_log_by_its_rank(small_world, tmp_path) -> None:
    changes = {"training": {"steps": 100_000}, "log": {"every_steps": 5}}
    ranks = Ranks(write_config(tmp_path, small_world, **CHANGES | changes), tmp_path / "run", world_size=2)
    try:
        ranks.wait_for_step(5)
        before = metrics(tmp_path / "run")[-1]["step"]
        while metrics(tmp_path / "run")[-1]["step"] < before + 40:  # rank 1 has its processor half of the time
            for number in (signal.SIGSTOP, signal.SIGCONT):
                ranks.processes[1].send_signal(number)
                time.sleep(0.1)
    finally:
        ranks.kill()
    lines = [line for line in metrics(tmp_path / "run") if line["step"] > before + 5]
    named = [line["speed/own_seconds_rank"] for line in lines]
    assert named.count(1) > len(named) / 2
    assert all(line["speed/own_seconds_max"] >= line["data/wait_seconds_max"] > 0 for line in lines)
    assert all(0.05 < line["system/memory_gb_median"] <= line["system/memory_gb_max"] < 8 for line in lines)
