"""AVE+MF: 25 frames in a row, one crop for all of them, three dimensions of convolution, one loop."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avc.config import load_config
from avc.data.loader import shard_batch
from avc.data.preprocessing import images_to_input
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.encoders.load import load as load_run
from avc.encoders.sources import frames_of_clips, pictures
from avc.encoders.trained import trained
from avc.models import build, parameter_count
from avc.models.ave_variants import AVEMFNet
from avc.models.pair import VisualInput
from avc.models.trunks.vgg import VGG
from shards.read import Shards
from tests.avc.launching import batches_of, memorize, train_in_two, write_config
from tests.avc.networks import fresh
from tests.test_project import ROOT

# channels × frames × height × width after each block, at full size
SHAPES = {
    True: [(64, 13, 112, 112), (128, 6, 56, 56), (256, 3, 28, 28), (512, 3, 14, 14)],
    False: [(64, 25, 224, 224), (128, 12, 112, 112), (256, 6, 56, 56), (512, 6, 28, 28)],
}
SMALL = {
    "model": {"name": "ave_mf", "width": 0.0625},
    "data": {"num_workers": 0},
    "optim": {"batch_pairs": 16, "micro_batch_pairs": 8},
    "training": {"steps": 4},
    "validation": {"every_steps": 4},
}


@pytest.fixture(scope="module")
def shards(small_world) -> Shards:
    return Shards(small_world)


def reader_of(shards: Shards, *, augment: bool = True, frames: int = 25, **settings: object) -> PairReader:
    sampler = PairSampler(
        shards.index, shards.clips("train"), **({"seed": 3, "block": 4, "source": "shared"} | settings)
    )
    return PairReader(shards, sampler, image_size=28, augment=augment, visual_input=VisualInput(frames=frames))


@pytest.mark.parametrize("stride", SHAPES)
def test_time_is_halved_as_height_and_width_are_but_not_before_the_last_block(stride) -> None:
    trunk = VGG(3, width=1.0, stride=stride, in_time=True).to("meta")
    x = torch.zeros(1, 3, 25, 224, 224, device="meta")
    seen = []
    for name, layer in trunk.layers.named_children():
        x = layer(x)
        if name.startswith("bn") and name.endswith("_2"):
            seen.append(tuple(x.shape[1:]))
    assert seen == SHAPES[stride]


def test_every_single_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = fresh("ave_mf", width=0.0625)
    maps = network.vision(torch.randn(4, 3, 25, 64, 64))
    (maps * torch.randn_like(maps)).sum().backward()
    for name, parameter in network.vision.named_parameters():
        assert parameter.grad.all(), name
    network.zero_grad()
    image, audio = network.embed_image(torch.randn(8, 3, 25, 64, 64)), network.embed_audio(torch.rand(8, 1, 257, 199))
    F.cross_entropy(network.compare(image, audio), torch.arange(8) % 2).backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


def test_the_parameters_are_ave_nets_with_27_weights_for_9_in_the_vision_tower() -> None:
    channels = (3, 64, 64, 128, 128, 256, 256, 512, 512)
    kernels = sum(inwards * outwards for inwards, outwards in itertools.pairwise(channels))
    with torch.device("meta"):
        ave, mf = (parameter_count(fresh(name)) for name in ("ave", "ave_mf"))
    assert mf - ave == (27 - 9) * kernels


def test_every_tick_that_is_drawn_has_its_25_frames(make_index) -> None:
    index = make_index(60)
    index["sound_from"] += np.arange(60, dtype=np.uint32) * 977 % 40_000
    rows = PairSampler(index, np.arange(60), seed=1).rows(0, 24_000)
    first = rows.frame_tick - 12
    assert first.min() >= 0
    assert (rows.frame_tick + 12 < index["ticks"][rows.frame_clip]).all()
    assert VisualInput(frames=25).first_frame(12) == 0


def test_a_batch_holds_the_frames_around_the_tick_under_one_crop(shards) -> None:
    reader = reader_of(shards)
    rows = reader.sampler.rows(0, 8)
    batch = reader.read(rows)
    assert (batch.images.dtype, tuple(batch.images.shape)) == (torch.uint8, (8, 25, 28, 28, 3))
    for i in range(8):
        clip, middle = int(rows.frame_clip[i]), int(rows.frame_tick[i])
        sides = shards.picture(clip, middle, reduce=2).shape[:2]
        top, left = (int(n * (side - 27)) for n, side in zip(rows.image_draws[i, :2], sides, strict=True))
        for j, tick in enumerate(range(middle - 12, middle + 13)):
            picture = shards.picture(clip, tick, reduce=2)
            np.testing.assert_array_equal(batch.images[i, j].numpy(), picture[top : top + 28, left : left + 28])


def test_the_middle_frame_is_the_one_that_a_network_of_single_frames_sees(shards) -> None:
    many, one = reader_of(shards)[0, 8], reader_of(shards, frames=1)[0, 8]
    assert torch.equal(many.images[:, 12], one.images)
    for name in ("audio", "label", "pair_frame", "pair_audio", "digest"):
        assert torch.equal(getattr(many, name), getattr(one, name))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_batches_of_many_frames_do_not_depend_on_the_number_of_workers(shards, num_workers) -> None:
    reader = reader_of(shards)
    row_ranges = list(
        shard_batch(reader.sampler, batch_pairs=32, micro_batch_pairs=8, rank=1, world_size=2).row_ranges(0, 3)
    )
    batches = list(batches_of(reader, iter(row_ranges), num_workers=num_workers))
    for batch, row_range in zip(batches, row_ranges, strict=True):
        assert all(map(torch.equal, batch, reader[row_range]))


def test_all_frames_of_a_clip_are_flipped_and_coloured_alike(shards) -> None:
    settings = load_config(ROOT / "configs" / "ave_mf.yaml", ["data.image_size=24"]).data
    batch = reader_of(shards)[0, 8]
    still = batch.images[:, 12:13].expand(-1, 25, -1, -1, -1)
    x = images_to_input(still, batch.image_draws, settings)
    assert x.shape == (8, 3, 25, 24, 24)
    alone = images_to_input(batch.images[:, 12], batch.image_draws, settings)
    torch.testing.assert_close(x, alone[:, :, None].expand_as(x), rtol=0, atol=1e-6)
    moving = images_to_input(batch.images, batch.image_draws, settings)
    torch.testing.assert_close(moving[:, :, 12], alone, rtol=0, atol=1e-6)


def test_shards_that_keep_every_second_picture_are_refused_in_words(shards, monkeypatch) -> None:
    index = shards.index.copy()
    index["every"] = 2
    monkeypatch.setattr(shards, "index", index)
    with pytest.raises(ValueError, match=r"25 frames in a row, .* pack with --every 1"):
        reader_of(shards)


def test_the_loss_falls_on_a_batch_that_is_seen_again_and_again(shards, tmp_path) -> None:
    config = load_config(write_config(tmp_path, shards.folder, **SMALL))
    batch = reader_of(shards, augment=False)[0, 8]
    torch.manual_seed(0)
    model = build(config.model)
    losses = memorize(model, batch, config)
    assert model.vision.layers.conv2_1.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert losses[-1] < 0.5 * losses[0]


def test_a_run_that_is_stopped_and_resumed_ends_with_the_bits_of_the_uninterrupted_one(shards, tmp_path) -> None:
    network = load_run(train_in_two(write_config(tmp_path, shards.folder, **SMALL), tmp_path, stop_at=2))
    assert isinstance(network.model, AVEMFNet)
    assert network.embed_image(torch.zeros(2, 25, 50, 70, 3, dtype=torch.uint8)).shape == (2, 128)
    with pytest.raises(ValueError, match=r"uint8 \(N, 25, H, W, 3\)"):
        network.embed_image(torch.zeros(2, 50, 70, 3, dtype=torch.uint8))
    image = trained(network.model, network.config).image
    with pytest.raises(ValueError, match="see motion"):
        pictures(image, "trunk")
    with pytest.raises(ValueError, match="see motion"):
        frames_of_clips(image, "trunk", shards)


def test_the_shipped_settings_are_ave_nets_but_for_the_network() -> None:
    config, ave = (load_config(ROOT / "configs" / f"{name}.yaml") for name in ("ave_mf", "ave"))
    assert (config.model.name, config.model.width, config.model.stride) == ("ave_mf", 1.0, True)
    assert config.negatives == ave.negatives
    assert config.optim.model_copy(update={"micro_batch_pairs": ave.optim.micro_batch_pairs}) == ave.optim
