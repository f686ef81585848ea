"""Why read() rejects a video, and how much damage one survives."""

from __future__ import annotations

import errno
import gzip
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from shards.format import SAMPLE_RATE_HZ, PackSettings, Reason
from shards.media import Clip, Rejected, read, read_sync
from shards.media.streams import stream_sound
from tests.shards.awkward import FILLER, PICTURES, SOUND, late_stream, samples_nowhere, tables_nowhere
from tests.shards.rendering import frame_of, luma_of, moving, write
from workshop.decoders.flash_and_beep import film, render, seen_in

SMALL = PackSettings(side=48)


def numbers(clip: Clip) -> list[int]:
    return [seen_in(luma_of(jpeg))[0] for jpeg in clip.pictures]


def reason_of(path: Path, settings: PackSettings = SMALL) -> Reason:
    with pytest.raises(Rejected) as rejected:
        read(path, settings)
    assert rejected.value.detail
    assert "\n" not in rejected.value.detail
    return rejected.value.reason


def test_a_video_without_a_sound_stream_is_named_so(tmp_path: Path) -> None:
    assert reason_of(render(tmp_path / "mute.mp4", film(Fraction(25)), audio=None)) is Reason.NO_AUDIO_STREAM


def test_vorbis_in_avi_whose_packets_have_no_time_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    with av.open(str(path), "w") as output:
        shown = output.add_stream("mpeg4", rate=25)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        heard = output.add_stream("vorbis", rate=44_100, layout="stereo", options={"strict": "experimental"})
        noise = np.random.default_rng(0).normal(0, 0.1, (2, 52_920)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        for stream, frames in ((shown, moving()), (heard, [frame])):
            for each in (*frames, None):
                output.mux(stream.encode(each))
    with pytest.raises(Rejected, match="when packets of Vorbis, of two lengths, are heard"):
        read(path, SMALL)
    with pytest.raises(Rejected, match="when packets of Vorbis"):
        next(stream_sound(path))


def test_sound_alone_or_with_a_cover_is_no_video(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 96_000)).astype(np.float32)
    for cover in (False, True):
        with av.open(str(tmp_path / "song.mp4"), "w") as output:
            song = output.add_stream("aac", rate=48_000, layout="mono")
            if cover:
                art = output.add_stream("mjpeg", rate=1)
                art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
                art.disposition = av.stream.Disposition.attached_pic
                output.mux(art.encode(moving(1)[0]))
                output.mux(art.encode(None))
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            output.mux(song.encode(frame))
            output.mux(song.encode(None))
        assert reason_of(tmp_path / "song.mp4") is Reason.NO_VIDEO_STREAM


def test_a_sound_stream_without_content_has_no_samples(tmp_path: Path) -> None:
    path = render(tmp_path / "empty.mkv", film(Fraction(25)), gap=(-1, 10))
    assert reason_of(path) is Reason.NO_AUDIO_SAMPLES


def test_silence_is_rejected_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    hiss = np.random.default_rng(0).normal(0, 10 ** (-75 / 20), (1, 60_000))
    path = write(tmp_path / "silent.mkv", moving(), sound=hiss)
    assert reason_of(path) is Reason.SILENT
    assert read(path, PackSettings(side=48, keep_silent=True)).ticks == 30
    hiss[0, 30_000:35_000] += 0.01 * np.sin(np.arange(5_000) / 7)  # a tenth of a second at -43 dBFS is a sound
    assert read(write(tmp_path / "quiet.mkv", moving(), sound=hiss), SMALL).ticks == 30


def test_a_still_picture_is_rejected_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photograph = rng.integers(40, 200, (12, 16)).repeat(8, axis=0).repeat(8, axis=1)
    gray = np.full((48, 64), 128, np.uint8)

    def noisy() -> av.VideoFrame:
        return frame_of(((photograph + rng.normal(0, 3, photograph.shape)).astype(np.uint8), gray, gray), "yuv420p")

    path = write(tmp_path / "still.mp4", [noisy() for _ in range(40)], video="libx264", audio="aac")
    assert reason_of(path, PackSettings(side=96)) is Reason.STILL
    assert read(path, PackSettings(side=96, keep_still=True)).ticks == 40
    frames = [noisy() for _ in range(40)]
    np.frombuffer(frames[30].planes[0], np.uint8).reshape(96, -1)[40:56, 60:76] = 235  # something blinks once
    assert read(write(tmp_path / "blink.mp4", frames, video="libx264", audio="aac"), PackSettings(side=96)).ticks == 40


def test_a_clip_without_a_whole_second_is_too_short(tmp_path: Path) -> None:
    assert reason_of(write(tmp_path / "short.mkv", moving(20))) is Reason.TOO_SHORT
    long_enough = write(tmp_path / "enough.mkv", moving(28))
    assert read(long_enough, SMALL).ticks == 28
    # One second of sound exists around ticks 13 to 15 only, and of those not one is kept.
    assert reason_of(long_enough, PackSettings(side=48, every=11)) is Reason.TOO_SHORT
    assert reason_of(long_enough, PackSettings(side=48, start_seconds=5)) is Reason.TOO_SHORT
    assert reason_of(long_enough, PackSettings(side=48, start_seconds=500)) is Reason.TOO_SHORT


