"""The loop: resumed runs equal uninterrupted ones, ranks agree, bad steps stop everybody."""

import random
import signal

import pytest
import torch
from safetensors.torch import load_file

from avc.config import dump_config, load_config, parse_config
from avc.distributed.world import World
from avc.encoders.load import load
from avc.runs.attempt import history, start_attempt
from avc.runs.checkpoint import Checkpoint, load_newest, save
from avc.runs.resuming import resume
from avc.runs.weights import about
from avc.settings import Config
from avc.training.loop import train
from shards.format import centers_of
from shards.read import Shards
from shards.text import counted
from tests.avc.launching import Training, assert_same_bits, final_state, metrics, train_here, train_in_two, write_config


def losses(run) -> list[float]:
    return [line["loss"] for line in metrics(run) if line["kind"] == "train"]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_run_killed_at_a_random_step_ends_with_the_bits_of_the_uninterrupted_one(
    small_world, tmp_path, world_size
) -> None:
    model, data = {"spectrogram_pool": 2 if world_size == 2 else 1}, {"num_workers": 1 if world_size == 1 else 0}
    config = write_config(tmp_path, small_world, model=model, data=data)
    Training(config, tmp_path / "whole", world_size=world_size).finish()
    step = random.randrange(1, 8)
    killed = Training(config, tmp_path / "killed", world_size=world_size)
    killed.wait_for_step(step)
    print(f"killed once step {step} was logged")  # which a failure shows
    killed.kill()
    output = Training(config, tmp_path / "killed", world_size=world_size).finish()
    assert f"{counted(world_size, 'ranks')} on cpu" in output
    assert "attempt 2" in output
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


def test_a_finished_run_that_is_started_again_changes_nothing(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 2})
    train_here(config, tmp_path / "run")
    before = final_state(tmp_path / "run")
    train_here(config, tmp_path / "run")
    assert_same_bits(before, final_state(tmp_path / "run"))
    assert [line["step"] for line in metrics(tmp_path / "run") if line["kind"] == "train"] == [1, 2]


def test_two_ranks_follow_the_single_process_with_synchronised_batch_norm_alone(small_world, tmp_path) -> None:
    # One micro-batch per rank and step against one of the whole batch: the statistics are over the same samples. At the
    # papers' learning rate: Adam turns the sign of a gradient near zero into a whole step of that size.
    changes = {"optim": {"lr": 1e-4}, "validation": {"every_steps": 0}, "training": {"steps": 6}}
    config = write_config(tmp_path, small_world, **changes)
    train_here(config, tmp_path / "one", "optim.micro_batch_pairs=32")
    two = Training(config, tmp_path / "two", "optim.micro_batch_pairs=16", "training.sync_batchnorm=true", world_size=2)
    assert "2 ranks on cpu" in two.finish()
    one, two_losses = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 6
    assert max(abs(a - b) for a, b in zip(one, two_losses, strict=True)) < 1e-4
    Training(config, tmp_path / "each alone", "optim.micro_batch_pairs=16", world_size=2).finish()
    assert max(abs(a - b) for a, b in zip(one, losses(tmp_path / "each alone"), strict=True)) > 1e-4


def test_gradients_that_ranks_send_in_bf16_are_rounded_and_nothing_else_changes(small_world, tmp_path) -> None:
    changes = {
        "optim": {"lr": 1e-4, "micro_batch_pairs": 16},
        "validation": {"every_steps": 0},
        "training": {"steps": 4},
    }
    config = write_config(tmp_path, small_world, **changes)
    for gradients in ("fp32", "bf16"):
        Training(config, tmp_path / gradients, f"training.gradients={gradients}", world_size=2).finish()
    exact, rounded = losses(tmp_path / "fp32"), losses(tmp_path / "bf16")
    assert exact[0] == rounded[0]
    assert 0 < max(abs(a - b) for a, b in zip(exact, rounded, strict=True)) < 1e-3


