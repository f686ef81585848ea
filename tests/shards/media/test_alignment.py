"""Pictures and sound of rendered videos are packed where their time stamps put them: Must show of the packer.

Every container with every rate, codec and start of sound that it can hold. The first picture is time zero.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, PackSettings
from shards.media import Clip, read
from tests.shards.rendering import luma_of, walk
from workshop.decoders.flash_and_beep import MILLISECOND, Film, delay_of_chirp, film, render, seen_in

RATES = {
    "12.5": Fraction(25, 2),
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "60": Fraction(60),
    "variable": None,
}
SOUND_RATES = {"aac": 44_100, "libopus": 48_000, "libmp3lame": 44_100, "pcm_s16le": 48_000}
STARTS = {"0": Fraction(0), "+0.3": Fraction(3, 10), "-0.3": Fraction(-3, 10)}
PICTURES = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx", "mov": "libx264", "avi": "mpeg4"}

# What the containers' formats have no place for, and so no muxer writes.
IMPOSSIBLE = {
    ("webm", "aac"): "WebM holds Vorbis and Opus only",
    ("webm", "libmp3lame"): "WebM holds Vorbis and Opus only",
    ("webm", "pcm_s16le"): "WebM holds Vorbis and Opus only",
    ("mov", "libopus"): "Opus is defined for mp4, not for QuickTime",
}

CASES = [
    case
    for case in product(("mp4", "mkv", "webm", "mov"), RATES, SOUND_RATES, STARTS)
    if (case[0], case[2]) not in IMPOSSIBLE
] + [case for case in product(("avi",), RATES, ("libmp3lame", "pcm_s16le"), ("0",)) if case[1] != "variable"]

LAME_PRIMING = 1105  # samples; avi has no way to say that they are not sound


def rendered(folder: Path, container: str, rate: str, codec: str, start: str) -> tuple[Path, Film]:
    shown = film(RATES[rate], sound_starts=STARTS[start])
    path = render(
        folder / f"film.{container}",
        shown,
        video=PICTURES[container],
        audio=codec,
        sound_rate=SOUND_RATES[codec],
        priming=LAME_PRIMING if (container, codec) == ("avi", "libmp3lame") else 0,
    )
    return path, shown


def check_the_file_itself(path: Path, shown: Film, *, sound_rate: int) -> None:
    """The renderer did what it was asked to: by the frames that a media library gives, and their stamps."""
    pictures = walk(path, "video")
    zero = pictures[0][0]
    assert [seen_in(luma)[0] for _, luma in pictures] == list(range(len(shown.stamps)))
    assert [seen_in(luma)[1] for _, luma in pictures] == [shown.flashes(i) for i in range(len(shown.stamps))]
    assert max(abs(stamp - zero - true) for (stamp, _), true in zip(pictures, shown.stamps, strict=True)) <= MILLISECOND
    line = np.zeros(round(float(shown.ends + 1) * sound_rate))
    for stamp, sound in walk(path, "audio"):
        at = round((stamp - zero) * sound_rate)
        kept = sound[max(0, -at) :][: len(line) - max(0, at)]
        line[max(0, at) : max(0, at) + len(kept)] = kept
    for event in shown.event_times:
        assert abs(delay_of_chirp(line, event=event, rate=sound_rate)) < 0.0015


def chirp_errors(clip: Clip, shown: Film, *, start: float = 0.0) -> list[float]:
    """Seconds by which each chirp is late in the packed sound."""
    times = [time - start for time in shown.event_times if 0 <= time - start < clip.ticks / TICKS_PER_SECOND - 0.1]
    assert times
    return [delay_of_chirp(clip.sound / 32768, event=time, rate=SAMPLE_RATE_HZ) for time in times]


def flash_errors(clip: Clip, shown: Film, *, start: float = 0.0) -> list[float]:
    """Ticks by which the first picture of each flash is late."""
    bright = [seen_in(luma_of(jpeg))[1] for jpeg in clip.pictures]
    begins = [tick for tick in range(1, clip.ticks) if bright[tick] and not bright[tick - 1]]
    times = [time - start for time in shown.event_times if 0 <= time - start < clip.ticks / TICKS_PER_SECOND]
    assert len(begins) == len(times)
    return [tick - time * TICKS_PER_SECOND for tick, time in zip(begins, times, strict=True)]


def check_pictures(clip: Clip, shown: Film, *, start: Fraction = Fraction(0)) -> None:
    """At every tick the picture that is on show at that instant, to the millisecond that containers round to."""
    for tick, jpeg in enumerate(clip.pictures):
        time = start + Fraction(tick, TICKS_PER_SECOND)
        near = {shown.number_at(max(Fraction(0), time - MILLISECOND)), shown.number_at(time + MILLISECOND)}
        assert seen_in(luma_of(jpeg))[0] in near | {shown.number_at(time)}, f"tick {tick}"


@pytest.mark.parametrize(("container", "rate", "codec", "start"), CASES)
def test_flash_and_chirp_are_packed_where_the_stamps_put_them(
    container: str, rate: str, codec: str, start: str, tmp_path: Path
) -> None:
    path, shown = rendered(tmp_path, container, rate, codec, start)
    check_the_file_itself(path, shown, sound_rate=SOUND_RATES[codec])
    clip = read(path, PackSettings(side=48))

    late = chirp_errors(clip, shown)
    assert len(late) == 4
    assert max(map(abs, late)) < 0.005
    # A tick shows the picture that is up at that instant, so a flash comes on the first tick after it began.
    assert all(-0.03 <= error < 1 for error in flash_errors(clip, shown))
    check_pictures(clip, shown)

    assert clip.ticks == len(clip.pictures)
    assert abs(clip.ticks - float(shown.ends) * TICKS_PER_SECOND) <= 1.03
    assert clip.sound.shape == (clip.ticks * SAMPLES_PER_TICK,)
    # Before their sound begins some containers have up to 26 ms of its codec's priming.
    begins = float(STARTS[start]) * SAMPLE_RATE_HZ
    assert max(0, begins - 0.03 * SAMPLE_RATE_HZ) <= clip.sound_from <= max(0, begins) + 0.002 * SAMPLE_RATE_HZ
    assert clip.sound_to >= len(clip.sound) - 2 * SAMPLES_PER_TICK
    assert not clip.sound[: clip.sound_from].any()


@pytest.mark.parametrize("rate", ["23.976", "variable"])
@pytest.mark.parametrize("container", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("seconds", [0.5, 1.13, 1.4])
def test_a_clip_that_starts_later_is_the_same_film_from_there_on(
    container: str, rate: str, seconds: float, tmp_path: Path
) -> None:
    path, shown = rendered(tmp_path, container, rate, "aac", "+0.3")
    clip = read(path, PackSettings(side=48, start_seconds=seconds))
    assert max(map(abs, chirp_errors(clip, shown, start=seconds))) < 0.005
    check_pictures(clip, shown, start=Fraction(str(seconds)))
    assert clip.sound_from == 0


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("mkv", "libopus"), ("mkv", "aac"), ("avi", "libmp3lame"), ("ts", "mp2")]
)
def test_a_start_that_is_sought_gives_what_decoding_from_the_beginning_gives(
    container: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = film(Fraction(25), seconds=27)
    path = render(
        tmp_path / f"long.{container}",
        shown,
        video=PICTURES.get(container, "libx264"),
        audio=codec,
        sound_rate=SOUND_RATES.get(codec, 44_100),
        priming=LAME_PRIMING if codec == "libmp3lame" else 0,
    )
    settings = PackSettings(side=48, start_seconds=24, seconds=2)
    sought = read(path, settings)
    monkeypatch.setattr("shards.media.SEEK_FROM_SECONDS", 1000)
    decoded = read(path, settings)
    assert sought.pictures == decoded.pictures
    assert np.abs(sought.sound.astype(int) - decoded.sound).max() < 200
    for clip in (sought, decoded):
        assert clip.ticks == 50
        assert max(map(abs, chirp_errors(clip, shown, start=24))) < 0.005
