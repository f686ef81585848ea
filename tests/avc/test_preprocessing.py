"""Every place that shows a network the middle of a picture shows it the same pixels, odd margins included."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avc.config import parse_config
from avc.data.preprocessing import crop_origin
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.data.transforms import images_to_input
from avc.evaluation.activations import middle
from avc.evaluation.clips import image_features
from avc.evaluation.image import read_image
from avc.inference import Network
from avc.models import build
from avc.teachers.teacher import DEVIATION, MEAN, to_teacher
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.small_videos import render_folder

CROP = 35  # of pictures of 40 x 53 pixels: a margin of 5 rows and of 18 columns


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("odd")
    pack([render_folder(folder / "videos", videos=2)], folder / "shards", PackSettings(side=40, every=25), workers=1)
    return Shards(folder / "shards")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    config = parse_config({"model": {"name": "ave", "width": 0.0625}, "data": {"image_size": CROP}})
    return Network(build(config.model).eval(), config, torch.device("cpu"))


def test_all_that_crop_the_middle_take_the_pixels_that_validation_takes(shards, network, tmp_path: Path) -> None:
    sampler = PairSampler(shards.index, np.arange(2), seed=0, max_misalignment_ticks=0)
    reader = PairReader(shards, sampler, image_size=CROP, augment=False)
    batch = reader[0, 2]
    wanted, clip = batch.images[0], int(batch.frame_clip[0])
    picture = shards.picture(clip, 25)
    assert reader.crop == CROP and picture.shape == (40, 53, 3)
    assert (crop_origin(40, CROP), crop_origin(53, CROP)) == (3, 9)

    assert torch.equal(torch.from_numpy(middle(picture, CROP)), wanted), "avc visualize"
    Image.fromarray(picture).save(tmp_path / "picture.png")
    assert torch.equal(read_image(tmp_path / "picture.png", CROP)[0], wanted), "avc eval image"
    rows, _ = image_features(network.model, shards, network.config.data, name="network").load(clip)
    assert torch.equal(rows[0], wanted), "avc eval kinds"
    whole = torch.from_numpy(picture)[None]
    taught = to_teacher(whole, CROP)[0].permute(1, 2, 0) * torch.tensor(DEVIATION) + torch.tensor(MEAN)
    assert torch.equal((255 * taught).round().to(torch.uint8), wanted), "avc teach"
    with torch.no_grad():
        embedded = network.model.embed_image(images_to_input(wanted[None], None, network.config.data))
    assert torch.equal(network.embed_image(whole), embedded), "Network.embed_image"


def test_the_crop_of_training_begins_where_it_always_did() -> None:
    draws = np.random.default_rng(0).random(1000).astype(np.float32).tolist()
    for side, crop in ((256, 224), (341, 224), (45, 40), (40, 40)):
        assert [crop_origin(side, crop, draw) for draw in draws] == [int(draw * (side - crop + 1)) for draw in draws]
        assert all(0 <= crop_origin(side, crop, draw) <= side - crop for draw in draws)