def test_validation_counts_every_pair_once_whatever_the_number_of_ranks(small_world, tmp_path) -> None:
    # With a learning rate of almost nothing and synchronised statistics, all worlds validate the same network.
    changes = {
        "optim": {"lr": 1e-12, "micro_batch_pairs": 32},
        "training": {"steps": 1, "sync_batchnorm": True},
        "validation": {"every_steps": 1, "passes": 3, "batch_pairs": 10},  # 96 pairs in ten pieces, the last of them 6
    }
    config = write_config(tmp_path, small_world, **changes)
    seen = []
    train_here(config, tmp_path / "1")
    Training(config, tmp_path / "4", world_size=4).finish()
    for name in ("1", "4"):
        seen += [line for line in metrics(tmp_path / name) if line["kind"] == "validation"]
    assert [line["pairs"] for line in seen] == [96, 96]
    assert seen[1]["loss"] == pytest.approx(seen[0]["loss"], abs=1e-4)


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_the_step(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, validation={"every_steps": 0})
    run = tmp_path / "run"
    Training(config, run, "training.steps=2", world_size=2).finish()
    path = next((run / "checkpoints").glob("step-00000002.pt"))
    content = torch.load(path, weights_only=True)
    # Running statistics do not enter a training step, but a weight does; only one tower's input is hit by it.
    content["model"]["audio.layers.conv1_1.weight"][0, 0, 0, 0] = float("inf")
    torch.save(content, path)
    before = path.read_bytes()
    output = Training(config, run, "training.steps=8", world_size=2).finish(status=1)
    assert "the loss is nan at step 2" in output
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000002.pt"]
    assert path.read_bytes() == before


def test_the_wandb_run_keeps_its_id_when_the_run_is_killed_and_resumed(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, log={"wandb": "offline"}, validation={"every_steps": 0})
    killed = Training(config, tmp_path / "run")
    killed.wait_for_step(4)
    killed.kill()
    Training(config, tmp_path / "run").finish()
    records = history(tmp_path / "run")
    names = [path.name for path in (tmp_path / "run" / "wandb").glob("offline-run-*")]
    assert len(names) == 2
    assert all(name.endswith(records[0].wandb_id) for name in names)
    assert records[1].wandb_id == records[0].wandb_id
    assert [record.number for record in records] == [1, 2]


def test_wandb_without_a_network_does_not_stop_the_training(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 2}, validation={"every_steps": 0})
    output = Training(
        config,
        tmp_path / "run",
        "log.wandb=online",
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_INIT_TIMEOUT="5",
    ).finish()
    assert "W&B (online) does not start" in output
    assert len(losses(tmp_path / "run")) == 2


def test_a_run_is_not_resumed_under_other_settings(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 1}, validation={"every_steps": 0})
    train_here(config, tmp_path / "run")
    output = Training(config, tmp_path / "run", "model.width=0.125", "training.steps=2").finish(status=2)
    assert "model.width was 0.0625 and is now 0.125" in output
    assert "Traceback" not in output


def test_a_run_from_before_a_setting_existed_had_its_default(tmp_path) -> None:
    config = parse_config({"run": {"dir": str(tmp_path)}})
    known = config.model_dump(mode="json")
    del known["model"]["stride"]
    attempt = start_attempt(tmp_path, world_size=1, micro_batch_pairs=2)
    save(attempt, Checkpoint(step=1, model={}, optimizer={}, config=known, best_score=0.0), keep=1)
    resume(config, {})
    with pytest.raises(ValueError, match=r"model.stride was True and is now False"):
        resume(parse_config({"run": {"dir": str(tmp_path)}, "model": {"stride": False}}), {})


def test_a_run_leaves_its_settings_and_its_best_weights(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, validation={"every_steps": 2})
    train_here(config, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.yaml").model.width == 0.0625
    validations = [line for line in metrics(tmp_path / "run") if line["kind"] == "validation"]
    best = max(validations, key=lambda line: (line["accuracy"], -line["step"]))
    assert about(tmp_path / "run" / "model.safetensors")["step"] == str(best["step"])
    network = load(tmp_path / "run")
    assert network.embed_audio(torch.zeros(2, 48_000, dtype=torch.int16)).shape == (2, 128)
    assert network.embed_image(torch.zeros(2, 50, 70, 3, dtype=torch.uint8)).shape == (2, 128)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -9)])
def test_a_training_without_validation_leaves_the_weights_of_its_newest_checkpoint_however_it_ends(
    small_world, tmp_path, number, status
) -> None:
    config = write_config(tmp_path, small_world, validation={"every_steps": 0}, checkpoint={"every_steps": 1})
    training = Training(config, tmp_path / "run", "training.steps=100000")
    training.wait_for_step(3)
    training.signal(number)
    training.finish(status=status)
    checkpoint = load_newest(tmp_path / "run" / "latest")
    notes = about(tmp_path / "run" / "model.safetensors")
    weights = load(tmp_path / "run").model.state_dict()
    assert checkpoint is not None and notes["model"] == "ave"
    # Weights are written before the checkpoint, and a kill may fall between the two.
    steps = {str(checkpoint.step)} | ({str(checkpoint.step + 1)} if number == signal.SIGKILL else set())
    assert notes["step"] in steps
    if notes["step"] == str(checkpoint.step):
        assert_same_bits(checkpoint.model, weights)


