"""Files that want more than to be decoded: other files, addresses, all of the memory."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shards.format import PackSettings, Reason
from shards.media import Rejected, read
from tests.shards.rendering import moving, write
from workshop.decoders.flash_and_beep import film, picture_with, render

SMALL = PackSettings(side=48)
MEGABYTES = 1500  # of address space, for hostile files

REFERENCES = {
    "concat script": "ffconcat version 1.0\nfile secret.mp4\n",
    "concat script with options": "ffconcat version 1.0\nfile 'secret.mp4'\nduration 5\ninpoint 0\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.6,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "playlist with a path": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.6,\nfile://{folder}/secret.mp4\n",
    "playlist with an address": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.6,\nhttp://127.0.0.1:9/a.ts\n",
    "manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    '<Representation id="1" mimeType="video/mp4"><BaseURL>{folder}/secret.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "session description": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "text that is an address": "http://127.0.0.1:9/secret.mp4\n",
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return render(tmp_path / "secret.mp4", film(Fraction(25)))


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_file_that_names_another_is_no_media(kind: str, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(secret.parent)
    script = secret.parent / "innocent.mp4"
    script.write_text(REFERENCES[kind].format(folder=secret.parent))
    if kind == "concat script":  # without our lists it is followed: there is something to be refused
        with av.open(str(script)) as container:
            assert len(container.streams) == 2
    for source in (script, io.BytesIO(script.read_bytes())):
        with pytest.raises(Rejected) as rejected:
            read(source, SMALL)
        assert rejected.value.reason is Reason.NOT_MEDIA


def test_even_a_script_whose_kind_were_allowed_opens_nothing(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(secret.parent)
    monkeypatch.setattr("shards.media.container.CONTAINERS", "mov,concat,hls")
    script = secret.parent / "innocent.mp4"
    for kind in ("concat script", "playlist", "playlist with a path"):
        script.write_text(REFERENCES[kind].format(folder=secret.parent))
        with pytest.raises(Rejected):
            read(script, SMALL)


BOXES_WITH_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"dinf")


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each mp4 box."""
    at = 0
    while at < len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        yield name, content[at + 8 : at + size]
        at += size


def alias_to(path: Path) -> bytes:
    """A data reference of QuickTime to another file, by its absolute path."""
    name = os.fsencode(path)
    return struct.pack(">10xB27s12xB63s16xHH16x", 0, b"", 0, b"", 0, 0) + struct.pack(
        f">HH{len(name) + len(name) % 2}sHH", 2, len(name), name, 0xFFFF, 0
    )


def referring(content: bytes, path: Path) -> bytes:
    """The same movie, its samples to be found in another file at the same places."""
    out = b""
    for name, inner in boxes(content):
        if name in BOXES_WITH_BOXES:
            changed = referring(inner, path)
        elif name == b"dref":
            alias = alias_to(path)
            changed = struct.pack(">II", 0, 1) + struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
        elif name == b"mdat":
            changed = bytes(len(inner))
        else:
            changed = inner
        out += struct.pack(">I4s", 8 + len(changed), name) + changed
    return out


def test_a_movie_whose_samples_lie_in_another_file_is_not_read_from_there(tmp_path: Path) -> None:
    secret = render(tmp_path / "secret.mov", film(Fraction(25)))
    path = tmp_path / "innocent.mov"
    path.write_bytes(referring(secret.read_bytes(), secret))
    followed = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), options=followed) as container:  # asked to, libav does follow it
        assert sum(1 for _ in container.decode(video=0)) == 65
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(Rejected) as rejected:
            read(source, SMALL)
        assert rejected.value.reason is Reason.UNDECODABLE


# --- hostile sizes -----------------------------------------------------------------------------------------------


