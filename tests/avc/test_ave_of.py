"""AVE+OF: a frame and 10 steps of flow around it, under one crop and one flip, in two streams that join at 14 × 14."""

import itertools

import numpy as np
import pytest
import torch

from avc.config import load_config
from avc.data.loader import shard_batch
from avc.data.preprocessing import images_to_input
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.encoders.load import load as load_run
from avc.models import build, parameter_count
from avc.models.pair import VisualInput
from avc.settings import PairData
from shards.format import FLOW_ZERO, PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.avc.launching import batches_of, memorize, train_in_two, write_config
from tests.avc.networks import fresh
from tests.small_videos import render_folder
from tests.test_project import ROOT

SIGHT = VisualInput(flow_frames=10)
SMALL = {
    "model": {"name": "ave_of", "width": 0.0625},
    "data": {"num_workers": 0},
    "optim": {"batch_pairs": 16, "micro_batch_pairs": 8},
    "training": {"steps": 6},
    "validation": {"every_steps": 6},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("flow")
    videos = render_folder(folder / "videos", videos=10)
    (folder / "validation.txt").write_text("video-08\nvideo-09\n")
    pack(
        [videos],
        folder / "shards",
        PackSettings(side=64, flow=True, split=(1.0, 0.0, 0.0)),
        split_lists={"validation": folder / "validation.txt"},
        workers=2,
    )
    return Shards(folder / "shards")


def reader_of(shards: Shards, *, augment: bool = True, image_size: int = 28) -> PairReader:
    sampler = PairSampler(shards.index, shards.clips("train"), seed=3, block=4, source="shared")
    return PairReader(shards, sampler, image_size=image_size, augment=augment, visual_input=SIGHT)


@pytest.mark.parametrize(("stride", "side"), [(True, 14), (False, 28)])
def test_the_streams_are_256_channels_each_and_join_at_14_by_14_before_block_4(stride, side) -> None:
    with torch.device("meta"):
        vision = fresh("ave_of", width=1.0, stride=stride).vision
        assert vision.frame(torch.zeros(1, 3, 224, 224)).shape == (1, 256, side, side)
        assert vision.flow(torch.zeros(1, 20, 224, 224)).shape == (1, 256, side, side)
        assert vision.joined.layers.conv4_1.in_channels == 512
        assert vision(torch.zeros(1, 23, 224, 224)).shape == (1, 512, side, side)
    names = [name for name, _ in vision.joined.layers.named_children()]
    assert names == ["conv4_1", "bn4_1", "relu4_1", "conv4_2", "bn4_2", "relu4_2"]
    assert [name for name, _ in vision.flow.layers.named_children() if name.startswith(("conv", "pool"))] == [
        f"{kind}{block}{layer}" for block in (1, 2, 3) for kind, layer in (("conv", "_1"), ("conv", "_2"), ("pool", ""))
    ]


def test_the_parameters_are_ave_nets_and_a_flow_stream_and_a_conv4_1_of_twice_as_many_channels() -> None:
    with torch.device("meta"):
        ave, of = (parameter_count(fresh(name)) for name in ("ave", "ave_of"))
    channels = (20, 64, 64, 128, 128, 256, 256)
    stream = sum(9 * a * b for a, b in itertools.pairwise(channels)) + sum(2 * a for a in channels[1:])
    assert of - ave == stream + 9 * 256 * 512


def test_a_batch_holds_the_frame_and_the_flow_around_its_tick_under_one_crop(shards) -> None:
    reader = reader_of(shards)
    rows = reader.sampler.rows(0, 8)
    batch = reader.read(rows)
    assert (batch.images.dtype, tuple(batch.images.shape)) == (torch.uint8, (8, 28, 28, 23))
    for i in range(8):
        clip, tick = int(rows.frame_clip[i]), int(rows.frame_tick[i])
        picture = shards.picture(clip, tick, reduce=2)
        height, width = picture.shape[:2]
        down, right = rows.image_draws[i, :2]
        top, left = int(down * (height - 27)), int(right * (width - 27))
        crop = slice(top, top + 28), slice(left, left + 28)
        np.testing.assert_array_equal(batch.images[i, ..., :3].numpy(), picture[crop])
        steps = np.concatenate([shards.flow(clip, t, count=1, reduce=2)[0][crop] for t in range(tick - 5, tick + 5)], 2)
        np.testing.assert_array_equal(batch.images[i, ..., 3:].numpy(), steps)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_batches_with_flow_do_not_depend_on_the_number_of_workers(shards, num_workers) -> None:
    reader = reader_of(shards)
    row_ranges = list(
        shard_batch(reader.sampler, batch_pairs=32, micro_batch_pairs=8, rank=1, world_size=2).row_ranges(0, 3)
    )
    batches = list(batches_of(reader, iter(row_ranges), num_workers=num_workers))
    for batch, row_range in zip(batches, row_ranges, strict=True):
        assert all(map(torch.equal, batch, reader[row_range]))


def test_a_flip_mirrors_the_flow_and_turns_its_horizontal_part_round() -> None:
    seen = torch.full((2, 32, 32, 23), FLOW_ZERO, dtype=torch.uint8)
    seen[:, :, :10, 3::2] = FLOW_ZERO + 32  # to the right, on the left side
    seen[:, :, :10, 4::2] = FLOW_ZERO + 16  # and down
    numbers = torch.full((2, 5), 0.5)
    numbers[0, 2] = 0.4
    plain, flipped = images_to_input(seen, numbers, PairData(image_size=32))[:, 3:]
    assert plain[::2, :, :10].unique().item() == 0.5
    assert plain[1::2, :, :10].unique().item() == 0.25
    assert plain[:, :, 10:].unique().item() == 0
    assert flipped[::2, :, -10:].unique().item() == -0.5
    assert flipped[1::2, :, -10:].unique().item() == 0.25
    assert flipped[:, :, :-10].unique().item() == 0


def test_colour_is_jittered_in_the_frame_and_not_in_the_flow(shards) -> None:
    settings = PairData(image_size=24)
    batch = reader_of(shards)[0, 8]
    numbers = batch.image_draws.clone()
    numbers[:, 2] = 0
    x, plain = (images_to_input(batch.images, given, settings) for given in (numbers, None))
    assert x.shape == (8, 23, 24, 24)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x[:, 3:], plain[:, 3:])
    assert torch.equal(x[:, :3], images_to_input(batch.images[..., :3], numbers, settings))
    assert not torch.allclose(x[:, :3], plain[:, :3])


