"""The contrastive loss: what it is, on any number of ranks, and that copies of a clip are no negatives."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from avc.config import load_config, parse_config
from avc.models.trunks import Trunk
from avc.tasks import task_of
from shards.read import Shards
from tests.avc.launching import Training, metrics, train_here, train_in_two, write_config

SETTINGS = {
    "model": {"name": "ave_nce", "width": 0.0625},
    "negatives": {"source": "shared", "block": 4},
    "optim": {"batch_pairs": 32, "micro_batch_pairs": 32, "lr": 1e-3},
}


class Fixed:
    """Gives the embeddings that it was made with."""

    vision = Trunk
    scale = torch.tensor(5.0)

    def __init__(self, image: torch.Tensor, audio: torch.Tensor) -> None:
        self.image, self.audio = image, audio

    def __call__(self, *_):
        return self.image, self.audio

    def compare(self, image, audio):
        return torch.zeros(len(image), 2)


def task_on(shards):
    config = parse_config(SETTINGS | {"data": {"shards": str(shards), "image_size": 28, "num_workers": 0}})
    return task_of(config, Shards(Path(shards)))


@pytest.fixture
def task(small_world):
    return task_on(small_world)


def test_the_loss_is_the_mean_of_both_cross_entropies_over_all_views_of_a_batch(task) -> None:
    batch = task.reader[0, 16]
    image, audio = torch.nn.functional.normalize(torch.randn(2, 16, 8), dim=2)
    total, (right, found) = task.loss(Fixed(image, audio), batch)
    cosines = (5 * image @ audio.T).double().exp()
    by_hand = -sum(
        math.log(cosines[i, i] / cosines[i].sum()) + math.log(cosines[i, i] / cosines[:, i].sum()) for i in range(16)
    )
    compared = 32 * math.log(2)  # `compare` does not know
    assert total.item() == pytest.approx(by_hand + compared, rel=1e-5)
    assert right == 16
    assert found == (cosines.argmax(0) == torch.arange(16)).sum() + (cosines.argmax(1) == torch.arange(16)).sum()


def test_a_copy_of_a_clip_is_no_negative(task) -> None:
    batch = task.reader[0, 16]
    clips = batch.frame_clip.clone()
    clips[1] = clips[0]
    image, audio = torch.eye(16), torch.eye(16)
    audio[1] = audio[0]
    image[1] = image[0]  # two views of one clip, embedded alike
    plain, _ = task.loss(Fixed(image, audio), batch)
    masked, _ = task.loss(Fixed(image, audio), batch._replace(frame_clip=clips, audio_clip=clips))
    assert plain - masked > 4 * 0.6  # each of the four rows lost a rival as near as the truth


def embedded(count: int) -> torch.Tensor:
    """Embeddings of images and of audio of so many views."""
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, count, 8, generator=generator), dim=2)


def on_rank(rank: int, shards: str, folder: str) -> None:
    """The loss of a rank's quarter of 16 views and its gradients, into a file."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=4)
    here = slice(4 * rank, 4 * rank + 4)
    views = [part[here].clone().requires_grad_() for part in embedded(16)]
    total, _ = task_on(shards).loss(Fixed(*views), task_on(shards).reader[here.start, here.stop])
    total.backward()
    torch.save((total.detach(), *(view.grad for view in views)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_four_ranks_have_the_loss_and_the_gradients_of_one(task, small_world, tmp_path) -> None:
    torch.multiprocessing.spawn(on_rank, (str(small_world), str(tmp_path)), nprocs=4)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(4)]
    views = [part.clone().requires_grad_() for part in embedded(16)]
    total, _ = task.loss(Fixed(*views), task.reader[0, 16])
    total.backward()
    assert abs(sum(part[0] for part in parts) - total) < 1e-5 * total
    for number, view in enumerate(views, start=1):
        torch.testing.assert_close(torch.cat([part[number] for part in parts]), view.grad, rtol=0, atol=1e-5)


def test_a_training_on_four_ranks_has_the_losses_of_one(small_world, tmp_path) -> None:
    # At a small rate: where two maxima of a pool are almost equal, the last bits decide which one learns.
    training, optim = {"steps": 2, "sync_batchnorm": True}, SETTINGS["optim"] | {"lr": 1e-6}
    changes = SETTINGS | {"training": training, "optim": optim, "validation": {"every_steps": 0}}
    config = write_config(tmp_path, small_world, **changes)
    train_here(config, tmp_path / "one")
    Training(config, tmp_path / "four", world_size=4).finish()
    one, four = ([line["loss"] for line in metrics(tmp_path / name)] for name in ("one", "four"))
    assert len(one) == 2 and max(abs(a - b) for a, b in zip(one, four, strict=True)) < 1e-5


def test_a_run_that_is_stopped_and_resumed_ends_with_the_bits_of_the_uninterrupted_one(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, **SETTINGS)
    run = train_in_two(config, tmp_path, stop_at=3)
    losses = [line["loss"] for line in metrics(run) if line["kind"] == "train"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"negatives": {"source": "independent"}}, "needs negatives.source: shared"),
        ({"optim": {"batch_pairs": 32, "micro_batch_pairs": 8}}, "compares all of them at once"),
    ],
)
def test_what_it_cannot_go_with_is_refused_in_words(small_world, tmp_path, changes, words) -> None:
    from avc.distributed.join import join
    from avc.training.loop import train

    config = load_config(write_config(tmp_path, small_world, **(SETTINGS | changes)), [f"run.dir={tmp_path / 'run'}"])
    with join(config.training) as world, pytest.raises(ValueError, match=words):
        train(config, world)
