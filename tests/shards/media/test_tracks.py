"""Of several tracks the one that a player would play is read, of pictures and of sound, by everything that reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from shards.format import PackSettings, Reason
from shards.media import Rejected, read, read_sync
from shards.media.streams import stream_pictures, stream_sound
from tests.shards.awkward import with_programs
from tests.shards.rendering import moving

NONE = Disposition(0)
MPEG2, MP2 = 2, 3  # types of a transport stream's streams
SECONDS = 2


@dataclass(frozen=True)
class Picture:
    """A track of moving pictures."""

    width: int = 64
    flags: Disposition = NONE
    codec: str = "ffv1"
    pixels: str = "yuv420p"
    count: int = 25 * SECONDS


@dataclass(frozen=True)
class Tone:
    """A track of one frequency; two channels make its bit rate the higher one, where it is not given."""

    hz: int
    flags: Disposition = NONE
    codec: str = "pcm_s16le"
    layout: str = "mono"
    bit_rate: int = 128_000
    rate: int = 48_000


LOW, HIGH = Tone(500), Tone(1_500, layout="stereo")


def write_tracks(path: Path, tracks: Sequence[Picture | Tone]) -> Path:
    """The tracks in this order, all of them from time 0 on."""
    with av.open(str(path), "w") as output:
        streams = []
        for track in tracks:
            if isinstance(track, Picture):
                stream = output.add_stream(track.codec, rate=25)
                stream.width, stream.height, stream.pix_fmt = track.width, track.width * 3 // 4, track.pixels
            else:
                stream = output.add_stream(track.codec, rate=track.rate, layout=track.layout)
                stream.bit_rate = track.bit_rate
            stream.disposition = track.flags
            streams.append(stream)
        packets = []
        for track, stream in zip(tracks, streams, strict=True):
            if isinstance(track, Picture):
                for number, frame in enumerate(moving(track.count)):
                    frame = frame.reformat(width=stream.width, height=stream.height, format=track.pixels)
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    packets += stream.encode(frame)
                packets += stream.encode(None)
            else:
                wave = np.sin(2 * np.pi * track.hz * np.arange(SECONDS * track.rate) / track.rate)
                sound = np.repeat((wave * 8_000).astype(np.int16), stream.layout.nb_channels)[None]
                frame = av.AudioFrame.from_ndarray(sound, format="s16", layout=track.layout)
                frame.sample_rate, frame.pts, frame.time_base = track.rate, 0, Fraction(1, track.rate)
                packets += [*stream.encode(frame), *stream.encode(None)]
        output.start_encoding()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def loudest_hz(sound: np.ndarray, rate: int) -> int:
    second = sound[rate // 4 : rate // 4 + rate].astype(float)
    return int(np.abs(np.fft.rfft(second)).argmax())


def tracks_of(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Which track of pictures and which of sound is read and of how many; packing, embedding and audit agree."""
    clip = read(path, PackSettings(side=48))
    picture, sound = clip.source["video"], clip.source["audio"]
    pieces = list(stream_sound(path))
    streamed = loudest_hz(np.concatenate([piece for piece, _ in pieces]), pieces[0][1])
    assert streamed == loudest_hz(clip.sound, 48_000)
    assert [streamed] == [track.hz for track in SOUNDS[path][sound["track"] - 1 : sound["track"]]]
    assert read_sync(path).sound.rate_hz == SOUNDS[path][sound["track"] - 1].rate
    assert len(list(stream_pictures(path, hop=Fraction(1, 25), side=48))) == clip.ticks
    return (picture["track"], picture["tracks"]), (sound["track"], sound["tracks"])


SOUNDS: dict[Path, list[Tone]] = {}  # that were written, by file


def written(path: Path, *tracks: Picture | Tone) -> Path:
    SOUNDS[path] = [track for track in tracks if isinstance(track, Tone)]
    return write_tracks(path, tracks)


DEFAULT, COMMENT = Disposition.default, Disposition.comment
OTHER_RATE = Tone(1_500, layout="stereo", rate=44_100)


