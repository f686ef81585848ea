"""The supervised baseline: kinds from labels, pairs from kinds, and trunks that stay as they are."""

import json

import pytest
import torch
import torch.nn.functional as F

from avc.config import parse_config
from avc.distributed.join import join
from avc.models.pair import Embeddings
from avc.models.trunks import Trunk
from avc.models.trunks.vgg import VGG
from avc.tasks.classification import Classification
from avc.training.loop import train
from shards.read import Shards
from tests.avc.networks import fresh
from workshop.demo.world.render import read_labels

KINDS = 12  # of the small world


@pytest.fixture(scope="module")
def settings(small_world):
    labels = small_world.parent / "world" / "labels.jsonl"
    return {
        "data": {"shards": str(small_world), "labels": str(labels), "image_size": 28, "num_workers": 0},
        "model": {"name": "supervised", "num_classes": KINDS, "width": 0.0625},
        "negatives": {"source": "shared", "block": 8},
        "optim": {"batch_pairs": 32, "micro_batch_pairs": 32, "lr": 3e-3},
        "training": {"steps": 60, "device": "cpu"},
        "validation": {"every_steps": 0},
        "checkpoint": {"every_steps": 60},
        "log": {"every_steps": 20, "wandb": "disabled"},
    }


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """The folder of a supervised run."""
    config = parse_config(settings, [f"run.dir={tmp_path_factory.mktemp('supervised') / 'run'}"])
    with join(config.training) as world:
        train(config, world)
    return config.run.dir


def test_it_learns_kinds_by_sight_and_by_hearing(run) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    assert last["image_accuracy"] > first["image_accuracy"] and last["audio_accuracy"] > first["audio_accuracy"] > 0
    assert last["audio_accuracy"] > 3 / KINDS and last["image_accuracy"] > 2 / KINDS


@pytest.mark.parametrize("source", ["shared", "independent"])
def test_every_picture_and_sound_is_taught_its_own_clips_kind(settings, small_world, source) -> None:
    task = Classification.on(parse_config(settings, [f"negatives.source={source}"]), Shards(small_world))
    assert task.inputs == {"labels": task.config.data.labels}
    batch = task.reader[0, 16]
    kind = {label.file: label.kind for label in read_labels(small_world.parent / "world").values()}
    kinds = sorted(set(kind.values()))

    def certain(clips):
        own = [kinds.index(kind[task.reader.shards.info(clip)["name"]]) for clip in clips.tolist()]
        return 100 * F.one_hot(torch.tensor(own), KINDS).float()

    class Oracle:
        vision = Trunk

        def __call__(self, *_):
            return Embeddings(certain(batch.frame_clip), certain(batch.audio_clip))

        def compare(self, *_):
            return 100 * F.one_hot(batch.label, 2).float()

    loss, rights = task.loss(Oracle(), batch)
    assert loss < 1e-6 and rights.tolist() == [len(batch.label)] * 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["model.num_classes=5"], r"has 12 classes .* set model\.num_classes=12"),
        (["data.labels=null"], r"data\.labels names no file"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(settings, tmp_path, changes, words) -> None:
    config = parse_config(settings, [f"run.dir={tmp_path / 'run'}", *changes])
    with join(config.training) as world, pytest.raises(ValueError, match=words):
        train(config, world)


def test_direct_combination_is_the_scalar_product_of_softmaxes_against_one_half() -> None:
    network = fresh("supervised", width=0.0625, num_classes=3)
    seen, heard = torch.randn(50, 3) * 3, torch.randn(50, 3) * 3
    product = (F.softmax(seen, dim=1) * F.softmax(heard, dim=1)).sum(dim=1)
    assert (network.compare(seen, heard).argmax(dim=1) == (product > 0.5)).all()


def test_whether_pairs_belong_together_teaches_the_classifiers_nothing() -> None:
    network = fresh("supervised", width=0.0625, num_classes=3)
    image, audio = network(torch.randn(2, 3, 32, 32), torch.randn(2, 1, 257, 199))
    pairs = network.compare(image, audio[[1, 0]])
    assert image.shape == audio.shape == (2, 3) and pairs.shape == (2, 2)
    F.cross_entropy(pairs, torch.tensor([0, 1])).backward()
    assert {name for name, weight in network.named_parameters() if weight.grad is not None} == {
        "threshold.weight",
        "threshold.bias",
    }


def test_a_frozen_trunk_stays_as_it_is_in_training() -> None:
    trunk = VGG(3, width=0.0625, stride=True)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    trunk.freeze()
    trunk.train()
    maps = trunk(torch.randn(2, 3, 32, 32))
    assert not maps.requires_grad and not trunk.training and not trunk.layers.bn1_1.training
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.state_dict().items())