def test_shards_without_flow_are_refused_in_words(small_world) -> None:
    with pytest.raises(ValueError, match=r"sees optical flow, and .* holds none: pack the videos again with --flow"):
        reader_of(Shards(small_world))


def test_the_loss_falls_on_a_batch_that_is_seen_again_and_again(shards, tmp_path) -> None:
    config = load_config(write_config(tmp_path, shards.folder, **SMALL))
    batch = reader_of(shards, augment=False)[0, 8]
    torch.manual_seed(0)
    losses = memorize(build(config.model), batch, config)
    assert losses[-1] < 0.5 * losses[0]


def test_a_run_that_is_stopped_and_resumed_ends_with_the_bits_of_the_uninterrupted_one(shards, tmp_path) -> None:
    network = load_run(train_in_two(write_config(tmp_path, shards.folder, **SMALL), tmp_path, stop_at=4))
    assert network.embed_image(torch.zeros(2, 50, 70, 23, dtype=torch.uint8)).shape == (2, 128)
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 23\)"):
        network.embed_image(torch.zeros(2, 50, 70, 3, dtype=torch.uint8))


def test_the_shipped_settings_are_ave_nets_but_for_the_network() -> None:
    config, ave = (load_config(ROOT / "configs" / f"{name}.yaml") for name in ("ave_of", "ave"))
    assert (config.model.name, config.model.width, config.model.stride) == ("ave_of", 1.0, True)
    assert (config.negatives, config.optim) == (ave.negatives, ave.optim)
