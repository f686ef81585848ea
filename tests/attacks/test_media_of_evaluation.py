"""Pictures, recordings and videos that somebody else made, wherever a command opens one: bounded, counted, named."""

import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
import soundfile
import torch
from PIL import Image

from avc.config import parse_config
from avc.data.media import MAX_SECONDS, read_mono, read_rgb
from avc.encoders.cache import Unreadable
from avc.encoders.sources import read_image, read_sound
from avc.encoders.trained import Trained, trained
from avc.models import build
from launch.report.overlay import overlay_image, overlay_video
from shards.flow import decode_flow, encode_flow
from shards.format import PackSettings
from shards.pack import pack
from shards.read import BadRecord, PictureError, Shards, decode_picture
from tests.small_videos import render_video

GIGABYTE = 1_000_000_000


@pytest.fixture(scope="module")
def network() -> Trained:
    torch.manual_seed(0)
    config = parse_config({"model": {"name": "avol", "width": 0.0625}, "data": {"image_size": 28}})
    return trained(build(config.model), config)


@pytest.fixture(autouse=True)
def a_gigabyte_more() -> object:
    """What a test asks for beyond a gigabyte, it does not get: memory that is held before it is not counted."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (pages * os.sysconf("SC_PAGE_SIZE") + GIGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def silence(report: object = None, *more: object) -> None:
    """Says nothing of how far it is."""


# Pictures

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 60\n%%EndComments\n({0}) (w) file closefile showpage\n"


def test_postscript_is_not_run_whatever_it_is_called(tmp_path, monkeypatch) -> None:
    """A program in the place of Ghostscript tells whether one is started."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\necho started >> {tmp_path / 'ran'}\necho 10\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "picture.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(Unreadable, match="no image of a known form"):
        read_image(tmp_path / "picture.jpg", 32)
    assert not (tmp_path / "ran").exists()


def png(width: int, height: int) -> bytes:
    """A picture that says its size and holds a line."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    line = zlib.compress(bytes(1 + 3 * min(width, 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", line) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(13_300, 13_300), (60_000, 60_000), (16_000, 40), (1, 17), (2**31 - 1, 1)]
)
def test_a_picture_too_large_or_too_long_is_refused_before_it_is_decoded(width, height, tmp_path) -> None:
    (tmp_path / "picture.png").write_bytes(png(width, height))
    with pytest.raises(Unreadable, match=r"too large|exceeds limit|no image of a known form"):
        read_image(tmp_path / "picture.png", 32)


def test_no_warning_of_pillows_stands_beside_the_refusal(tmp_path) -> None:
    (tmp_path / "picture.png").write_bytes(png(12_000, 12_000))
    code = "import sys; from pathlib import Path; from avc.data.media import read_rgb; read_rgb(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "picture.png")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=100).stderr
    assert told.endswith("ValueError: too large: pictures of 12000x12000 pixels, each 1 as wide as high\n")
    assert "Warning" not in told


def test_the_largest_picture_is_overlaid_within_a_gigabyte(network, tmp_path) -> None:
    Image.new("RGB", (8192, 4352), (9, 200, 30)).save(tmp_path / "large.png", compress_level=1)
    soundfile.write(tmp_path / "second.wav", np.random.default_rng(1).normal(0, 0.1, 48_000), 48_000)
    overlay_image(network, tmp_path / "large.png", tmp_path / "second.wav", tmp_path / "out.bmp")
    with Image.open(tmp_path / "out.bmp") as out:
        assert out.size == (8192, 4352)


def test_a_picture_of_camera_size_keeps_its_map(network, tmp_path) -> None:
    """The network looks at a reduced picture where it is large; the map hardly changes."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((2800, 2100))
    coarse.save(tmp_path / "camera.png", compress_level=1)
    soundfile.write(tmp_path / "second.wav", rng.normal(0, 0.1, 48_000), 48_000)
    highest = overlay_image(network, tmp_path / "camera.png", tmp_path / "second.wav", tmp_path / "out.bmp")
    second, _ = soundfile.read(tmp_path / "second.wav", dtype="int16")
    whole = network.localize(torch.from_numpy(np.array(coarse))[None], torch.from_numpy(second)[None])
    assert abs(highest - float(whole.max())) < 0.01


# Recordings


def flac(path: Path, *, samples: int, claimed: int | None = None, rate: int = 48_000) -> Path:
    """A recording of silence, whose header may claim another number of samples (36 bits)."""
    soundfile.write(path, np.zeros(samples, np.int16), rate)
    if claimed is not None:
        data = bytearray(path.read_bytes())
        data[21] = data[21] & 0xF0 | claimed >> 32
        data[22:26] = struct.pack(">I", claimed & 0xFFFFFFFF)
        path.write_bytes(data)
    return path


