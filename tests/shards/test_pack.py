"""Packing: what becomes of each input, and that the result is ordinary files that anybody can open."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import soundfile
import webdataset

from shards.format import PackSettings
from shards.journal import Journal
from shards.pack import pack
from shards.read import Shards
from shards.verify import verify
from tests.shards.packing import SETTINGS, SHARD_BYTES, content, outcome
from tests.small_videos import render_folder, render_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=10)


@pytest.fixture(scope="module")
def packed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack([videos], folder, SETTINGS, workers=2, shard_bytes=SHARD_BYTES)
    return folder


def members(folder: Path) -> dict[str, bytes]:
    """Every member of every shard, by tarfile."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


def test_a_folder_of_videos_becomes_shards_that_verify(videos: Path, tmp_path: Path) -> None:
    seen = []
    summary = pack(
        [videos], tmp_path / "out", SETTINGS, shard_bytes=SHARD_BYTES, progress=lambda *facts: seen.append(facts)
    )
    assert sum(summary.manifest.packed.values()) == 10
    assert summary.manifest.rejected == {}
    assert (summary.done, summary.skipped) == (10, 0)
    assert [done for done, _, _ in seen] == list(range(1, 11))
    assert all(shard.bytes <= SHARD_BYTES + 10_240 for shard in summary.manifest.shards)
    assert max(shard.records for shard in summary.manifest.shards) > 1
    assert verify(tmp_path / "out") == []


def test_bytes_do_not_depend_on_workers_order_or_place(videos: Path, packed: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path / "elsewhere" / "copies")
    files = sorted((tmp_path / "elsewhere" / "copies").iterdir(), reverse=True)
    pack(files, tmp_path / "out", SETTINGS, workers=1, shard_bytes=SHARD_BYTES)
    assert content(tmp_path / "out") == content(packed)


def test_videos_in_a_tar_give_the_records_of_the_same_videos_in_a_folder(
    videos: Path, packed: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "videos.tar", "w") as archive:
        for path in sorted(videos.iterdir()):
            archive.add(path, f"some/../../{path.name}")
    pack([tmp_path / "videos.tar"], tmp_path / "out", SETTINGS, workers=2, shard_bytes=SHARD_BYTES)
    assert members(tmp_path / "out") == members(packed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "videos.tar"]


def test_a_webdataset_of_whole_videos_with_captions_gives_the_records_of_the_same_videos_in_a_folder(
    videos: Path, packed: Path, tmp_path: Path
) -> None:
    with webdataset.ShardWriter(f"{tmp_path}/theirs-%06d.tar", maxcount=4, verbose=0) as writer:
        for number, path in enumerate(sorted(videos.iterdir())):
            sample = {"__key__": f"{number:09}", "txt": "a caption", "json": {"caption": "a caption"}}
            writer.write(sample | {path.suffix[1:]: path.read_bytes()})
    theirs = sorted(tmp_path.glob("theirs-*.tar"))
    assert len(theirs) > 1
    pack(theirs, tmp_path / "out", SETTINGS, workers=2, shard_bytes=SHARD_BYTES)
    keys = [Shards(folder).index["key"].tolist() for folder in (tmp_path / "out", packed)]
    assert keys[0] == keys[1] and keys[0]
    sounds = [Shards(folder).index["sound_crc"].tolist() for folder in (tmp_path / "out", packed)]
    assert sounds[0] == sounds[1]


def test_tar_lists_three_members_a_record_and_no_name_leaves_the_folder(packed: Path) -> None:
    names = []
    for shard in sorted(packed.glob("*.tar")):
        listing = subprocess.run(["tar", "tf", shard], capture_output=True, text=True, check=True)
        assert listing.stderr == ""
        names += listing.stdout.splitlines()
    assert len(names) == 30
    for name in names:
        key, _, extension = name.partition(".")
        assert len(key) == 32
        assert set(key) <= set("0123456789abcdef")
        assert extension in ("json", "mjpeg", "wav")


def test_webdataset_streams_the_shards(packed: Path) -> None:
    urls = [str(path) for path in sorted(packed.glob("*.tar"))]
    records = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len({record["__key__"] for record in records}) == 10
    assert all(json.loads(record["json"])["key"] == record["__key__"] for record in records)


def test_members_open_with_other_libraries(packed: Path) -> None:
    shards = Shards(packed)
    for clip, name in enumerate(sorted({name.partition(".")[0] for name in members(packed)})):
        record = {extension: members(packed)[f"{name}.{extension}"] for extension in ("json", "mjpeg", "wav")}
        facts = json.loads(record["json"])
        with av.open(io.BytesIO(record["mjpeg"]), format="mjpeg") as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == facts["ticks"] == int(shards.index[clip]["ticks"]) == 50
        assert frames[0].shape == (facts["height"], facts["width"], 3)
        first = PIL.Image.open(io.BytesIO(record["mjpeg"]))
        assert first.size == (facts["width"], facts["height"])
        assert np.abs(np.asarray(first, np.int16) - shards.picture(clip, 0)).max() <= 2
        sound, rate = soundfile.read(io.BytesIO(record["wav"]), dtype="int16")
        assert (rate, len(sound)) == (48_000, 50 * 1920)
        assert facts["sound"] == {"format": "wav", "rate": 48_000, "samples": 96_000, "from": 0, "to": 96_000}


