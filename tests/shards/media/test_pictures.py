"""Which picture each tick shows, and what it looks like."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from shards.format import PackSettings
from shards.media import Clip, read, read_sync
from shards.media.streams import stream_pictures
from tests.shards.rendering import frame_of, luma_of, moving, write
from workshop.decoders.flash_and_beep import Film, delay_of_chirp, film, render, seen_in

SMALL = PackSettings(side=48)
LOOK = PackSettings(side=64, keep_still=True)


def numbers(clip: Clip) -> list[int]:
    return [seen_in(luma_of(jpeg))[0] for jpeg in clip.pictures]


def rgb_of(jpeg: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


@pytest.mark.parametrize("rate", [7, 10, 15, 24, 50, 100, 120])
def test_each_tick_shows_the_picture_of_its_instant_at_any_rate(rate: int, tmp_path: Path) -> None:
    shown = film(Fraction(rate), seconds=2)
    clip = read(render(tmp_path / "film.mp4", shown), SMALL)
    assert numbers(clip) == [shown.number_at(Fraction(tick, 25)) for tick in range(clip.ticks)]


def test_a_picture_that_several_ticks_show_is_encoded_once(tmp_path: Path) -> None:
    clip = read(render(tmp_path / "film.mp4", film(Fraction(25, 2))), SMALL)
    assert clip.ticks == 64
    assert all(clip.pictures[tick] is clip.pictures[tick + 1] for tick in range(0, 64, 2))


@pytest.mark.parametrize("every", [2, 5, 7])
def test_keeping_every_nth_picture_keeps_the_same_pictures(every: int, tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", film(None))
    all_of_them, some = read(path, SMALL), read(path, PackSettings(side=48, every=every))
    assert some.pictures == all_of_them.pictures[::every]
    assert some.ticks == all_of_them.ticks
    assert (some.sound == all_of_them.sound).all()


def test_a_clip_ends_after_the_seconds_that_were_asked_for(tmp_path: Path) -> None:
    clip = read(render(tmp_path / "film.mkv", film(Fraction(30000, 1001))), PackSettings(side=48, seconds=1.4))
    assert clip.ticks == len(clip.pictures) == 35
    assert (clip.sound_from, clip.sound_to) == (0, 35 * 1920)


def test_the_last_picture_lasts_as_long_as_its_stamps_say(tmp_path: Path) -> None:
    clip = read(render(tmp_path / "film.mp4", film(Fraction(2), seconds=3)), SMALL)
    assert numbers(clip) == [tick * 2 // 25 for tick in range(75)]


def test_lying_durations_change_nothing(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", film(Fraction(25)))
    truth = read(path, SMALL)
    content = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = content.index(box)
        while at >= 0:
            content[at + offset : at + offset + 4] = (1).to_bytes(4, "big")
            at = content.find(box, at + 1)
    told = read(io.BytesIO(bytes(content)), SMALL)
    assert told.source["declared_seconds"] != truth.source["declared_seconds"]
    assert told.pictures == truth.pictures
    assert (told.sound == truth.sound).all()


def test_an_edit_list_that_hides_nearly_every_picture_is_not_obeyed(tmp_path: Path) -> None:
    stamps = (*(Fraction(number, 25) for number in range(40)), Fraction(5), Fraction(9))
    path = render(tmp_path / "film.mp4", Film(stamps, Fraction(1, 25), (13,)))
    content = bytearray(path.read_bytes())
    at = content.index(b"elst")
    assert int.from_bytes(content[at + 8 : at + 12], "big") == 1
    content[at + 16 : at + 20] = (5 * 90_000).to_bytes(4, "big")  # the media time from which on it is played
    clip = read(io.BytesIO(bytes(content)), SMALL)
    assert numbers(clip)[:40] == list(range(40))
    assert clip.source["video"]["edit_list_ignored"]


def test_pictures_without_presentation_stamps_keep_their_order(tmp_path: Path) -> None:
    clip = read(render(tmp_path / "film.avi", film(Fraction(25)), audio="pcm_s16le"), SMALL)  # h264 with B pictures
    seen = numbers(clip)
    assert seen == sorted(seen)
    assert set(range(55)) <= set(seen)


@pytest.mark.parametrize(
    ("video", "reordered"), [("libx264", 0), ("libx264", 1), ("libx264", 2), ("libx264", 3), ("mpeg4", 2)]
)
def test_pictures_without_presentation_stamps_are_shown_at_the_place_of_their_number(
    video: str, reordered: int, tmp_path: Path
) -> None:
    path = render(tmp_path / "film.avi", film(Fraction(25)), video=video, audio="pcm_s16le", reordered=reordered)
    clip = read(path, SMALL)
    assert numbers(clip) == list(range(65))
    assert clip.sound_from == 0
    assert read_sync(path).offset == 0
    assert abs(delay_of_chirp(clip.sound / 32768, event=film(Fraction(25)).event_times[0], rate=48_000)) < 0.001
    assert [seen_in(luma_of(jpeg))[0] for _, jpeg in stream_pictures(path, hop=Fraction(1, 25), side=48)] == numbers(
        clip
    )


def test_the_last_pictures_without_stamps_keep_their_places_among_every_other_number(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    with av.open(str(render(tmp_path / "film.mp4", film(Fraction(25))))) as whole, av.open(str(path), "w") as output:
        shown = output.add_stream("libx264", rate=50, width=256, height=192, options={"bf": "2", "b-adapt": "0"})
        heard = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for number, frame in enumerate(whole.decode(video=0)):
            again = frame.reformat(256, 192)
            again.pts, again.time_base, again.pict_type = 2 * number, Fraction(1, 50), 0
            output.mux(shown.encode(again))
        output.mux(shown.encode(None))
        noise = av.AudioFrame.from_ndarray(np.arange(124_800, dtype=np.int16)[None] * 9, "s16", "mono")
        noise.sample_rate = 48_000
        output.mux(heard.encode(noise))
    with av.open(str(path)) as container:  # as where ffmpeg copies H.264
        assert [packet.dts for packet in container.demux(video=0) if packet.size][-2:] == [126, 128]
    assert numbers(read(path, SMALL)) == list(range(65))


def test_pictures_without_presentation_stamps_keep_their_places_where_a_start_is_sought(tmp_path: Path) -> None:
    path = render(tmp_path / "film.avi", film(Fraction(25), seconds=27), audio="pcm_s16le", reordered=3)
    clip = read(path, PackSettings(side=48, start_seconds=24, seconds=2))
    assert numbers(clip) == [number % 256 for number in range(600, 650)]


def held_at_its_end(path: Path, *, reordered: int, pictures: int, lasts: float, sound_seconds: float) -> Path:
    """Pictures at 25 a second, the last of which is to last longer; by default where the last is not decoded last."""
    with av.open(str(path), "w") as output:
        options = {"bf": str(reordered), "b-adapt": "0", "sc_threshold": "0"}
        shown = output.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=25, options=options)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        heard = output.add_stream("libopus" if path.suffix in (".webm", ".mkv") else "aac", rate=48_000, layout="mono")
        packets = []
        for number, frame in enumerate(moving(pictures)):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += shown.encode(frame)
        packets += shown.encode(None)
        last = max(packets, key=lambda packet: packet.pts)
        assert (packets[-1] is last) == (not reordered)
        last.duration = round(lasts / last.time_base)
        sound = np.random.default_rng(0).normal(0, 0.1, (1, round(48_000 * sound_seconds))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        packets += [*heard.encode(frame), *heard.encode(None)]
        output.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("reordered", [0, 2])
def test_a_picture_that_is_held_at_the_end_lasts_as_long_as_the_file_says(
    container: str, reordered: int, tmp_path: Path
) -> None:
    path = tmp_path / f"film.{container}"
    held_at_its_end(path, reordered=reordered, pictures=9, lasts=2, sound_seconds=2.5)
    clip = read(path, SMALL)
    assert clip.ticks == 58
    assert clip.source["video"]["held_seconds"] == 2
    assert len(set(clip.pictures[8:])) == 1
    assert read_sync(path).packing.ticks == 58
    assert len(list(stream_pictures(path, hop=Fraction(1, 25), side=48))) == 58


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
def test_the_last_picture_is_held_while_sound_goes_on(container: str, tmp_path: Path) -> None:
    path = tmp_path / f"film.{container}"
    held_at_its_end(path, reordered=0, pictures=30, lasts=0.04, sound_seconds=5)
    clip = read(path, SMALL)
    assert clip.ticks in (125, 126)  # the last packet of sound is filled up
    assert clip.sound_to == pytest.approx(5 * 48_000, abs=1024)
    assert len(set(clip.pictures[29:])) == 1
    assert clip.source["video"]["held_seconds"] == (clip.ticks - 29) / 25
    packing = read_sync(path).packing
    assert (packing.ticks, packing.held) == (clip.ticks, (clip.ticks - 30) / 25)
    assert abs(len(list(stream_pictures(path, hop=Fraction(1, 25), side=48))) - clip.ticks) <= 1
    later = read(path, PackSettings(side=48, start_seconds=2, keep_still=True))
    assert later.ticks == clip.ticks - 50
    assert set(later.pictures) == {clip.pictures[-1]}
    shorter = read(path, PackSettings(side=48, seconds=3))
    assert shorter.ticks == 75


def test_sound_that_merely_ends_some_frames_later_holds_nothing(tmp_path: Path) -> None:
    path = held_at_its_end(tmp_path / "film.mp4", reordered=0, pictures=30, lasts=0.04, sound_seconds=2.1)
    clip = read(path, SMALL)
    assert clip.ticks == 30
    assert "held_seconds" not in clip.source["video"]
    assert read_sync(path).packing.held == 0
    assert len(list(stream_pictures(path, hop=Fraction(1, 25), side=48))) == 30


def test_a_file_object_gives_what_the_path_gives(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mkv", film(None))
    by_path, by_content = read(path, SMALL), read(io.BytesIO(path.read_bytes()), SMALL)
    assert by_path.pictures == by_content.pictures
    assert (by_path.sound == by_content.sound).all()
    assert by_path.source == by_content.source


COLOURS = np.array(
    [[255, 255, 255], [0, 0, 0], [200, 30, 30], [30, 180, 40], [40, 50, 220], [230, 220, 30], [20, 200, 200], [128] * 3]
)
WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def colour_bars(*, colorspace: int, full: bool, bits: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes of eight bars, 256 x 64, chroma at half size."""
    red, blue = WEIGHTS[colorspace]
    rgb = COLOURS / 255
    luma = rgb @ [red, 1 - red - blue, blue]
    chroma = np.stack([(rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)])
    coded = [255 * luma, *(255 * chroma + 128)] if full else [16 + 219 * luma, *(128 + 224 * chroma)]
    kind = np.uint8 if bits == 8 else np.uint16
    y, u, v = (np.rint(values * 2 ** (bits - 8)).astype(kind) for values in coded)
    return np.tile(y.repeat(32), (64, 1)), np.tile(u.repeat(16), (32, 1)), np.tile(v.repeat(16), (32, 1))


