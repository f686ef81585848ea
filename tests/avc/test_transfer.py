"""Features of recordings and pictures: their shapes, what is remembered, and what cannot be read."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from avc.config import parse_config
from avc.encoders.cache import Identity, Inputs, Unreadable, extract, file_identity
from avc.encoders.encoder import AudioEncoder
from avc.encoders.handmade import MFCC
from avc.encoders.sources import read_image, read_sound, recordings, repeated, windows
from avc.encoders.trained import trained
from tests.avc.networks import encoders, fresh

CPU = [torch.device("cpu")]


@pytest.fixture
def tones(tmp_path: Path) -> list[Path]:
    """Six tones of 1.5 s, each of its own pitch, in several formats, rates and numbers of channels."""
    paths = []
    for number in range(6):
        rate, channels = ((44_100, 1), (48_000, 2), (22_050, 1))[number % 3]
        wave = 0.5 * np.sin(2 * np.pi * 220 * (1 + number) * np.arange(int(1.5 * rate)) / rate)
        paths.append(tmp_path / f"{number}.{('wav', 'flac', 'ogg')[number % 3]}")
        soundfile.write(paths[-1], np.stack([wave] * channels, axis=1), rate)
    return paths


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


class Linear(AudioEncoder):
    sample_rate_hz, seconds = 22_050, 0.5

    def __init__(self, seed: int) -> None:
        super().__init__("a network")
        torch.manual_seed(seed)
        self.layer = torch.nn.Linear(11_025, 4)

    def forward(self, x, layer):
        return self.layer(x)


def features_of(
    files: list[Path],
    *,
    calls: list[Path],
    cache: Path,
    seed: int = 0,
    what: str = "counting",
    layer="embedding",
    devices=CPU,
    identify=file_identity,
):
    """Features by a linear layer of the seed; each file that is read is noted."""

    def load(path: Path):
        calls.append(path)
        return windows(read_sound(path, 22_050), 11_025)

    return extract(Linear(seed), layer, Inputs(what, load, identify), files, devices=devices, cache=cache)


def test_features_are_computed_once_for_the_same_network_and_files(tones, tmp_path) -> None:
    calls: list[Path] = []
    features = partial(features_of, tones, calls=calls, cache=tmp_path / "cache")
    first = features()
    assert len(calls) == 6 and first.features.item.tolist() == [n for n in range(6) for _ in range(5)]
    second = features()
    assert len(calls) == 6 and (second.features.rows == first.features.rows).all()
    features(seed=1)
    assert len(calls) == 12, "another network's features are its own"
    features(what="otherwise")
    assert len(calls) == 18
    features(layer="another")
    assert len(calls) == 24
    tones[2].write_bytes(tones[5].read_bytes())
    third = features()
    assert len(calls) == 30, "other content under the same name is another file"
    np.testing.assert_allclose(third.features.rows[10:15], first.features.rows[25:], atol=1e-5)
    [damaged, *_] = (tmp_path / "cache").iterdir()
    damaged.write_bytes(damaged.read_bytes()[:100])
    for seed in (0, 1):
        features(seed=seed)


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


@pytest.mark.parametrize("left", ["as it was", "rows cut", "rows flipped", "journal cut", "journal of others"])
def test_stopped_features_go_on_where_they_were_to_the_same_rows(tones, tmp_path, left) -> None:
    many, calls, cache = tones * 7, [], tmp_path / "cache"
    whole = features_of(many, calls=[], cache=tmp_path / "whole")

    class Stopping(list):
        def append(self, path: Path) -> None:
            if len(self) == 30:
                raise KeyboardInterrupt
            super().append(path)

    with pytest.raises(KeyboardInterrupt):
        features_of(many, calls=Stopping(), cache=cache)
    [rows], [journal] = cache.glob("*.npy.part"), cache.glob("*.jsonl")
    done = 8 * len(journal.read_text().splitlines())
    assert done >= 8
    if left == "rows cut":
        rows.write_bytes(rows.read_bytes()[:-5])
    elif left == "rows flipped":
        data = bytearray(rows.read_bytes())
        data[-5] ^= 64
        rows.write_bytes(data)
    elif left == "journal cut":
        journal.write_bytes(journal.read_bytes()[:-5])
    elif left == "journal of others":
        journal.write_text("[1]\n")
    kept = {"as it was": done, "journal of others": 0}.get(left, done - 8)
    found = features_of(many, calls=calls, cache=cache)
    assert len(calls) == len(many) - kept
    assert (f"{kept} of them before a stop" in found.origin) is (kept > 0)
    np.testing.assert_array_equal(found.features.rows, whole.features.rows)
    np.testing.assert_array_equal(found.features.item, whole.features.item)
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".npy", ".safetensors"]


def test_what_could_not_be_read_is_tried_again(tones, tmp_path) -> None:
    whole = tones[2].read_bytes()
    many, calls = tones * 4, []

    def extracted():
        # An identity that does not change with the content, as that of a clip of shards that are copied once more.
        return features_of(many, calls=calls, cache=tmp_path / "cache", identify=lambda path: Identity(path.name, b""))

    many.append(tmp_path / "late.ogg")
    assert [name for name, _ in extracted().unreadable] == ["late.ogg"]
    calls.clear()
    assert len(extracted().unreadable) == 1 and calls == [tmp_path / "late.ogg"], "the others are remembered"
    (tmp_path / "late.ogg").write_bytes(whole)
    assert extracted().unreadable == () and 24 in extracted().features.item


def test_a_recordings_mfcc_do_not_depend_on_what_is_heard_beside_it() -> None:
    quiet = 1e-4 * torch.randn(1, 22_050, generator=torch.Generator().manual_seed(0))
    loud = torch.ones(1, 22_050).cumsum(1).sin()
    alone, beside = (MFCC()(x, "embedding")[0] for x in (quiet, torch.cat([quiet, loud])))
    np.testing.assert_array_equal(alone, beside)


def test_several_devices_give_the_features_of_one(tones, tmp_path) -> None:
    many = [path for path in tones for _ in range(4)]
    one = features_of(many, calls=[], cache=tmp_path / "one")
    three = features_of(many, calls=[], devices=CPU * 3, cache=tmp_path / "three")
    assert (one.features.item == three.features.item).all()
    np.testing.assert_allclose(one.features.rows, three.features.rows, atol=1e-6)


def test_a_corrupt_recording_is_named_and_counted_and_takes_no_part(tones, tmp_path) -> None:
    many = tones * 5
    broken = tmp_path / "broken.ogg"
    broken.write_bytes(tones[2].read_bytes()[:80])
    found = features_of([*many[:7], broken, *many[7:]], calls=[], cache=tmp_path / "cache")
    [(name, reason)] = found.unreadable
    assert name == "broken.ogg" and reason
    assert 7 not in found.features.item and set(found.features.item) == set(range(31)) - {7}
    with pytest.raises(ValueError, match=r"1 of 7 items cannot be read, such as broken\.ogg: "):
        features_of([*tones, broken], calls=[], cache=tmp_path / "cache")


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