@pytest.mark.parametrize(("every", "awaited"), [(0, "next checkpoint"), (4, "first validation")])
def test_a_run_without_weights_says_what_they_wait_for(small_world, tmp_path, every, awaited) -> None:
    config = load_config(write_config(tmp_path, small_world, validation={"every_steps": every}))
    attempt = start_attempt(tmp_path / "run", world_size=1, micro_batch_pairs=8)
    attempt.write("config.yaml", lambda file: file.write(dump_config(config).encode()))
    with pytest.raises(ValueError, match=f"no model.safetensors yet: its {awaited} is still to come\\. If it"):
        load(tmp_path / "run")
    attempt.ended(3, "asked to stop")
    ended = f"it ended before its {awaited} .asked to stop., and is saved at step 3. Give the same `avc train` command"
    with pytest.raises(ValueError, match=ended):
        load(tmp_path / "run")


def test_micro_batches_fall_so_that_the_same_samples_are_consumed(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 1}, validation={"every_steps": 0})
    assert "4 micro-batches" in train_here(config, tmp_path / "run")


def test_a_run_that_is_asked_to_stop_saves_at_that_step_and_goes_on_to_the_same_bits(small_world, tmp_path) -> None:
    train_in_two(write_config(tmp_path, small_world), tmp_path, stop_at=5)  # checkpoints are due at 3 and 6


def test_asked_to_stop_between_any_two_batches_of_a_step_or_a_validation_it_goes_on_to_the_same_bits(
    small_world, tmp_path
) -> None:
    changes = {"training": {"steps": 4}, "validation": {"every_steps": 2, "batch_pairs": 8}}
    path = write_config(tmp_path, small_world, **changes)
    alone = World(rank=0, world_size=1, device=torch.device("cpu"))

    def run(name: str, *, stop_at: int | None) -> tuple[bool, Config, int]:
        """Whether it is done, its settings, how often it was asked. stop_at: which time it is to stop."""
        config, asked = load_config(path, [f"run.dir={tmp_path / name}"]), iter(range(10_000))
        done = train(config, alone, stop=lambda: next(asked) == stop_at)
        return done, config, next(asked)

    def logged(name: str) -> list[dict[str, float]]:
        """What does not depend on time."""
        lines = metrics(tmp_path / name)
        return [{key: line[key] for key in line if "/" not in key or key.startswith("data/pairs")} for line in lines]

    done, _, points = run("whole", stop_at=None)
    assert done and points == 4 * 4 + 2 * 4  # micro-batches, and batches of 32 pairs of held-out clips
    for point in (0, 3, 6, 8, 11, 13, 20, 23):
        name = f"stopped {point}"
        done, config, _ = run(name, stop_at=point)
        stopped = load_newest(config.run.dir / "latest")
        assert not done and stopped is not None
        assert stopped.unvalidated == (point % 12 >= 8), point
        assert run(name, stop_at=None)[0]
        assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / name))
        assert logged(name) == logged("whole"), point
        assert_same_bits(*(load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", name)))


def test_negatives_of_the_same_clip_are_trained_on_by_two_ranks_and_after_a_stop(small_world, tmp_path) -> None:
    changes = {
        "negatives": {"source": "sync", "min_ticks": 11},
        "data": {"num_workers": 1, "max_misalignment_ticks": 5},
    }
    config = write_config(tmp_path, small_world, **changes)
    run = train_in_two(config, tmp_path, stop_at=5)
    Training(config, tmp_path / "two", world_size=2).finish()
    digests = [
        [line["data/pairs_digest"] for line in metrics(folder) if line["kind"] == "train"]
        for folder in (run, tmp_path / "two")
    ]
    assert digests[0] == digests[1]


def test_clips_too_short_for_negatives_of_the_same_clip_are_counted_or_refused(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 1}, validation={"every_steps": 0})
    sync = ["negatives.source=sync", "data.max_misalignment_ticks=0"]
    with pytest.raises(ValueError, match="none of 24 clips has two frames 51 to 145 ticks apart"):
        train_here(config, tmp_path / "run", *sync)
    shards = Shards(small_world)
    spans = [len(centers_of(clip)) for clip in shards.index[shards.clips("train")]]
    said = train_here(config, tmp_path / "run", *sync, f"negatives.min_ticks={max(spans) - 1}")
    left_out = sum(span < max(spans) for span in spans)
    assert left_out and f"{left_out} clips are left out" in said
