"""A waveform network trained on recordings as a whole learns from the training folds alone."""

import json

import numpy as np
import pytest
import soundfile
import torch

from tests.avc.networks import fresh
from workshop.fine_tuning import RecordingClassifier, main, train_on_recordings

CPU = torch.device("cpu")


def tones(count: int) -> tuple[list[torch.Tensor], np.ndarray, np.ndarray]:
    """Recordings of 1 to 6 s of a low or a high tone in noise, in 2 folds."""
    random = np.random.default_rng(0)
    sounds, labels = [], np.arange(count) % 2
    for label in labels.tolist():
        time = np.arange(int(random.uniform(1, 6) * 22_050)) / 22_050
        wave = np.sin(2 * np.pi * (200, 3000)[label] * random.uniform(0.9, 1.1) * time)
        sounds.append(torch.from_numpy((3000 * wave + 300 * random.normal(size=len(time))).astype(np.int16)))
    return sounds, labels, 1 + np.arange(count) // 2 % 2


@pytest.mark.parametrize(("name", "passes"), [("soundnet5", 40), ("autoencoder", 12)])
def test_kinds_that_differ_in_pitch_are_learnt_from_scratch_and_shuffled_labels_are_not(name, passes) -> None:
    sounds, labels, folds = tones(16)
    torch.manual_seed(0)
    model = fresh(name, width=0.125)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}

    def accuracy(truth: np.ndarray) -> float:
        result = train_on_recordings(
            model, sounds, truth, folds, tested_folds=[1, 2], passes=passes, seed=0, device=CPU
        )
        assert np.sum(result.confusion) == 16 and [fold.strength for fold in result.folds] == [None, None]
        return result.accuracy

    assert accuracy(labels) > 0.9
    assert accuracy(np.random.default_rng(3).permutation(labels)) < 0.9
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items()), "copies are trained"


def test_the_outputs_cover_the_steps_of_five_seconds() -> None:
    network = RecordingClassifier(fresh("soundnet8", width=0.125).eval(), 50).eval()
    assert network.outputs.weight.shape == (50, 128, 4), "kernel 4 on conv7, as in the released main_finetune.lua"
    assert network(torch.zeros(1, 5 * 22_050)).shape == network(torch.zeros(1, 9 * 22_050)).shape == (1, 50)


def test_the_tool_trains_settings_from_scratch_on_a_folder_of_recordings_and_refuses_towers(tmp_path, capsys) -> None:
    sounds, labels, _ = tones(10)
    for number, (samples, label) in enumerate(zip(sounds, labels.tolist(), strict=True)):
        (tmp_path / "set" / str(label)).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "set" / str(label) / f"{number}.wav", samples.numpy(), 22_050)
    network, towers, out = tmp_path / "network.yaml", tmp_path / "towers.yaml", tmp_path / "out.json"
    network.write_text("model: {name: autoencoder, width: 0.0625}")
    towers.write_text("model: {name: l3, width: 0.0625}")
    asked = ["--dataset", "folder", "--root", str(tmp_path / "set"), "--passes", "1", "--device", "cpu"]
    main([str(network), *asked, "--json", str(out)])
    [row] = json.loads(out.read_text())["rows"]
    assert row["name"].endswith("from scratch") and row["items"] == 10
    assert f"{row['accuracy']:.1%}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main([str(towers), *asked])
    assert refused.value.code == 2 and "is of towers" in capsys.readouterr().err
