"""The page shows what excites units, and needs nothing but itself."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from avc.config import dump_config, load_config
from avc.encoders.load import load
from avc.encoders.trained import trained
from avc.evaluation import options
from avc.evaluation.activations import choose_units, units_of
from avc.evaluation.measures import Request
from avc.runs.attempt import CONFIG, WEIGHTS
from launch.commands.evaluate import evaluate
from launch.report.units import filter_image
from shards.read import Shards
from tests.avc.launching import train_here, write_config
from tests.avc.networks import fresh
from tests.teaching import long_clips

OUTSIDE = re.compile(r"""(?:src|href|url|@import)\s*[=(]\s*["']?(?!data:)[\w/.]""")


def page(run: Path, out: Path, *words: str, **common: Any) -> str:
    """The page of `avc eval units`."""
    evaluate("units", [str(run), f"out={out}", *words], **common)
    return (out / "index.html").read_text()


@pytest.fixture(scope="module")
def run(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, small_world, model={"name": "l3", "width": 0.0625, "spectrogram_pool": 2})
    train_here(config, folder / "run", "training.steps=2", "validation.every_steps=0")
    return folder / "run"


def test_the_page_of_a_run_has_its_pictures_and_sounds_inside(run, tmp_path, capsys) -> None:
    text = page(run, tmp_path, "units=3,17", "top=2", "clips=8", json=tmp_path / "units.json")
    assert "4 units" in capsys.readouterr().out
    assert not OUTSIDE.search(text) and "http" not in text.replace("http-equiv", "")
    rows = json.loads((tmp_path / "units.json").read_text())["units"]
    assert [row["key"] for row in rows] == re.findall(r"<h3>(.*?)</h3>", text)
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["vision 3", "vision 17", "audio 3", "audio 17"]
    sounds = re.findall(r'<audio controls src="data:audio/flac;base64,([^"]+)"', text)
    assert len(sounds) == 4 * 2
    for sound in sounds:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert (len(samples), rate) == (48_000, 48_000)
    pictures = re.findall(r'src="data:image/\w+;base64,([^"]+)"', text)
    assert len(pictures) == 2 + 8
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).verify()


def test_the_activations_of_a_unit_are_its_largest_and_their_heat_is_its_channel(run, small_world) -> None:
    network, shards = load(run), Shards(small_world)
    clips = shards.clips("validation")
    chosen = options.Units(units="5", top=len(clips))
    for part in units_of(network, shards, clips, chosen, Request((run,))):
        [top] = part.units.values()
        values = [activation.value for activation in top]
        assert [*part.units] == [5] and values == sorted(values, reverse=True)
        assert sorted(activation.clip for activation in top) == clips.tolist()
        for activation in top:
            assert activation.heat.max() == pytest.approx(activation.value) and (activation.heat >= 0).all()


def test_units_that_stand_out_are_chosen_and_silent_ones_are_not() -> None:
    values = np.random.default_rng(0).random((50, 4)).astype(np.float32)
    values[7, 2] = 30
    values[:, 3] = 0
    assert choose_units(values, 1, 1) == [2]
    assert 3 not in choose_units(values, 3, 5)


def test_a_unit_that_there_is_not_is_refused(run, tmp_path) -> None:
    with pytest.raises(ValueError, match="there is no unit 32: the layer has 32, from 0 to 31"):
        page(run, tmp_path, "units=32", "clips=4")
    with pytest.raises(ValueError, match="must be numbers with commas"):
        page(run, tmp_path, "units=a", "clips=4")


def test_names_of_files_cannot_write_into_the_page(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Shards, "info", lambda self, clip: {"name": "<script>alert(1)</script>"})
    text = page(run, tmp_path, "units=0", "top=1", "clips=4")
    assert "<script" not in text and "&lt;script&gt;" in text


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_clips(tmp_path_factory.mktemp("few"), seconds=(3.0, 2.8, 3.2, 3.1))


@pytest.mark.parametrize("name", ["soundnet8", "soundnet5", "autoencoder"])
def test_the_page_of_a_network_that_only_hears_has_its_stretches_of_sound(few_clips, tmp_path, name) -> None:
    teachers = {} if name == "autoencoder" else {"objects": 6, "scenes": 4}
    student = {"name": name, "width": 0.125, **teachers}
    config = load_config(write_config(tmp_path, few_clips, model=student))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG).write_text(dump_config(config))
    save_file(fresh(**student).state_dict(), tmp_path / "run" / WEIGHTS, metadata={"model": name})
    text = page(tmp_path / "run", tmp_path, "units=3,9", "top=2", "layer=conv4")
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["conv4 3", "conv4 9"]
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', text)
    lengths = [soundfile.info(io.BytesIO(base64.b64decode(sound))).frames for sound in sounds]
    assert len(lengths) == 4 and all(2.7 * 48_000 < length < 3.2 * 48_000 for length in lengths)


def test_imported_weights_have_a_page_once_the_shards_are_named(few_clips, tmp_path) -> None:
    weights = tmp_path / "released.safetensors"
    save_file(fresh("soundnet5", width=0.125, objects=6, scenes=4).state_dict(), weights, {"model": "soundnet5"})
    with pytest.raises(ValueError, match="does not say which shards it was trained on: give --shards"):
        page(weights, tmp_path)
    assert len(re.findall(r"<h3>conv4 \d+</h3>", page(weights, tmp_path, "count=2", "top=1", shards=few_clips))) == 2
    with pytest.raises(ValueError, match="soundnet5 has no layer 'conv6' to take; choose from conv1, pool1"):
        page(weights, tmp_path, "layer=conv6", shards=few_clips)


def test_first_filters_are_pictures_in_colour_or_waves(run) -> None:
    encoders = load(run)
    filters = [each.first_filters for each in (encoders.image, encoders.audio)]
    assert [tuple(weights.shape) for weights in filters] == [(4, 3, 3, 3), (4, 1, 3, 3)]
    waves = trained(fresh("soundnet8"), None, name="soundnet8").audio.first_filters
    assert waves.shape == (16, 64)
    for weights in (*filters, waves):
        picture = filter_image(weights)
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
    red = torch.zeros(1, 3, 3, 3)
    red[0, 0] = 1
    assert (filter_image(red)[8, 8] == [255, 0, 0]).all()
