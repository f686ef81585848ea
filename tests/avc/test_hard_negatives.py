"""Hard negatives: the nearest sound of the block, each sound once, and random ones where the network cannot choose."""

import numpy as np
import pytest
import torch

from avc.config import load_config, parse_config
from avc.data.reader import Batch, PairReader
from avc.data.sampler import PairRows, PairSampler
from avc.distributed.world import World
from avc.models import build
from avc.tasks import task_of
from avc.tasks.correspondence import forward
from avc.tasks.hard_negatives import hard_negatives
from avc.training.loop import train
from shards.read import Shards
from tests.avc.launching import Training, metrics, train_here, train_in_two, write_config

BLOCK = 8
HARD = {"negatives": {"source": "shared", "block": 4, "hard_from_step": 3}, "validation": {"every_steps": 0}}


def batch_of(rows: PairRows) -> Batch:
    """A batch with all that concerns pairs."""
    known = ("pair_frame", "pair_audio", "label", "frame_clip", "audio_clip")
    fields = dict.fromkeys(Batch._fields, torch.empty(0))
    return Batch(**fields | {name: torch.from_numpy(getattr(rows, name)) for name in known})


@pytest.fixture
def rows(make_index) -> PairRows:
    sampler = PairSampler(make_index(37), np.arange(37), seed=7, block=BLOCK, source="shared")
    return sampler.rows(0, 40)  # the last block straddles two epochs


def embeddings(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.nn.functional.normalize(torch.randn(count, 16, generator=generator), dim=1) for _ in range(2))


def negatives(batch: Batch, pair_audio: torch.Tensor) -> torch.Tensor:
    """The sound that each frame meets."""
    here = batch.label == 0
    return pair_audio[here][batch.pair_frame[here].argsort()]


def test_where_the_nearest_sounds_differ_each_frame_meets_its_nearest_other_than_its_own(rows) -> None:
    batch = batch_of(rows)
    image, _ = embeddings(40)
    wanted = torch.cat([start + torch.arange(BLOCK).roll(-3) for start in range(0, 40, BLOCK)])
    audio = torch.empty_like(image)
    audio[wanted] = image + 0.01
    chosen = negatives(batch, hard_negatives(image, audio, batch, block=BLOCK))
    assert torch.equal(chosen[: 40 - BLOCK], wanted[: 40 - BLOCK])  # the last block has a clip twice
    distance = torch.cdist(image, audio)
    for start in range(0, 40 - BLOCK, BLOCK):
        here = slice(start, start + BLOCK)
        own = torch.eye(BLOCK, dtype=torch.bool)
        assert torch.equal(chosen[here] - start, distance[here, here].masked_fill(own, 9).argmin(dim=1))


def test_positives_stay_and_no_negative_joins_a_clip_with_itself(rows) -> None:
    batch = batch_of(rows)
    for seed in range(20):
        image, audio = embeddings(40, seed)
        pair_audio = hard_negatives(image, audio, batch, block=BLOCK)
        positive = batch.label == 1
        assert torch.equal(pair_audio[positive], batch.pair_audio[positive])
        same = batch.frame_clip[batch.pair_frame] == batch.audio_clip[pair_audio]
        assert torch.equal(same, positive)


def test_a_clip_that_is_twice_in_a_block_is_never_its_own_negative(make_index) -> None:
    sampler = PairSampler(make_index(9), np.arange(9), seed=7, block=BLOCK, source="shared")
    batch = batch_of(sampler.rows(0, 8 * BLOCK))
    clips = batch.frame_clip.view(-1, BLOCK)
    assert any(len(block.unique()) < BLOCK for block in clips)
    image, audio = embeddings(8 * BLOCK)
    audio = image.clone()  # nothing is nearer than the same clip
    pair_audio = hard_negatives(image, audio, batch, block=BLOCK)
    here = batch.label == 0
    assert (batch.frame_clip[batch.pair_frame[here]] != batch.audio_clip[pair_audio[here]]).all()


def test_every_sound_of_a_block_serves_one_negative_even_if_all_frames_find_the_same_one_nearest(rows) -> None:
    batch = batch_of(rows)
    image, audio = embeddings(40)
    audio[::BLOCK] = image.mean(dim=0)  # nearest to all
    image = 0.01 * image + image.mean(dim=0)
    chosen = negatives(batch, hard_negatives(image, audio, batch, block=BLOCK)).view(-1, BLOCK)
    starts = torch.arange(0, 40, BLOCK)[:, None]
    assert torch.equal(chosen.sort(dim=1).values, starts + torch.arange(BLOCK))


def test_the_choice_is_the_least_sum_of_distances(rows) -> None:
    batch = batch_of(rows)
    image, audio = embeddings(40, 5)
    chosen = negatives(batch, hard_negatives(image, audio, batch, block=BLOCK))
    distance = torch.cdist(image.double(), audio.double())
    frames = torch.arange(BLOCK)
    ours = distance[frames, chosen[:BLOCK]].sum()
    rng = np.random.default_rng(0)
    others = [torch.from_numpy(rng.permutation(BLOCK)) for _ in range(3000)]
    sums = [distance[frames, other].sum() for other in others if (other != frames).all()]
    assert len(sums) > 900
    assert ours <= min(sums) + 0.001 * BLOCK
    assert ours < distance[frames, negatives(batch, batch.pair_audio)[:BLOCK]].sum()


