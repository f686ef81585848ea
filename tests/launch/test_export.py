"""`avc export`: what others get of a network gives the numbers that it gives here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import avc as package
from tests.avc.launching import train_here, write_config
from tests.avc.networks import saved
from tests.command_line import avc


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("network") / "ave")


def session(path: Path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def export(*arguments: object) -> str:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    done = avc("export", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sounds(rate: int) -> np.ndarray:
    """Seconds of noise, of a tone, of a fading tone in noise, and of silence: int16 (5, rate)."""
    t = np.arange(rate) / rate
    noise = np.random.default_rng(0).standard_normal((2, rate))
    rows = [noise[0] / 10, np.sin(2 * np.pi * 440 * t) / 2, np.sin(9e3 * t) * np.exp(-9 * t) / 3 + noise[1] / 300]
    return (np.stack([*rows, noise[0] / 1000, np.zeros(rate)]) * 32767).astype(np.int16)


@pytest.mark.parametrize("pool", [1, 2])
def test_the_audio_tower_gives_the_same_embeddings_in_onnxruntime(tmp_path, pool) -> None:
    network = saved(tmp_path / "ave", spectrogram_pool=pool)
    printed = export(network, "--onnx", tmp_path / "audio.onnx")
    assert "samples ['batch', 48000]" in printed and "differs from torch by at most" in printed
    seconds = sounds(48_000)
    loaded = package.load(str(network))
    ours = loaded.embed_audio(torch.from_numpy(seconds)).numpy()
    for rows in (1, 5):  # any number of them
        [theirs] = session(tmp_path / "audio.onnx").run(None, {"samples": seconds[:rows].astype(np.float32) / 32768})
        np.testing.assert_allclose(theirs, ours[:rows], atol=1e-4)


def test_the_image_tower_gives_the_same_embeddings_in_onnxruntime(network, tmp_path) -> None:
    export(network, "--onnx", tmp_path / "image.onnx", "--takes", "image")
    images = torch.randint(0, 256, (3, 90, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loaded = package.load(str(network))
    [theirs] = session(tmp_path / "image.onnx").run(None, {"images": loaded.crop(images).numpy()})
    np.testing.assert_allclose(theirs, loaded.embed_image(images).numpy(), atol=1e-4)


def test_a_run_becomes_a_folder_with_a_card_that_loads_and_names_no_path_of_this_machine(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, training={"steps": 2}, validation={"every_steps": 1})
    train_here(config, tmp_path / "run")
    done = avc("export", tmp_path / "run", "--out", tmp_path / "given")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "given").iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
    ]
    card = (tmp_path / "given" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    accuracy = front["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert 0 <= accuracy <= 1 and "| accuracy |" in card and "2 steps of" in card
    for path in ("README.md", "config.yaml"):
        assert str(tmp_path) not in (tmp_path / "given" / path).read_text() and str(small_world) not in card
    seconds = torch.from_numpy(sounds(48_000))
    run, given = package.load(tmp_path / "run"), package.load(tmp_path / "given")
    assert torch.equal(run.embed_audio(seconds), given.embed_audio(seconds))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to write"),
        (["--onnx", "a.onnx", "--takes", "smell"], "must be waveform or image"),
        (["--onnx", "/nowhere/a.onnx"], "cannot be written"),
        (["--out", "/dev/null/a"], "cannot be written"),
    ],
)
def test_a_mistake_ends_in_one_paragraph(network, tmp_path, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(tmp_path)
    done = avc("export", network, *arguments)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_says_what_to_install(network, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = avc("export", network, "--onnx", tmp_path / "a.onnx")
    assert done.returncode == 2 and "avcorr[onnx]" in done.stderr
