"""openl3's and EdgeL3's networks as encoders, from Keras' files: TensorFlow's numbers, and refusals in words.

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
from tests.command_line import avc
from tests.workshop.keras_files import CHANNELS, seeded_input, seeded_layers, write_layers
from workshop.openl3 import audio, image
from workshop.openl3.__main__ import check, main, read_regression
from workshop.openl3.keras_file import read_keras

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


def mine(folder: Path, call: str) -> str:
    """FILE.py:NAME, an encoder in three lines."""
    (folder / "mine.py").write_text(f"from workshop.openl3 import audio, image\ndef encoder():\n    return {call}\n")
    return f"{folder / 'mine.py'}:encoder"


@pytest.mark.parametrize("variant", [name for name in TENSORFLOW if "edgel3" not in name])
def test_every_variant_embeds_as_openl3_does_under_tensorflow(files, variant) -> None:
    kind, size = variant.split()
    if kind == "image":
        encoder = image(files["image"], embedding_size=int(size))
        x = torch.from_numpy((seeded_input("image") + 1) * 127.5).round().to(torch.uint8)
    else:
        encoder = audio(files["audio"], input_repr=kind, embedding_size=int(size))
        x = torch.from_numpy(seeded_input("audio"))
    with torch.no_grad():
        ours = encoder(x, "embedding")
    assert ours.shape == (1, int(size))
    np.testing.assert_allclose(ours[0, :: int(size) // 16], TENSORFLOW[variant], atol=1e-4)


@pytest.mark.parametrize("recording", ["chirp_1s", "chirp_44k", "chirp_mono"])
def test_edgel3_embeds_recordings_as_keras_does(edgel3, shared_data, tmp_path, recording) -> None:
    network = package.load(mine(tmp_path, f"audio({str(edgel3)!r})"))
    samples, rate = soundfile.read(shared_data / "openl3" / f"{recording}.wav", dtype="float32")
    embedding, seconds = network.embed_audio(samples, sample_rate=rate, hop_size=0.1, center=True)
    expected = TENSORFLOW[f"edgel3 {recording}"]
    assert embedding.shape[1] == 64 and seconds[expected["row"]] == pytest.approx(expected["row"] / 10)
    np.testing.assert_allclose(embedding[expected["row"]], expected["embedding"], atol=1e-4)


def test_commands_take_the_encoders_by_a_file_of_three_lines(tmp_path) -> None:
    for kind, pitch in (("high", 3000), ("low", 200)):
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for number in range(5):
            wave = 0.3 * np.sin(2 * np.pi * (pitch + 9 * number) * np.arange(12_000) / 8_000)
            soundfile.write(tmp_path / "sounds" / kind / f"{number}.wav", wave, 8_000)
    path = write_layers(tmp_path / "edge.h5", list(seeded_layers("edge", channels=(32, 64, 128, 64))))
    source = mine(tmp_path, f"audio({str(path)!r})")
    command = ["eval", "sound", source, "dataset=folder", f"root={tmp_path / 'sounds'}", f"cache={tmp_path / 'cache'}"]
    done = avc(*command, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert rows[0]["name"] == "EdgeL3, embedding, windows of 1 s" and np.sum(rows[0]["result"]["confusion"]) == 10
    done = avc("embed", tmp_path / "sounds" / "low", "--run", source, "--hop", "1", "--out", tmp_path / "embeddings")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "embeddings" / "0.wav.npz") as file:
        assert file["embedding"].shape == (2, 64)


def test_onnxruntime_gives_the_embedding_of_a_waveform(files, tmp_path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    source = mine(tmp_path, f"audio({str(files['audio'])!r}, input_repr='mel256', embedding_size=512)")
    done = avc("export", source, "--onnx", tmp_path / "a.onnx")
    assert done.returncode == 0, done.stderr
    x = torch.from_numpy(seeded_input("audio"))
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    [theirs] = session.run(None, {"samples": x.numpy()})
    np.testing.assert_allclose(theirs, package.load(source).embed_windows(x).numpy(), atol=1e-3)


def test_sizes_of_one_file_have_keys_of_their_own_and_another_modality_is_refused(files, tmp_path) -> None:
    networks = [audio(files["audio"], input_repr="mel128", embedding_size=size) for size in (512, 6144)]
    assert networks[0].key != networks[1].key
    with pytest.raises(ValueError, match="holds an image network: take `image`"):
        audio(files["image"])
    named = tmp_path / "openl3_audio_linear_env.h5"
    named.symlink_to(files["audio"])
    with pytest.raises(ValueError, match="holds an audio network: take `audio`"):
        image(named)
    with pytest.raises(ValueError, match="embedding_size is 6144 and must be 512 or 8192"):
        image(files["image"], embedding_size=6144)


def test_the_spectrogram_is_told_by_the_name_of_the_file_or_asked_for(files, tmp_path) -> None:
    named = tmp_path / "openl3_audio_linear_env.h5"
    named.write_bytes(files["audio"].read_bytes())
    assert audio(named).form.frontend == "linear"
    with pytest.raises(ValueError, match="give input_repr, linear, mel128 or mel256"):
        audio(files["audio"])


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
        read_keras(path, input_repr="linear")


def test_layers_of_another_width_and_numbers_that_are_none_are_refused(files, tmp_path) -> None:
    path = write_layers(tmp_path / "narrow.h5", list(seeded_layers("audio", channels=SMALL)))
    with pytest.raises(ValueError, match="the network needs float32"):
        read_keras(path, input_repr="linear")
    layers = list(seeded_layers("audio", channels=CHANNELS))
    layers[5][1][next(iter(layers[5][1]))].flat[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        read_keras(write_layers(tmp_path / "nan.h5", layers), input_repr="linear")


def test_a_regression_file_agrees_with_the_weights_that_made_it_and_another_does_not(files, tmp_path, capsys) -> None:
    samples = (np.random.default_rng(0).standard_normal(48_000) * 0.1).astype(np.float32)
    soundfile.write(tmp_path / "sound.wav", samples, 48_000, subtype="FLOAT")
    source = mine(tmp_path, f"audio({str(files['audio'])!r}, input_repr='linear', embedding_size=512)")
    embedding, seconds = package.load(source).embed_audio(samples, sample_rate=48_000, hop_size=0.5)
    for rows, words, status in ((embedding, "it agrees", 0), (embedding[::-1], "it DOES NOT AGREE", 1)):
        np.savez(tmp_path / "sound_linear.npz", embedding=rows, timestamps=seconds)
        with pytest.raises(SystemExit) as ended:
            main([source, str(tmp_path / "sound_linear.npz")])
        assert ended.value.code == status
        assert f"{words} with sound_linear.npz" in capsys.readouterr().out


def test_openl3_s_own_regression_files_are_read_with_the_recordings_beside_them(files, shared_data, tmp_path) -> None:
    folder = shared_data / "openl3"
    rows = {path.name: read_regression(path)[0].shape for path in sorted(folder.glob("*.npz"))}
    assert len(rows) == 7 and all(shape[0] >= 1 and shape[1] in (6144, 8192, 512) for shape in rows.values())
    count, size = rows["chirp_44k_kapre_linear.npz"]
    source = mine(tmp_path, f"audio({str(files['audio'])!r}, input_repr='linear', embedding_size={size})")
    result = check(package.load(source), folder / "chirp_44k_kapre_linear.npz")
    assert result.recording.name == "chirp_44k.wav" and result.rows == count
    assert not result.agrees  # these weights are drawn and not openl3's
