"""Names from other systems at the commands: how many meet an input or a clip is said, and none is a mistake."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from avc.data.labels import labeled, read_labels
from shards.journal import Packed, Rejection, read_events
from shards.pack import list_inputs, pack
from shards.read import Shards
from shards.tasks import Task
from tests.command_line import avc
from tests.shards.packing import SETTINGS, packing_order
from tests.small_videos import render_video

CAFE = "Caf\u00e9.mp4"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("names") / "videos"
    folder.mkdir()
    for seed, name in enumerate((unicodedata.normalize("NFD", CAFE), "one.mp4", "two.mp4")):
        render_video(folder / name, seed=seed)
    return folder


def splits(folder: Path) -> dict[str, str]:
    """The split of each record, by its file's name in NFC."""
    packed = [event for event in read_events(folder / "journal.jsonl") if isinstance(event, Packed)]
    return {unicodedata.normalize("NFC", event.source.basename): event.split for event in packed}


@pytest.mark.parametrize(
    ("text", "said", "test"),
    [
        ("\ufeffone\r\ntwo\r\n", "test: 2 of 2 names", {"one.mp4", "two.mp4"}),
        ("Caf\u00e9\none\n", "test: 2 of 2 names", {CAFE, "one.mp4"}),
        ("name\none\n", "test: 1 of 2 names; 1 in TEST are of no input, such as 'name'", {"one.mp4"}),
    ],
    ids=["mark", "nfc", "header"],
)
def test_pack_says_how_many_names_of_a_list_are_of_inputs(videos, tmp_path, text, said, test) -> None:
    listed = tmp_path / "test.txt"
    listed.write_text(text, encoding="utf-8", newline="")
    command = ["pack", videos, "--out", tmp_path / "out", "--side", 32, "--workers", 1]
    command += ["--split-list", f"test={listed}"]
    for _ in range(2):  # resumed, the count is that of all inputs
        done = avc(*command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == said.replace("TEST", str(listed))
    assert {name for name, split in splits(tmp_path / "out").items() if split == "test"} == test


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("one\r\ntwo\r\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (b"three\n", "none of the names in"),
        (b"", "it has 0"),
    ],
    ids=["utf-16", "none", "empty"],
)
def test_a_list_whose_names_are_of_no_input_is_refused_before_anything_is_packed(
    videos, tmp_path, content, words
) -> None:
    (tmp_path / "test.txt").write_bytes(content)
    done = avc("pack", videos, "--out", tmp_path / "out", "--split-list", f"test={tmp_path / 'test.txt'}")
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_each_of_several_tasks_counts_the_names_among_all_inputs(videos, tmp_path) -> None:
    (tmp_path / "test.txt").write_text("one\n")
    for number in range(1, 4):
        sources, splitter = list_inputs(
            [videos], tmp_path / "out", SETTINGS, split_lists={"test": tmp_path / "test.txt"}, task=Task(number, 3)
        )
        assert len(sources) == 3 and [str(coverage) for coverage in splitter.coverage] == ["test: 1 of 1 names"]


def test_a_copy_that_is_named_in_another_split_than_the_one_packed_is_said(videos, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).write_bytes((videos / "one.mp4").read_bytes())
    first, second = packing_order(tmp_path / "in")
    (tmp_path / "test.txt").write_text(f"{second}\n")
    settings = SETTINGS.__class__(side=32, split=(1.0, 0.0, 0.0))
    pack([tmp_path / "in"], tmp_path / "out", settings, split_lists={"test": tmp_path / "test.txt"}, workers=1)
    [rejected] = [event for event in read_events(tmp_path / "out" / "journal.jsonl") if isinstance(event, Rejection)]
    assert rejected.detail == (
        f"same content as {tmp_path / 'in' / first}, which is in train; this name is in {tmp_path / 'test.txt'}"
    )


def test_an_interrupted_download_is_counted_and_named_and_no_record(videos, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("one.mp4", "one.mp4.part"):
        (tmp_path / "in" / name).write_bytes((videos / "one.mp4").read_bytes() + name.encode())
    done = avc("pack", tmp_path / "in", "--out", tmp_path / "out", "--side", 32, "--workers", 1)
    assert done.returncode == 0 and "lists the 1 that were rejected" in done.stdout
    assert set(splits(tmp_path / "out")) == {"one.mp4"}
    name, reason, detail = (tmp_path / "out" / "rejected.tsv").read_text().rstrip("\n").split("\t")
    assert name.endswith("one.mp4.part") and "interrupted download" in detail and reason == "unreadable file"


def test_labels_meet_clips_whose_names_have_two_colons_or_milliseconds(videos, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    names = ["a::b.mp4", "abcdefghijk_5000_15000.mp4", unicodedata.normalize("NFD", CAFE)]
    for seed, name in enumerate(names):
        render_video(tmp_path / "in" / name, seed=seed)
    pack([tmp_path / "in"], tmp_path / "out", SETTINGS, workers=1)
    shards = Shards(tmp_path / "out")
    (tmp_path / "a.csv").write_text(f"\ufeffa::b.mp4,colons\r\n{CAFE},accent\r\nabcdefghijk_000005,id\r\n")
    known = labeled(shards, np.arange(3), read_labels(tmp_path / "a.csv"))
    assert known.classes == ("accent", "colons", "id") and (known.met, known.names) == (3, 3)
    (tmp_path / "vggsound.csv").write_text("abcdefghijk,5,dog,test\nabcdefghijk,25,cat,test\nelsewhere00,1,cow,train\n")
    found = read_labels(tmp_path / "vggsound.csv")
    assert [form for form in ("abcdefghijk", "abcdefghijk_000005", "elsewhere00") if form in found] == [
        "abcdefghijk_000005",
        "elsewhere00",
    ]
    with pytest.raises(ValueError, match=r"1 of the 3 clips have a label, .* labels for 3 names, such as"):
        labeled(shards, np.arange(3), found)


def test_an_evaluation_says_how_many_names_of_the_labels_are_of_clips(small_world, tmp_path) -> None:
    settings = tmp_path / "small.yaml"
    settings.write_text("\ufeffmodel: {name: l3, width: 0.0625}\r\ndata: {image_size: 28}\r\n", newline="")
    rows = [json.loads(line) for line in (small_world.parent / "world" / "labels.jsonl").read_text().splitlines()]
    lines = [f"{row['file'].upper().replace('CLIP', 'clip')},{row['kind']}\r\n" for row in rows]
    (tmp_path / "labels.CSV").write_text("\ufefffile,kind\r\n" + "".join(lines[1:]), encoding="utf-8", newline="")
    command = ["eval", "kinds", settings, "--shards", small_world, f"labels={tmp_path / 'labels.CSV'}"]
    done = avc(*command, f"cache={tmp_path / 'cache'}", "strength=1e-3")
    assert done.returncode == 0, done.stderr
    assert f"{len(lines) - 1:,} of {len(lines):,} names are of clips of the train and validation splits" in done.stdout
    assert "1 clips of the train and validation splits have no label and are left out, such as " in done.stdout
