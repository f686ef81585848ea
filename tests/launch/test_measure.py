"""`avc eval retrieval`, `avc eval localization`, `avc localize` and `avc audit`, as a user calls them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avc.config import dump_config, parse_config
from avc.models import build
from shards.format import PackSettings
from shards.pack import pack
from tests.command_line import avc
from tests.small_videos import render_video


@pytest.fixture(scope="module")
def runs(small_world, tmp_path_factory):
    """The folders of two runs that have learnt nothing, by the network's name."""
    folders = {}
    for name in ("l3", "avol"):
        folder = tmp_path_factory.mktemp(name)
        settings = {"model": {"name": name, "width": 0.0625}, "data": {"image_size": 28, "shards": str(small_world)}}
        config = parse_config(settings)
        torch.manual_seed(0)
        (folder / "config.yaml").write_text(dump_config(config))
        save_file(build(config.model).state_dict(), folder / "model.safetensors")
        folders[name] = folder
    return folders


@pytest.fixture(scope="module")
def three_splits(small_world, tmp_path_factory):
    """The clips of `small_world`, the last eight of them for a test and the eight before to validate on."""
    folder = tmp_path_factory.mktemp("three")
    lists = {"validation": range(24, 32), "test": range(32, 40)}
    for split, numbers in lists.items():
        (folder / split).write_text("".join(f"clip-{number:05}\n" for number in numbers))
    settings = PackSettings(side=64, split=(1.0, 0.0, 0.0))
    videos = small_world.parent / "world" / "videos"
    pack([videos], folder / "shards", settings, split_lists={name: folder / name for name in lists}, workers=1)
    return folder / "shards"


@pytest.mark.parametrize(
    ("question", "run", "more"),
    [
        ("correspondence", "l3", ["passes=1"]),
        ("retrieval", "l3", ["labels=labels.csv"]),
        ("localization", "avol", ["boxes=labels.jsonl"]),
        ("kinds", "l3", ["labels=labels.csv", "layer=embedding", "few=1"]),
    ],
)
def test_the_test_split_judges_where_there_is_one_and_what_chose_the_weights_is_said(
    runs, small_world, three_splits, tmp_path, question, run, more
) -> None:
    (tmp_path / "labels.csv").write_text("".join(f"clip-{n:05},{'odd' if n % 2 else 'even'}\n" for n in range(40)))
    (tmp_path / "labels.jsonl").symlink_to(small_world.parent / "world" / "labels.jsonl")
    words = [word.replace("=labels.", f"={tmp_path}/labels.") for word in more]
    command = ["eval", question, runs[run], *words, "--json", tmp_path / "out.json"]
    if question == "kinds":
        command.append(f"cache={tmp_path / 'cache'}")
    for options, judged in (
        (["--shards", three_splits], "test"),
        ([], "validation"),
        (["--shards", three_splits, "--split", "validation"], "validation"),
    ):
        done = avc(*command, *options)
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / "out.json").read_text())
        assert result["weights_chosen_on"] == "the validation split" and result["judged_on"] == f"the {judged} split"
        said = "weights chosen on the validation split, judged on the test split"
        assert (said in done.stdout) == (judged == "test")
        assert ("the validation split, which chose the weights too" in done.stdout) == (judged == "validation")


def test_retrieval_prints_every_row_and_writes_it_for_machines(runs, small_world, tmp_path) -> None:
    labels = small_world.parent / "world" / "labels.jsonl"
    done = avc("eval", "retrieval", runs["l3"], f"labels={labels}", "gain=linear", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert "linear gain, relevance from shared labels" in done.stdout
    assert f"{labels}: 16 of 40 names are of clips of the validation split" in done.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["names"], result["names_met"]) == (40, 16)
    assert [row["name"][:6] for row in result["rows"]] == ["L3-Net", "L3-Net", "random"]
    assert all(f"{row['im_aud']['mean']:.3f}" in done.stdout for row in result["rows"])


