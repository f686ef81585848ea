"""The plan is a pure function of seed and row, and draws by the papers' rules."""

from dataclasses import replace

import numpy as np
import pytest

from avc.data.loader import shard_batch
from avc.data.sampler import PairRows, PairSampler
from shards.format import SAMPLES_PER_TICK, centers

SOURCES = ("independent", "shared", "sync")
OTHER_CLIPS = ("independent", "shared")  # whose negatives join two clips


FIRST = {
    "frame_clip": [32, 28, 18, 21],
    "frame_tick": [53, 100, 115, 47],
    "audio_clip": [32, 23, 18, 25],
    "audio_center": [69120, 153600, 266880, 351360],
}


def sampler_of(index: np.ndarray, **settings: object) -> PairSampler:
    return PairSampler(index, np.arange(len(index)), **({"seed": 7, "block": 8, "min_ticks": 11} | settings))


def pairs(rows: PairRows) -> np.ndarray:
    """One line of integers per pair, in an order that does not depend on how the rows were cut."""
    return np.stack(
        [
            rows.label,
            rows.frame_clip[rows.pair_frame],
            rows.frame_tick[rows.pair_frame],
            rows.audio_clip[rows.pair_audio],
            rows.audio_center[rows.pair_audio],
            (rows.image_draws[rows.pair_frame] * 2**24).astype(np.int64).sum(axis=1),
            (rows.audio_draws[rows.pair_audio] * 2**24).astype(np.int64).sum(axis=1),
        ],
        axis=1,
    )


def in_order(lines: np.ndarray) -> np.ndarray:
    return lines[np.lexsort(lines.T)]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("world_size", range(1, 17))
def test_the_ranks_together_compute_the_sequence_of_one_rank(make_index, source, world_size) -> None:
    sampler = sampler_of(make_index(37), source=source)
    group_size = sampler.group_size * sampler.pairs_per_row
    batch = group_size * world_size * 2
    alone = shard_batch(sampler, batch_pairs=batch, micro_batch_pairs=batch, rank=0, world_size=1)
    for step in range(4):
        (whole,) = alone.row_ranges(step, step + 1)
        expected = in_order(pairs(sampler.rows(*whole)))
        parts = []
        for rank in range(world_size):
            mine = shard_batch(
                sampler, batch_pairs=batch, micro_batch_pairs=group_size, rank=rank, world_size=world_size
            )
            parts += [pairs(sampler.rows(*row_range)) for row_range in mine.row_ranges(step, step + 1)]
        np.testing.assert_array_equal(in_order(np.concatenate(parts)), expected)


@pytest.mark.parametrize("source", SOURCES)
def test_digests_of_the_ranks_add_up_and_tell_one_pair_of_the_plan_from_another(make_index, source) -> None:
    sampler = sampler_of(make_index(37), source=source)
    steps = []
    for step in range(20):
        shares = (
            shard_batch(sampler, batch_pairs=64, micro_batch_pairs=16, rank=rank, world_size=4) for rank in range(4)
        )
        steps.append(sum(sampler.rows(*cut).digest() for one in shares for cut in one.row_ranges(step, step + 1)))
    rows = 64 // sampler.pairs_per_row
    assert steps == [sampler.rows(step * rows, (step + 1) * rows).digest() for step in range(20)]
    assert len(set(steps)) == 20
    assert max(steps) < 64 * 2**32
    whole = sampler.rows(0, rows)
    for column in ("frame_tick", "audio_center", "frame_clip", "audio_clip"):
        altered = getattr(whole, column).copy()
        altered[0] += 1
        assert replace(whole, **{column: altered}).digest() != whole.digest()


@pytest.mark.parametrize("source", SOURCES)
def test_resuming_at_a_step_computes_what_the_uninterrupted_run_computes_there(make_index, source) -> None:
    sampler = sampler_of(make_index(37), source=source)
    sharding = shard_batch(sampler, batch_pairs=64, micro_batch_pairs=16, rank=0, world_size=2)
    whole = list(sharding.row_ranges(0, 10))
    assert list(sharding.row_ranges(6, 10)) == whole[6 * sharding.micro_batches :]
    again = sampler_of(make_index(37), source=source)
    np.testing.assert_array_equal(pairs(again.rows(*whole[-1])), pairs(sampler.rows(*whole[-1])))


def test_every_clip_serves_once_per_epoch_and_class_with_independent_pairs(make_index) -> None:
    count = 37
    sampler = sampler_of(make_index(count))
    for epoch in range(3):
        rows = sampler.rows(epoch * 2 * count, (epoch + 1) * 2 * count)
        for label in (0, 1):
            here = rows.label == label
            np.testing.assert_array_equal(np.sort(rows.frame_clip[here]), np.arange(count))
            np.testing.assert_array_equal(np.sort(rows.audio_clip[here]), np.arange(count))