def read_within_limits(path: Path, *, start_seconds: float = 0.0) -> tuple[str, int]:
    """Outcome and peak memory (MB) of reading a file in a process that cannot have more than MEGABYTES."""
    program = f"""
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20,) * 2)
from shards.format import PackSettings
from shards.media import Rejected, read
try:
    outcome = f"packed {{read(Path(sys.argv[1]), PackSettings(side=48, start_seconds=float(sys.argv[2]))).ticks}}"
except Rejected as error:
    outcome = str(error.reason)
# Not ru_maxrss, which a new process takes over from the one that started it.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(json.dumps([outcome, int(peak.split()[1]) >> 10]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(start_seconds)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    outcome, megabytes = json.loads(done.stdout)
    return outcome, megabytes


def patch(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (100_000, 48), (64, 2_000_000), (16_000, 16_000)])
def test_absurd_pictures_are_too_large(width: int, height: int, tmp_path: Path) -> None:
    path = write(tmp_path / "large.avi", [frame.reformat(format="yuvj420p") for frame in moving()], video="mjpeg")
    bitmap_info, in_pictures = struct.pack("<III", 40, 64, 48), struct.pack(">HH", 48, 64)
    patch(path, bitmap_info, struct.pack("<III", 40, width, height))
    patch(path, in_pictures, struct.pack(">HH", min(height, 65_535), min(width, 65_535)))
    outcome, megabytes = read_within_limits(path)
    assert outcome == Reason.TOO_LARGE
    assert megabytes < 300


def test_absurd_pictures_behind_a_modest_declaration_are_not_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "large.avi", [frame.reformat(format="yuvj420p") for frame in moving()], video="mjpeg")
    patch(path, struct.pack(">HH", 48, 64), struct.pack(">HH", 16_000, 16_000))
    outcome, megabytes = read_within_limits(path)
    assert outcome in (Reason.TOO_LARGE, Reason.UNDECODABLE)
    assert megabytes < 300


def test_long_thin_pictures_are_too_large(tmp_path: Path) -> None:
    gray = np.full((8, 2048), 100, np.uint8)
    frames = [av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p") for _ in range(30)]
    assert read_within_limits(write(tmp_path / "thin.mkv", frames))[0] == Reason.TOO_LARGE
    path = write(tmp_path / "pixels.mp4", moving(), video="libx264", audio="aac", pixel_aspect=Fraction(1, 30))
    assert read_within_limits(path)[0] == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("rate", "channels", "reasons"),
    [
        (1, 1, [Reason.TOO_LARGE]),
        (384_000, 32, [Reason.TOO_LARGE]),
        (4_000_000_000, 1, [Reason.UNDECODABLE]),  # libav itself refuses it
        (48_000, 60_000, [Reason.UNDECODABLE, Reason.TOO_LARGE]),  # libav itself refuses it, up to FFmpeg 8
    ],
)
def test_absurd_sound_is_refused(rate: int, channels: int, reasons: list[Reason], tmp_path: Path) -> None:
    path = write(tmp_path / "loud.avi", [frame.reformat(format="yuvj420p") for frame in moving()], video="mjpeg")
    patch(path, struct.pack("<HHI", 1, 1, 48_000), struct.pack("<HHI", 1, channels, rate))  # WAVEFORMAT
    outcome, megabytes = read_within_limits(path)
    assert outcome in reasons
    assert megabytes < 300


def slow_film(path: Path, *, seconds: int) -> Path:
    """A small picture each second, and noise."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=1)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = output.add_stream("pcm_u8", rate=4_000, layout="mono")
        noise = np.random.default_rng(0).integers(0, 255, (1, 40_000), dtype=np.uint8)
        for second in range(seconds):
            frame = av.VideoFrame.from_ndarray(picture_with(second % 256, flash=False), format="rgb24")
            frame.pts, frame.time_base = second, Fraction(1)
            output.mux(video.encode(frame))
            if second % 10 == 0:
                sound = av.AudioFrame.from_ndarray(noise, format="u8", layout="mono")
                sound.sample_rate, sound.time_base, sound.pts = 4_000, Fraction(1, 4_000), second * 4_000
                output.mux(audio.encode(sound))
        output.mux(video.encode(None))
    return path


def test_ten_seconds_far_into_three_hours_take_the_memory_of_ten_seconds(tmp_path: Path) -> None:
    outcome, least = read_within_limits(slow_film(tmp_path / "short.mkv", seconds=20), start_seconds=0)
    assert outcome == "packed 250"
    long = slow_film(tmp_path / "long.mkv", seconds=3 * 3600)  # 43 MB of sound as it is stored, 2 GB at 48 kHz
    for start in (0, 10_000):
        outcome, megabytes = read_within_limits(long, start_seconds=start)
        assert outcome == "packed 250"
        assert megabytes < least + 100  # its index among it; the sound alone would take twenty times as much


def test_tables_of_a_billion_samples_in_a_small_file_end_in_a_reason(tmp_path: Path) -> None:
    content = render(tmp_path / "film.mp4", film(Fraction(25)), audio="pcm_s16le").read_bytes()
    at = content.index(b"stsz")
    bomb = bytearray(content)
    bomb[at + 8 : at + 16] = struct.pack(">II", 16, 1_000_000_000)
    at = content.index(b"stts")
    bomb[at + 8 : at + 20] = struct.pack(">III", 1, 1_000_000_000, 1)
    at = content.index(b"stsc")
    bomb[at + 8 : at + 24] = struct.pack(">IIII", 1, 1, 1_000_000_000, 1)
    path = tmp_path / "bomb.mp4"
    path.write_bytes(bytes(bomb))
    outcome, _ = read_within_limits(path)
    assert outcome in set(Reason)


def test_nothing_is_said_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = bytearray(render(tmp_path / "whole.mkv", film(Fraction(25))).read_bytes())
    whole[3000::97] = bytes(len(whole[3000::97]))
    with pytest.raises(Rejected):
        read(io.BytesIO(bytes(whole)), SMALL)
    with pytest.raises(Rejected):
        read(io.BytesIO(b"\0\0\0\x20ftypisom" + bytes(1000)), SMALL)
    assert capfd.readouterr() == ("", "")
