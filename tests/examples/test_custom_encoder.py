"""An outside network of one file goes through every command that takes features of images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from avc.encoders.load import load_any, named_encoder
from avc.encoders.sources import embed_clips
from shards.read import Shards
from tests.command_line import avc

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "examples" / "custom_encoder.py"
SOURCE = f"{FILE}:encoder"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten blue and ten red ones."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for kind, color in (("blue", (20, 20, 200)), ("red", (200, 20, 20))):
        (folder / kind).mkdir()
        for number in range(10):
            picture = np.clip(np.array(color) + random.normal(0, 20, (80, 90, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def labels(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards, path = Shards(small_world), tmp_path_factory.mktemp("labels") / "labels.csv"
    with path.open("w") as file:
        csv.writer(file).writerows((shards.info(clip)["name"], f"kind {clip % 2}") for clip in range(len(shards)))
    return path


def test_the_example_is_at_most_40_lines_and_an_encoder_is_one_file_of_at_most_40() -> None:
    for path in (FILE, ROOT / "avc" / "encoders" / "efficientnet.py"):
        assert len(path.read_text().splitlines()) <= 40


def test_pictures_are_probed_and_embedded_as_the_encoder_gives_them(pictures, tmp_path) -> None:
    out = [f"cache={tmp_path / 'cache'}", "--json", tmp_path / "image.json"]
    done = avc("eval", "image", SOURCE, f"root={pictures}", "strength=0.1", *out)
    assert done.returncode == 0, done.stderr
    [row] = json.loads((tmp_path / "image.json").read_text())["rows"]
    assert row["name"] == "my network, map, 64 pixels" and row["accuracy"] > 0.9
    done = avc("embed", pictures, "--content", "image", "--run", SOURCE, "--out", tmp_path / "out", "--workers", "1")
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "out").rglob("red/3.png.npz")
    image = np.asarray(Image.open(pictures / "red" / "3.png"))[None]
    network = load_any(SOURCE)
    wanted = network.embed_image(torch.from_numpy(image.copy())).numpy()
    np.testing.assert_allclose(np.load(path)["embedding"], wanted, atol=1e-6)
    assert wanted.shape == (1, 10)


def test_packed_clips_are_probed_searched_and_explored(small_world, labels, tmp_path) -> None:
    packed = ["--shards", small_world]
    split = [*packed, f"labels={labels}", "--split", "validation"]
    done = avc("eval", "kinds", SOURCE, *split, f"cache={tmp_path / 'cache'}", "--json", tmp_path / "kinds.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "kinds.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["my network, frames of 64 pixels"]
    assert found["structure"][0]["units"] == 16
    done = avc("eval", "retrieval", SOURCE, *split, "--json", tmp_path / "retrieval.json")
    assert done.returncode == 0, done.stderr
    mine, random = json.loads((tmp_path / "retrieval.json").read_text())["rows"]
    assert mine["name"] == "my network" and mine["im_im"]["queries"] == 16
    assert mine["im_aud"] is mine["aud_im"] is mine["aud_aud"] is None and random["im_aud"] is not None
    done = avc("explore", SOURCE, *packed, "--labels", labels, "--out", tmp_path / "explorer")
    assert done.returncode == 0, done.stderr
    about = (tmp_path / "explorer" / "data" / "about.js").read_text()
    [run] = json.loads(about[about.index("{") : about.rindex("}") + 1])["runs"]
    assert len(run["image"]["mean"]) == 10 and run["audio"]["mean"] == [] and "only sees" in run["about"]


def test_the_encoder_runs_without_this_project(tmp_path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    done = avc("export", SOURCE, "--takes", "image", "--onnx", tmp_path / "mine.onnx")
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    session = runtime.InferenceSession(tmp_path / "mine.onnx", providers=["CPUExecutionProvider"])
    [theirs] = session.run(None, {"images": images})
    np.testing.assert_allclose(theirs, load_any(SOURCE).embed_crops(torch.from_numpy(images)), atol=1e-5)
    assert theirs.shape == (5, 10)


def test_what_an_encoder_lacks_is_said_in_one_paragraph(pictures, tmp_path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(5):
            soundfile.write(tmp_path / kind / f"{number}.wav", np.zeros(8_000), 8_000)
    for command, words in (
        (["eval", "sound", SOURCE, "dataset=folder", f"root={tmp_path}"], "my network only sees"),
        (["embed", tmp_path, "--run", SOURCE, "--out", tmp_path / "out"], "my network only sees: take --content image"),
        (["export", SOURCE, "--onnx", tmp_path / "x.onnx"], "my network only sees: take --takes image"),
        (["eval", "units", SOURCE, "--shards", tmp_path], "my network has no units to show here"),
        (["eval", "retrieval", SOURCE, f"labels={tmp_path / 'labels.csv'}"], "give --shards"),
        (["eval", "image", f"{FILE}:decoder", f"root={pictures}"], "has nothing of the name decoder"),
        (["eval", "image", f"{tmp_path}/absent.py:encoder", f"root={pictures}"], "there is no file"),
        (["eval", "image", f"{FILE}:Tensor", f"root={pictures}"], "makes a Tensor, and no AudioEncoder"),
    ):
        done = avc(*command)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_mfcc_are_an_encoder_by_name_that_only_hears(small_world) -> None:
    pytest.importorskip("librosa", reason="librosa is not installed")
    encoder = named_encoder("mfcc")
    assert encoder is not None and encoder.name == "MFCC" and named_encoder("runs/ave") is None
    views = embed_clips(load_any("mfcc"), Shards(small_world), np.arange(3))
    assert views.audio.shape == (3, 40) and views.image.shape == (3, 0)
