"""`avc train`, `avc eval` and `avc demo`, as a user calls them."""

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

import launch.demo.demo
from launch.commands.demo import demo as demo_command
from launch.demo.demo import PASSES, RUNS
from tests.avc.launching import write_config
from tests.command_line import avc
from tests.launch.browsing import until


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory):
    """The folder of a run of two steps, trained by the command."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, small_world, training={"steps": 2}, validation={"every_steps": 0})
    done = avc("train", config, f"run.dir={folder / 'run'}", "model.name=l3")
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout and f"{folder / 'run'}: attempt 1" in done.stdout.splitlines()[0]
    return folder / "run"


def test_eval_measures_a_run_and_writes_the_result_for_machines(trained, tmp_path) -> None:
    done = avc("eval", "correspondence", trained, "passes=2", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["pairs"] == 2 * 2 * 16
    assert result["accuracy"] == pytest.approx((result["positives_accuracy"] + result["negatives_accuracy"]) / 2)
    assert result["interval_95"][0] < result["accuracy"] < result["interval_95"][1]
    assert f"{result['accuracy']:.1%}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "correspondence", "/nowhere"], "is not the folder of a run"),
        (["train", "/nowhere.yaml"], "there is no configuration file"),
        (["train", "CONFIG", "optim.learningrate=1"], "did you mean `optim.lr_decay`|there is no setting"),
        (["train", "CONFIG", "data.shards=/nowhere"], "/nowhere is not a folder"),
        (["train", "SHARDS"], "is a folder, and a YAML file of settings comes first: avc train ave data.shards=SHARDS"),
        (["train", "CONFIG", "shards=SHARDS"], "is not of the form section.name=value, as in data.shards=SHARDS"),
        (["train", "CONFIG", "data.shards=/proc"], "/proc has no manifest.json.*`avc pack VIDEOS --out FOLDER`"),
        (["train", "small"], "data.shards is not given: data.shards=FOLDER"),
        (["train", "CONFIG", "optim.batch_pairs=30"], "cannot be divided"),
        (["train", "CONFIG", "training.device=cuda"], "no CUDA device"),
        (["train", "CONFIG", "run.dir=FILE/run"], "run.dir is FILE/run, and FILE is a file"),
        (["train", "CONFIG", "model.name=avee"], "there is no network 'avee' .* did you mean `ave`"),
        (["settings", "few"], "few is a file of settings, of the network ave_nce: `avc settings ave_nce`"),
        (["settings", "soundnet"], "there is no network 'soundnet' .*; did you mean `soundnet[58]`"),
        (["eval", "correspondence", "RUN", "--json", "/proc/a.json"], "--json: /proc/a.json cannot be written"),
        (["eval", "correspondence", "RUN", "--json", "/nowhere/a"], "--json: /nowhere/a cannot be written: No such"),
        (["eval", "units", "RUN", "out=FILE"], "out: FILE cannot be written: FILE is a file, and a folder is needed"),
        (["explore", "RUN", "--out", "FILE/page"], "--out: FILE/page cannot be written: FILE is a file"),
        (["audit", "set", "nowhere", "--out", "FILE"], "--out: FILE cannot be written: FILE is a file"),
        (["export", "RUN", "--out", "FILE"], "--out: FILE cannot be written: FILE is a file"),
        (["export", "RUN", "--onnx", "RUN"], "--onnx: .* cannot be written: it is a folder, and a file is to be"),
        (["embed", "FILE", "--run", "RUN", "--out", "FILE"], "--out: FILE cannot be written: FILE is a file"),
        (["eval", "correspondence", "RUN", "--split", "test"], "0 clips in its test split"),
        (["eval", "correspondence", "RUN", "--split", "dev"], "the splits are train, validation, test"),
    ],
)
def test_a_users_mistake_ends_in_one_paragraph_and_status_2(trained, small_world, tmp_path, arguments, words) -> None:
    config = write_config(tmp_path, small_world)
    names = {"CONFIG": str(config), "RUN": str(trained), "FILE": str(tmp_path / "file"), "SHARDS": str(small_world)}
    (tmp_path / "file").write_text("as it was")
    for name, path in names.items():
        arguments, words = [word.replace(name, path) for word in arguments], words.replace(name, path)
    done = avc(*arguments)
    assert done.returncode == 2
    assert (tmp_path / "file").read_text() == "as it was"
    assert "Traceback" not in done.stderr
    message = done.stderr.strip()
    assert message
    assert "\n\n" not in message
    assert re.search(words, message), message


@pytest.fixture(scope="module")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo of 40 clips and two steps a network: its folder, and what it printed."""
    quick = ("training.steps=2", "model.width=0.0625", "data.image_size=28")
    runs = tuple(replace(run, settings=(*run.settings, *quick)) for run in RUNS)
    folder = tmp_path_factory.mktemp("demo") / "demo #1"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(launch.demo.demo, "RUNS", runs)
        demo_command(folder, clips=40, kinds=8, seed=1, workers=2, json=None)
    return folder, printed.getvalue()


def test_the_demo_ends_with_every_row_its_ceiling_and_its_pictures(demo_world) -> None:
    folder, _ = demo_world
    results = json.loads((folder / "results.json").read_text())
    assert [row["name"] for row in results["rows"]] == [run.name for run in RUNS]
    assert 0.85 < results["ceiling"] < 1
    for row in results["rows"]:
        assert row["pairs"] % (2 * PASSES) == 0
        assert row["share_of_ceiling"] == pytest.approx(row["accuracy"] / results["ceiling"])
    for picture in ("world.png", "results.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text()
    for row in results["rows"]:
        assert f"<td>{row['name']}</td><td>{row['accuracy']:.1%}</td>" in page


def test_the_demo_s_page_opens_by_the_printed_line_and_all_on_it_is_seen_and_plays(demo_world, page) -> None:
    _, printed = demo_world
    address = re.search(r"Look and listen:\s+(file://\S+)", printed)
    assert address is not None, printed
    page.goto(address[1])
    # 3 queries in each direction with 5 finds, 4 frames under 3 sounds, then 4 units of each trunk with 4 moments.
    assert page.locator("audio").count() == 2 * 3 * 6 + 4 * 3 + 2 * 4 * 4
    pictures = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(pictures) == 2 + page.locator("audio").count() and all(pictures)
    lengths = "[...document.querySelectorAll('audio')].every(each => each.duration >= 1 && each.error === null)"
    until(page, lengths)
    for number in (0, 20, 40, 70):  # of a frame's sounds, a sound's frames, an overlay and a unit
        page.evaluate(f"document.querySelectorAll('audio')[{number}].play()")
        until(page, f"document.querySelectorAll('audio')[{number}].currentTime > 0.3")
    page.click("text=Explore all held-out clips")
    page.wait_for_selector("body[data-ready]")
    page.click("#found .look >> nth=0")
    until(page, "document.querySelectorAll('.heats canvas').length === 3")
