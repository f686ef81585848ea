"""Ticks, trust in stamps, and gapless runs of sound: integers and arrays only."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from shards.media.timeline import SoundFormat, StampSelector, TickClock, runs_of_sound

AAC = SoundFormat("fltp", "stereo", 48_000)
PIECE = 1024
LASTS = PIECE / 48_000


def stamps(count: int, *, begins: float = 0.0) -> list[float]:
    return [begins + i * LASTS for i in range(count)]


def places(at: list[float], forms: list[SoundFormat] | None = None) -> list[tuple[int, int, float]]:
    runs = runs_of_sound(at, [PIECE] * len(at), forms or [AAC] * len(at))
    assert [run.first for run in runs[1:]] == [run.last for run in runs[:-1]]
    assert (runs[0].first, runs[-1].last) == (0, len(at))
    return [(run.first, run.last, round(run.start_seconds, 6)) for run in runs]


@pytest.mark.parametrize(
    "unit", [Fraction(1, 90_000), Fraction(1, 12_800), Fraction(1, 1000), Fraction(1, 25), Fraction(1, 600)]
)
def test_25_pictures_a_second_are_one_picture_a_tick_in_every_time_base(unit: Fraction) -> None:
    for first in (Fraction(0), Fraction(7, 300), Fraction(4900)):
        rounded = [round((first + Fraction(n, 25)) / unit) for n in range(1000)]
        clock = TickClock(start=rounded[0] * unit, unit=unit)
        assert [clock.first_tick(stamp) for stamp in rounded] == list(range(1000))


def test_a_picture_is_shown_from_the_first_tick_that_is_not_before_it() -> None:
    clock = TickClock(start=Fraction(1), unit=Fraction(1, 90_000))
    assert [clock.first_tick(stamp) for stamp in (0, 90_000, 90_002, 93_600, 93_602, 97_200)] == [-25, 0, 1, 1, 2, 2]


def test_presentation_stamps_are_believed_while_they_run_forwards() -> None:
    selector = StampSelector()
    for n in range(10):
        selector.observe(pts=n, dts=n - 2)
        assert selector.select(pts=n, dts=n - 2) == n
    assert selector.select(pts=None, dts=8) == 8


def test_presentation_stamps_that_run_backwards_give_way_without_a_jump() -> None:
    selector = StampSelector()
    for pts, dts in ((1, 2), (4, 3), (3, 4)):
        selector.observe(pts=pts, dts=dts)
        if pts == 1:
            assert selector.select(pts=pts, dts=dts) == 1
    assert [selector.select(pts=None, dts=dts) for dts in (3, 4, 5)] == [2, 3, 4]
    assert selector.select(pts=7, dts=None) is None


def test_presentation_stamps_are_all_there_is_without_the_others() -> None:
    selector = StampSelector()
    for pts in (5, 3, 4):
        selector.observe(pts=pts, dts=None)
    assert selector.select(pts=4, dts=None) == 4


def test_sound_without_gaps_is_one_run_where_its_stamps_are() -> None:
    assert places(stamps(400, begins=0.3)) == [(0, 400, 0.3)]


def test_stamps_rounded_to_milliseconds_are_no_gaps() -> None:
    ((_, _, start),) = places([round(stamp, 3) for stamp in stamps(400, begins=0.0307)])
    assert start == pytest.approx(0.0307, abs=0.0003)


@pytest.mark.parametrize("gap", [0.0213, 0.1, 2.0, -0.05])
@pytest.mark.parametrize("at", [1, 3, 100, 398])
def test_a_gap_begins_a_new_run_at_its_piece(gap: float, at: int) -> None:
    line = stamps(400)
    line[at:] = [stamp + gap for stamp in line[at:]]
    assert places(line) == [(0, at, 0.0), (at, 400, round(at * LASTS + gap, 6))]


def test_two_gaps_close_to_each_other_are_two_gaps() -> None:
    line = np.array(stamps(400))
    line[200:] += 0.06
    line[205:] += 0.06
    assert [run[:2] for run in places(line.tolist())] == [(0, 200), (200, 205), (205, 400)]


@pytest.mark.parametrize("wrong", [[50], [50, 51, 52, 53, 54, 55, 56, 57, 58]])
def test_wrong_stamps_in_the_middle_of_sound_do_not_cut_it(wrong: list[int]) -> None:
    line = stamps(400)
    for piece in wrong:
        line[piece] -= 0.02
    assert places(line) == [(0, 400, 0.0)]


def test_a_clock_that_drifts_is_followed_to_a_few_milliseconds() -> None:
    line = [stamp * 1.002 for stamp in stamps(470)]  # 20 ms in 10 s
    runs = runs_of_sound(line, [PIECE] * 470, [AAC] * 470)
    assert 3 <= len(runs) <= 7
    for run in runs:
        for piece in range(run.first, run.last):
            assert abs(run.start_seconds + (piece - run.first) * LASTS - line[piece]) < 0.0041


def test_pieces_without_stamps_follow_the_piece_before() -> None:
    line = stamps(100, begins=1.0)
    line[10:20] = [math.nan] * 10
    assert places(line) == [(0, 100, 1.0)]
    assert places([math.nan] * 5) == [(0, 5, 0.0)]


def test_another_sampling_rate_begins_a_new_run() -> None:
    slow = SoundFormat("fltp", "stereo", 24_000)
    line = stamps(50) + [50 * LASTS + i * 2 * LASTS for i in range(50)]
    assert places(line, [AAC] * 50 + [slow] * 50) == [(0, 50, 0.0), (50, 100, round(50 * LASTS, 6))]


def test_an_hour_of_wandering_stamps_takes_little_memory_and_time() -> None:
    count = 170_000
    wander = np.cumsum(np.random.default_rng(0).normal(0, 0.002, count))
    runs = runs_of_sound((np.arange(count) * LASTS + wander).tolist(), [PIECE] * count, [AAC] * count)
    assert runs[-1].last == count
