"""Every place that shows a network the middle of a picture shows it the same pixels, odd margins included."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avc.config import parse_config
from avc.data.preprocessing import crop_origin, images_to_input
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.encoders.sources import embed_clips, frames_of_clips, read_image
from avc.encoders.trained import Trained, trained
from avc.files.decoding import Wanted, pieces_of
from avc.models import build
from avc.teachers.teacher import DEVIATION, MEAN, to_teacher
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.small_videos import render_folder

CROP = 35  # of pictures of 40 x 53 pixels: a margin of 5 rows and of 18 columns
SMALLER = (30, 17, 16)  # what is scaled; for the last two training decodes at a half


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("odd")
    pack([render_folder(folder / "videos", videos=2)], folder / "shards", PackSettings(side=40, every=25), workers=1)
    return Shards(folder / "shards")


def network_of(size: int) -> Trained:
    torch.manual_seed(0)
    config = parse_config({"model": {"name": "ave", "width": 0.0625}, "data": {"image_size": size}})
    return trained(build(config.model), config)


@pytest.mark.parametrize("size", [CROP, *SMALLER])
def test_all_that_crop_the_middle_take_the_pixels_that_validation_takes(shards, size, tmp_path: Path) -> None:
    network = network_of(size)
    sampler = PairSampler(shards.index, np.arange(2), seed=0, max_misalignment_ticks=0)
    batch = PairReader(shards, sampler, image_size=size, augment=False)[0, 2]
    wanted, clip = batch.images[0], int(batch.frame_clip[0])
    picture = shards.picture(clip, 25)
    assert picture.shape == (40, 53, 3) and wanted.shape == (size, size, 3)
    assert (crop_origin(40, CROP), crop_origin(53, CROP)) == (3, 9)
    if size == CROP:
        assert np.array_equal(wanted, picture[3:38, 9:44])

    whole = torch.from_numpy(picture)[None]
    assert torch.equal(network.crop(whole)[0], wanted), "Trained.crop"
    Image.fromarray(picture).save(tmp_path / "picture.png")
    assert torch.equal(read_image(tmp_path / "picture.png", size)[0], wanted), "avc eval image"
    with (tmp_path / "picture.png").open("rb") as file:
        [(_, seen)] = pieces_of(file, Wanted("image", Fraction(1), 48_000, size))
    assert np.array_equal(seen, wanted), "avc embed"
    image = trained(network.model, network.config).image
    rows, _ = frames_of_clips(image, "trunk", shards).load(clip)
    assert torch.equal(rows[0], wanted), "avc eval kinds"
    taught = to_teacher(whole, size)[0].permute(1, 2, 0) * torch.tensor(DEVIATION) + torch.tensor(MEAN)
    assert torch.equal((255 * taught).round().to(torch.uint8), wanted), "avc teach"
    with torch.no_grad():
        embedded = network.model.embed_image(images_to_input(wanted[None], None, network.config.data))
    assert torch.equal(network.embed_image(whole), embedded), "Trained.embed_image"


def test_a_packed_frame_embeds_as_in_validation_at_every_size(tmp_path: Path) -> None:
    videos = render_folder(tmp_path / "videos", videos=3)
    pack([videos], tmp_path / "shards", PackSettings(split=(1.0, 0.0, 0.0)), workers=1)
    shards = Shards(tmp_path / "shards")
    for size in (96, 112, 160, 224):
        network = network_of(size)
        views = embed_clips(network, shards, np.arange(3), passes=2)
        frames = np.stack(
            [shards.picture(*view) for view in zip(views.clip.tolist(), views.tick.tolist(), strict=True)]
        )
        assert min(frames.shape[1:3]) == 256
        distances = np.linalg.norm(network.embed_image(torch.from_numpy(frames)).numpy() - views.image, axis=1)
        assert distances.max() < 1e-6, (size, distances)
        others = np.linalg.norm(views.image[:, None] - views.image[None], axis=2)
        assert others[np.triu_indices(6, 1)].min() > 1e-4, "the frames differ, or a distance of 0 says nothing"


def test_the_crop_of_training_begins_where_it_always_did() -> None:
    draws = np.random.default_rng(0).random(1000).astype(np.float32).tolist()
    for side, crop in ((256, 224), (341, 224), (45, 40), (40, 40)):
        assert [crop_origin(side, crop, draw) for draw in draws] == [int(draw * (side - crop + 1)) for draw in draws]
        assert all(0 <= crop_origin(side, crop, draw) <= side - crop for draw in draws)
