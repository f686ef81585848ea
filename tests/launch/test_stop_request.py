"""A training that is asked to stop, from a terminal or by torchrun, loses no step."""

import signal

import pytest

from launch.train import StopRequest
from tests.avc.launching import Training, assert_same_bits, final_state, metrics, write_config

SAVED = "stopped and saved; the same command goes on from this step"


@pytest.fixture(scope="module")
def config(small_world, tmp_path_factory):
    # Without a stop, nothing is saved before the end, and the end is far away.
    changes = {"validation": {"every_steps": 0}, "checkpoint": {"every_steps": 1000}, "data": {"num_workers": 1}}
    return write_config(tmp_path_factory.mktemp("asked"), small_world, training={"steps": 1000}, **changes)


def test_ctrl_c_saves_at_the_step_and_the_same_command_goes_on_with_the_same_bits(config, tmp_path) -> None:
    asked = Training(config, tmp_path / "asked")
    asked.wait_for_step(2)
    asked.signal(signal.SIGINT)  # to the loader's worker too, as a terminal does
    said = asked.finish(status=128 + signal.SIGINT)
    assert SAVED in said and "Traceback" not in said
    stopped_at = metrics(tmp_path / "asked")[-1]["step"]
    for training in [
        Training(config, tmp_path / run, f"training.steps={stopped_at + 2}") for run in ("asked", "whole")
    ]:
        training.finish()
    steps = [line["step"] for line in metrics(tmp_path / "asked")]
    assert steps == list(range(1, stopped_at + 3))
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "asked"))


def test_ended_by_its_scheduler_torchrun_leaves_the_ranks_time_to_save_at_one_step(config, tmp_path) -> None:
    asked = Training(config, tmp_path / "asked", world_size=2)
    asked.wait_for_step(2)
    asked.process.send_signal(signal.SIGTERM)  # to torchrun alone, which passes it on
    said, _ = asked.process.communicate(timeout=120)
    assert asked.process.returncode != 0 and said.count(SAVED) == 1
    stopped_at = metrics(tmp_path / "asked")[-1]["step"]
    again = Training(config, tmp_path / "asked", f"training.steps={stopped_at + 1}", world_size=2)
    assert f"step {stopped_at}" in again.finish()
    assert [line["step"] for line in metrics(tmp_path / "asked")] == list(range(1, stopped_at + 2))


def terminate(asked: Training) -> str:
    """Let torchrun alone be told to end, which passes it on, and wait for the end; what was printed."""
    asked.process.send_signal(signal.SIGTERM)
    said, _ = asked.process.communicate(timeout=240)
    assert asked.process.returncode == 1, said  # torchrun's own status, whatever the ranks'
    return said


def test_a_stop_is_saved_without_an_end_of_the_step_that_is_under_way(small_world, tmp_path) -> None:
    size = {"batch_pairs": 6400, "micro_batch_pairs": 8}  # 400 micro-batches: a step takes seconds
    config = write_config(tmp_path, small_world, optim=size, validation={"every_steps": 0})
    asked = Training(config, tmp_path / "run", world_size=2, TORCH_ELASTIC_SHUTDOWN_TIMEOUT="120")
    asked.wait_for_step(1)
    assert terminate(asked).count(SAVED) == 1
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001.pt"]


def test_a_stop_during_a_validation_is_saved_and_the_validation_made_anew(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 3}, validation={"every_steps": 2})
    endless, once = "validation.passes=3000", "validation.passes=1"
    asked = Training(config, tmp_path / "run", endless, world_size=2)
    asked.wait_for_step(2)
    assert terminate(asked).count(SAVED) == 1
    kinds = [(line["kind"], line["step"]) for line in metrics(tmp_path / "run")]
    assert kinds == [("train", 1), ("train", 2)]
    for run in ("run", "whole"):
        Training(config, tmp_path / run, once, world_size=2).finish()
    of_both = [
        [(line["kind"], line["step"], line["loss"]) for line in metrics(tmp_path / run)] for run in ("run", "whole")
    ]
    assert of_both[0] == of_both[1] and len(of_both[0]) == 5
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))


@pytest.mark.parametrize(("given", "said"), [("1", "kills its processes 1 s after a signal"), ("600", "")])
def test_where_torchrun_does_not_wait_for_a_stop_to_be_saved_that_is_said(config, tmp_path, given, said) -> None:
    told = Training(
        config, tmp_path / "run", "training.steps=3", world_size=2, TORCH_ELASTIC_SHUTDOWN_TIMEOUT=given
    ).finish()
    assert told.count("kills its processes") == bool(said) and said in told


def test_a_second_ctrl_c_interrupts_at_once_and_afterwards_all_is_as_it_was() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest(signal.SIGINT, signal.SIGTERM) as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert asked.signals() == {signal.SIGINT, signal.SIGTERM}
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