@pytest.mark.parametrize(("rate", "count"), [(8_000, 1), (44_100, 10), (44_100, 21), (48_000, 1), (192_000, 88)])
def test_a_sound_of_a_few_samples_is_too_short(rate: int, count: int, tmp_path: Path) -> None:
    path = write(tmp_path / "few.mkv", moving(), sound=np.full((1, count), 0.25), sound_rate=rate)
    assert reason_of(path) is Reason.TOO_SHORT
    assert read_sync(path).packing.too_short
    assert sum(len(piece) for piece, _ in stream_sound(path)) == count


def test_other_files_are_no_media_and_broken_ones_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "file.mp4"
    png = io.BytesIO()
    Image.new("RGB", (64, 48)).save(png, "PNG")
    picture, archive = "it is a picture, as `avc embed --content image` takes", "it is a compressed archive: unpack it"
    for content, detail in (
        *((content, "no known container") for content in (b"", b"a text\n" * 500, bytes(5000))),
        (np.random.default_rng(0).bytes(50_000), "no known container"),
        (png.getvalue(), picture),
        (gzip.compress(png.getvalue()), archive),
    ):
        path.write_bytes(content)
        for reader in (lambda: read(path, SMALL), lambda: list(stream_sound(path))):
            with pytest.raises(Rejected, match=f"not a media file: {detail}"):
                reader()
    whole = render(tmp_path / "whole.mp4", film(Fraction(25))).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # its index comes last
    assert reason_of(path) is Reason.UNDECODABLE
    assert reason_of(tmp_path / "absent.mp4") is Reason.UNREADABLE
    assert reason_of(tmp_path) is Reason.UNREADABLE


def test_a_truncated_file_gives_what_is_left_of_it(tmp_path: Path) -> None:
    whole = render(tmp_path / "whole.mkv", film(Fraction(25))).read_bytes()
    clip = read(io.BytesIO(whole[: len(whole) * 3 // 4]), SMALL)
    assert 35 < clip.ticks < 62
    assert numbers(clip)[:-8] == list(range(clip.ticks - 8))  # the last ones may lack what they refer to


def damaged(path: Path, kind: str, *, one_in: int, to: Path) -> Path:
    """A copy of a video of which one in so many packets of a stream is overwritten with noise."""
    rng = np.random.default_rng(0)
    with av.open(str(path)) as source, av.open(str(to), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        count = 0
        for packet in source.demux():
            if not packet.size:
                continue
            if packet.stream.type == kind:
                count += 1
                if count % one_in == 0:
                    noise = av.Packet(rng.bytes(packet.size))
                    noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                    noise.is_keyframe = packet.is_keyframe
                    packet, index = noise, packet.stream_index
                    packet.stream = streams[index]
                    output.mux(packet)
                    continue
            packet.stream = streams[packet.stream_index]
            output.mux(packet)
    return to


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_few_broken_packets_are_survived_and_counted_and_all_broken_ones_are_not(kind: str, tmp_path: Path) -> None:
    path = render(tmp_path / "whole.mkv", film(Fraction(25)), audio="aac")
    clip = read(damaged(path, kind, one_in=12, to=tmp_path / "some.mkv"), SMALL)
    assert clip.ticks >= 60
    assert clip.source[kind]["errors"] + clip.source[kind].get("corrupt", 0) >= 3
    assert reason_of(damaged(path, kind, one_in=1, to=tmp_path / "all.mkv")) is Reason.UNDECODABLE


def test_places_where_no_file_can_be_read_make_a_movie_undecodable(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert reason_of(samples_nowhere(tmp_path / "nowhere.mp4")) is Reason.UNDECODABLE
    assert capfd.readouterr() == ("", "")


def test_tables_that_lie_nowhere_are_done_without(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip = read(tables_nowhere(tmp_path / "nowhere.mkv"), SMALL)
    assert numbers(clip) == list(range(65))
    assert capfd.readouterr() == ("", "")


class Failing(io.BytesIO):
    """A file on a disk that fails from some byte on."""

    good_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.good_bytes:
            raise OSError(errno.EIO, "the disk fails")
        return super().read(min(size or 0, self.good_bytes - self.tell()))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts"])
def test_a_disk_that_fails_is_the_reader_s_to_hear_of_and_is_said_once(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = render(tmp_path / name, film(Fraction(25))).read_bytes()
    for part in (0, len(whole) // 3, len(whole) * 2 // 3):
        file = Failing(whole)
        file.good_bytes = part
        with pytest.raises(OSError, match="the disk fails"):
            read(file, SMALL)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [PICTURES, SOUND])
def test_a_stream_that_begins_on_the_way_costs_nothing(kind: int, tmp_path: Path) -> None:
    path = late_stream(tmp_path / "late.ts", of=kind)
    with av.open(str(path)) as container:
        assert [stream.id for stream in container.streams] == [PICTURES, SOUND, FILLER]  # libav has not seen it yet
    clip = read(path, SMALL)
    assert numbers(clip) == list(range(150))
    assert clip.sound_to - clip.sound_from > 5.9 * SAMPLE_RATE_HZ
