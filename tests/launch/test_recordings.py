"""`avc eval sound recordings=FILE` names what a SoundNet's own outputs find most likely."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from avc.models.waveform import to_waveform
from launch.commands.evaluate import evaluate
from tests.avc.networks import fresh


@pytest.fixture
def weights(tmp_path):
    """A SoundNet-5 of 3 objects and 2 scenes, all of whose outputs are as likely until biases say otherwise."""
    torch.manual_seed(0)
    network = fresh("soundnet5", width=0.125, objects=3, scenes=2).eval()
    network.objects.bias.data += torch.tensor([0.0, 2.0, 1.0])
    save_file(network.state_dict(), tmp_path / "soundnet5.safetensors", {"model": "soundnet5"})
    return network


@pytest.fixture
def recording(tmp_path):
    """4 s of noise at 22,050 Hz."""
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * 22_050).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, 22_050, subtype="FLOAT")
    return noise


def test_the_likeliest_classes_are_those_of_the_mean_posterior_of_the_repeated_recording(
    weights, recording, tmp_path, capsys
) -> None:
    (tmp_path / "objects.txt").write_text("dog\nrooster\nclock\n")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    sounds = [f"recordings={tmp_path / name}" for name in ("noise.wav", "broken.wav")]
    named = f"names=objects={tmp_path / 'objects.txt'}"
    table = tmp_path / "c.json"
    evaluate("sound", [str(tmp_path / "soundnet5.safetensors"), *sounds, named, "top=2"], device="cpu", json=table)
    printed = capsys.readouterr().out
    assert "noise.wav" in printed and "broken.wav cannot be read" in printed
    [row] = json.loads(table.read_text())["recordings"]
    heard = row["heard"]
    assert [name for name, _ in heard["objects"]] == ["rooster", "clock"]
    assert sorted(name for name, _ in heard["scenes"]) == ["0", "1"]
    with torch.no_grad():
        logits, _ = weights(to_waveform(torch.from_numpy(np.tile(recording, 3))[None]))
    assert logits.shape[2] > 1
    expected = logits[0].softmax(dim=0).mean(dim=1)
    assert heard["objects"][0][1] == pytest.approx(expected[1].item(), abs=1e-5)


def test_mistakes_in_names_and_recordings_are_answered_in_words(weights, recording, tmp_path) -> None:
    (tmp_path / "two.txt").write_text("dog\nrooster\n")
    words = [str(tmp_path / "soundnet5.safetensors"), f"recordings={tmp_path / 'noise.wav'}"]
    for names, said in (
        (f"objects={tmp_path / 'two.txt'}", "has 2 lines, and objects has 3 classes"),
        (f"places={tmp_path / 'two.txt'}", "must be objects=FILE or scenes=FILE"),
        (f"scenes={tmp_path / 'absent.txt'}", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate("sound", [*words, f"names={names}"], device="cpu")
    with pytest.raises(ValueError, match="none of the 1 recordings can be read"):
        evaluate("sound", [words[0], f"recordings={tmp_path / 'absent.wav'}"], device="cpu")
