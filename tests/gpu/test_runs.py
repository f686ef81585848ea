"""Trainings on a GPU: resumed to the same bits, and two NCCL ranks on one card."""

import re
import subprocess
import time

import pytest

from tests.avc.launching import Ranks, Training, assert_same_bits, final_state, metrics, write_config

GPU = ("training.device=cuda", "training.deterministic=true")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_ends_with_the_bits_of_the_uninterrupted_one_if_kernels_are_deterministic(
    small_world, tmp_path, precision
) -> None:
    config = write_config(tmp_path, small_world)
    options = (*GPU, f"training.precision={precision}")
    assert "1 rank on cuda" in Training(config, tmp_path / "whole", *options).finish()
    killed = Training(config, tmp_path / "killed", *options)
    killed.wait_for_step(4)
    killed.kill()
    assert "attempt 2" in Training(config, tmp_path / "killed", *options).finish()
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))


def test_two_ranks_on_one_gpu_take_the_pairs_and_have_the_losses_of_one(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, optim={"lr": 1e-6}, validation={"every_steps": 0})
    Training(config, tmp_path / "one", *GPU).finish()
    two = Ranks(config, tmp_path / "two", *GPU, world_size=2, one_gpu=True)
    said = [process.communicate(timeout=240)[0] for process in two.processes]
    assert [process.returncode for process in two.processes] == [0, 0], said
    assert "2 ranks on cuda" in said[0]
    one, other = ([line for line in metrics(tmp_path / name) if line["kind"] == "train"] for name in ("one", "two"))
    assert [line["data/pairs_digest"] for line in one] == [line["data/pairs_digest"] for line in other]
    assert other[0]["loss"] == pytest.approx(one[0]["loss"], abs=1e-5)
    assert other[-1]["loss"] == pytest.approx(one[-1]["loss"], abs=1e-3)


def test_a_rank_that_is_killed_is_named_by_the_other_within_15_seconds(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, validation={"every_steps": 0})
    ranks = Ranks(config, tmp_path / "run", *GPU, "training.steps=100000", world_size=2, one_gpu=True)
    try:
        ranks.wait_for_step(3)
        ranks.processes[1].kill()
        began = time.monotonic()
        try:
            said, _ = ranks.processes[0].communicate(timeout=60)
        except subprocess.TimeoutExpired:
            pytest.fail("rank 0 still waits after 60 s")
        assert time.monotonic() - began < 15
        assert ranks.processes[0].returncode == 1, said
        assert re.search(r"rank 1\b.*(gone|stopped).*step \d+", said), said
    finally:
        for process in ranks.processes:
            process.kill()
            process.wait()