def test_flac_holds_the_same_samples_as_wav(videos: Path, packed: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path, PackSettings(side=32, sound="flac"), workers=2)
    assert verify(tmp_path) == []
    flac, wav = members(tmp_path), members(packed)
    for name in (name for name in wav if name.endswith(".wav")):
        expected, _ = soundfile.read(io.BytesIO(wav[name]), dtype="int16")
        sound, _ = soundfile.read(io.BytesIO(flac[name.replace(".wav", ".flac")]), dtype="int16")
        np.testing.assert_array_equal(sound, expected)


def test_records_hold_nothing_of_the_machine_that_packed_them(videos: Path, packed: Path) -> None:
    for shard in packed.glob("*.tar"):
        assert str(videos).encode() not in shard.read_bytes()
        with tarfile.open(shard) as archive:
            assert {(member.mtime, member.uid, member.uname, member.mode) for member in archive} == {
                (0, 0, "avc", 0o444)
            }


def test_names_that_are_not_text_are_packed_and_found_again(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    names = [b"a&b?c=d.mp4", b"new\nline.mp4", b"not-utf8-\xff.mp4", b"concat:a|b.mp4", b"-o.mp4", b"http:x.mp4"]
    for seed, name in enumerate(names):
        path = Path(os.fsdecode(os.path.join(os.fsencode(source), name)))
        render_video(tmp_path / "plain.mp4", seed=seed).rename(path)
    pack([source], tmp_path / "out", SETTINGS, workers=2)
    assert set(outcome(tmp_path / "out").values()) == {"packed"}
    assert pack([source], tmp_path / "out", SETTINGS).skipped == len(names)
    shards = Shards(tmp_path / "out")
    assert {shards.info(clip)["name"] for clip in range(len(shards))} == {
        name.decode("utf-8", "replace") for name in names
    }


def test_splits_follow_lists_and_stay_when_inputs_are_added(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("video-03\nvideo-07.mp4\n")
    lists = {"test": tmp_path / "test.txt"}
    some = [path for path in sorted(videos.iterdir()) if path.stem != "video-05"]
    pack(some, tmp_path / "out", SETTINGS, split_lists=lists)
    pack([videos], tmp_path / "out", SETTINGS, split_lists=lists)
    pack([videos], tmp_path / "at-once", SETTINGS, split_lists=lists)
    split_of = [
        {shards.key(clip): split for split in ("train", "validation", "test") for clip in shards.clips(split)}
        for shards in (Shards(tmp_path / "out"), Shards(tmp_path / "at-once"))
    ]
    assert split_of[0] == split_of[1]
    shards = Shards(tmp_path / "out")
    assert sorted(shards.info(clip)["name"] for clip in shards.clips("test")) == ["video-03.mp4", "video-07.mp4"]


def test_a_list_that_would_move_a_packed_clip_is_refused(videos: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path / "out", SETTINGS)
    (tmp_path / "test.txt").write_text("\n".join(path.stem for path in videos.iterdir()))
    with pytest.raises(ValueError, match="was packed as"):
        pack([videos], tmp_path / "out", SETTINGS, split_lists={"test": tmp_path / "test.txt"})


def test_new_inputs_go_into_new_shards(videos: Path, tmp_path: Path) -> None:
    first = sorted(videos.iterdir())[:6]
    pack(first, tmp_path, SETTINGS, workers=2)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")}
    summary = pack([videos], tmp_path, SETTINGS, workers=2)
    assert (summary.done, summary.skipped) == (4, 6)
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")}
    assert before.items() < after.items()
    assert verify(tmp_path) == []
    assert len(Shards(tmp_path)) == 10


def test_packing_again_repairs_a_lost_index(videos: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path, SETTINGS, workers=2)
    before = content(tmp_path)
    for name in ("manifest.json", "clips.npy", "pictures.npy"):
        (tmp_path / name).write_bytes(b"")
    pack([videos], tmp_path, SETTINGS, workers=2)
    assert content(tmp_path) == before


def test_other_settings_are_refused_and_named(videos: Path, packed: Path) -> None:
    before = content(packed)
    with pytest.raises(ValueError, match="side 32 and not 64"):
        pack([videos], packed, PackSettings(side=64), shard_bytes=SHARD_BYTES)
    with pytest.raises(ValueError, match="shard_bytes 1000000 and not 2000000"):
        pack([videos], packed, SETTINGS, shard_bytes=2_000_000)
    assert content(packed) == before


def test_a_second_packer_is_refused(videos: Path, tmp_path: Path) -> None:
    with (
        Journal(tmp_path, SETTINGS, shard_bytes=256_000_000),
        pytest.raises(ValueError, match="another `avc pack` is at work"),
    ):
        pack([videos], tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PackSettings(seconds=0.5), "seconds is 0.5"),
        (PackSettings(every=0), "every is 0"),
        (PackSettings(sound="mp3"), "sound is 'mp3'"),
        (PackSettings(split=(0.5, 0.1, 0.1)), "add up to 1"),
        (PackSettings(jpeg_quality=101), "1 to 100"),
        (PackSettings(start_seconds=float("nan")), "start_seconds"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(
    videos: Path, tmp_path: Path, settings: PackSettings, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pack([videos], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_packed_into(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files"):
        pack([videos], tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="is a file"):
        pack([videos], tmp_path / "thesis.tex", SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no files"):
        pack([tmp_path / "empty"], tmp_path / "out", SETTINGS)