@pytest.mark.parametrize(
    ("name", "tracks", "picture", "sound"),
    [
        ("a.mkv", [Picture(), LOW, HIGH], 1, 1),  # not the one of the higher bit rate
        ("a.mkv", [Picture(), LOW, OTHER_RATE], 1, 1),
        ("a.mov", [Picture(codec="mpeg4"), LOW, HIGH], 1, 1),
        ("a.mkv", [Picture(), HIGH, Tone(500, DEFAULT)], 1, 2),
        ("a.mkv", [Picture(), Tone(500, DEFAULT), Tone(1_500, DEFAULT, layout="stereo")], 1, 1),
        ("a.mkv", [Picture(), Tone(1_500, COMMENT, layout="stereo"), LOW], 1, 2),
        ("a.mkv", [Picture(), Tone(1_500, Disposition.visual_impaired, layout="stereo"), LOW], 1, 2),
        ("a.mkv", [Picture(), Picture(128), LOW], 1, 1),  # a signer, or another size of the same film
        ("a.mkv", [Picture(128), Picture(64, DEFAULT), LOW], 2, 1),
        (
            "a.mov",
            [Picture(128, codec="mjpeg", pixels="yuvj420p", count=1), Picture(codec="mpeg4"), LOW],
            2,
            1,
        ),  # a picture of the film
    ],
)
def test_of_several_tracks_the_default_one_is_read_or_the_first(
    name: str, tracks: list[Picture | Tone], picture: int, sound: int, tmp_path: Path
) -> None:
    path = written(tmp_path / name, *tracks)
    counts = [sum(isinstance(track, kind) for track in tracks) for kind in (Picture, Tone)]
    assert tracks_of(path) == ((picture, counts[0]), (sound, counts[1]))


@pytest.mark.parametrize("unknown", [1, 2])
def test_a_track_that_nothing_decodes_is_left_to_those_who_can(unknown: int, tmp_path: Path) -> None:
    sounds = [Tone(500, DEFAULT, "aac"), Tone(500, DEFAULT, "aac")]
    sounds[unknown - 1] = Tone(1_500, DEFAULT, "aac", "stereo", bit_rate=256_000)
    path = written(tmp_path / "a.mp4", Picture(codec="libx264"), *sounds)
    movie = path.read_bytes()
    for name in (b"mp4a", b"esds"):  # a phone's spatial sound has other names for its form and for what describes it
        parts = movie.split(name)
        assert len(parts) == 3
        movie = parts[0] + (b"apac", name)[unknown - 1] + parts[1] + (name, b"apac")[unknown - 1] + parts[2]
    path.write_bytes(movie)
    with av.open(str(path)) as container:
        assert [s.codec_context is None for s in container.streams.audio] == [unknown == 1, unknown == 2]
    assert tracks_of(path) == ((1, 1), (3 - unknown, 2))


ONE, TWO = {256: MPEG2, 257: MP2}, {258: MPEG2, 259: MP2}


def of_two_programs(path: Path, *tracks: Picture | Tone, programs: Sequence[dict[int, int]]) -> Path:
    written(path, *tracks)
    path.write_bytes(with_programs(path.read_bytes(), programs))
    return path


SMALL, LARGE = Picture(64, codec="mpeg2video"), Picture(256, codec="mpeg2video")
ONE_HZ, TWO_HZ = Tone(500, codec="mp2", bit_rate=64_000), Tone(1_500, codec="mp2", bit_rate=192_000)


@pytest.mark.parametrize("pictures", [(SMALL, LARGE), (LARGE, SMALL)])
def test_of_two_channels_the_first_one_s_pictures_and_sound_are_read(
    pictures: tuple[Picture, Picture], tmp_path: Path
) -> None:
    tracks = pictures[0], ONE_HZ, pictures[1], TWO_HZ
    path = of_two_programs(tmp_path / "two.ts", *tracks, programs=[ONE, TWO])
    assert tracks_of(path) == ((1, 2), (1, 2))
    # By the table, not by their places in the file.
    swapped = [{256: MPEG2, 259: MP2}, {258: MPEG2, 257: MP2}]
    path = of_two_programs(tmp_path / "swapped.ts", *tracks, programs=swapped)
    pieces = [piece for piece, _ in stream_sound(path)]
    assert loudest_hz(read(path, PackSettings(side=48)).sound, 48_000) == 1_500
    assert loudest_hz(np.concatenate(pieces), 48_000) == 1_500


def test_a_channel_without_sound_is_not_given_that_of_another(tmp_path: Path) -> None:
    programs = [{256: MPEG2}, {257: MPEG2, 258: MP2}]
    path = of_two_programs(tmp_path / "two.ts", SMALL, LARGE, ONE_HZ, programs=programs)
    for reader in (lambda: read(path, PackSettings(side=48)), lambda: list(stream_sound(path))):
        with pytest.raises(Rejected, match="none of them of the pictures' program") as rejected:
            reader()
        assert rejected.value.reason is Reason.NO_AUDIO_STREAM


def test_a_sound_of_both_channels_is_the_second_one_s_too(tmp_path: Path) -> None:
    path = of_two_programs(tmp_path / "two.ts", ONE_HZ, SMALL, LARGE, programs=[{256: MP2}, {257: MPEG2, 256: MP2}])
    clip = read(path, PackSettings(side=48))
    assert (clip.source["video"]["track"], clip.source["audio"]["track"]) == (1, 1)
