"""`avc localize`: a frame for every tick, the sound as it was, and heat only where the map is high."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from avc.config import parse_config
from avc.data.media import loudest_second
from avc.encoders.trained import Trained, trained
from avc.models import build
from launch.explore.write import write_sounds
from launch.report.overlay import READING, blend, overlay_image, overlay_video
from shards.media import read
from tests.shards.rendering import moving, write
from tests.small_videos import render_video


@pytest.fixture(scope="module")
def network() -> Trained:
    torch.manual_seed(0)
    config = parse_config({"model": {"name": "avol", "width": 0.0625}, "data": {"image_size": 28}})
    return trained(build(config.model), config)


def decoded(path) -> tuple[list[np.ndarray], np.ndarray]:  # type: ignore[no-untyped-def]
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [frame.to_ndarray() for frame in container.decode(audio=0) if frame.pts >= 0]
    return frames, np.concatenate(sound, axis=1)[0]


def agreement(sound: np.ndarray, reference: np.ndarray) -> float:
    length = min(len(sound), len(reference))
    return float(np.corrcoef(sound[:length], reference[:length])[0, 1])


def check_overlay(network: Trained, video, out) -> None:  # type: ignore[no-untyped-def]
    clip = read(video, READING)
    ticks = overlay_video(network, video, out, report=lambda done, total, note: None)
    frames, sound = decoded(out)
    assert len(frames) == ticks == clip.ticks
    assert frames[0].shape == (clip.height // 2 * 2, clip.width // 2 * 2, 3)
    assert abs(len(sound) - len(clip.sound)) <= 1024  # AAC's blocks
    assert agreement(sound, clip.sound) > 0.9


def test_the_overlay_has_a_frame_for_every_tick_and_its_sound_in_time(network, tmp_path) -> None:
    video = render_video(tmp_path / "in.mp4", seed=3, seconds=1.6)
    check_overlay(network, video, tmp_path / "out.mp4")


def test_a_real_video_keeps_its_ticks_and_its_sound(network, shared_data, tmp_path) -> None:
    check_overlay(network, shared_data / "videos" / "004_dog-barking.mp4", tmp_path / "out.mp4")


def test_where_the_map_is_zero_the_picture_stays_as_it_is() -> None:
    picture = np.full((1, 8, 8, 3), 100, np.uint8)
    map_ = torch.zeros(1, 2, 2)
    assert (blend(picture, map_) == picture).all()
    map_[0, 0, 0] = 1
    changed = np.abs(blend(picture, map_).astype(int) - picture).sum(axis=-1)[0]
    assert changed[0, 0] > 50
    assert changed[7, 7] == 0


def test_the_loudest_second_is_the_one_that_counts() -> None:
    sound = np.zeros(5 * 48_000, np.float32)
    sound[2 * 48_000 : 3 * 48_000] = 0.5
    assert (loudest_second(sound) == 16384).all()


def test_a_picture_meets_any_sound(network, tmp_path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "in.png")
    soundfile.write(tmp_path / "in.wav", np.random.default_rng(1).normal(0, 0.1, (44_100, 2)), 44_100)
    highest = overlay_image(network, tmp_path / "in.png", tmp_path / "in.wav", tmp_path / "out.png")
    assert 0 < highest < 1
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (90, 60)


def test_what_cannot_be_used_is_refused_in_words(network, tmp_path) -> None:
    mute = render_video(tmp_path / "mute.mp4", seed=1, sound=False)
    with pytest.raises(ValueError, match="cannot be used: no audio stream"):
        overlay_video(network, mute, tmp_path / "out.mp4", report=lambda done, total, note: None)
    tone = 0.3 * np.sin(np.arange(72_000) / 10)
    both = np.stack([tone, -tone])
    cancelled = write(tmp_path / "cancelled.mkv", moving(38), sound=both, layout="stereo", audio="flac")
    with pytest.raises(ValueError, match="cannot be used: silent: its channels cancel each other: each at -13 dBFS"):
        overlay_video(network, cancelled, tmp_path / "out.mp4", report=lambda done, total, note: None)
    with pytest.raises(ValueError, match=r"must end in \.mp4"):
        overlay_video(network, mute, tmp_path / "out.avi", report=lambda done, total, note: None)
    Image.new("RGB", (40, 40)).save(tmp_path / "in.png")
    soundfile.write(tmp_path / "short.wav", np.zeros(20_000), 44_100)
    with pytest.raises(ValueError, match=r"short\.wav cannot be read as sound: it lasts 0\.45 s"):
        overlay_image(network, tmp_path / "in.png", tmp_path / "short.wav", tmp_path / "out.png")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        overlay_image(network, tmp_path / "short.wav", tmp_path / "short.wav", tmp_path / "out.png")


def test_a_colon_in_the_names_of_files_here_is_no_protocol(network, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    render_video(Path("plain.mp4"), seed=3, seconds=1.2).rename("a::b.mp4")
    overlay_video(network, Path("a::b.mp4"), Path("c::d.mp4"), report=lambda done, total, note: None)
    write_sounds(Path("e:f.webm"), [np.zeros(48_000, np.int16)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a::b.mp4", "c::d.mp4", "e:f.webm"]
