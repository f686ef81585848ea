"""What a survey keeps of what it has looked at, which of several copies it keeps, and of what split each video is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shards.format import PackSettings
from shards.look import encode_note, read_notes
from shards.pack import pack
from shards.store import Store, Url
from shards.survey import survey
from tests.object_store import Proxy
from tests.shards.test_near import scene
from tests.small_videos import render_folder, render_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=3)


def test_packed_videos_that_were_packed_anew_are_looked_at_anew(tmp_path: Path) -> None:
    packed, seconds = tmp_path / "packed", []
    render_video(tmp_path / "video.mp4", seed=0, seconds=3)
    for length in (3, 2):
        shutil.rmtree(packed, ignore_errors=True)
        pack([tmp_path / "video.mp4"], packed, PackSettings(side=48, seconds=length), workers=1)
        looks = survey([packed], workers=1, notes=tmp_path / "looks.jsonl").looks
        seconds.append({round(one.seconds) for one in looks})
    assert seconds == [{3}, {2}]


def test_of_the_same_bytes_in_three_places_one_is_kept_and_each_other_is_named_once(videos: Path, tmp_path) -> None:
    for name in ("train/a", "val/b", "val/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(videos / "video-00.mp4", tmp_path / f"{name}.mp4")
    faults = [fault for fault in survey([tmp_path], workers=1).faults if fault.kind == "duplicate"]
    assert [(Path(fault.name).stem, Path(fault.detail.split()[1].rstrip(",")).stem) for fault in faults] == [
        ("a", "b"),
        ("c", "b"),
    ]


@pytest.mark.parametrize("spoilt", [b"junk\n", b"\n", b"7\n", b"[[1], 2]\n", b'[["c"], {}]\n', b"\xff\n", None])
def test_notes_are_taken_up_to_the_first_line_that_cannot_be_read(spoilt: bytes | None, tmp_path: Path) -> None:
    notes, one = tmp_path / "looks.jsonl", scene(1)
    assert read_notes(notes, settings=[10.0]) == {}
    line = encode_note(("a", None), one)
    begun = notes.read_bytes() + line
    notes.write_bytes(begun + (spoilt or line[:100] + b"\n") + encode_note(("b", None), one))
    assert set(read_notes(notes, settings=[10.0])) == {("a", None)}
    assert notes.read_bytes() == begun


def test_notes_that_are_a_named_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "looks.jsonl")
    number = os.open(tmp_path / "looks.jsonl", os.O_RDWR)  # so that whoever opens it does not wait
    try:
        with pytest.raises(ValueError, match="named pipe"):
            read_notes(tmp_path / "looks.jsonl", settings=[10.0])
    finally:
        os.close(number)


def test_each_list_is_a_group_and_the_smallest_input_counts(videos: Path, tmp_path: Path) -> None:
    train, test, notes = tmp_path / "train.txt", tmp_path / "test.txt", tmp_path / "looks.jsonl"
    names = sorted(map(str, videos.iterdir()))

    def groups(*inputs: Path) -> list[str]:
        return [one.group for one in survey(inputs, workers=1, notes=notes).looks]

    train.write_text("\n".join(names[:2]))
    test.write_text(names[2])
    assert groups(train, test) == ["train", "train", "test"]
    test.write_text("\n".join(names[1:]))
    train.write_text(names[0])
    assert groups(train, test) == ["train", "test", "test"]  # though each was looked at before
    assert groups(test, videos) == [videos.name, "test", "test"]


def test_videos_at_a_url_are_looked_at_as_those_of_a_folder(videos: Path, proxy: Proxy, tmp_path: Path) -> None:
    url = f"s3://shelf/{tmp_path.name}"
    for path, split in zip(sorted(videos.iterdir()), ("train", "test", "test"), strict=True):
        Store(Url(url)).create(f"{split}/{path.name}", path.read_bytes())
    found = survey([url], workers=1)
    assert [(one.name.removeprefix(url), one.group) for one in found.looks] == [
        *[(f"/test/video-0{number}.mp4", "test") for number in (1, 2)],
        ("/train/video-00.mp4", "train"),
    ]
    assert [one.group for one in survey([f"{url}/train", f"{url}/test"], workers=1).looks] == ["test", "test", "train"]


def test_a_video_of_little_more_than_a_second_is_looked_at_as_it_is_packed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    render_video(tmp_path / "in" / "short.mp4", seed=1, seconds=1.04)
    assert pack([tmp_path / "in"], tmp_path / "out", PackSettings(side=48), workers=1).done == 1
    found = survey([tmp_path / "in"], workers=1)
    assert (len(found.looks), found.rejected) == (1, [])
    assert len(found.looks[0].frames) > 0
