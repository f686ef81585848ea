"""The commands that bring weights in and measure what features are worth, as a user meets them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from avc.evaluation.probes import RELEASED_STRENGTH, image_probes, sound_probes, titles
from avc.models.released import MODEL
from avc.runs.weights import as_bytes
from tests.avc.networks import fresh
from tests.command_line import avc


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.trace}",)


def test_import_refuses_a_malicious_pickle_in_one_paragraph_and_runs_nothing(tmp_path) -> None:
    np.save(tmp_path / "sound8.npy", np.array(Harmful(tmp_path / "trace"), dtype=object), allow_pickle=True)
    done = avc("import", "soundnet8", tmp_path / "sound8.npy", "--out", tmp_path / "soundnet8.safetensors")
    assert done.returncode == 2
    assert "is refused" in done.stderr and "nothing of it was run" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound8.npy"]


def test_import_names_what_it_can_import(tmp_path) -> None:
    done = avc("import", "vggish", tmp_path / "a", "--out", tmp_path / "b")
    assert done.returncode == 2 and "soundnet8 can" in done.stderr


def test_eval_sound_prints_a_table_counts_confusions_and_names_what_cannot_be_read(tmp_path) -> None:
    random = np.random.default_rng(0)
    for kind, pitch in (("high", 3000), ("low", 200)):
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for number in range(20):
            wave = np.sin(2 * np.pi * pitch * random.uniform(0.9, 1.1) * np.arange(22_050) / 22_050)
            wave = 0.3 * wave + 0.01 * random.normal(size=22_050)
            soundfile.write(tmp_path / "sounds" / kind / f"{number}.wav", wave, 22_050)
    (tmp_path / "sounds" / "low" / "19.wav").write_bytes(b"RIFF")
    settings = tmp_path / "small.yaml"
    settings.write_text("model: {name: l3, width: 0.0625}\n")
    command = ["eval", "sound", settings, "dataset=folder", f"root={tmp_path / 'sounds'}"]
    command += [f"cache={tmp_path / 'cache'}", "--json", tmp_path / "r.json"]
    done = avc(*command)
    assert done.returncode == 0, done.stderr
    assert "39 recordings; chance 50.0%" in done.stdout and "1 recordings cannot be read" in done.stdout
    assert "19.wav: " in done.stdout
    untrained, mfcc = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert (
        untrained["name"].startswith("l3 untrained, width 0.0625, seed 0, trunk before ReLU") and mfcc["accuracy"] == 1
    )
    assert np.sum(untrained["result"]["confusion"]) == 39


def test_released_weights_in_a_file_called_untrained_are_probed_as_in_the_released_code(tmp_path) -> None:
    path = tmp_path / "untrained.safetensors"
    path.write_bytes(as_bytes(fresh("soundnet5", width=0.0625).state_dict(), {MODEL: "soundnet5"}))
    probes = sound_probes([path], layer=None, window=None, dcase=False, seed=0)
    assert [(probe.encoder.name.split()[1], probe.strength) for probe in probes[:2]] == [
        ("of", RELEASED_STRENGTH),
        ("untrained,", None),
    ]


def test_eval_image_tells_colours_apart_by_an_untrained_network(tmp_path) -> None:
    random = np.random.default_rng(0)
    for kind, color in (("blue", (20, 20, 200)), ("red", (200, 20, 20))):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(10):
            picture = np.clip(np.array(color) + random.normal(0, 20, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "pictures" / kind / f"{number}.jpg")
    settings = tmp_path / "small.yaml"
    settings.write_text("model: {name: ave, width: 0.0625}\ndata: {image_size: 32}\n")
    command = ["eval", "image", settings, f"root={tmp_path / 'pictures'}"]
    done = avc(*command, f"cache={tmp_path / 'cache'}", "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "20 images; chance 50.0%" in done.stdout
    [untrained] = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert untrained["accuracy"] > 0.9


def test_runs_of_one_name_are_told_apart_and_an_untrained_network_in_common_stands_once(tmp_path) -> None:
    paths = [tmp_path / seed / "l3" for seed in ("one", "two")]
    assert titles(paths) == {paths[0]: "one/l3", paths[1]: "two/l3"}
    assert titles(paths[:1]) == {paths[0]: "l3"}
    assert titles([paths[0], paths[0]]) == {paths[0]: "l3"}
    settings = [tmp_path / f"{number}.yaml" for number in (1, 2)]
    for number, path in enumerate(settings):
        path.write_text(f"model: {{name: l3, width: 0.0625}}\ndata: {{image_size: {64 + 32 * number}}}\n")
    sounds = sound_probes(settings, layer=None, window=None, dcase=False, seed=0)
    assert [one.encoder.name.partition(",")[0] for one in sounds] == ["l3 untrained", "MFCC"]
    assert len(image_probes(settings, seed=0)) == 2


def test_mistakes_are_answered_in_one_paragraph(tmp_path) -> None:
    settings = tmp_path / "l3.yaml"
    settings.write_text("model: {name: l3, width: 0.0625}\n")
    done = avc("eval", "sound", settings, "dataset=esc11", f"root={tmp_path}")
    assert done.returncode == 2 and "should be 'esc10', 'esc50', 'dcase2013', 'urbansound8k' or 'folder'" in done.stderr
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(5):
            Image.new("RGB", (64, 64)).save(tmp_path / kind / f"{number}.png")
    done = avc("eval", "image", settings, f"root={tmp_path}", "--device", "mps", f"cache={tmp_path / 'cache'}")
    assert done.returncode == 2 and "--device names mps" in done.stderr
    done = avc("eval", "image", tmp_path / "absent.safetensors", f"root={tmp_path}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
