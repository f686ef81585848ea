"""A frame and a stretch of sound by time are those that packing gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import avc.media
from shards.format import SAMPLE_RATE_HZ, PackSettings
from shards.media import Clip, Rejected, read
from shards.read import decode_picture
from workshop.decoders.flash_and_beep import film, render

SIDE, SECONDS = 64, 25  # longer than what is reached without seeking


@pytest.fixture(scope="module", params=[Fraction(25), Fraction(30_000, 1001)], ids=["25", "29.97"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clip]:
    path = render(tmp_path_factory.mktemp("video") / "film.mp4", film(request.param, seconds=SECONDS))
    settings = PackSettings(seconds=60, side=SIDE, jpeg_quality=95, keep_silent=True, keep_still=True)
    return path, read(path, settings)


@pytest.mark.parametrize("tick", [0, 1, 31, 49, 50, 51, 600, -1])
def test_a_frame_is_the_one_that_packing_puts_at_its_tick(video: tuple[Path, Clip], tick: int) -> None:
    path, clip = video
    tick %= clip.ticks
    frame = avc.media.open(path, side=SIDE).frame(tick * 0.04)
    assert np.array_equal(frame, decode_picture(clip.pictures[tick], width=clip.width, height=clip.height))


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1.24, 2.24), (1.25, 1.2501), (22.13, 24.5)])
def test_sound_is_that_of_packing_to_the_sample(video: tuple[Path, Clip], start: float, end: float) -> None:
    path, clip = video
    sound = avc.media.open(path).sound(start, end)
    first = round(start * SAMPLE_RATE_HZ)
    packed = clip.sound[first : first + round((end - start) * SAMPLE_RATE_HZ)]
    assert (sound.dtype, sound.shape) == (np.int16, packed.shape)
    # aac makes some noise up, by where decoding began; another place would be 50 levels apart.
    assert np.abs(sound.astype(int) - packed).mean() <= 5


@pytest.mark.parametrize("start", [24.12, 24.2, 24.88])
def test_sound_ends_with_the_last_picture(video: tuple[Path, Clip], start: float) -> None:
    path, clip = video
    end = clip.ticks / 25
    assert len(avc.media.open(path).sound(round(start + end - 25, 2), end)) == round((25 - start) * SAMPLE_RATE_HZ)


def test_sound_that_ends_before_it_starts_is_refused(video: tuple[Path, Clip]) -> None:
    for end in (1.0, 2.0):
        with pytest.raises(ValueError, match="ends at"):
            avc.media.open(video[0]).sound(2.0, end)


def test_times_that_are_not_shown_are_refused(video: tuple[Path, Clip], tmp_path: Path) -> None:
    opened = avc.media.open(video[0])
    for time in (SECONDS + 0.1, SECONDS + 100):
        with pytest.raises((ValueError, Rejected), match=r"shows nothing|its pictures end before"):
            opened.frame(time)
    with pytest.raises(ValueError, match="before the first picture"):
        opened.frame(-0.04)
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(Rejected, match="not a media file"):
        avc.media.open(tmp_path / "no.mp4").frame(0)