def bars_seen(clip: Clip) -> np.ndarray:
    rgb = rgb_of(clip.pictures[0])
    width = rgb.shape[1] // 8
    return np.array([rgb[16:48, bar * width + 8 : bar * width + 24].mean(axis=(0, 1)) for bar in range(8)])


@pytest.mark.parametrize("colorspace", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_colours_come_out_as_they_went_in(colorspace: int, full: bool, tmp_path: Path) -> None:
    planes = colour_bars(colorspace=colorspace, full=full)
    frames = [frame_of(planes, "yuv420p", colorspace=colorspace, color_range=2 if full else 1) for _ in range(30)]
    clip = read(write(tmp_path / "bars.mkv", frames), LOOK)
    assert np.abs(bars_seen(clip) - COLOURS).max() < 4


def test_ten_bits_and_rgb_come_out_as_they_went_in(tmp_path: Path) -> None:
    planes = colour_bars(colorspace=1, full=False, bits=10)
    deep = [frame_of(planes, "yuv420p10le", colorspace=1, color_range=1) for _ in range(30)]
    assert np.abs(bars_seen(read(write(tmp_path / "deep.mkv", deep), LOOK)) - COLOURS).max() < 4
    rgb = np.tile(COLOURS.repeat(32, axis=0).astype(np.uint8), (64, 1, 1))
    plain = [av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="bgr0") for _ in range(30)]
    assert np.abs(bars_seen(read(write(tmp_path / "rgb.mkv", plain), LOOK)) - COLOURS).max() < 4


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_shown_the_way_up_that_the_container_says(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    quadrants = np.zeros((48, 64), np.uint8)
    quadrants[:24, :32], quadrants[:24, 32:], quadrants[24:, :32], quadrants[24:, 32:] = 50, 100, 150, 200
    gray = np.full((24, 32), 128, np.uint8)
    frames = [frame_of((quadrants, gray, gray), "yuv420p", color_range=1) for _ in range(30)]
    path = write(tmp_path / "turned.mp4", frames, video="libx264", audio="aac", turn=(degrees, mirrored))
    clip = read(path, PackSettings(side=48, keep_still=True))

    shown = np.rot90(quadrants, degrees // 90)
    shown = shown[:, ::-1] if mirrored else shown
    assert (clip.height, clip.width) == shown.shape
    seen = (luma_of(clip.pictures[0]).astype(float) * 219 / 255) + 16
    assert np.abs(seen - shown)[4:-4, 4:-4].mean() < 5


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    frames = moving()
    clip = read(
        write(tmp_path / "wide.mp4", frames, video="libx264", audio="aac", pixel_aspect=Fraction(16, 11)), SMALL
    )
    assert (clip.width, clip.height) == (93, 48)
    assert numbers(clip) == list(range(30))


def test_fine_stripes_become_grey_not_coarse_stripes(tmp_path: Path) -> None:
    stripes = np.tile(np.array([16, 235], np.uint8), (512, 341))
    gray = np.full((256, 341), 128, np.uint8)
    clip = read(write(tmp_path / "stripes.mkv", [frame_of((stripes, gray, gray), "yuv420p") for _ in range(30)]), LOOK)
    assert clip.height == 64
    assert luma_of(clip.pictures[0]).std() < 8


def test_a_change_of_size_in_the_stream_keeps_the_stored_size_and_is_noted(tmp_path: Path) -> None:
    parts = []
    for number, size in enumerate(((64, 48), (128, 96))):
        path = tmp_path / f"{number}.ts"
        frames = [frame.reformat(width=size[0], height=size[1]) for frame in moving(25)]
        parts.append(write(path, frames, video="libx264", audio="mp2", begins=2 * number).read_bytes())
    clip = read(io.BytesIO(b"".join(parts)), SMALL)
    assert (clip.width, clip.height) == (64, 48)
    assert {luma_of(jpeg).shape for jpeg in clip.pictures} == {(48, 64)}
    assert numbers(clip)[:25] == numbers(clip)[-25:] == list(range(25))
    assert clip.source["video"]["size_changes"]
