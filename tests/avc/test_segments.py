"""SoundNet's rows are integers that do not depend on who computes them; its sound is the clip's."""

import numpy as np
import pytest
import soxr

from avc.data.segments import SegmentReader, SegmentSampler, split_frames, split_repeated_frames, student_sound
from avc.models.soundnet import SOUNDNETS
from avc.models.waveform import steps_of
from shards.read import Shards
from tests.avc.networks import fresh


def sampler_of(
    index: np.ndarray, *, student: str = "soundnet5", sound_seconds: float = 20.0, seed: int = 3
) -> SegmentSampler:
    return SegmentSampler(index, np.arange(len(index)), student=student, sound_seconds=sound_seconds, seed=3)


def test_every_clip_that_is_long_enough_is_visited_once_an_epoch(make_index) -> None:
    index = make_index(23)
    sampler = sampler_of(index)
    network = fresh("soundnet5")
    # The index of the fixture has sound up to its last tick, and from its first.
    long_enough = [clip for clip in range(23) if network.output_steps(int(index["ticks"][clip]) * 882)]
    assert 0 < sampler.too_short == 23 - len(long_enough)
    for epoch in range(3):
        rows = sampler.rows(epoch * sampler.rows_per_epoch, (epoch + 1) * sampler.rows_per_epoch)
        assert sorted(rows.clip.tolist()) == long_enough
    assert (
        sampler.rows(0, 8).clip.tolist()
        != sampler.rows(sampler.rows_per_epoch, sampler.rows_per_epoch + 8).clip.tolist()
    )


def test_a_row_depends_on_its_number_alone(make_index) -> None:
    sampler = sampler_of(make_index(17, ticks=240), sound_seconds=3.0)
    whole = sampler.rows(0, 60)
    for start, stop in ((0, 1), (5, 9), (33, 60)):
        part = sampler_of(make_index(17, ticks=240), sound_seconds=3.0).rows(start, stop)
        for column in ("clip", "first_tick", "ticks", "steps"):
            assert np.array_equal(getattr(part, column), getattr(whole, column)[start:stop])
    parts = sum(sampler.rows(row, row + 1).digest() for row in range(60))
    assert parts == whole.digest()


def test_a_stretch_lies_inside_the_clips_sound_and_begins_anywhere_in_it(make_index) -> None:
    index = make_index(3, ticks=250)
    index["sound_from"], index["sound_to"] = 40 * 1920 + 5, 230 * 1920 - 5
    rows = sampler_of(index, sound_seconds=4.0).rows(0, 300)
    assert set(rows.ticks.tolist()) == {100}
    assert rows.first_tick.min() == 40 and (rows.first_tick + rows.ticks).max() == 230
    assert len(set(rows.first_tick.tolist())) > 60


def test_clips_that_are_all_too_short_are_refused_with_what_to_do(make_index) -> None:
    with pytest.raises(ValueError, match=r"none of the 4 clips is long enough .* is 8 s\. Pack with --seconds"):
        sampler_of(make_index(4, ticks=200), student="soundnet8")


@pytest.mark.parametrize("student", SOUNDNETS)
def test_the_plan_counts_the_steps_that_the_network_gives(student) -> None:
    ticks = np.array([25, 64, 65, 66, 237, 238, 239, 500, 1500])
    network = fresh(student)
    expected = [network.output_steps(int(count) * 882) for count in ticks]
    assert steps_of(SOUNDNETS[student], ticks * 882).tolist() == expected
    assert expected[-2] == 4


def test_four_steps_of_20_seconds_have_the_frames_of_5_seconds_each() -> None:
    frames = np.arange(12, 500, 25)
    parts = split_frames(frames, first=0, ticks=500, steps=4)
    assert [frames[part].tolist() for part in parts] == [
        [12 + 25 * second for second in range(5 * step, 5 * step + 5)] for step in range(4)
    ]


def test_a_part_without_a_frame_takes_the_one_nearest_to_its_middle() -> None:
    parts = split_frames(np.array([12, 137]), first=25, ticks=200, steps=4)
    assert [part.tolist() for part in parts] == [[0], [1], [1], [1]]


@pytest.mark.parametrize("student", SOUNDNETS)
def test_a_clip_of_any_length_repeated_to_20_seconds_gives_4_steps(make_index, student) -> None:
    index = make_index(20)
    sampler = SegmentSampler(index, np.arange(20), student=student, sound_seconds=20.0, seed=3, repeat=True)
    rows = sampler.rows(0, 20)
    assert sampler.too_short == 0 and sorted(rows.clip.tolist()) == list(range(20))
    assert set(rows.length.tolist()) == {500} and set(rows.steps.tolist()) == {4}
    assert (rows.ticks <= index["ticks"][rows.clip]).all()


def test_repeated_frames_lie_where_the_repeated_audio_does() -> None:
    frames = np.arange(12, 300, 25)  # of a clip of 12 s, of which ticks 50 to 250 are taken
    for length, steps in ((500, 4), (450, 3), (200, 2)):
        parts = split_repeated_frames(frames, first=50, ticks=200, length=length, steps=steps)
        for step, part in enumerate(parts):
            span = np.arange(length * step / steps, length * (step + 1) / steps)
            heard = {int(50 + tick % 200) for tick in span}  # what of the clip sounds in this part
            assert {int(frame) for frame in frames[part]} == {int(frame) for frame in frames if frame in heard}
    parts = split_repeated_frames(np.array([40]), first=50, ticks=9, length=500, steps=4)
    assert [set(part.tolist()) for part in parts] == [{0}] * 4, "no frame is inside, and the nearest stands for it"


def test_the_repeated_sound_follows_itself_without_a_gap(small_world) -> None:
    shards = Shards(small_world)
    sampler = SegmentSampler(shards.index, np.arange(3), student="soundnet8", sound_seconds=20.0, seed=3, repeat=True)
    batch, rows = SegmentReader(shards, sampler)[0, 3], sampler.rows(0, 3)
    assert batch.audio.shape == (3, 441_000)
    for audio, clip, first, ticks in zip(batch.audio.numpy(), rows.clip, rows.first_tick, rows.ticks, strict=True):
        assert ticks < 500
        sound = student_sound(shards, int(clip), int(first), int(ticks))
        assert np.array_equal(audio, np.tile(sound, 12)[:441_000])


def test_the_students_sound_is_the_clips_at_22050_hz(small_world) -> None:
    shards = Shards(small_world)
    sound = student_sound(shards, 0, 5, 40)
    assert sound.dtype == np.int16 and sound.shape == (40 * 882,)
    expected = soxr.resample(shards.sound(0, 5 * 1920, 40 * 1920).astype(np.float64), 48_000, 22_050)
    assert np.abs(sound - expected).max() <= 1
