"""No rank waits for ever for one that is gone, and each says which one it was."""

import re
import signal
import time

import pytest

from tests.avc.launching import Ranks, write_config

NAMED_SECONDS = 15
ENDLESS = {
    "optim": {"batch_pairs": 24},  # 3 ranks with one micro-batch each
    "training": {"steps": 100_000, "process_group_timeout_seconds": 600},
    "validation": {"every_steps": 0},
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("lost", [0, 2])
def test_when_a_rank_is_gone_the_others_name_it_and_its_step_and_leave(small_world, tmp_path, lost, number) -> None:
    ranks = Ranks(write_config(tmp_path, small_world, **ENDLESS), tmp_path / "run", world_size=3)
    try:
        ranks.wait_for_step(2)
        ranks.processes[lost].send_signal(number)
        began = time.monotonic()
        others = [process for rank, process in enumerate(ranks.processes) if rank != lost]
        for process in others:
            process.wait(timeout=max(0.1, began + NAMED_SECONDS - time.monotonic()))
        assert [process.returncode for process in others] == [1, 1]
    finally:
        outputs = ranks.kill()
    for rank, output in enumerate(outputs):
        if rank != lost:
            said = [line for line in output.splitlines() if line.startswith(f"rank {rank}: ")]
            assert len(said) == 1, output
            assert re.search(rf"rank {lost}\b.* (gone|stopped).* step \d+", said[0])
            assert "Traceback" not in output


def test_a_rank_that_cannot_read_its_data_is_named_by_the_others_with_its_reason(small_world, tmp_path) -> None:
    # Only rank 2 finds no shards: its node has not mounted them.
    ranks = Ranks(
        write_config(tmp_path, small_world, **ENDLESS),
        tmp_path / "run",
        world_size=3,
        for_last=f"data.shards={tmp_path / 'not-mounted'}",
    )
    try:
        statuses = [process.wait(timeout=120) for process in ranks.processes]
    finally:
        outputs = ranks.kill()
    assert statuses == [1, 1, 2]
    for output in outputs[:2]:
        assert "rank 2 left in step 0: " in output and "not-mounted" in output
        assert "Traceback" not in output