def test_localization_prints_hits_overlaps_and_sanity(runs, small_world, tmp_path) -> None:
    boxes = small_world.parent / "world" / "labels.jsonl"
    done = avc("eval", "localization", runs["avol"], f"boxes={boxes}", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert f"{boxes}: 16 of 40 names are of clips of the validation split" in done.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["all"]["frames"] == 16 and (result["names"], result["met"]) == (40, 16)
    right, down = result["all"]["displacement_pixels"]
    assert f"{right:+.1f} ± " in done.stdout and f"{down:+.1f} ± " in done.stdout
    for words in ("map's maximum", "nearest box", "consensus IoU", "white noise", "IIoU", "at one threshold"):
        assert words in done.stdout


def test_boxes_that_have_no_area_are_counted_and_said(runs, small_world, tmp_path) -> None:
    labels = (small_world.parent / "world" / "labels.jsonl").read_text().splitlines()
    named = [(Path(json.loads(line)["file"]).stem, json.loads(line)["kind"]) for line in labels]
    bbox = [[0.2, 0.2, 0.6, 0.6], [0.5, 0.5, 0.5, 0.9]]
    (tmp_path / "boxes.json").write_text(json.dumps([{"file": f, "class": k, "bbox": bbox} for f, k in named]))
    given = (f"boxes={tmp_path / 'boxes.json'}", "--json", tmp_path / "out.json")
    done = avc("eval", "localization", runs["avol"], *given)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["boxes_without_area"]) == 40 and "40 boxes have no area and are left out" in done.stdout
    assert result["all"]["frames"] == 16 and "another's sound" in done.stdout


def test_a_damaged_record_is_named_in_one_paragraph_and_the_status_is_1(runs, small_world, tmp_path) -> None:
    shutil.copytree(small_world, tmp_path / "shards")
    for shard in (tmp_path / "shards").glob("*.tar"):
        shard.write_bytes(bytes(shard.stat().st_size))
    labels = small_world.parent / "world" / "labels.jsonl"
    done = avc("eval", "retrieval", runs["l3"], f"labels={labels}", "--shards", tmp_path / "shards")
    assert done.returncode == 1
    assert "`avc verify" in done.stderr.splitlines()[-1]


def test_localize_writes_the_video_and_not_over_itself(runs, tmp_path) -> None:
    video = render_video(tmp_path / "in.mp4", seed=3)
    done = avc("localize", runs["avol"], video, "--out", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out.mp4'}: 50 frames\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    before = video.read_bytes()
    done = avc("localize", runs["avol"], video, "--out", video)
    assert done.returncode == 2 and "the video itself" in done.stderr and video.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["eval", "retrieval", "{avol}", "labels={world}/labels.jsonl"],
            "retrieval needs a run of another",
        ),
        (
            ["eval", "retrieval", "{l3}", "labels={world}/labels.jsonl", "instruments=true"],
            "give its file by ontology=FILE",
        ),
        (["eval", "retrieval", "{l3}", "labels=/nowhere.csv"], "/nowhere.csv cannot be read"),
        (["eval", "retrieval", "{l3}", "labels={world}/labels.jsonl", "gain=log"], "`gain` is 'log'"),
        (["eval", "localization", "{l3}", "boxes={world}/labels.jsonl"], "only avol says where sound is"),
        (["localize", "{avol}", "/nowhere.mp4", "--out", "out.mp4"], "/nowhere.mp4 cannot be used"),
        (["eval", "correspondence", "{l3}", "--split", "tests"], "there is no split 'tests'"),
        (["audit", "shortcut", "{world}", "--grid", "fine"], "--grid is 'fine'"),
        (["audit", "shortcut", "{world}", "--probe", "deep"], "--probe is 'deep'"),
        (["localize", "{avol}", "--image", "picture.png"], "--image and --sound together"),
        (["localize", "{avol}", "/nowhere.mp4", "--device", "cuda:99"], "--device names cuda:99, and there are"),
        (["eval", "localization", "{avol}", "boxes=b.json", "--device", "gpu"], "--device is 'gpu' and must name"),
        (
            ["eval", "units", "{l3}", "--shards", "{world}/../shards", "--device", "mps"],
            "--device names mps, and networks",
        ),
    ],
)
def test_a_users_mistake_is_a_paragraph_and_status_2(runs, small_world, arguments, words) -> None:
    places = {"l3": runs["l3"], "avol": runs["avol"], "world": small_world.parent / "world"}
    done = avc(*(argument.format(**places) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_audit_prints_its_laws_its_probes_and_a_verdict(small_world, tmp_path) -> None:
    done = avc("audit", "shortcut", small_world, "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert done.stdout.splitlines()[-1] == result["verdict"]
    assert done.stdout.count("same distribution for both labels") == 3
    assert [probe["modality"] for probe in result["probes"]] == ["sound", "frame"]
