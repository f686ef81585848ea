"""Optical flow beside the pictures: right in sign and size, read by tick, verified, and absent where not asked for."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest

from shards.build_index import merge
from shards.file_slice import Descriptor
from shards.flow import decode_flow, encode_flow
from shards.format import CLIP, CLIP_WITH_FLOW, FLOW, FLOW_LEVELS_PER_PIXEL, FLOW_ZERO, PackSettings
from shards.index import read_manifest
from shards.pack import pack
from shards.read import BadRecord, Shards
from shards.tasks import Task
from shards.verify import verify
from tests.small_videos import render_folder, render_video

SETTINGS = PackSettings(side=48, flow=True)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of noise that drifts 1 pixel to the right in each tick."""
    return render_folder(tmp_path_factory.mktemp("videos"), videos=4)


@pytest.fixture(scope="module")
def folder(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow")
    pack([videos], out, SETTINGS, workers=2, shard_bytes=1_000_000)
    return out


def smooth_video(path: Path, *, right: int, down: int, rate: int = 25) -> Path:
    """Soft shapes, 160 x 120, that move by so many pixels from picture to picture, with noise to hear."""
    rng = np.random.default_rng(3)
    small = PIL.Image.fromarray(rng.integers(0, 256, (24, 32), dtype=np.uint8))
    picture = np.asarray(small.resize((160, 120), PIL.Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=rate, options={"qscale": "2"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for number in range(2 * rate):
            moved = np.roll(picture, (down * number, right * number), axis=(0, 1))
            frame = av.VideoFrame.from_ndarray(np.repeat(moved[..., None], 3, axis=2), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        noise = rng.integers(-8000, 8000, (1, 96_000)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        sound.sample_rate = 48_000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def median_motion(shards: Shards, first_tick: int, count: int) -> np.ndarray:
    """Pixels to the right and down, of the middle of the picture, for each step."""
    steps = [step[30:-30, 30:-30] for step in shards.flow(0, first_tick, count=count)]
    return np.array([(np.median(step, axis=(0, 1)) - FLOW_ZERO) / FLOW_LEVELS_PER_PIXEL for step in steps])


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 1), (0, -4)])
def test_what_moves_to_the_right_and_down_has_positive_flow_of_its_speed_in_pixels(tmp_path, right, down) -> None:
    smooth_video(tmp_path / "moving.mp4", right=right, down=down)
    pack([tmp_path / "moving.mp4"], tmp_path / "out", PackSettings(side=120, flow=True, split=(1, 0, 0)), workers=1)
    motion = median_motion(Shards(tmp_path / "out"), 10, 8)
    np.testing.assert_allclose(motion, np.tile([right, down], (8, 1)), atol=0.35)


def test_a_picture_that_is_shown_for_two_ticks_does_not_move_in_the_second(tmp_path) -> None:
    smooth_video(tmp_path / "slow.mkv", right=4, down=0, rate=12)  # each picture for two ticks, now and then for three
    pack([tmp_path / "slow.mkv"], tmp_path / "out", PackSettings(side=120, flow=True, split=(1, 0, 0)), workers=1)
    shards = Shards(tmp_path / "out")
    motion = median_motion(shards, 2, 30)[:, 0].round()
    assert set(motion) == {0.0, 4.0}
    same = [shards.frame(0, tick) == shards.frame(0, tick + 1) for tick in range(2, 32)]
    assert [step == 0 for step in motion] == same


def test_flow_comes_back_as_it_was_stored_within_a_fifth_of_a_pixel_and_is_cut_at_20_pixels() -> None:
    y, x = np.mgrid[:57, :70].astype(np.float32)
    flow = np.stack([(x - 35) / 10, (y - 28) / 7], axis=2)
    data = encode_flow(flow, quality=90)
    back = (decode_flow(data, width=70, height=57).astype(float) - FLOW_ZERO) / FLOW_LEVELS_PER_PIXEL
    assert np.abs(back - flow).mean() < 0.1
    assert np.abs(back - flow).max() < 0.5
    fast = decode_flow(encode_flow(np.full((16, 16, 2), -90, np.float32), quality=90), width=16, height=16)
    assert (fast <= 2).all()
    still = decode_flow(encode_flow(np.zeros((57, 70, 2), np.float32), quality=90), width=70, height=57)
    assert (still == FLOW_ZERO).all()


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(341, 256), (256, 341), (70, 57), (33, 48)])
def test_flow_is_decoded_at_a_part_of_its_size_without_one_direction_reaching_into_the_other(
    width, height, reduce
) -> None:
    flow = np.zeros((height, width, 2), np.float32)
    flow[..., 0], flow[..., 1] = 10, -10
    step = decode_flow(encode_flow(flow, quality=90), width=width, height=height, reduce=reduce)
    assert step.shape == (-(-height // reduce), -(-width // reduce), 2)
    expected = FLOW_ZERO + round(10 * FLOW_LEVELS_PER_PIXEL) * np.array([1, -1])
    assert np.abs(step - expected).max() <= 2
    with pytest.raises(ValueError, match=r"\w"):
        decode_flow(encode_flow(flow, quality=90)[:-60], width=width, height=height, reduce=reduce)
    with pytest.raises(ValueError, match="pixels instead of"):
        decode_flow(encode_flow(flow, quality=90), width=width, height=height + 8)


def test_a_clip_has_a_step_from_each_tick_to_the_next_and_reads_only_those_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = Shards(folder)
    assert shards.index.dtype == CLIP_WITH_FLOW
    ticks = int(shards.index[2]["ticks"])
    steps = shards.flow(2, 0, count=ticks - 1)
    assert len(steps) == ticks - 1
    assert {step.shape for step in steps} == {(48, 64, 2)}
    reads: list[int] = []
    read = Descriptor.read
    monkeypatch.setattr(Descriptor, "read", lambda self, offset, size: reads.append(size) or read(self, offset, size))
    for expected, step in zip(steps[7:17], shards.flow(2, 7, count=10), strict=True):
        np.testing.assert_array_equal(step, expected)
    assert reads[0] == 11 * 4  # where they lie
    assert len(reads) == 2
    assert reads[1] < int(shards.index[2]["flow_size"]) / 3
    for first, count in ((-1, 2), (ticks - 1, 1), (ticks - 5, 10)):
        with pytest.raises(ValueError, match="no motion from tick"):
            shards.flow(2, first, count=count)


def test_the_flow_is_an_ordinary_member_whose_images_anybody_can_open(folder: Path) -> None:
    shards = Shards(folder)
    with tarfile.open(next(folder.glob("*.tar"))) as archive:
        names = archive.getnames()
        key = names[0].partition(".")[0]
        assert names[:4] == [f"{key}.{ending}" for ending in ("flow.mjpeg", "json", "mjpeg", "wav")]
        member, facts = (archive.extractfile(name) for name in names[:2])
        assert member is not None and facts is not None
        data, about = member.read(), json.load(facts)
    assert about["flow"] == {"method": f"DIS, medium, OpenCV {cv2.__version__}", "zero": 128, "levels_per_pixel": 6.35}
    image = PIL.Image.open(io.BytesIO(data))
    assert (image.mode, image.size) == ("L", (64, 96))
    clip = [shards.key(row) for row in range(len(shards))].index(key)
    np.testing.assert_array_equal(np.asarray(image)[:48], shards.flow(clip, 0, count=1)[0][..., 0])


def test_processes_and_tasks_do_not_change_the_flow(folder: Path, videos: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path / "one", SETTINGS, workers=1, shard_bytes=1_000_000)
    ours = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".tar", ".npy")}
    assert ours == {name: (tmp_path / "one" / name).read_bytes() for name in ours}
    assert FLOW in ours
    for number in (2, 1):
        pack([videos], tmp_path / "two", SETTINGS, task=Task(number, 2), workers=1)
    merge(tmp_path / "two")
    one, two = Shards(folder), Shards(tmp_path / "two")
    assert one.index["key"].tolist() == two.index["key"].tolist()
    assert one.index["flow_crc"].tolist() == two.index["flow_crc"].tolist()
    for clip in range(len(one)):
        assert all(map(np.array_equal, one.flow(clip, 3, count=9), two.flow(clip, 3, count=9)))
    assert verify(tmp_path / "two") == []


def test_a_folder_with_flow_that_is_packed_on_ends_as_if_packed_at_once(videos: Path, tmp_path: Path) -> None:
    files = sorted(videos.iterdir())
    pack(files[:2], tmp_path / "out", SETTINGS, workers=1)
    pack(files, tmp_path / "out", SETTINGS, workers=1)
    assert verify(tmp_path / "out") == []
    shards = Shards(tmp_path / "out")
    assert len(shards) == 4
    assert [len(shards.flow(clip, 0, count=49)) for clip in range(4)] == [49] * 4


def test_a_damaged_step_is_named_by_reading_and_by_verifying(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    assert verify(out) == []
    shards = Shards(out)
    shard = out / shards.manifest.shards[int(shards.index[1]["shard"])].name
    data = bytearray(shard.read_bytes())
    start, size = int(shards.index[1]["flow_offset"]), int(shards.index[1]["flow_size"])
    data[start : start + size] = bytes(size)
    shard.write_bytes(data)
    member = f"{shards.key(1)}.flow.mjpeg"
    with pytest.raises(BadRecord, match=f"{member}.*the step at tick 4 does not decode"):
        Shards(out).flow(1, 4, count=2)
    assert [(problem.member, problem.what) for problem in verify(out)] == [(member, "altered")]
    shards.picture(1, 4)


def test_without_flow_nothing_of_it_is_stored_and_asking_for_it_says_what_to_do(videos: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path / "plain", PackSettings(side=48), workers=1)
    shards = Shards(tmp_path / "plain")
    assert shards.index.dtype == CLIP
    assert not (tmp_path / "plain" / FLOW).exists()
    for name in ("manifest.json", "journal.jsonl"):
        assert "flow" not in (tmp_path / "plain" / name).read_text()
    assert "flow" not in shards.info(0)
    with pytest.raises(ValueError, match="holds no optical flow: pack the videos again with `avc pack --flow`"):
        shards.flow(0, 0, count=1)


def test_a_folder_from_before_there_was_flow_reads_and_goes_on(videos: Path, tmp_path: Path) -> None:
    files = sorted(videos.iterdir())
    settings = PackSettings(side=48)
    pack(files[:3], tmp_path / "out", settings, workers=1)
    header = json.loads((tmp_path / "out" / "journal.jsonl").read_text().splitlines()[0])
    before = asdict(settings)
    del before["flow"]
    assert header["settings"] == json.loads(json.dumps(before))
    assert not read_manifest(tmp_path / "out").settings.flow
    pack(files, tmp_path / "out", settings, workers=1)
    assert verify(tmp_path / "out") == []
    with pytest.raises(ValueError, match="flow None and not True"):
        pack(files, tmp_path / "out", SETTINGS, workers=1)


def test_flow_needs_every_picture(tmp_path: Path) -> None:
    render_video(tmp_path / "video.mp4", seed=1)
    with pytest.raises(ValueError, match="flow is True and must be off unless every picture is kept"):
        pack([tmp_path / "video.mp4"], tmp_path / "out", PackSettings(flow=True, every=2))