@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_embeddings_that_have_fallen_together_give_the_random_negatives_of_the_plan(rows, noise) -> None:
    batch = batch_of(rows)
    image, audio = (torch.ones(40, 16) / 4 + noise * torch.randn(40, 16) for _ in range(2))
    assert torch.equal(hard_negatives(image, audio, batch, block=BLOCK), batch.pair_audio)


def test_distances_that_are_no_numbers_change_nothing(rows) -> None:
    batch = batch_of(rows)
    image, audio = embeddings(40)
    image[3, 2] = float("nan")
    assert torch.equal(hard_negatives(image, audio, batch, block=BLOCK), batch.pair_audio)


def test_the_choice_in_a_block_is_the_same_alone_and_among_others(rows, make_index) -> None:
    sampler = PairSampler(make_index(37), np.arange(37), seed=7, block=BLOCK, source="shared")
    image, audio = embeddings(40)
    whole = negatives(batch_of(rows), hard_negatives(image, audio, batch_of(rows), block=BLOCK))
    for start in range(0, 40, BLOCK):
        here = slice(start, start + BLOCK)
        batch = batch_of(sampler.rows(start, start + BLOCK))
        alone = negatives(batch, hard_negatives(image[here], audio[here], batch, block=BLOCK))
        assert torch.equal(alone + start, whole[here])


def test_a_batch_is_judged_on_the_pairs_that_the_network_chose(small_world, tmp_path) -> None:
    config = parse_config({"negatives": {"source": "shared", "block": 8}, "model": {"width": 0.0625}})
    shards = Shards(small_world)
    sampler = PairSampler(shards.index, shards.clips("train"), seed=3, block=8, source="shared")
    config = config.model_copy(update={"data": config.data.model_copy(update={"image_size": 28})})
    batch = PairReader(shards, sampler, image_size=28, augment=False)[0, 16]
    torch.manual_seed(0)
    model = build(config.model).eval()
    plain, hard = (forward(model, batch, config, augment=False, hard=hard)[1] for hard in (False, True))
    positive = batch.label == 1
    assert torch.equal(plain[positive], hard[positive])
    yes = [logits[~positive, 1].double().sum() for logits in (plain, hard)]
    assert yes[1] > yes[0]  # nearer, so likelier taken for pairs


def test_the_run_is_the_random_one_until_the_step_and_resumes_to_the_same_bits_after_it(small_world, tmp_path) -> None:
    path = write_config(tmp_path, small_world, **HARD)
    chosen = train_in_two(path, tmp_path, stop_at=5)
    train_here(path, tmp_path / "random", "negatives.hard_from_step=0")
    hard, plain = ([line["loss"] for line in metrics(run)] for run in (chosen, tmp_path / "random"))
    assert hard[:3] == plain[:3]
    assert all(one != other for one, other in zip(hard[3:], plain[3:], strict=True))


def test_two_ranks_choose_as_one_does(small_world, tmp_path) -> None:
    # The same micro-batches on one rank and on two: the same statistics, embeddings and choices, so the same losses up
    # to the order of the sums of gradients.
    changes = HARD | {"optim": {"lr": 1e-4}, "training": {"steps": 5}}
    changes["negatives"] = changes["negatives"] | {"hard_from_step": 1}
    config = write_config(tmp_path, small_world, **changes)
    train_here(config, tmp_path / "one")
    Training(config, tmp_path / "two", world_size=2).finish()
    one, two = ([line["loss"] for line in metrics(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 5
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-4


def test_a_run_from_before_there_was_this_setting_goes_on(small_world, tmp_path) -> None:
    world = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
    path = write_config(tmp_path, small_world, validation={"every_steps": 0})
    run = tmp_path / "run"
    assert train(load_config(path, [f"run.dir={run}", "training.steps=1"]), world)
    checkpoint = next((run / "checkpoints").glob("*.pt"))
    content = torch.load(checkpoint, weights_only=True)
    del content["config"]["negatives"]["hard_from_step"]
    torch.save(content, checkpoint)
    assert train(load_config(path, [f"run.dir={run}", "training.steps=2"]), world)
    with pytest.raises(ValueError, match="hard_from_step was 0 and is now 1"):
        train(load_config(path, [f"run.dir={run}", "training.steps=3", "negatives.hard_from_step=1"]), world)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"negatives": {"hard_from_step": 1}}, "needs negatives.source: shared"),
        ({"negatives": {"source": "shared", "hard_from_step": 1}, "model": {"name": "l3"}}, "in one space"),
        ({"negatives": {"source": "shared", "hard_from_step": 1}, "model": {"name": "avol"}}, "in one space"),
        ({"negatives": {"source": "shared", "hard_from_step": 1}, "data": {"shuffle_sound": True}}, "at random"),
    ],
)
def test_what_hard_negatives_cannot_go_with_is_refused_in_words(settings, words, small_world) -> None:
    with pytest.raises(ValueError, match=words):
        task_of(parse_config(settings), Shards(small_world))


def test_they_are_off_by_default() -> None:
    assert parse_config({}).negatives.hard_from_step == 0
