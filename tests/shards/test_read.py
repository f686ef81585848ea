"""Reading: the right bytes, only those, from any thread and process, and a clear word when they are not there."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile

import shards.read
from shards.file_slice import Descriptor
from shards.format import CLIP, PackSettings
from shards.pack import pack
from shards.read import BadRecord, PictureError, Shards, decode_picture
from tests.small_videos import render_folder

VIDEOS = 9


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=VIDEOS)


@pytest.fixture(scope="module", params=["wav", "flac"])
def folder(request: pytest.FixtureRequest, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param)
    settings = PackSettings(side=33, every=5, sound=request.param, split=(0.5, 0.5, 0.0))
    pack([videos], out, settings, workers=2, shard_bytes=1_000_000)
    return out


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def member(folder: Path, name: str) -> bytes:
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as archive:
            if name in archive.getnames():
                file = archive.extractfile(name)
                assert file is not None
                return file.read()
    raise AssertionError(name)


def whole_sound(shards: Shards, clip: int) -> np.ndarray:
    data = member(shards.folder, f"{shards.key(clip)}.{shards.manifest.settings.sound}")
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def checksum(shards: Shards, clip: int) -> int:
    return int(shards.sound(clip, 1920 * clip).astype(np.int64).sum()) + int(shards.picture(clip, 5 * clip).sum())


def test_rows_are_sorted_by_key_and_splits_share_them_out(folder: Path) -> None:
    shards = Shards(folder)
    keys = [shards.key(clip) for clip in range(len(shards))]
    assert len(keys) == VIDEOS
    assert keys == sorted(keys)
    rows = np.concatenate([shards.clips(split) for split in ("train", "validation", "test")])
    assert sorted(rows.tolist()) == list(range(VIDEOS))
    assert shards.index.dtype == CLIP
    with pytest.raises(ValueError, match="no split 'val'"):
        shards.clips("val")


def test_a_frame_is_the_jpeg_file_at_its_tick(folder: Path) -> None:
    shards = Shards(folder)
    for clip in range(len(shards)):
        data = member(folder, f"{shards.key(clip)}.mjpeg")
        frames = [shards.frame(clip, tick) for tick in range(0, 50, 5)]
        assert b"".join(frames) == data
        for frame in frames:
            PIL.Image.open(io.BytesIO(frame)).verify()


def test_frames_in_a_row_are_those_of_their_ticks_and_take_one_read_of_their_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = Shards(folder)
    expected = [shards.frame(3, tick) for tick in (10, 15, 20, 25)]
    reads: list[int] = []
    read = Descriptor.read
    monkeypatch.setattr(Descriptor, "read", lambda self, offset, size: reads.append(size) or read(self, offset, size))
    assert shards.frames(3, 10, count=4) == expected
    assert reads == [5 * 4, sum(map(len, expected))]  # where they lie, and they
    for tick, picture in zip((10, 15, 20, 25), shards.film(3, 10, count=4, reduce=2), strict=True):
        np.testing.assert_array_equal(picture, shards.picture(3, tick, reduce=2))
    for first, count in ((-5, 3), (40, 3), (7, 2)):
        with pytest.raises(ValueError, match="has no picture"):
            shards.frames(3, first, count=count)


def test_a_tick_without_a_picture_is_refused(folder: Path) -> None:
    shards = Shards(folder)
    for tick in (-5, 1, 50, 5000):
        with pytest.raises(ValueError, match=f"tick {tick} of clip"):
            shards.frame(0, tick)


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
def test_a_picture_is_decoded_at_a_part_of_its_size(folder: Path, reduce: int) -> None:
    shards = Shards(folder)
    picture = shards.picture(2, 10, reduce=reduce)
    height, width = int(shards.index[2]["height"]), int(shards.index[2]["width"])
    assert (width, height) == (44, 33)
    assert picture.shape == (-(-height // reduce), -(-width // reduce), 3)
    assert picture.dtype == np.uint8
    expected = PIL.Image.open(io.BytesIO(shards.frame(2, 10)))
    expected.draft("RGB", (width // reduce, height // reduce))
    assert np.abs(picture.astype(int) - np.asarray(expected.convert("RGB"), int)).mean() < 3


def test_every_size_is_reduced_as_said() -> None:
    for width, height in [(341, 256), (256, 341), (256, 455), (17, 16), (257, 301)]:
        stream = io.BytesIO()
        PIL.Image.new("RGB", (width, height), (10, 200, 30)).save(stream, "JPEG", subsampling="4:2:0")
        for reduce in (1, 2, 4, 8):
            picture = decode_picture(stream.getvalue(), width=width, height=height, reduce=reduce)
            assert picture.shape == (-(-height // reduce), -(-width // reduce), 3)
            assert np.abs(picture.astype(int) - (10, 200, 30)).max() <= 3
    with pytest.raises(ValueError, match="reduce must be"):
        decode_picture(stream.getvalue(), width=257, height=301, reduce=3)
    with pytest.raises(PictureError):
        decode_picture(stream.getvalue()[:-100], width=257, height=301)


def test_any_second_of_sound_is_the_same_as_in_the_whole_file(folder: Path) -> None:
    shards = Shards(folder)
    rng = np.random.default_rng(1)
    for clip in range(len(shards)):
        expected = whole_sound(shards, clip)
        for first in (0, 48_000, *rng.integers(0, 48_001, 5).tolist()):
            sound = shards.sound(clip, first)
            assert sound.dtype == np.int16
            assert sound.flags.writeable
            np.testing.assert_array_equal(sound, expected[first : first + 48_000])
        np.testing.assert_array_equal(shards.sound(clip, 0, 96_000), expected)
        np.testing.assert_array_equal(shards.sound(clip, 95_999, samples=1), expected[-1:])


@pytest.mark.parametrize(("first", "samples"), [(-1, 10), (48_001, 48_000), (0, 0), (0, 96_001)])
def test_sound_outside_of_the_clip_is_refused(folder: Path, first: int, samples: int) -> None:
    with pytest.raises(ValueError, match="not inside of clip"):
        Shards(folder).sound(0, first, samples)


def test_only_the_bytes_that_are_returned_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(folder)
    shards.frame(0, 0)  # opens the shard and the table
    counted: list[int] = []
    pread = os.pread

    def counting(number: int, size: int, offset: int) -> bytes:
        data = pread(number, size, offset)
        counted.append(len(data))
        return data

    def kernel_bytes() -> int:
        facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(facts["rchar"])

    own = -kernel_bytes() + kernel_bytes()  # reading that file counts too
    before = kernel_bytes()
    frame = shards.frame(0, 20)
    assert kernel_bytes() - before - own == len(frame) + 2 * 4  # where it starts and ends

    monkeypatch.setattr(os, "pread", counting)
    shards.sound(0, 12_345)
    if shards.manifest.settings.sound == "wav":
        assert counted == [96_000]
    else:  # FLAC's frames must be found first; of 2 s, and with what the search reads ahead, less than the whole twice
        assert sum(counted) < 2 * int(shards.index[0]["sound_size"])


def test_information_is_the_records_json(folder: Path) -> None:
    shards = Shards(folder)
    for clip in range(len(shards)):
        assert shards.info(clip) == json.loads(member(folder, f"{shards.key(clip)}.json"))
        assert shards.info(clip)["key"] == shards.key(clip)
    assert {shards.info(clip)["name"] for clip in range(VIDEOS)} == {f"video-{n:02d}.mp4" for n in range(VIDEOS)}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_read_the_same_however_they_were_started(folder: Path, method: str) -> None:
    shards = Shards(folder)
    expected = [checksum(shards, clip) for clip in range(VIDEOS)]  # also opens descriptors that a fork inherits
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(checksum, [shards] * VIDEOS, range(VIDEOS))) == expected


def test_threads_read_at_once_with_fewer_descriptors_than_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [checksum(Shards(folder), clip) for clip in range(VIDEOS)]
    monkeypatch.setattr(shards.read, "shards_kept_open", lambda: 1)
    few = Shards(folder)
    assert len(few.manifest.shards) > 1
    order = np.random.default_rng(2).integers(0, VIDEOS, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda clip: checksum(few, clip), order)) == [expected[clip] for clip in order]
    assert len(os.listdir("/proc/self/fd")) < 100


def test_as_many_shards_stay_open_as_the_process_is_allowed(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, limits[1]))
        assert shards.read.shards_kept_open() == 75
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    many = Shards(folder)
    many.frame(0, 0)  # opens a table as well
    before = len(os.listdir("/proc/self/fd"))
    for clip in range(VIDEOS):
        checksum(many, clip)
    assert len(os.listdir("/proc/self/fd")) - before == len(many.manifest.shards) - 1


def test_descriptors_are_closed_with_the_shards(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for clip in range(3):
        checksum(Shards(folder), clip)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_cannot_be_used_is_named_with_the_way_out(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        Shards(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="not a packed folder"):
        Shards(tmp_path / "empty")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(ValueError, match="format version 99"):
        Shards(copy)
    (copy / "manifest.json").write_text(json.dumps({**manifest, "shards": [{"name": "x"}]}))
    with pytest.raises(ValueError, match=r"manifest\.json is not what the packer wrote"):
        Shards(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match="packing was not finished"):
        Shards(copy)


def test_tables_that_do_not_fit_the_manifest_are_refused(copy: Path) -> None:
    clips = np.load(copy / "clips.npy")
    np.save(copy / "clips.npy", clips[:-1])
    with pytest.raises(ValueError, match="8 rows and manifest"):
        Shards(copy)
    np.save(copy / "clips.npy", clips["ticks"])
    with pytest.raises(ValueError, match=r"clips\.npy is not a table of the type"):
        Shards(copy)
    np.save(copy / "clips.npy", clips)
    pictures = np.load(copy / "pictures.npy")
    np.save(copy / "pictures.npy", pictures[:-1])
    with pytest.raises(ValueError, match=r"pictures\.npy has"):
        Shards(copy)
    (copy / "pictures.npy").unlink()
    with pytest.raises(ValueError, match=r"pictures\.npy is not there"):
        Shards(copy)


def test_missing_and_shortened_shards_are_named_at_once(copy: Path) -> None:
    shard = min(copy.glob("*.tar"))
    os.truncate(shard, shard.stat().st_size - 512)
    with pytest.raises(ValueError, match=rf"{shard.name} has [\d,]+ bytes and manifest\.json says"):
        Shards(copy)
    shard.unlink()
    with pytest.raises(ValueError, match=f"{shard.name} is listed in manifest"):
        Shards(copy)


def test_bytes_that_are_gone_or_do_not_decode_are_a_bad_record(copy: Path) -> None:
    shards = Shards(copy)
    row = shards.index[4]
    shard = copy / shards.manifest.shards[int(row["shard"])].name
    with shard.open("r+b") as file:
        file.seek(int(row["mjpeg_offset"]))
        file.write(bytes(int(row["mjpeg_size"])))
    with pytest.raises(BadRecord, match="does not decode") as raised:
        shards.picture(4, 10)
    error = raised.value
    assert (error.shard, error.key, error.member) == (shard.name, shards.key(4), f"{shards.key(4)}.mjpeg")
    assert f"`avc verify {copy}`" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    os.truncate(shard, min(int(row["mjpeg_offset"]), int(row["sound_offset"])) + 50)
    with pytest.raises(BadRecord, match="the shard is truncated"):
        shards.frame(4, 45)
    with pytest.raises(BadRecord, match=r"truncated|rror"):
        shards.sound(4, 0)
    shard.unlink()
    with pytest.raises(BadRecord, match="No such file"):
        _reopened(shards).frame(4, 45)


def _reopened(shards: Shards) -> Shards:
    """As it arrives in another process: without its opened descriptors, and without another look at the shards."""
    again: Shards = pickle.loads(pickle.dumps(shards))
    return again


def test_a_set_of_which_all_was_rejected_says_so(tmp_path: Path) -> None:
    (tmp_path / "words.mp4").write_text("no film")
    pack([tmp_path / "words.mp4"], tmp_path / "packed", PackSettings(side=33), workers=1)
    with pytest.raises(ValueError, match="packed holds no clips: all that was packed into it was rejected"):
        Shards(tmp_path / "packed").clips("train")