def test_every_clip_serves_once_per_epoch_and_class_with_shared_pairs(make_index) -> None:
    count, block, epochs = 37, 8, 8  # 37 * 8 rows are a whole number of blocks
    sampler = sampler_of(make_index(count), source="shared", block=block)
    rows = sampler.rows(0, epochs * count)
    np.testing.assert_array_equal(
        np.sort(rows.frame_clip.reshape(epochs, count), axis=1), np.tile(np.arange(count), (epochs, 1))
    )
    for label in (0, 1):
        here = rows.label == label
        assert (np.bincount(rows.frame_clip[rows.pair_frame[here]]) == epochs).all()
        assert (np.bincount(rows.audio_clip[rows.pair_audio[here]]) == epochs).all()


@pytest.mark.parametrize("source", OTHER_CLIPS)
@pytest.mark.parametrize("count", [5, 8, 9, 37, 100])
def test_a_negative_never_joins_a_clip_with_itself_and_a_positive_always_does(make_index, source, count) -> None:
    sampler = sampler_of(make_index(count), source=source)
    rows = sampler.rows(0, 40 * sampler.group_size)  # many blocks straddle two epochs and hold a clip twice
    same = rows.frame_clip[rows.pair_frame] == rows.audio_clip[rows.pair_audio]
    np.testing.assert_array_equal(same, rows.label == 1)


@pytest.mark.parametrize("source", SOURCES)
def test_labels_are_balanced_in_every_granule(make_index, source) -> None:
    sampler = sampler_of(make_index(37), source=source)
    for start in range(0, 30 * sampler.group_size, sampler.group_size):
        label = sampler.rows(start, start + sampler.group_size).label
        assert 2 * label.sum() == len(label)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("every", [1, 3])
def test_on_the_frame_grid_every_centre_is_a_multiple_of_1920_samples_for_both_classes(
    make_index, source, every
) -> None:
    index = make_index(37, every=every)
    rows = sampler_of(index, source=source).rows(0, 4000)
    assert (rows.audio_center % SAMPLES_PER_TICK == 0).all()
    assert (rows.frame_tick % every == 0).all()


@pytest.mark.parametrize("grid", ["frame", "free"])
def test_every_frame_and_every_second_lie_inside_their_clip(make_index, grid) -> None:
    index = make_index(37)
    rows = sampler_of(index, grid=grid).rows(0, 8000)
    of_frame, of_sound = index[rows.frame_clip], index[rows.audio_clip]
    assert (rows.frame_tick < of_frame["ticks"]).all()
    assert (rows.audio_center >= 24_000).all()
    assert (rows.audio_center + 24_000 <= of_sound["ticks"] * 1920).all()
    # One tick at most of what precedes or follows the clip's own sound.
    assert (rows.audio_center - 24_000 >= of_sound["sound_from"].astype(int) - 1920).all()
    assert (rows.audio_center + 24_000 <= of_sound["sound_to"] + 1920).all()


def test_the_free_grid_takes_negatives_off_the_grid_and_leaves_positives_on_it(make_index) -> None:
    rows = sampler_of(make_index(37), grid="free").rows(0, 8000)
    off = rows.audio_center % SAMPLES_PER_TICK != 0
    assert not off[rows.label == 1].any()
    assert off[rows.label == 0].mean() > 0.95


