"""Clips that are one recording are known again from their looks, and others are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND
from shards.look import EVERY, Look, look
from shards.near import find_pairs
from shards.survey import _duplicate_faults

SECONDS = 6


def scene(seed: int, *, shift: float = 0.0, sound: bool = True, still: bool = False) -> Look:
    """A pattern under a disk that wanders, and noise in bands that come and go, from `shift` seconds on."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(20, 200, (6, 8)), np.ones((16, 16)))
    rows, columns = np.mgrid[:96, :128]
    pictures = []
    for tick in range(0, SECONDS * TICKS_PER_SECOND, EVERY):
        time = 0.0 if still else tick / TICKS_PER_SECOND + shift
        x, y = 64 + 50 * np.sin(time * (1 + seed % 3) + seed), 48 + 30 * np.cos(time * 2 + seed)
        disk = (rows - y) ** 2 + (columns - x) ** 2 < 20**2
        pictures.append(np.where(disk, 255 - coarse / 2, coarse)[..., None].repeat(3, 2).astype(np.uint8))
    time = np.arange(int((SECONDS + 2) * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tones = sum(
        np.sin(2 * np.pi * hz * time) * np.sin(np.pi * rng.uniform(0.5, 3) * time + rng.uniform(0, 6)) ** 2
        for hz in rng.uniform(300, 3000, 12)
    )
    begins = round(shift * SAMPLE_RATE_HZ)
    heard = (tones * 1500 * sound)[begins : begins + SECONDS * SAMPLE_RATE_HZ].astype(np.int16)
    options: dict[str, Any] = {"group": "", "source": {}, "side_db": None}
    return look(pictures, heard, name=f"{seed} {shift}", digest=f"{seed} {shift} {sound} {still}", **options)


def test_a_shift_in_time_is_found_with_its_length_and_different_clips_make_no_pair() -> None:
    looks = [scene(seed) for seed in range(5)] + [scene(1, shift=0.3), scene(3, shift=1.62)]
    found = {(pair.first, pair.second): pair.shift for pair in find_pairs(looks)}
    assert set(found) == {(1, 5), (3, 6)}
    assert abs(found[1, 5] - 0.3) < 0.05 and abs(found[3, 6] - 1.62) < 0.05


def test_the_same_bytes_are_a_pair_whatever_they_show() -> None:
    (pair,) = find_pairs([scene(1, still=True, sound=False), scene(2), scene(1, still=True, sound=False)])
    assert (pair.first, pair.second, pair.exact) == (0, 2, True)


def test_where_nothing_is_heard_pictures_that_move_alike_are_a_pair_and_pictures_that_stand_alike_are_not() -> None:
    silent = [scene(1, sound=False), scene(1, sound=False, shift=0.4)]
    assert [(pair.first, pair.second, pair.sound) for pair in find_pairs(silent)] == [(0, 1, None)]
    standing = [scene(1, sound=False, still=True), scene(1, still=True, sound=False, shift=0.4)]
    assert not find_pairs(standing)


def test_one_scene_with_other_sound_is_no_pair() -> None:
    one, other = scene(1), scene(2)
    mixed = Look(**{**vars(one), "digest": "mixed", "words": other.words, "heard": other.heard})
    assert not find_pairs([one, mixed])


def test_seconds_that_stand_still_or_are_silent_are_named() -> None:
    moving, standing = scene(1), scene(1, sound=False, still=True)
    assert (moving.still, moving.silent, moving.stood) == ((), (), 0)
    assert (standing.still, standing.silent) == (tuple(range(SECONDS)),) * 2


def test_the_rest_of_a_second_is_not_taken_for_one_that_stands_still() -> None:
    pictures = [np.full((48, 64, 3), 40 + 60 * (number % 3), np.uint8) for number in range(11)]  # 2.2 s
    options: dict[str, Any] = {"group": "", "source": {}, "side_db": None, "name": "", "digest": ""}
    assert look(pictures, np.ones(105_600, np.int16), **options).still == ()
    assert look(pictures[:1] * 11, np.ones(105_600, np.int16), **options).still == (0, 1)


def test_of_near_copies_the_best_is_kept_and_each_other_is_named_once() -> None:
    ways: dict[str, dict[str, Any]] = {
        "a": {"group": "train", "digest": "1"},
        "b": {"group": "test", "digest": "1"},
        "c": {"group": "test", "digest": "2", "pixels": 400},
        "d": {"group": "test", "digest": "3"},
    }
    looks = [Look(**{**vars(scene(1)), "name": name, **way}) for name, way in ways.items()]
    faults = _duplicate_faults(looks)
    assert sorted(fault.name for fault in faults) == ["a", "b", "d"]
    assert {fault.name: fault.detail.split(",")[0] for fault in faults} == {"a": "of b", "b": "of c", "d": "of c"}
