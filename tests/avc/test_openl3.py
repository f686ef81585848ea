"""openl3's and EdgeL3's networks, imported from Keras' files: TensorFlow's numbers, and refusals in words.

openl3_tensorflow.json has what openl3 0.4's own models.py computed under TensorFlow 2.15 and kapre 0.3.7 with the
weights and inputs of keras_files.py, every so manieth number of the embedding. EdgeL3's numbers are of Keras' layers
with the weights that its authors released, of one second of each recording.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import avc as package
from avc.models.keras_file import read_keras, write_network
from tests.avc.keras_files import CHANNELS, seeded_input, seeded_layers, write_layers
from workshop.openl3 import check, main, read_regression

pytest.importorskip("h5py", reason="h5py is not installed")
TENSORFLOW = json.loads(Path(__file__).with_name("openl3_tensorflow.json").read_text())
SMALL = (16, 16, 16, 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Weights as Keras saves them, of an audio and of an image network."""
    folder = tmp_path_factory.mktemp("keras")
    return {kind: write_layers(folder / f"{kind}.h5", list(seeded_layers(kind))) for kind in ("audio", "image")}


@pytest.fixture(scope="module")
def edgel3(shared_data) -> Path:
    path = shared_data / "openl3" / "edgel3_sea_ust_audio_emb_64.h5.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.mark.parametrize("variant", [name for name in TENSORFLOW if "edgel3" not in name])
def test_every_variant_embeds_as_openl3_does_under_tensorflow(files, variant) -> None:
    frontend, size = variant.split()
    kind = "image" if frontend == "image" else "audio"
    model, settings = read_keras(
        files[kind], frontend=None if kind == "image" else frontend, grid=int(size) in (6144, 8192)
    )
    x = torch.from_numpy(seeded_input(kind))
    with torch.no_grad():
        ours = (
            model.embed_audio(model.spectrogram(x)) if kind == "audio" else model.embed_image(x.permute(0, 3, 1, 2) * 2)
        )
    assert ours.shape == (1, int(size)) and settings.name == ("openl3_image" if kind == "image" else "openl3")
    np.testing.assert_allclose(ours[0, :: int(size) // 16], TENSORFLOW[variant], atol=1e-4)


@pytest.mark.parametrize("recording", ["chirp_1s", "chirp_44k", "chirp_mono"])
def test_edgel3_embeds_recordings_as_keras_does(edgel3, shared_data, tmp_path, recording) -> None:
    write_network(tmp_path / "edgel3.safetensors", *read_keras(edgel3))
    network = package.load(str(tmp_path / "edgel3.safetensors"))
    samples, rate = soundfile.read(shared_data / "openl3" / f"{recording}.wav", dtype="float32")
    embedding, seconds = network.embed_audio(samples, sample_rate=rate, hop_size=0.1, center=True)
    expected = TENSORFLOW[f"edgel3 {recording}"]
    assert embedding.shape[1] == 64 and seconds[expected["row"]] == pytest.approx(expected["row"] / 10)
    np.testing.assert_allclose(embedding[expected["row"]], expected["embedding"], atol=1e-4)


def test_an_imported_file_loads_as_the_network_that_was_read(files, tmp_path) -> None:
    read, settings = read_keras(files["audio"], frontend="mel128", grid=False)
    write_network(tmp_path / "openl3.safetensors", read, settings)
    loaded = package.load(tmp_path / "openl3.safetensors")
    assert loaded.config.model.name == "openl3" and loaded.sample_rate_hz == 48_000
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in read.state_dict().items())
    with pytest.raises(ValueError, match="no vision tower"):
        loaded.embed_image(torch.zeros(1, 300, 300, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="was imported"):
        _ = loaded.pair_config


def test_the_spectrogram_is_told_by_the_name_of_the_file_or_asked_for(files, tmp_path) -> None:
    named = tmp_path / "openl3_audio_linear_env.h5"
    named.write_bytes(files["audio"].read_bytes())
    assert read_keras(named)[1].frontend == "linear"
    with pytest.raises(ValueError, match="give --frontend linear, mel128 or mel256"):
        read_keras(files["audio"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layers: layers[:-1], "7 convolutions"),
        (lambda layers: layers[1:], "layers with weights"),
        (lambda layers: [*layers[:1], (layers[1][0], {"kernel": layers[1][1]["kernel"]}), *layers[2:]], "in place of"),
    ],
)
def test_other_layers_are_refused_in_words(tmp_path, change, words) -> None:
    path = write_layers(tmp_path / "a.h5", change(list(seeded_layers("audio", channels=SMALL))))
    with pytest.raises(ValueError, match=words):
        read_keras(path, frontend="linear")


def test_layers_of_another_width_and_numbers_that_are_none_are_refused(files, tmp_path) -> None:
    path = write_layers(tmp_path / "narrow.h5", list(seeded_layers("audio", channels=SMALL)))
    with pytest.raises(ValueError, match="the network needs float32"):
        read_keras(path, frontend="linear")
    layers = list(seeded_layers("audio", channels=CHANNELS))
    layers[5][1][next(iter(layers[5][1]))].flat[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        read_keras(write_layers(tmp_path / "nan.h5", layers), frontend="linear")


def test_a_regression_file_agrees_with_the_weights_that_made_it_and_another_does_not(files, tmp_path, capsys) -> None:
    samples = (np.random.default_rng(0).standard_normal(48_000) * 0.1).astype(np.float32)
    soundfile.write(tmp_path / "sound.wav", samples, 48_000, subtype="FLOAT")
    write_network(tmp_path / "first.safetensors", *read_keras(files["audio"], frontend="linear", grid=False))
    embedding, seconds = package.load(tmp_path / "first.safetensors").embed_audio(
        samples, sample_rate=48_000, hop_size=0.5
    )
    np.savez(tmp_path / "sound_linear.npz", embedding=embedding, timestamps=seconds)
    for rows, words, status in ((embedding, "it agrees", 0), (embedding[::-1], "it DOES NOT AGREE", 1)):
        np.savez(tmp_path / "sound_linear.npz", embedding=rows, timestamps=seconds)
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / "first.safetensors"), str(tmp_path / "sound_linear.npz")])
        assert ended.value.code == status
        assert f"{words} with sound_linear.npz" in capsys.readouterr().out


def test_openl3_s_own_regression_files_are_read_with_the_recordings_beside_them(files, shared_data, tmp_path) -> None:
    folder = shared_data / "openl3"
    rows = {path.name: read_regression(path)[0].shape for path in sorted(folder.glob("*.npz"))}
    assert len(rows) == 7 and all(shape[0] >= 1 and shape[1] in (6144, 8192, 512) for shape in rows.values())
    grid = rows["chirp_44k_kapre_linear.npz"][1] != 512
    write_network(tmp_path / "a.safetensors", *read_keras(files["audio"], frontend="linear", grid=grid))
    result = check(package.load(tmp_path / "a.safetensors"), folder / "chirp_44k_kapre_linear.npz")
    assert result.recording.name == "chirp_44k.wav" and result.rows == rows["chirp_44k_kapre_linear.npz"][0]
    assert not result.agrees  # these weights are drawn and not openl3's
