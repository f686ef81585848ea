"""What read() makes of small videos whose every picture and sound is known."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from shards.format import SAMPLE_RATE_HZ, PackSettings, Reason
from shards.media import Clip, Rejected, read
from tests.shards.rendering import (
    Film,
    delay_of_chirp,
    film,
    frame_of,
    luma_of,
    moving,
    render,
    seen_in,
    sound_with,
    write,
)

SMALL = PackSettings(side=48)
LOOK = PackSettings(side=64, keep_still=True)


def numbers(clip: Clip) -> list[int]:
    return [seen_in(luma_of(jpeg))[0] for jpeg in clip.pictures]


def rgb_of(jpeg: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def reason_of(path: Path, settings: PackSettings = SMALL) -> Reason:
    with pytest.raises(Rejected) as rejected:
        read(path, settings)
    assert rejected.value.detail
    assert "\n" not in rejected.value.detail
    return rejected.value.reason


# --- pictures and ticks ------------------------------------------------------------------------------------------


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


def test_a_file_object_gives_what_the_path_gives(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mkv", film(None))
    by_path, by_content = read(path, SMALL), read(io.BytesIO(path.read_bytes()), SMALL)
    assert by_path.pictures == by_content.pictures
    assert (by_path.sound == by_content.sound).all()
    assert by_path.source == by_content.source


# --- what pictures look like -------------------------------------------------------------------------------------

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
    grey = np.full((24, 32), 128, np.uint8)
    frames = [frame_of((quadrants, grey, grey), "yuv420p", color_range=1) for _ in range(30)]
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
    grey = np.full((256, 341), 128, np.uint8)
    clip = read(write(tmp_path / "stripes.mkv", [frame_of((stripes, grey, grey), "yuv420p") for _ in range(30)]), LOOK)
    assert clip.height == 64
    assert luma_of(clip.pictures[0]).std() < 8


def test_a_change_of_size_in_the_stream_keeps_the_stored_size(tmp_path: Path) -> None:
    parts = []
    for number, size in enumerate(((64, 48), (128, 96))):
        path = tmp_path / f"{number}.ts"
        frames = [frame.reformat(width=size[0], height=size[1]) for frame in moving(25)]
        parts.append(write(path, frames, video="libx264", audio="mp2", begins=2 * number).read_bytes())
    clip = read(io.BytesIO(b"".join(parts)), SMALL)
    assert (clip.width, clip.height) == (64, 48)
    assert {luma_of(jpeg).shape for jpeg in clip.pictures} == {(48, 64)}
    assert numbers(clip)[:25] == numbers(clip)[-25:] == list(range(25))


# --- sound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("mkv", "aac"), ("mkv", "libopus"), ("webm", "libopus")]
)
def test_a_gap_in_the_sound_is_silence_and_what_follows_keeps_its_place(
    container: str, codec: str, tmp_path: Path
) -> None:
    shown = film(Fraction(25))
    video = "libvpx" if container == "webm" else "libx264"
    path = render(tmp_path / f"gap.{container}", shown, video=video, audio=codec, gap=(1.25, 1.55))
    clip = read(path, SMALL)
    assert (clip.sound_from < 100, clip.sound_to) == (True, len(clip.sound))
    late = [delay_of_chirp(clip.sound / 32768, event=event, rate=SAMPLE_RATE_HZ) for event in shown.event_times]
    assert max(map(abs, late)) < 0.005
    hushed = clip.sound[round(1.30 * SAMPLE_RATE_HZ) : round(1.52 * SAMPLE_RATE_HZ)]
    assert not hushed.any()
    assert clip.source["audio"]["runs"] == 2


def test_stamps_that_are_rounded_to_milliseconds_do_not_cut_the_sound(tmp_path: Path) -> None:
    exact = read(render(tmp_path / "film.mp4", film(Fraction(25)), sound_rate=44_100), SMALL)
    rounded = read(render(tmp_path / "film.mkv", film(Fraction(25)), sound_rate=44_100), SMALL)
    assert rounded.source["audio"]["runs"] == 1
    shift = min(
        range(-30, 31),
        key=lambda n: np.abs(exact.sound[100:90_000].astype(int) - rounded.sound[100 + n : 90_000 + n]).sum(),
    )
    assert abs(shift) <= 24  # half a millisecond
    assert np.abs(exact.sound[100:90_000].astype(int) - rounded.sound[100 + shift : 90_000 + shift]).max() <= 1


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 32_000, 44_100, 96_000, 192_000])
def test_resampling_does_not_move_the_sound(rate: int, tmp_path: Path) -> None:
    shown = film(Fraction(25))
    clip = read(render(tmp_path / "film.mkv", shown, audio="pcm_s16le", sound_rate=rate), SMALL)
    for event in shown.event_times:
        assert abs(delay_of_chirp(clip.sound / 32768, event=event, rate=SAMPLE_RATE_HZ)) < 0.0001


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_s16be"]
)
def test_every_sample_format_has_the_same_loudness(codec: str, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)[None]
    clip = read(write(tmp_path / "tone.mkv", moving(), sound=tone, audio=codec), SMALL)
    assert np.abs(clip.sound[:57_600] - tone[0, :57_600] * 32768).max() <= (256 if codec == "pcm_u8" else 1)


def test_two_channels_become_their_mean(tmp_path: Path) -> None:
    left = 0.8 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)
    for right, mean in ((0 * left, left / 2), (left, left), (-left, 0 * left)):
        path = write(tmp_path / "two.mkv", moving(), sound=np.stack([left, right]), layout="stereo")
        clip = read(path, PackSettings(side=48, keep_silent=True))
        assert np.abs(clip.sound[:57_600] - mean[:57_600] * 32768).max() <= 2


def test_surround_sound_is_mixed_without_clipping_and_with_its_centre(tmp_path: Path) -> None:
    tone = 0.99 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)
    loud = read(write(tmp_path / "loud.mkv", moving(), sound=np.tile(tone, (6, 1)), layout="5.1"), SMALL)
    assert np.abs(loud.sound[:57_600] - tone[:57_600] * 32768).max() < 400
    speech = np.zeros((6, 60_000))
    speech[2] = tone  # the centre
    assert np.abs(read(write(tmp_path / "centre.mkv", moving(), sound=speech, layout="5.1"), SMALL).sound).max() > 6_000


def test_sound_that_is_too_loud_is_clipped_not_wrapped(tmp_path: Path) -> None:
    tone = 1.5 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)[None]
    clip = read(write(tmp_path / "loud.mkv", moving(), sound=tone, audio="pcm_f32le"), SMALL)
    assert np.abs(clip.sound[:57_600] - np.clip(tone[0, :57_600] * 32768, -32768, 32767)).max() <= 1


def test_a_change_of_sampling_rate_in_the_stream_keeps_the_time_line(tmp_path: Path) -> None:
    events = [0.3, 0.7, 1.3, 1.8]
    with av.open(str(tmp_path / "change.ts"), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        stream = output.add_stream("mp2", rate=48_000, layout="mono")
        for number, frame in enumerate(moving(60)):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for rate, begins, ends in ((48_000, 0.0, 1.008), (32_000, 1.008, 2.4)):
            encoder = av.CodecContext.create("mp2", "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
            encoder.time_base = Fraction(1, rate)
            sound = (sound_with(events, begins=begins, ends=ends, rate=rate) * 32767).astype(np.int16)
            for first in range(0, len(sound) - 1151, 1152):
                frame = av.AudioFrame.from_ndarray(sound[None, first : first + 1152], format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(begins * rate) + first
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    output.mux(packet)
    clip = read(tmp_path / "change.ts", SMALL)
    late = [delay_of_chirp(clip.sound / 32768, event=event, rate=SAMPLE_RATE_HZ) for event in events]
    assert max(map(abs, late)) < 0.005


def test_sound_that_covers_a_part_of_the_clip_says_which(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(90_000) / 48_000)[None]
    clip = read(write(tmp_path / "half.mp4", moving(75), video="libx264", sound=tone, audio="aac"), SMALL)
    assert clip.ticks == 75
    assert clip.sound_from == 0
    assert 90_000 <= clip.sound_to < 90_000 + 2 * 1024
    assert not clip.sound[clip.sound_to :].any()
    assert clip.sound[clip.sound_to - 2_000 : clip.sound_to].any()


# --- reasons -----------------------------------------------------------------------------------------------------


def test_a_video_without_a_sound_stream_is_named_so(tmp_path: Path) -> None:
    assert reason_of(render(tmp_path / "mute.mp4", film(Fraction(25)), audio=None)) is Reason.NO_AUDIO_STREAM


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
    grey = np.full((48, 64), 128, np.uint8)

    def noisy() -> av.VideoFrame:
        return frame_of(((photograph + rng.normal(0, 3, photograph.shape)).astype(np.uint8), grey, grey), "yuv420p")

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


def test_other_files_are_no_media_and_broken_ones_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "file.mp4"
    png = io.BytesIO()
    Image.new("RGB", (64, 48)).save(png, "PNG")
    for content in (b"", b"a text\n" * 500, bytes(5000), png.getvalue(), np.random.default_rng(0).bytes(50_000)):
        path.write_bytes(content)
        assert reason_of(path) is Reason.NOT_MEDIA
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
