"""A network goes to others' scoreboards by the examples: X-ARES's encoder and mteb's model, each one short file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avc.config import parse_config
from avc.encoders.load import load_any
from avc.encoders.trained import trained
from avc.models import build
from tests.avc.networks import saved

ROOT = Path(__file__).resolve().parents[2]
XARES, MTEB = "0.1.3", "2.26.24"


def installed(package: str, version: str) -> Any:
    """The package in this version, or a skip that says so."""
    from importlib.metadata import version as version_of

    module = pytest.importorskip(package, reason=f"{package} {version} is not installed: docs/evaluation.md")
    if version_of(package) != version:
        pytest.skip(f"{package} is {version_of(package)} here, and the example is for {version}")
    return module


@pytest.mark.parametrize("name", ["xares_encoder", "mteb_model"])
def test_each_is_at_most_60_lines(name) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 60


@pytest.fixture
def encoder(tmp_path, monkeypatch) -> Any:
    from examples.xares_encoder import AvcEncoder

    monkeypatch.setenv("AVC_NETWORK", str(saved(tmp_path / "network")))
    return AvcEncoder()


def test_x_ares_gets_an_embedding_each_half_second_as_the_network_gives_them(encoder, tmp_path) -> None:
    sound = torch.randn(2, round(2.2 * 48_000), generator=torch.Generator().manual_seed(0)) / 10
    rows = encoder(sound)
    assert rows.shape == (2, 3, encoder.output_dim) and rows.dtype == torch.float32
    assert (encoder.sampling_rate, encoder.hop_size_in_ms) == (48_000, 500)
    second = sound[1:, 24_000:72_000]
    expected = load_any(tmp_path / "network").audio(second, encoder.layer)
    torch.testing.assert_close(rows[1:, 1], expected.float())
    assert encoder(sound[:, :1000]).shape == (2, 1, encoder.output_dim)


def test_x_ares_keeps_what_it_computes_by_a_name_that_no_other_network_has(encoder, tmp_path, monkeypatch) -> None:
    name = type(encoder).__name__
    assert name.startswith("Avc") and name.endswith("Encoder")
    from examples.xares_encoder import AvcEncoder

    monkeypatch.setenv("AVC_NETWORK", str(saved(tmp_path / "other", "l3")))
    assert type(AvcEncoder()).__name__ != name
    monkeypatch.delenv("AVC_NETWORK")
    with pytest.raises(ValueError, match="AVC_NETWORK names no network"):
        AvcEncoder()


def test_x_ares_takes_the_encoder(encoder) -> None:
    installed("xares", XARES)
    from xares.audio_encoder_checker import check_audio_encoder

    assert check_audio_encoder(encoder)


@pytest.mark.parametrize("name", ["ave", "l3"])
def test_mteb_compares_sounds_with_pictures_where_they_have_one_space(name, tmp_path) -> None:
    installed("mteb", MTEB)
    from types import SimpleNamespace

    from PIL import Image

    from examples.mteb_model import AvcModel

    model = AvcModel(str(saved(tmp_path / "network", name)))
    pictures = [{"image": [Image.new("RGBA", (80, 60), (9, shade, 90)) for shade in (0, 200)]}]
    sound = {"array": np.random.default_rng(0).normal(0, 0.1, 16_000), "sampling_rate": 16_000}
    alone = [
        model.encode(batches, task_metadata=SimpleNamespace(modalities=[kind], name=kind))
        for kind, batches in (("image", pictures), ("audio", [{"audio": [sound]}]))
    ]
    assert [rows.shape[0] for rows in alone] == [2, 1]
    both = SimpleNamespace(modalities=["audio", "image"], name="a2i")
    if name == "ave":
        np.testing.assert_array_equal(model.encode(pictures, task_metadata=both), alone[0])
    else:
        with pytest.raises(ValueError, match="a space for each modality: a2i compares them"):
            model.encode(pictures, task_metadata=both)
    with pytest.raises(ValueError, match="must have audio or image, and this one has text"):
        model.encode(
            [{"text": ["a dog"]}], task_metadata=both if name == "ave" else SimpleNamespace(modalities=["text"])
        )


def test_mteb_hears_a_recording_by_a_network_that_takes_it_whole(tmp_path) -> None:
    installed("mteb", MTEB)
    from types import SimpleNamespace

    from examples.mteb_model import AvcModel

    sounds = [np.random.default_rng(size).normal(0, 0.1, size) for size in (160_000, 80_000)]
    batch = {"audio": [{"array": sound, "sampling_rate": 16_000} for sound in sounds]}
    task = SimpleNamespace(modalities=["audio"], name="audio")
    config = parse_config({"model": {"name": "soundnet5", "width": 0.0625, "objects": 6, "scenes": 4}})
    trained(build(config.model), config).save_pretrained(tmp_path / "network")
    rows = AvcModel(str(tmp_path / "network")).encode([batch], task_metadata=task)
    assert rows.shape[0] == 2 and np.isfinite(rows).all() and rows.std() > 0
