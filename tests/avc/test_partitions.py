"""Partitions: the rows of a step do not depend on the ranks, and a rank draws from its own partitions alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from avc.config import parse_config, settings_of
from avc.data.loader import shard_batch
from avc.data.partitions import PartitionedSampler, partitioned
from avc.data.sampler import PairSampler

PAIRS = 96


@pytest.fixture
def sampler(make_index) -> Callable[..., PairSampler]:
    """The plan over 120 clips in 24 shards by the number of partitions."""
    index = make_index(120)
    index["shard"] = np.arange(120) // 5
    settings = {"batch_pairs": PAIRS, "seed": 5, "block": 4, "min_ticks": 11}
    return lambda count, source="independent", **more: partitioned(
        index, np.arange(120), partitions=count, source=source, **settings | more
    )


def pairs(rows, plan) -> list[tuple]:
    """What each pair is, in a fixed order."""
    frame, sound = rows.pair_frame, rows.pair_audio
    columns = (
        rows.label,
        rows.frame_clip[frame],
        rows.frame_tick[frame],
        rows.audio_clip[sound],
        rows.audio_center[sound],
    )
    return sorted(zip(*(column.tolist() for column in columns), rows.image_draws[frame, 0].tolist(), strict=True))


@pytest.mark.parametrize("source", ["independent", "shared", "sync"])
@pytest.mark.parametrize(("count", "window", "visits"), [(2, 0, 1), (4, 0, 1), (12, 0, 1), (12, 1, 1), (4, 2, 4)])
def test_a_step_is_the_same_on_any_ranks_and_micro_batches(
    sampler, count: int, window: int, visits: int, source: str
) -> None:
    plan = sampler(count, source, shuffle_shards=window, visits=visits)
    steps = 20 if window else 5
    found = set()
    for world_size in (1, 2, 3, 4, 6, 12):
        for micro in (8, PAIRS):
            seen = []
            for rank in range(world_size):
                sharding = shard_batch(
                    plan, batch_pairs=PAIRS, micro_batch_pairs=micro, rank=rank, world_size=world_size
                )
                parts = [plan.rows(*each) for each in sharding.row_ranges(0, steps)]
                seen += [pair for rows in parts for pair in pairs(rows, plan)]
                own = {clip for part in plan.of_rank(rank, world_size) for clip in part.clips.tolist()}
                assert {clip for rows in parts for clip in [*rows.frame_clip, *rows.audio_clip]} <= own
                if count % world_size == 0:
                    assert len(own) == 120 // world_size, "the partitions of this rank alone"
            found.add(hashlib.sha256(repr(sorted(seen)).encode()).hexdigest())
            whole = plan.rows(0, steps * plan.rows_per_step)
            assert sorted(seen) == pairs(whole, plan)
    assert len(found) == 1


def test_each_clip_is_once_in_each_class_of_its_partition_s_epoch_and_meets_none_of_another(sampler) -> None:
    plan = sampler(4)
    assert isinstance(plan, PartitionedSampler) and plan.rows_per_epoch == 240
    one = plan.partitions[0].rows_per_epoch
    assert len({each.rows_per_epoch for each in plan.partitions}) == 1
    steps = one * 4 // plan.rows_per_step * 5  # whole epochs
    rows = plan.rows(0, steps * plan.rows_per_step)
    shard = np.arange(120) // 5
    frames, sounds = rows.frame_clip[rows.pair_frame], rows.audio_clip[rows.pair_audio]
    assert (shard[frames] % 4 == shard[sounds] % 4).all()
    assert (frames[rows.label == 0] != sounds[rows.label == 0]).all()
    for label in (0, 1):
        counts = np.bincount(frames[rows.label == label], minlength=120)
        assert (counts == counts[0]).all() and counts[0] > 0
    assert plan.partitions[0].rows(0, 10).digest() != plan.partitions[1].rows(0, 10).digest()


@pytest.mark.parametrize(("source", "per_visit"), [("independent", 2), ("shared", 1), ("sync", 2)])
def test_a_window_s_clips_serve_so_often_in_each_class_with_negatives_among_themselves(
    sampler, source: str, per_visit: int
) -> None:
    plan = sampler(1, source, shuffle_shards=5, visits=4)
    shard = np.arange(120) // 5
    usable = np.bincount(shard[plan.clips], minlength=24)
    dealt, row = [], 0
    for number in range(8):  # two passes
        window = plan.window(row)
        assert (window.number, window.start) == (number, row) == (number, plan.window(window.stop - 1).start)
        assert len(window.shards) == 6 and window.stop - row == 4 * per_visit * usable[window.shards].sum()
        rows = plan.rows(row, window.stop)
        frames, sounds = rows.frame_clip[rows.pair_frame], rows.audio_clip[rows.pair_audio]
        assert np.isin(shard[frames], window.shards).all() and np.isin(shard[sounds], window.shards).all()
        counts = [np.bincount(frames[rows.label == label], minlength=120) for label in (0, 1)]
        held = np.isin(shard, window.shards) & np.isin(np.arange(120), plan.clips)
        times = {"independent": 4, "shared": 4, "sync": 8}[source]
        assert (counts[0][held] == times).all() and (counts[1][held] == times).all()
        if source != "sync":
            assert (frames[rows.label == 0] != sounds[rows.label == 0]).all()
        dealt.append(window.shards.tolist())
        row = window.stop
    for which in (dealt[:4], dealt[4:]):
        assert sorted(number for window in which for number in window) == list(range(24))
    assert sorted(map(sorted, dealt[:4])) != sorted(map(sorted, dealt[4:])), "each pass deals the shards anew"
    whole, cut = plan.rows(0, row), [plan.rows(at, at + 12) for at in range(0, row, 12)]
    assert whole.digest() == sum(part.digest() for part in cut)
    assert plan.rows_per_epoch == per_visit * len(plan.clips), "an epoch is one visit"


def test_negatives_of_one_class_are_as_rare_in_a_window_as_in_the_whole_set(make_index) -> None:
    count, classes = 6_000, 20
    index = make_index(count, ticks=100)
    index["shard"] = np.arange(count) // 20
    kind = np.random.default_rng(0).integers(classes, size=count)  # in an order that means nothing, as packing has it
    for in_order, least, most in ((kind, 0.9, 1.1), (np.sort(kind), 10, 25)):
        plan = partitioned(index, np.arange(count), partitions=1, batch_pairs=64, seed=1, shuffle_shards=2, visits=4)
        rows = plan.rows(0, 8 * count)
        negative = rows.label == 0
        same = in_order[rows.frame_clip[rows.pair_frame]] == in_order[rows.audio_clip[rows.pair_audio]]
        assert least < same[negative].mean() * classes < most


def test_one_partition_is_the_plan_without_partitions(sampler, make_index) -> None:
    plain = PairSampler(make_index(120), np.arange(120), seed=5)
    assert type(sampler(1)) is PairSampler
    assert plain.rows(0, 200).digest() == sampler(1).rows(0, 200).digest()


def test_partitions_that_cannot_be_are_refused(sampler, make_index) -> None:
    with pytest.raises(ValueError, match=r"data.partitions: 25 is more than the 24 shards"):
        sampler(25)
    with pytest.raises(ValueError, match=r"96 pairs cannot be divided over 10 partitions .* use a multiple of 20"):
        sampler(10)
    assert "data.partitions" in settings_of("ave") and "data.partitions" not in settings_of("soundnet5")
    index = make_index(6)
    index["shard"] = np.arange(6)
    with pytest.raises(ValueError, match=r"window of 1 shards \(data.shuffle_shards\): 1 clips are too few"):
        partitioned(index, np.arange(6), partitions=1, batch_pairs=4, seed=0, shuffle_shards=1)
    with pytest.raises(ValueError, match=r"data.partitions"):
        parse_config({"data": {"partitions": 0}}, origin="a test")