def test_misalignment_stays_within_its_bound_and_uses_all_of_it(make_index) -> None:
    rows = sampler_of(make_index(37, ticks=250), max_misalignment_ticks=25).rows(0, 20_000)
    apart = (rows.audio_center // SAMPLES_PER_TICK - rows.frame_tick)[rows.label == 1]
    assert set(apart) == set(range(-25, 26))
    centred = sampler_of(make_index(37), max_misalignment_ticks=0).rows(0, 2000)
    assert (centred.audio_center == centred.frame_tick * SAMPLES_PER_TICK)[centred.label == 1].all()


@pytest.mark.parametrize("source", SOURCES)
def test_times_of_each_modality_follow_one_law_in_both_classes(make_index, source) -> None:
    index = make_index(12, ticks=60)
    rows = sampler_of(index, source=source).rows(0, 240_000)
    for side, clip, time in (
        (rows.pair_frame, rows.frame_clip, rows.frame_tick),
        (rows.pair_audio, rows.audio_clip, rows.audio_center // SAMPLES_PER_TICK),
    ):
        counts = [np.zeros((12, 60)), np.zeros((12, 60))]
        for label in (0, 1):
            here = side[rows.label == label]
            np.add.at(counts[label], (clip[here], time[here]), 1)
        used = counts[0] + counts[1] > 0
        spread = np.sqrt((counts[0] + counts[1])[used])
        assert (np.abs(counts[0] - counts[1])[used] / spread).max() < 5


def test_frames_are_drawn_from_all_centres_alike(make_index) -> None:
    index = make_index(2, ticks=60)
    rows = sampler_of(index).rows(0, 100_000)
    span = centers(ticks=60, sound_from=int(index[0]["sound_from"]), sound_to=int(index[0]["sound_to"]))
    counts = np.bincount(rows.frame_tick[rows.frame_clip == 0], minlength=60)
    assert counts[: span.start].sum() == counts[span.stop :].sum() == 0
    expected = counts.sum() / len(span)
    assert np.abs(counts[span.start : span.stop] - expected).max() < 6 * np.sqrt(expected)


def test_shuffled_sound_gives_positives_the_sound_of_another_clip(make_index) -> None:
    for source in OTHER_CLIPS:
        rows = sampler_of(make_index(37), source=source, shuffle_sound=True).rows(0, 4000)
        assert (rows.frame_clip[rows.pair_frame] != rows.audio_clip[rows.pair_audio]).all()
        assert 2 * rows.label.sum() == len(rows.label)


def test_sync_uses_every_frame_and_every_second_once_as_positive_and_once_as_negative(make_index) -> None:
    sampler = sampler_of(make_index(37, every=2), source="sync")
    rows = sampler.rows(0, sampler.rows_per_epoch)
    assert (rows.frame_clip == rows.audio_clip).all()
    assert (rows.frame_clip[::2] == rows.frame_clip[1::2]).all()
    np.testing.assert_array_equal(np.sort(rows.frame_clip[::2]), np.sort(sampler.clips))
    positive = rows.label == 1
    np.testing.assert_array_equal(np.sort(rows.pair_frame[positive]), np.sort(rows.pair_frame[~positive]))
    np.testing.assert_array_equal(np.sort(rows.pair_audio[positive]), np.sort(rows.pair_audio[~positive]))
    assert (rows.pair_frame == rows.pair_audio)[positive].all()
    assert (rows.pair_frame ^ 1 == rows.pair_audio)[~positive].all()


def test_sync_moves_the_sound_of_negatives_by_every_allowed_distance_alike(make_index) -> None:
    index = make_index(12, ticks=120)
    rows = sampler_of(index, source="sync", min_ticks=51, max_ticks=70).rows(0, 60_000)
    centre = rows.audio_center // SAMPLES_PER_TICK
    apart = rows.frame_tick[1::2] - rows.frame_tick[::2]
    np.testing.assert_array_equal(centre[1::2] - centre[::2], apart)
    counts = np.bincount(apart, minlength=71)
    assert counts[:51].sum() == 0 and len(counts) == 71
    assert np.abs(counts[51:] - 1500).max() < 6 * np.sqrt(1500)
    displaced = centre[rows.pair_audio] - rows.frame_tick[rows.pair_frame]
    assert set(displaced[rows.label == 1]) == set(range(-25, 26))
    assert np.abs(displaced[rows.label == 0]).min() == 51 - 25
    assert set(rows.frame_tick) | set(centre) <= set(centers(ticks=120, sound_from=0, sound_to=120 * 1920))


def test_sync_leaves_out_and_counts_clips_that_are_too_short_for_two_views(make_index) -> None:
    index = make_index(37)
    sampler = sampler_of(index, source="sync", min_ticks=100, max_ticks=145)
    spans = [
        centers(ticks=int(clip["ticks"]), sound_from=int(clip["sound_from"]), sound_to=int(clip["sound_to"]))
        for clip in index
    ]
    assert sampler.clips.tolist() == [clip for clip, span in enumerate(spans) if len(span) > 100]
    assert sampler.too_short == 37 - len(sampler.clips) > 0
    with pytest.raises(ValueError, match="none of 37 clips has two frames 400 to 500 ticks apart"):
        sampler_of(index, source="sync", min_ticks=400, max_ticks=500)
    with pytest.raises(ValueError, match="none of 12 clips has two frames 11 to 13 ticks apart"):
        sampler_of(make_index(12, every=10), source="sync", max_ticks=13)  # there are pictures 10 and 20 ticks apart


def test_seeds_and_epochs_draw_differently(make_index) -> None:
    one, other = (sampler_of(make_index(37), seed=seed).rows(0, 148) for seed in (1, 2))
    assert (one.frame_clip != other.frame_clip).any()
    assert (one.frame_clip[:74] != one.frame_clip[74:]).any()


def test_the_first_rows_of_a_seed_never_change(make_index) -> None:
    rows = sampler_of(make_index(37)).rows(0, 4)
    # Written down once: another numpy, another machine or a later version must draw the same samples.
    assert rows.frame_clip.tolist() == FIRST["frame_clip"]
    assert rows.frame_tick.tolist() == FIRST["frame_tick"]
    assert rows.audio_clip.tolist() == FIRST["audio_clip"]
    assert rows.audio_center.tolist() == FIRST["audio_center"]


def test_too_few_clips_are_refused_in_words(make_index) -> None:
    with pytest.raises(ValueError, match="1 clips are too few"):
        sampler_of(make_index(1))
    with pytest.raises(ValueError, match="3 clips are too few"):
        sampler_of(make_index(3), source="shared")


def test_a_batch_that_cannot_be_divided_is_refused_with_sizes_that_can(make_index) -> None:
    sampler = sampler_of(make_index(37), source="shared", block=16)
    with pytest.raises(ValueError, match=r"100 pairs cannot be divided over 2 ranks .* use 64 or 128"):
        shard_batch(sampler, batch_pairs=100, micro_batch_pairs=64, rank=0, world_size=2)
    with pytest.raises(ValueError, match="micro_batch_pairs: 16 is less than the 32"):
        shard_batch(sampler, batch_pairs=128, micro_batch_pairs=16, rank=0, world_size=2)
