"""The loop learns what can be learnt, and nothing where there is nothing."""

import pytest

from tests.avc.launching import metrics, train_here, write_config

LEARNING = {
    "model": {"width": 0.125},
    "data": {"image_size": 56},
    "optim": {"batch_pairs": 48, "micro_batch_pairs": 48, "lr": 2e-3},
    "negatives": {"block": 12},
    "training": {"steps": 100},
    "validation": {"every_steps": 0},
    "checkpoint": {"every_steps": 1000},
    "log": {"every_steps": 50},
}


def running_accuracy(run) -> list[float]:
    return [line["accuracy"] for line in metrics(run)]


@pytest.mark.parametrize("name", ["ave", "l3"])
def test_a_network_tells_which_sound_belongs_to_which_picture_after_a_short_training(
    small_world, tmp_path, name
) -> None:
    config = write_config(tmp_path, small_world, **LEARNING)
    train_here(config, tmp_path / "run", f"model.name={name}")
    # The last 50 steps judged 2400 pairs; six standard errors above chance are 56 %.
    assert running_accuracy(tmp_path / "run")[-1] > 0.65


def test_a_network_stays_at_chance_when_sound_is_shuffled_between_the_clips(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, **LEARNING)
    train_here(config, tmp_path / "run", "data.shuffle_sound=true")
    assert running_accuracy(tmp_path / "run")[-1] == pytest.approx(0.5, abs=0.05)
