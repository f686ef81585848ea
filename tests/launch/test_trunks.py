"""Every trunk of the list that is not the papers': it trains, and evaluation takes its runs."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from avc.models.trunks import TRUNKS
from tests.avc.launching import metrics, train_here, write_config
from tests.command_line import avc
from tests.small_videos import render_video


@pytest.fixture(scope="module", params=[trunk for trunk in TRUNKS if trunk != "vgg"])
def runs(request, small_world, tmp_path_factory):
    """A folder of runs of three steps on one trunk, by the network's name."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("l3", "ave", "avol"):
        model = {"name": name, "width": 0.0625, "trunk": request.param}
        config = write_config(folder, small_world, model=model, data={"image_size": 56})
        train_here(config, folder / name, "training.steps=3", "validation.every_steps=3")
    return folder


def run(*command: object) -> str:
    done = avc(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["l3", "ave", "avol"])
def test_it_trains(runs, name) -> None:
    losses = [line["loss"] for line in metrics(runs / name) if line["kind"] == "train"]
    assert len(losses) == 3 and np.isfinite(losses).all()


@pytest.mark.parametrize("name", ["l3", "ave"])
def test_linear_probes_and_retrieval_take_its_runs(runs, name, small_world, tmp_path) -> None:
    random = np.random.default_rng(0)
    for kind, (color, pitch) in {"low": ((20, 20, 200), 200), "high": ((200, 20, 20), 3000)}.items():
        for number in range(10):
            for root in ("images", "sounds"):
                (tmp_path / root / kind).mkdir(parents=True, exist_ok=True)
            image = np.clip(np.array(color) + random.normal(0, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / kind / f"{number}.png")
            wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(48_000) / 48_000)
            soundfile.write(tmp_path / "sounds" / kind / f"{number}.wav", wave, 48_000)
    labels = small_world.parent / "world" / "labels.jsonl"
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    halves = tmp_path / "halves.csv"
    middle = sorted(row["kind"] for row in rows)[len(rows) // 2]
    halves.write_text("".join(f"{row['file']},{'ab'[row['kind'] < middle]}\n" for row in rows))
    cache, out = f"cache={tmp_path / 'cache'}", tmp_path / "out.json"
    run("eval", "image", runs / name, f"root={tmp_path / 'images'}", "strength=1", cache, "--json", out)
    assert json.loads(out.read_text())["rows"][0]["accuracy"] > 0.9
    run("eval", "sound", runs / name, "dataset=folder", f"root={tmp_path / 'sounds'}", "strength=1", cache)
    run("eval", "kinds", runs / name, f"labels={halves}", "few=2", cache, "--json", out)
    untrained = [row["name"] for row in json.loads(out.read_text())["rows"] if "untrained" in row["name"]]
    assert untrained and all("trunk resnet18" in name for name in untrained), (
        "the untrained network is of the same trunk"
    )
    assert "random" in run("eval", "retrieval", runs / name, f"labels={labels}")


def test_its_map_is_shown_and_measured(runs, small_world, tmp_path) -> None:
    boxes = small_world.parent / "world" / "labels.jsonl"
    assert "consensus IoU" in run("eval", "localization", runs / "avol", f"boxes={boxes}")
    video = render_video(tmp_path / "in.mp4", seed=3, seconds=1.2)
    run("localize", runs / "avol", video, "--out", tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_file()


def test_its_units_and_first_filters_are_on_the_page(runs, tmp_path) -> None:
    run("eval", "units", runs / "l3", f"out={tmp_path}", "count=2", "top=2", "clips=8")
    assert (tmp_path / "index.html").read_text().count("<h3>") == 4
