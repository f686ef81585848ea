"""Features of recordings and pictures: their shapes, and what cannot be read."""

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from avc.config import parse_config
from avc.encoders.cache import Unreadable, extract
from avc.encoders.handmade import MFCC
from avc.encoders.sources import read_image, read_sound, recordings, repeated, windows
from avc.encoders.trained import trained
from tests.avc.networks import encoders, fresh

CPU = [torch.device("cpu")]


@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_a_recording_arrives_at_the_rate_that_was_asked_for(tones, rate) -> None:
    for number, path in enumerate(tones):
        sound = read_sound(path, rate)
        # libav gives the last block of a short Ogg whole.
        more = 0.03 * rate if path.suffix == ".ogg" else 0
        assert sound.dtype == torch.float32 and -2 <= len(sound) - 1.5 * rate <= more + 2
        loudest = torch.fft.rfft(sound).abs().argmax().item() * rate / len(sound)
        assert loudest == pytest.approx(220 * (1 + number), abs=1)


def test_windows_overlap_by_half_and_a_short_recording_is_padded() -> None:
    found, short = windows(torch.arange(25.0), 10)
    assert found[:, 0].tolist() == [0, 5, 10, 15] and found.shape == (4, 10) and not short
    found, short = windows(torch.ones(7), 10)
    assert found.tolist() == [[1.0] * 7 + [0.0] * 3] and short
    assert windows(torch.ones(19_999), 10_000)[0].shape == (3, 10_000), "one sample is lost, and not half a second"
    assert windows(torch.ones(9_999), 10_000)[1] is False


@pytest.mark.parametrize("name", ["soundnet5", "autoencoder"])
def test_asking_for_features_leaves_batch_statistics_as_they_are(name, tones, tmp_path) -> None:
    model = fresh(name, width=0.0625)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    encoder = encoders(name, width=0.0625).audio
    encoder.network = model.train()
    extract(encoder, "conv3", recordings(encoder, "conv3"), tones, devices=CPU, cache=tmp_path / "cache")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_features_have_the_papers_sizes_at_full_width() -> None:
    second = 0.1 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for name, size in (("ave", 128), ("l3", 512)):
            audio = encoders(name).audio
            features = audio(second, "trunk")
            assert features.shape == (2, 4 * 3 * 512) and (features < 0).any(), "before ReLU there are negative ones"
            assert audio.layers == ("trunk", "embedding") and audio.places("trunk", 48_000) == 12
            assert audio(second, "embedding").shape == (2, size)
        image = encoders("l3").image
        features = image(torch.randint(256, (1, 224, 224, 3), dtype=torch.uint8), "trunk")
        assert features.shape == (1, 4 * 4 * 512) and (features >= 0).all() and image.places("trunk") == 16
        soundnet = encoders("soundnet8").audio
        inputs = recordings(soundnet, "pool5")
        assert inputs.select(soundnet(torch.zeros(2, 220_500), "pool5")).shape == (2 * 25, 3 * 256)
        mfcc = MFCC()
        assert mfcc(second[:, :22_050], mfcc.layers[0]).shape == (2, 40)


def test_a_layer_that_a_window_is_too_short_for_is_refused_before_anything_is_read() -> None:
    soundnet = encoders("soundnet8").audio
    with pytest.raises(ValueError, match="too short for conv7"):
        recordings(soundnet, "conv7", whole=0.001)
    with pytest.raises(ValueError, match="soundnet8 has no layer 'trunk' to take; choose from pool5, conv1, pool1"):
        soundnet.named_layer("trunk")
    assert soundnet.named_layer(None) == "pool5" and encoders("autoencoder").audio.named_layer(None) == "conv4"


def test_avol_net_has_no_embedding_of_an_image_as_a_whole() -> None:
    avol = encoders("avol", width=0.0625)
    assert avol.image.layers == ("trunk",) and avol.audio.layers == ("trunk", "embedding")


def test_a_recording_is_repeated_until_its_last_piece_is_full() -> None:
    assert repeated(torch.arange(3.0), 7).tolist() == [[0, 1, 2, 0, 1, 2, 0]]
    assert repeated(torch.arange(9.0), 7).flatten().tolist() == [*range(9), *range(5)]
    assert repeated(torch.ones(30_001), 30_000).shape == (1, 30_000), "one sample is lost, and not a piece begun"


def test_soundnet_hears_a_recording_whole_and_windows_slide_by_one_step(tones, tmp_path) -> None:
    encoder = encoders("soundnet8", width=0.0625).audio
    inputs = recordings(encoder, "pool5", seconds=1.0, whole=4.0)
    found = extract(encoder, "pool5", inputs, tones, devices=CPU, cache=tmp_path).features
    sound = read_sound(tones[1], 22_050).repeat(3)[: 4 * 22_050]
    with torch.inference_mode():
        steps = encoder.network.features(256 * sound[None], "pool5")[0]
    size = -(-steps.shape[1] // 4)
    expected = torch.stack([steps[:, i : i + size].flatten() for i in range(steps.shape[1] - size + 1)])
    np.testing.assert_allclose(found.rows[found.item == 1], expected, rtol=1e-4, atol=1e-6)


def test_two_networks_of_the_same_weights_and_other_layers_have_features_of_their_own(tones) -> None:
    torch.manual_seed(0)
    strided, plain = (encoders("l3", width=0.0625, stride=stride) for stride in (True, False))
    plain.audio.load_state_dict(strided.audio.state_dict())
    assert strided.audio.key != plain.audio.key
    smaller = encoders("l3", width=0.0625, data={"image_size": 112})
    smaller.image.load_state_dict(strided.image.state_dict())
    assert strided.image.key != smaller.image.key
    config = parse_config({"model": {"name": "l3", "width": 0.0625}})
    assert strided.audio.key == trained(strided.audio.network, config, name="moved").audio.key


def test_a_recordings_mfcc_do_not_depend_on_what_is_heard_beside_it() -> None:
    quiet = 1e-4 * torch.randn(1, 22_050, generator=torch.Generator().manual_seed(0))
    loud = torch.ones(1, 22_050).cumsum(1).sin()
    alone, beside = (MFCC()(x, "embedding")[0] for x in (quiet, torch.cat([quiet, loud])))
    np.testing.assert_array_equal(alone, beside)


def test_empty_endless_and_too_short_samples_and_a_missing_file_are_unreadable(tmp_path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 22_050)
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 22_050, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", np.full(2, 0.1), 192_000)  # a quarter of a sample at 22,050 Hz
    refusals = {
        "empty.wav": "no audio samples",
        "nan.wav": "not finite",
        "absent.wav": "no such file",
        "short.wav": "too short: no sample of it is left at 22,050 Hz",
    }
    for name, words in refusals.items():
        with pytest.raises(Unreadable, match=words):
            read_sound(tmp_path / name, 22_050)


def test_a_picture_is_its_middle_and_a_broken_one_is_unreadable(tmp_path) -> None:
    picture = np.zeros((160, 320, 3), np.uint8)
    picture[:, 110:210] = (200, 100, 50)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 56)
    assert found.shape == (1, 56, 56, 3) and found.dtype == torch.uint8
    assert found[0, 28, 28].tolist() == [200, 100, 50] and found[0, 28, 0].tolist() == [0, 0, 0]
    Image.fromarray(picture).convert("L").save(tmp_path / "gray.jpg")
    assert read_image(tmp_path / "gray.jpg", 56).shape == (1, 56, 56, 3)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "gray.jpg").read_bytes()[:300])
    with pytest.raises(Unreadable):
        read_image(tmp_path / "b.jpg", 56)
