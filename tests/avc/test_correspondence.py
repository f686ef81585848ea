"""AVC accuracy and its interval."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from avc.config import parse_config
from avc.distributed.world import World
from avc.intervals import wilson_interval
from avc.models.trunks import Trunk
from avc.tasks import task_of
from avc.tasks.held_out import evaluate, evaluation_sampler
from shards.read import Shards

ALONE = World(rank=0, world_size=1, device=torch.device("cpu"))
CONFIG = parse_config({"data": {"image_size": 28, "num_workers": 0}, "validation": {"batch_pairs": 6}})


class Oracle(nn.Module):
    """Says "yes" to a given share of the pairs, the positives first: it has been told which these are."""

    vision = Trunk

    def __init__(self, *, labels: torch.Tensor, wrong: set[int]) -> None:
        super().__init__()
        self.answers = labels.clone()
        self.answers[list(wrong)] ^= 1
        self.asked = 0
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images, spectrograms):  # type: ignore[no-untyped-def]
        self.norm(images)
        return images, spectrograms

    def compare(self, image, audio):  # type: ignore[no-untyped-def]
        answers = self.answers[self.asked : self.asked + len(image)]
        self.asked += len(image)
        return torch.nn.functional.one_hot(answers, 2).float() * 4


@pytest.fixture(scope="module")
def shards(small_world) -> Shards:
    return Shards(small_world)


def labels_of(shards: Shards, passes: int) -> torch.Tensor:
    sampler = evaluation_sampler(CONFIG, shards, split="validation")
    return torch.from_numpy(sampler.rows(0, passes * sampler.rows_per_epoch).label)


def test_accuracy_counts_positives_and_negatives_alike(shards) -> None:
    labels = labels_of(shards, passes=2)
    wrong = set(np.flatnonzero(labels.numpy() == 1)[:8].tolist()) | set(
        np.flatnonzero(labels.numpy() == 0)[:4].tolist()
    )
    result = evaluate(Oracle(labels=labels, wrong=wrong), shards, CONFIG, ALONE, split="validation", passes=2)
    assert result.pairs == len(labels) == 64  # 16 clips, both classes, twice
    assert result.accuracy == 1 - 12 / 64
    assert result.positives_accuracy == 1 - 8 / 32
    assert result.negatives_accuracy == 1 - 4 / 32


def test_evaluation_leaves_the_batch_statistics_and_the_mode_alone(shards) -> None:
    oracle = Oracle(labels=labels_of(shards, passes=1), wrong=set())
    before = oracle.norm.running_mean.clone()
    evaluate(oracle, shards, CONFIG, ALONE, split="validation", passes=1)
    assert torch.equal(oracle.norm.running_mean, before)
    assert oracle.training


def test_the_evaluation_plan_is_the_papers_whatever_the_training_drew(shards) -> None:
    settings = {"negatives": {"source": "shared", "block": 4}, "data": {"shuffle_sound": True}}
    sampler = evaluation_sampler(parse_config(settings), shards, split="validation")
    rows = sampler.rows(0, 32)
    assert ((rows.frame_clip == rows.audio_clip) == (rows.label == 1)).all()
    assert (rows.frame_tick * 1920 == rows.audio_center)[rows.label == 1].all()
    assert (shards.index["split"][rows.frame_clip] == 1).all()


def test_an_empty_split_is_refused_in_words(shards) -> None:
    with pytest.raises(ValueError, match="0 clips in its test split"):
        evaluation_sampler(CONFIG, shards, split="test")


def test_a_training_that_could_not_be_validated_is_refused_before_its_first_step(shards) -> None:
    validated = {"model": {"width": 0.0625}, "data": {"image_size": 28}, "optim": {"batch_pairs": 4}}
    for every, refused in ((1, True), (0, False)):
        config = parse_config(validated | {"validation": {"split": "test", "every_steps": every}})
        with pytest.raises(ValueError, match="a validation needs at least 2") if refused else nullcontext():
            task_of(config, shards)


def test_the_interval_is_wilsons() -> None:
    # 81 of 100: Wilson's score interval by hand.
    low, high = wilson_interval(0.81, 100)
    assert (low, high) == pytest.approx((0.7222, 0.8749), abs=1e-4)
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)
