"""Sound lies where its stamps say, as loud as it was."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from avc.data.media import read_mono
from shards.format import SAMPLE_RATE_HZ, PackSettings, Reason
from shards.media import Rejected, read
from shards.media.container import unname_channels
from shards.media.sound import _resample, make_mixer
from shards.media.streams import stream_sound
from shards.media.timeline import SoundFormat
from tests.shards.rendering import moving, write
from workshop.decoders.flash_and_beep import delay_of_chirp, film, render, sound_with

SMALL = PackSettings(side=48)


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


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_run_of_few_samples_is_resampled_whole(rate: int) -> None:
    for count in (1, 2, 10, 21, 22, 45, 100, 511, 512, 600):
        sound = _resample(np.full(count, 0.25, np.float32), rate)
        assert len(sound) - count * SAMPLE_RATE_HZ / rate == pytest.approx(0.5, abs=0.5)
        assert set(sound) == {8_192}


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_s16be"]
)
def test_every_sample_format_has_the_same_loudness(codec: str, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)[None]
    clip = read(write(tmp_path / "tone.mkv", moving(), sound=tone, audio=codec), SMALL)
    assert np.abs(clip.sound[:57_600] - tone[0, :57_600] * 32768).max() <= (256 if codec == "pcm_u8" else 1)


def test_two_channels_become_their_mean(tmp_path: Path) -> None:
    left = 0.8 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)
    for right, mean in ((0 * left, left / 2), (left, left), (-left / 2, left / 4)):
        path = write(tmp_path / "two.mkv", moving(), sound=np.stack([left, right]), layout="stereo")
        clip = read(path, PackSettings(side=48, keep_silent=True))
        assert np.abs(clip.sound[:57_600] - mean[:57_600] * 32768).max() <= 2


def test_surround_sound_is_mixed_without_clipping_and_with_its_center(tmp_path: Path) -> None:
    tone = 0.99 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)
    loud = read(write(tmp_path / "loud.mkv", moving(), sound=np.tile(tone, (6, 1)), layout="5.1", audio="flac"), SMALL)
    assert np.abs(loud.sound[:57_600] - tone[:57_600] * 32768).max() < 400
    speech = np.zeros((6, 60_000))
    speech[2] = tone  # the center
    center = write(tmp_path / "center.mkv", moving(), sound=speech, layout="5.1", audio="flac")
    level = np.abs(read(center, SMALL).sound).max() / np.abs(tone * 32768).max()
    assert level == pytest.approx(0.29, abs=0.01)  # 10.7 dB down


SEVEN_ONE = {"FL": 0.160, "FR": 0.160, "FC": 0.227, "LFE": 0.0, "BL": 0.113, "BR": 0.113, "SL": 0.113, "SR": 0.113}


@pytest.mark.parametrize(
    ("codec", "layout", "weights"),
    [
        ("aac", "7.1", SEVEN_ONE),
        ("libopus", "7.1", SEVEN_ONE),
        ("wavpack", "7.1", SEVEN_ONE),
        ("flac", "7.1", SEVEN_ONE),
        # Where the file does not say what they are, all weigh the same.
        *(("pcm_s16le", f"{n} channels", dict.fromkeys(range(n), 1 / n)) for n in (2, 3, 4, 6, 8, 64)),
        ("wavpack", "9 channels", dict.fromkeys(range(9), 1 / 9)),
        # Its decoder gives names to as many as libav has an order for.
        ("wavpack", "24 channels", {n: 0.133 if n < 2 else 0.188 if n == 2 else None for n in range(24)}),
    ],
)
def test_each_of_many_channels_is_heard_with_its_weight(
    codec: str, layout: str, weights: dict[object, float | None], tmp_path: Path
) -> None:
    """Every channel has a tone of its own."""
    turns = 300 * np.arange(1, len(weights) + 1)[:, None] * np.arange(60_000) / 48_000
    tones = 0.7 * np.sin(2 * np.pi * turns)
    clip = read(write(tmp_path / "many.mkv", moving(), sound=tones, layout=layout, audio=codec), SMALL)
    second = slice(4_800, 52_800)
    found = np.abs(np.exp(2j * np.pi * turns[:, second]) @ clip.sound[second] / 32768) * 2 / 48_000 / 0.7
    for amplitude, (channel, weight) in zip(found, weights.items(), strict=True):
        if weight is not None:
            assert amplitude == pytest.approx(weight, abs=0.012), channel


@pytest.mark.parametrize("channels", [3, 5, 6, 8])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
def test_sound_of_channels_without_names_is_the_same_in_packing_embedding_and_evaluation(
    codec: str, channels: int, tmp_path: Path
) -> None:
    tones = 0.7 * np.sin(2 * np.pi * 300 * np.arange(1, channels + 1)[:, None] * np.arange(60_000) / 48_000)
    path = write(tmp_path / "many.mkv", moving(), sound=tones, layout=f"{channels} channels", audio=codec)
    with av.open(str(path)) as film, av.open(str(tmp_path / "many.wav"), "w") as wave:
        copy = wave.add_stream_from_template(film.streams.audio[0])
        for packet in film.demux(film.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                wave.mux(packet)
    evaluated = read_mono(tmp_path / "many.wav", 48_000)
    assert np.abs(evaluated - tones.mean(axis=0)).max() < 1e-4
    for file in (path, tmp_path / "many.wav"):
        embedded = np.concatenate([piece for piece, _ in stream_sound(file)])
        assert np.abs(embedded - evaluated).max() < 1e-6
    assert np.abs(read(path, SMALL).sound[:57_600] / 32768 - evaluated[:57_600]).max() <= 0.51 / 32768


@pytest.mark.parametrize(
    ("layout", "gains", "detail"),
    [
        ("stereo", (1, -1), "its channels cancel each other: each at -12 dBFS, their mean at -inf"),
        ("stereo", (1, -0.999), "its channels cancel each other: each at -12 dBFS, their mean at -78"),
        ("quad", (1, -1, 0.5, -0.5), "its channels cancel each other: at -18 to -12 dBFS, their mean at -inf"),
        ("5.1", (0, 0, 0, 1, 0, 0), "its sound is at -inf dBFS on average; the loudest of its 6 channels is at -12"),
        ("stereo", (0.003, 0), "its sound is at -68 dBFS on average; the loudest of its 2 channels is at -62"),
        ("stereo", (0.001, 0.001), "its sound is at -72 dBFS on average"),
        ("mono", (0.001,), "its sound is at -72 dBFS on average"),
    ],
)
def test_silence_that_channels_make_of_each_other_is_named_so(
    layout: str, gains: tuple[float, ...], detail: str, tmp_path: Path
) -> None:
    tone = 10 ** (-12 / 20) * 2**0.5 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 48_000)
    sound = np.array(gains)[:, None] * tone
    path = write(tmp_path / "film.mkv", moving(), sound=sound, layout=layout, audio="flac")
    with pytest.raises(Rejected) as rejected:
        read(path, SMALL)
    assert (rejected.value.reason, rejected.value.detail) == (Reason.SILENT, detail)
    keeping = dataclasses.replace(SMALL, keep_silent=True)
    if "cancel" in detail or layout == "5.1":  # what is lost then is not silence
        for reader in (lambda: read(path, keeping), lambda: list(stream_sound(path))):
            with pytest.raises(Rejected, match=detail):
                reader()
    else:
        assert read(path, keeping).ticks == 30


def test_of_ambisonics_the_channel_without_a_direction_is_heard() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (4, 1024)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(sound.T.reshape(1, -1), format="flt", layout="ambisonic 1")
    frame.sample_rate = 48_000
    mixer = make_mixer(SoundFormat("flt", "ambisonic 1", 48_000), channels=4)
    mixer.push(frame)
    assert np.array_equal(mixer.pull().to_ndarray()[0], sound[0])


def test_channels_in_an_order_of_their_own_lose_their_names() -> None:
    # No file: PyAV would free a layout twice that this does not remove.
    context = SimpleNamespace(layout=SimpleNamespace(name="3 channels (FC+FL+FR)", nb_channels=3))
    unname_channels(context)
    assert context.layout == "3 channels"
    context.layout = named = av.AudioLayout("5.1(side)")
    unname_channels(context)
    assert context.layout is named


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
