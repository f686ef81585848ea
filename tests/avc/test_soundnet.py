"""SoundNet has the published layers, and says so where a sound is too short for them."""

from collections.abc import Iterator

import pytest
import torch

from avc.models import parameter_count
from avc.models.soundnet import OBJECTS, SCENES, SOUNDNETS, SoundNet
from avc.models.waveform import SAMPLE_RATE, to_waveform
from tests.avc.networks import fresh

# filters, kernel, stride, padding, pool of each row of the paper's tables, written down apart from the code.
TABLES = {
    "soundnet8": [
        (16, 64, 2, 32, 8),
        (32, 32, 2, 16, 8),
        (64, 16, 2, 8, 0),
        (128, 8, 2, 4, 0),
        (256, 4, 2, 2, 4),
        (512, 4, 2, 2, 0),
        (1024, 4, 2, 2, 0),
        (1401, 8, 2, 0, 0),
    ],
    "soundnet5": [(32, 64, 2, 32, 8), (64, 32, 2, 16, 8), (128, 16, 2, 8, 8), (256, 8, 2, 4, 0), (1401, 16, 12, 4, 0)],
}
# Steps after each hidden layer for 20 s, pools included, counted by hand.
STEPS_OF_20_SECONDS = {
    "soundnet8": [27562, 1722, 862, 432, 54, 28, 15],
    "soundnet5": [27562, 1722, 107, 54],
}


@pytest.fixture(scope="module", params=SOUNDNETS)
def soundnet(request: pytest.FixtureRequest) -> Iterator[SoundNet]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield fresh(request.param).eval()


def seconds(duration: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return to_waveform(torch.rand(1, round(duration * SAMPLE_RATE), generator=generator) * 2 - 1)


def test_every_layer_is_the_one_of_the_table(soundnet) -> None:
    assert [(r.filters, r.kernel, r.stride, r.padding, r.pool) for r in soundnet.table] == TABLES[soundnet.name]
    hidden = [m for m in soundnet.layers if isinstance(m, torch.nn.Conv1d)]
    pools = [row[4] for row in TABLES[soundnet.name] if row[4]]
    for module, row in zip(
        [*hidden, soundnet.objects, soundnet.scenes], soundnet.table + soundnet.table[-1:], strict=True
    ):
        assert (*module.kernel_size, *module.stride, *module.padding) == (row.kernel, row.stride, row.padding)
    assert [m.kernel_size for m in soundnet.layers if isinstance(m, torch.nn.MaxPool1d)] == pools


def test_parameter_counts_are_those_of_the_tables(soundnet) -> None:
    expected, channels = 0, 1
    rows = TABLES[soundnet.name]
    for filters, kernel, *_ in rows:
        expected += channels * kernel * filters + filters
        channels = filters
    expected += sum(2 * filters for filters, *_ in rows[:-1])  # batch norm, on hidden layers only
    assert parameter_count(soundnet) == expected


def test_20_seconds_give_4_output_steps_and_the_counted_steps_on_the_way(soundnet) -> None:
    waveform = torch.zeros(1, 441_000)
    lengths = []
    for row in soundnet.table[:-1]:
        name = row.name.replace("conv", "pool") if row.pool else row.name
        lengths.append(soundnet.features(waveform, name).shape[2])
    assert lengths == STEPS_OF_20_SECONDS[soundnet.name]
    objects, scenes = soundnet(waveform)
    assert objects.shape == (1, OBJECTS, 4) and scenes.shape == (1, SCENES, 4)


def test_a_minute_gives_more_steps_and_as_many_as_announced(soundnet) -> None:
    objects, scenes = soundnet(torch.zeros(2, 60 * SAMPLE_RATE))
    assert objects.shape[2] == scenes.shape[2] == soundnet.output_steps(60 * SAMPLE_RATE) > 10


def test_one_second_has_features_and_is_refused_in_words_for_the_outputs(soundnet) -> None:
    assert soundnet.features(seconds(1), "pool2").shape[2] == 86
    with pytest.raises(ValueError, match=rf"22,050 samples \(1\.00 s\) are too short for conv\d of {soundnet.name}"):
        soundnet(seconds(1))


def test_pool5_of_one_second_has_three_steps_of_256() -> None:
    assert fresh("soundnet8").eval().features(seconds(1), "pool5").shape == (1, 256, 3)


def test_the_shortest_sound_works_and_one_sample_less_is_refused(soundnet) -> None:
    for layer in [*soundnet.feature_layers, None]:
        shortest = soundnet.shortest_input(layer)
        waveform = torch.zeros(1, shortest)
        result = soundnet(waveform)[0] if layer is None else soundnet.features(waveform, layer)
        assert result.shape[2] == soundnet.output_steps(shortest, layer) == 1
        with pytest.raises(ValueError, match=f"needs {shortest:,}"):
            soundnet(waveform[:, 1:]) if layer is None else soundnet.features(waveform[:, 1:], layer)


def test_an_unknown_layer_is_refused_with_the_known_ones(soundnet) -> None:
    with pytest.raises(ValueError, match=r"no layer 'pool9' to take; choose from conv1, pool1, conv2"):
        soundnet.features(seconds(1), "pool9")


def test_features_are_what_the_outputs_are_made_of(soundnet) -> None:
    waveform = seconds(12)
    last = soundnet.feature_layers[-1]
    objects, scenes = soundnet(waveform)
    features = soundnet.features(waveform, last)
    assert (features >= 0).all()
    torch.testing.assert_close(soundnet.objects(features), objects)
    torch.testing.assert_close(soundnet.scenes(features), scenes)


def test_the_first_weights_have_the_published_spread(soundnet) -> None:
    assert soundnet.objects.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not soundnet.objects.bias.any()