def wav(path: Path, *, rate: int, channels: int = 1, samples: int = 48_000) -> Path:
    soundfile.write(path, np.zeros((samples, channels), np.int16), rate)
    return path


def long_silence(path: Path) -> Path:
    """Three hours, written by the second: a few megabytes on the disk, gigabytes of samples."""
    with soundfile.SoundFile(path, "w", 48_000, 4, format="FLAC") as file:
        second = np.zeros((48_000 * 60, 4), np.int16)
        for _ in range(12):
            file.write(second)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (long_silence, "too large: it lasts longer than 600 s"),
        (lambda path: wav(path.with_suffix(".wav"), rate=1), "too large: sound of 1 channels at 1 Hz"),
        (lambda path: wav(path.with_suffix(".wav"), rate=2**31 - 1), "too large: sound of"),
        (lambda path: wav(path.with_suffix(".wav"), rate=48_000, channels=1000, samples=50), "0 pieces of sound"),
    ],
    ids=["silence", "slow", "fast", "channels"],
)
def test_a_recording_without_measure_is_one_rejection(make: Callable[[Path], Path], reason: str, tmp_path) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_sound(make(tmp_path / "sound.flac"), 22_050)


@pytest.mark.parametrize("claimed", [0, 2**36 - 1], ids=["nothing", "days"])
def test_a_recording_is_what_it_holds_whatever_its_header_claims(claimed, tmp_path) -> None:
    assert len(read_mono(flac(tmp_path / "sound.flac", samples=100_000, claimed=claimed), 48_000)) == 100_000


def test_a_recording_is_read_to_its_end_or_not_at_all(tmp_path) -> None:
    flac(tmp_path / "longer.flac", samples=MAX_SECONDS * 8_000 + 1, rate=8_000)
    with pytest.raises(ValueError, match="too large: it lasts longer than 600 s"):
        read_mono(tmp_path / "longer.flac", 8_000)
    samples = read_mono(flac(tmp_path / "longest.flac", samples=MAX_SECONDS * 8_000, rate=8_000), 8_000)
    assert len(samples) == MAX_SECONDS * 8_000


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for read in (partial(read_mono, rate=48_000), read_rgb):
        with pytest.raises(ValueError, match="not a regular file"):
            read(tmp_path / "pipe.wav")


# Videos


def test_a_video_of_a_day_is_refused_before_its_sound_is_laid_out(network, tmp_path) -> None:
    """Two seconds of noise and one picture at the end of the day: 24 hours of sound were 8 GB."""
    path = tmp_path / "day.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for number in (*range(50), 24 * 3600 * 25):
            picture = av.VideoFrame.from_ndarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        noise = rng.integers(-8000, 8000, (1, 96_000)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48_000, 0, Fraction(1, 48_000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    with pytest.raises(ValueError, match=rf"day\.mkv lasts more than {MAX_SECONDS} s"):
        overlay_video(network, path, tmp_path / "out.mp4", report=silence)


# Shards that somebody else packed


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size."""
    data = bytearray(jpeg)
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def test_a_stored_picture_that_claims_another_size_is_a_bad_record(tmp_path) -> None:
    render_video(tmp_path / "video.mp4", seed=1)
    pack([tmp_path / "video.mp4"], tmp_path / "shards", PackSettings(side=40, every=25), workers=1)
    shards = Shards(tmp_path / "shards")
    stored = shards.frame(0, 0)
    tar = next((tmp_path / "shards").glob("*.tar"))
    tar.write_bytes(tar.read_bytes().replace(stored, resized(stored, 65_500, 65_500)))
    with pytest.raises(BadRecord, match="65500 x 65500 pixels instead of 53 x 40"):
        Shards(tmp_path / "shards").picture(0, 0)


def test_no_memory_is_taken_for_a_size_that_a_picture_only_claims() -> None:
    jpeg = simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(PictureError, match="65500 x 65500 pixels instead of 64 x 48"):
        decode_picture(resized(jpeg, 65_500, 65_500), width=64, height=48, reduce=2)
    flow = encode_flow(np.zeros((48, 64, 2), np.float32), quality=90)
    with pytest.raises(ValueError, match="65500 x 65500 pixels instead of 64 x 96"):
        decode_flow(resized(flow, 65_500, 65_500), width=64, height=48)
