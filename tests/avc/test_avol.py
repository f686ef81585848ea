"""AVOL-Net: its map, its polarity, and that only the best place of a picture learns from a pair."""

import pytest
import torch
import torch.nn.functional as F

from avc.config import load_config
from avc.models import parameter_count
from avc.models.avol import AVOLNet
from tests.avc.networks import fresh
from tests.test_project import ROOT


@pytest.fixture
def network() -> AVOLNet:
    torch.manual_seed(0)
    return fresh("avol", width=0.0625).eval()


def test_the_map_has_14_by_14_places_at_full_size() -> None:
    with torch.device("meta"):
        network = fresh("avol", width=1.0, stride=True)
        image = network.embed_image(torch.zeros(2, 3, 224, 224))
        audio = network.embed_audio(torch.zeros(2, 1, 257, 199))
        assert image.shape == (2, 128, 14, 14)
        assert audio.shape == (2, 128)
        assert network.localize(image, audio).shape == (2, 14, 14)


def test_the_parameters_are_two_trunks_and_the_papers_layers() -> None:
    with torch.device("meta"):
        trunks = parameter_count(fresh("avol", width=1.0, stride=True).vision) + parameter_count(
            fresh("avol", width=1.0, stride=True).audio
        )
        head = (512 * 128 + 128) + (128 * 128 + 128)
        assert parameter_count(fresh("avol", width=1.0, stride=True)) == trunks + 2 * head + 2


def test_what_all_pictures_and_sounds_share_gives_no_product_at_the_start(network) -> None:
    for layer in (network.conv5, network.conv6, network.fc1, network.fc2):
        assert layer.weight.flatten(1).sum(dim=1).abs().max() < 1e-4 and not layer.bias.any()
    shared = torch.full((1, 32, 2, 2), 7.0)
    image = network.conv6(torch.relu(network.conv5(shared)))
    assert image.abs().max() < 1e-4


def test_label_1_pulls_the_best_place_up_and_label_0_pushes_it_down(network) -> None:
    image = torch.randn(1, 128, 3, 3, requires_grad=True)
    audio = torch.randn(1, 128)
    best = network.localize(image, audio).flatten().argmax().item()
    for label in (0, 1):
        loss = F.cross_entropy(network.compare(image, audio), torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, image)
        moved = network.localize(image.detach() - 0.1 * gradient, audio).flatten()[best]
        change = (moved - network.localize(image, audio).flatten()[best]).item()
        assert change > 0 if label else change < 0


def test_a_sound_like_one_place_makes_the_answer_yes_and_its_opposite_everywhere_no(network) -> None:
    place = torch.randn(128)
    image = torch.zeros(1, 128, 4, 4)
    image[0, :, 2, 1] = place
    assert network.compare(image, place[None]).argmax().item() == 1
    image[:] = place[None, :, None, None]
    assert network.compare(image, -place[None]).argmax().item() == 0


def test_only_the_maximum_drives_the_loss(network) -> None:
    image = torch.randn(2, 128, 5, 4, requires_grad=True)
    audio = 0.1 * torch.randn(2, 128)
    F.cross_entropy(network.compare(image, audio), torch.tensor([0, 1])).backward()
    learning = image.grad.abs().sum(dim=1) > 0
    highest = network.localize(image, audio) == network.localize(image, audio).amax(dim=(1, 2), keepdim=True)
    assert torch.equal(learning, highest)
    assert learning.sum() == 2


def test_log_mean_exp_is_that_of_the_map_and_every_place_learns() -> None:
    network = fresh("avol", width=0.0625, pooling="logmeanexp").eval()
    image, audio = torch.randn(2, 128, 5, 4, requires_grad=True), torch.randn(2, 128)
    logits = network.compare(image, audio)
    places = network.localize(image, audio)
    torch.testing.assert_close(logits[:, 1], places.exp().mean(dim=(1, 2)).log())
    assert (logits[:, 1] < places.amax(dim=(1, 2))).all()
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert image.grad.abs().sum(dim=1).all()


def test_the_two_logits_under_cross_entropy_are_the_logistic_loss_of_the_maximum(network) -> None:
    image, audio, label = torch.randn(6, 128, 3, 3), torch.randn(6, 128), torch.tensor([0, 1, 1, 0, 1, 0])
    top = network.localize(image, audio).amax(dim=(1, 2))
    expected = F.binary_cross_entropy_with_logits(top, label.float())
    torch.testing.assert_close(F.cross_entropy(network.compare(image, audio), label), expected)


def test_embeddings_keep_their_length(network) -> None:
    lengths = network.embed_audio(torch.rand(4, 1, 257, 199)).norm(dim=1)
    assert not torch.allclose(lengths, torch.ones(4))


def test_a_larger_picture_gives_a_larger_map(network) -> None:
    assert network.embed_image(torch.randn(1, 3, 64, 96)).shape == (1, 128, 4, 6)


def test_the_shipped_settings_are_the_papers() -> None:
    config = load_config(ROOT / "configs" / "avol.yaml")
    assert (config.model.name, config.model.width, config.model.stride) == ("avol", 1.0, True)
    assert config.model.pooling == "max"
    assert config.optim == load_config(ROOT / "configs" / "ave.yaml").optim
