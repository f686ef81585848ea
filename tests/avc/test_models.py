"""The networks have the papers' shapes, and their heads the papers' meaning."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from avc.config import dump_config, load_config, parse_config
from avc.encoders.encoder import first_weights
from avc.models import model_class, parameter_count
from avc.models.ave import euclidean_distance
from avc.models.trunks import TRUNKS, build_trunk
from avc.models.trunks.vgg import VGG
from avc.networks import NETWORKS, resolve
from avc.settings import PairConfig
from tests.avc.networks import encoders, fresh

PAIR_NETWORKS = [name for name, row in NETWORKS.items() if issubclass(row.config, PairConfig)]

# Output of each layer at full width, channels × height × width (Objects that Sound, figure 2; without stride, Look,
# Listen and Learn, figure 2 and the 512×28×28 and 512×32×24 that its features are pooled from).
SHAPES = {
    ("vision", False): [(64, 224, 224), (128, 112, 112), (256, 56, 56), (512, 28, 28)],
    ("audio", False): [(64, 257, 199), (128, 128, 99), (256, 64, 49), (512, 32, 24)],
    ("vision", True): [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14)],
    ("audio", True): [(64, 129, 100), (128, 64, 50), (256, 32, 25), (512, 16, 12)],
}
INPUT = {"vision": (1, 3, 224, 224), "audio": (1, 1, 257, 199)}


def pictures_for(name: str, count: int) -> torch.Tensor:
    """What a network of that name takes for `count` pictures of 64 × 64."""
    return torch.randn(count, *model_class(name).visual_input.shape(64)).movedim(-1, 1)


@pytest.mark.parametrize(("tower", "stride"), SHAPES)
def test_each_block_of_the_trunk_has_the_published_size(tower, stride) -> None:
    x = torch.zeros(INPUT[tower], device="meta")
    trunk = VGG(x.shape[1], width=1.0, stride=stride).to("meta")
    seen = []
    for name, layer in trunk.layers.named_children():
        x = layer(x)
        if name.startswith("bn"):
            seen.append((name, tuple(x.shape[1:])))
    expected = [(f"bn{b}_{n}", shape) for b, shape in enumerate(SHAPES[tower, stride], start=1) for n in (1, 2)]
    assert seen == expected


def test_parameter_counts_are_those_of_the_layer_tables() -> None:
    def trunk(channels: int) -> int:
        convolutions, norms = 0, 0
        for width in (64, 128, 256, 512):
            convolutions += 9 * channels * width + 9 * width * width
            norms += 2 * 2 * width
            channels = width
        return convolutions + norms

    trunks = trunk(3) + trunk(1)
    with torch.device("meta"):
        assert parameter_count(fresh("l3", width=1.0, stride=True)) == trunks + (1024 * 128 + 128) + (128 * 2 + 2)
    head = (512 * 128 + 128) + (128 * 128 + 128)
    assert parameter_count(fresh("ave", width=1.0, stride=True)) == trunks + 2 * head + 4


def test_the_width_factor_scales_the_trunks_and_leaves_the_embedding() -> None:
    model = fresh("ave", width=0.25)
    assert [m.out_channels for m in model.vision.layers if hasattr(m, "out_channels")] == [
        16,
        16,
        32,
        32,
        64,
        64,
        128,
        128,
    ]
    assert model.embed_audio(torch.zeros(2, 1, 257, 199)).shape == (2, 128)


@pytest.mark.parametrize("name", PAIR_NETWORKS)
def test_pairs_share_their_pictures_and_sounds_without_changing_the_logits(name) -> None:
    torch.manual_seed(0)
    model = fresh(name, width=0.125).eval()
    pictures, spectrograms = pictures_for(name, 3), torch.rand(3, 1, 257, 199)
    frame, sound = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 2])
    image, audio = model(pictures, spectrograms)
    shared = model.compare(image[frame], audio[sound])
    alone = model.compare(*model(pictures[frame], spectrograms[sound]))
    assert shared.shape == (4, 2)
    torch.testing.assert_close(shared, alone)


def test_ave_net_starts_with_small_distance_meaning_correspondence() -> None:
    model = fresh("ave", width=0.125)
    ends = torch.eye(128)[:2]
    near, far = model.compare(ends[[0, 0]], ends[[0, 1]]).softmax(dim=1)[:, 1].tolist()
    assert near > 0.5 > far


def test_embeddings_of_ave_net_have_length_one_row_by_row() -> None:
    model = fresh("ave", width=0.125).eval()
    lengths = model.embed_image(torch.randn(5, 3, 64, 64)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(5))


def test_the_distance_is_euclidean_and_its_gradient_is_finite_at_zero() -> None:
    a = torch.tensor([[0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    b = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    distance = euclidean_distance(a, b)
    torch.testing.assert_close(distance, torch.tensor([5.0, 0.0]), atol=1e-5, rtol=0)
    distance.sum().backward()
    torch.testing.assert_close(a.grad, torch.tensor([[-0.6, -0.8], [0.0, 0.0]]))


def test_the_heads_give_logits_and_leave_softmax_to_the_loss() -> None:
    torch.manual_seed(0)
    for name in PAIR_NETWORKS:
        model = fresh(name, width=0.125).eval()
        logits = model.compare(*model(pictures_for(name, 4), torch.rand(4, 1, 257, 199)))
        assert not torch.allclose(logits.exp().sum(dim=1), torch.ones(4))
        assert not torch.allclose(logits.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_of_the_list_leads_to_a_network_and_its_task(name) -> None:
    row = NETWORKS[name]
    assert isinstance(fresh(name, width=0.0625), model_class(name))
    assert {"loss", "validate", "network"} <= set(dir(resolve(row.task)))


@pytest.mark.parametrize("stride", [True, False])
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_keeps_what_it_says_of_itself(name, stride) -> None:
    trunk = build_trunk(name, 3, width=0.0625, stride=stride).eval()
    x = torch.randn(2, 3, 96, 64)
    maps = trunk.features(x)
    assert maps.shape == (2, trunk.out_channels, 96 // trunk.stride, 64 // trunk.stride)
    assert maps.min() < 0
    torch.testing.assert_close(trunk(x), maps.relu())
    assert first_weights(trunk).shape[1] == 3


@pytest.mark.parametrize("name", ["l3", "ave", "avol"])
def test_networks_take_another_trunk(name) -> None:
    model = fresh(name, width=0.0625, trunk="resnet18").eval()
    image, audio = model(torch.randn(2, 3, 64, 64), torch.rand(2, 1, 257, 199))
    assert model.compare(image, audio).shape == (2, 2)
    assert model.vision.stride == 32


@pytest.mark.parametrize(
    ("name", "trunk"), [*((name, "vgg") for name in PAIR_NETWORKS), *((name, "resnet18") for name in ("ave", "avol"))]
)
def test_every_network_hears_the_means_of_the_spectrogram_that_its_settings_ask_for(name, trunk) -> None:
    fields = {"width": 0.0625} | ({"trunk": trunk} if trunk != "vgg" else {})
    whole, small = encoders(name, **fields), encoders(name, **fields, spectrogram_pool=3)
    small.model.load_state_dict(whole.model.state_dict())  # the weights are the same ones
    seconds = torch.randint(-9000, 9000, (2, 48_000), dtype=torch.int16)
    spectrograms = whole.audio.frontend(seconds / 32768)
    means = F.avg_pool2d(spectrograms, 3)
    with torch.no_grad():
        wanted = whole.model.embed_audio(means)
        assert (wanted - whole.model.embed_audio(spectrograms)).abs().max() > 0.01
        for given, expected in [
            (small.model.embed_audio(spectrograms), wanted),
            (small.embed_audio(seconds), wanted),
            (small.audio.features(spectrograms, "trunk"), whole.audio.features(means, "trunk")),
            (small.audio.maps(seconds / 32768, "trunk"), whole.model.audio(means)),
        ]:
            torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
        images = pictures_for(name, 2)
        assert torch.equal(small.model.embed_image(images), whole.model.embed_image(images))
    assert small.model.audio.stride == 3 * whole.model.audio.stride


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_network_in_use_runs_in_the_layout_that_it_is_trained_in(trunk, pool) -> None:
    # The other layout takes half as long again on a CPU.
    network = encoders("ave", trunk=trunk, spectrogram_pool=pool, width=0.125, data={"image_size": 32})
    layouts = []

    def look(module, inputs, output) -> None:
        layouts.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in (*network.model.vision.modules(), *network.model.audio.modules()):
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(look)
    network.embed_audio(torch.zeros(2, 48_000, dtype=torch.int16))
    network.embed_image(torch.zeros(2, 40, 40, 3, dtype=torch.uint8))
    assert len(layouts) >= 16
    assert all(layouts)


def test_what_embedding_frees_is_kept_for_the_next_seconds() -> None:
    # Counted where the allocator has seen nothing else; given back and taken anew it is 200 to 400 pages a second.
    code = """
import resource, torch
from tests.avc.networks import encoders
torch.set_num_threads(1)
network, seconds = encoders("ave", spectrogram_pool=2, width=0.25), torch.zeros(32, 48_000)
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        network.embed_audio(seconds)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5 / len(seconds))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20


def test_a_run_from_before_the_setting_hears_the_whole_spectrogram(tmp_path) -> None:
    config = parse_config({"model": {"name": "ave"}})
    lines = [line for line in dump_config(config).splitlines() if "spectrogram_pool" not in line]
    assert len(lines) == len(dump_config(config).splitlines()) - 1
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    assert load_config(tmp_path / "config.yaml") == config and config.model.spectrogram_pool == 1


def test_the_resnet_has_the_weights_of_the_published_one() -> None:
    with torch.device("meta"):
        trunk = build_trunk("resnet18", 3, width=1.0, stride=True)
    assert parameter_count(trunk) == 11_689_512 - (512 * 1000 + 1000)  # ImageNet's, without its classifier
    assert {"layer1.0.conv1.weight", "layer4.0.downsample.0.weight", "bn1.running_mean"} <= set(trunk.state_dict())
