"""Real files from many makers: each is packed, or refused for the reason that a look at it gives."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pytest

from shards.format import SAMPLES_PER_TICK, PackSettings, Reason, centers, picture_count
from shards.media import Rejected, read

EXPECTED = {  # by the first words of a file's name in odd/
    "broken": Reason.UNDECODABLE,
    "no_audio": Reason.NO_AUDIO_STREAM,
    "no_video": Reason.NO_VIDEO_STREAM,
    "silent": Reason.SILENT,
    "still": Reason.STILL,
    "format_pairs": None,
    "tv_clips": None,
    "with_sound": None,
}
OTHERWISE = {  # looked at, one by one
    "no_audio_samples_no-correct-videoframe-format.mov": Reason.TOO_SHORT,  # 0.09 s; it does have 4,992 samples
    "with_sound_ffmpeg-magic.mp4": Reason.TOO_SHORT,  # 15 pictures, 0.5 s, come 2.1 s after its sound begins
    "with_sound_ios9.mov": Reason.TOO_SHORT,  # 0.49 s
    "with_sound_sintel-trailer-short.mp4": Reason.TOO_SHORT,  # 0.6 s
}


class Outcome(NamedTuple):
    name: str
    reason: str | None
    ticks: int
    seconds_of_sound: float
    side: int
    whole: bool  # pictures, sound and centres agree with one another


def outcome_of(path: Path) -> Outcome:
    settings = PackSettings()
    try:
        clip = read(path, settings)
    except Rejected as error:
        return Outcome(path.name, str(error.reason), 0, 0, 0, True)
    whole = (
        len(clip.pictures) == picture_count(clip.ticks, settings.every)
        and all(picture[:2] == b"\xff\xd8" for picture in clip.pictures)
        and clip.sound.shape == (clip.ticks * SAMPLES_PER_TICK,)
        and len(centers(ticks=clip.ticks, sound_from=clip.sound_from, sound_to=clip.sound_to)) > 0
        and clip.ticks <= 250
    )
    seconds = (clip.sound_to - clip.sound_from) / 48_000
    return Outcome(path.name, None, clip.ticks, seconds, min(clip.width, clip.height), whole)


def outcomes(folder: Path) -> dict[str, Outcome]:
    """Every file of a folder, read on all cores; the largest first, so that the end is not waited for."""
    paths = sorted(folder.iterdir(), key=lambda path: -path.stat().st_size)
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        return {outcome.name: outcome for outcome in pool.map(outcome_of, paths)}


@pytest.fixture(scope="module")
def odd(shared_data: Path) -> dict[str, Outcome]:
    return outcomes(shared_data / "odd")


def test_every_real_video_with_sound_is_packed(shared_data: Path) -> None:
    found = outcomes(shared_data / "videos")
    assert len(found) == 114
    assert {name: outcome.reason for name, outcome in found.items() if outcome.reason} == {}
    assert all(outcome.whole and outcome.side == 256 for outcome in found.values())
    # All last at least three seconds, and their sound is there for nearly all of it.
    assert min(outcome.ticks for outcome in found.values()) >= 75
    assert max(outcome.ticks / 25 - outcome.seconds_of_sound for outcome in found.values()) < 0.5


def test_every_odd_file_has_the_outcome_that_a_look_at_it_gives(odd: dict[str, Outcome]) -> None:
    expected = {
        name: OTHERWISE.get(name, next(reason for kind, reason in EXPECTED.items() if name.startswith(kind)))
        for name in odd
    }
    assert {name: outcome.reason for name, outcome in odd.items()} == expected
    assert all(outcome.whole for outcome in odd.values())
    assert set(OTHERWISE) <= set(odd)


def test_the_odd_files_are_of_every_kind(odd: dict[str, Outcome]) -> None:
    counts = Counter(outcome.reason for outcome in odd.values())
    assert set(counts) == {None, *map(str, filter(None, EXPECTED.values())), str(Reason.TOO_SHORT)}
    assert counts[None] >= 30
