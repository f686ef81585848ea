"""Several sets by weight: exact shares, the same pairs on any ranks and after a kill, negatives inside a set."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avc.config import dump_config, load_config, parse_config
from avc.data.loader import shard_batch
from avc.data.mixed import MixedSampler
from avc.data.partitions import partitioned
from avc.data.sampler import PairSampler
from avc.encoders.load import shards_of
from shards.copy import copy_packed
from shards.format import PackSettings
from shards.mixed import MixedShards, WeightedSet
from shards.pack import pack
from shards.read import Shards
from shards.store import Url
from tests.avc.launching import Training, assert_same_bits, final_state, metrics, train_here, write_config
from tests.avc.test_partitions import pairs
from tests.object_store import Proxy
from workshop.demo.world.render import World, render

PAIRS = 96


@pytest.fixture(scope="module")
def other_set(small_world: Path) -> Path:
    """Twelve clips of another world, and of the small one two that it trains on and two that it holds out."""
    folder = small_world.parent / "other"
    render(folder / "world", World(clips=12, seed=9, seconds=2.0), workers=1)
    for number in (0, 1, 24, 25):
        (video,) = (small_world.parent / "world").rglob(f"clip-{number:05}.*")
        shutil.copy(video, folder / "world" / f"of-the-first-{number}{video.suffix}")
    pack(
        [folder / "world"],
        folder / "shards",
        PackSettings(side=64, sound="flac", split=(1.0, 0.0, 0.0)),
        workers=1,
    )
    return folder / "shards"


@pytest.fixture
def plan(make_index) -> Any:
    """The plan over 90 and 30 clips (or as many as told) by their weights."""

    def make(weights: tuple[int, ...], counts: tuple[int, ...] = (90, 30), **settings: Any) -> PairSampler:
        index = make_index(sum(counts), ticks=250)
        index["shard"] = np.arange(len(index)) // 5
        ends = np.cumsum(counts).tolist()
        sets = [
            WeightedSet(SimpleNamespace(folder=f"set{n}"), weight, range(end - count, end), range(0))  # type: ignore[arg-type]
            for n, (weight, count, end) in enumerate(zip(weights, counts, ends, strict=True))
        ]
        more = {"partitions": 1, "batch_pairs": PAIRS, "seed": 5, "block": 4, "sets": sets} | settings
        return partitioned(index, np.arange(len(index)), **more)

    return make


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (7, 2), (1, 100)])
@pytest.mark.parametrize("source", ["independent", "shared", "sync"])
def test_shares_are_right_but_for_a_group_over_any_stretch_and_negatives_are_inside_a_set(
    plan, source: str, weights: tuple[int, int]
) -> None:
    sampler = plan(weights, (900, 300), source=source)
    groups = sampler.rows_per_epoch // sampler.group_size
    for first, last in ((0, groups), (groups, 2 * groups), (3, 50), (1000, 1001)):
        rows = sampler.rows(first * sampler.group_size, last * sampler.group_size)
        frame, sound = rows.frame_clip[rows.pair_frame], rows.audio_clip[rows.pair_audio]
        of_frame, of_sound = frame >= 900, sound >= 900
        assert (of_frame == of_sound).all() and set(rows.label) == {0, 1}
        pairs_of_group = sampler.group_size * sampler.pairs_per_row
        exact = (last - first) * weights[1] / sum(weights) * pairs_of_group
        assert abs(of_frame.sum() - exact) <= 2 * pairs_of_group
        if last - first == groups:
            assert abs(of_frame.mean() - weights[1] / sum(weights)) < 0.01
        if source != "sync":
            assert (frame != sound)[rows.label == 0].all()


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (7, 2), (2, 7), (1, 100), (5, 3, 1)])
def test_the_sets_take_turns_spread_evenly(plan, weights: tuple[int, ...]) -> None:
    sampler = plan(weights, (90,) * len(weights), source="shared")
    taken = np.zeros(len(weights))
    for group in range(2 * sum(weights)):
        rows = sampler.rows(group * sampler.group_size, (group + 1) * sampler.group_size)
        taken[rows.frame_clip[0] // 90] += 1
        assert (abs(taken - (group + 1) * np.array(weights) / sum(weights)) < 1).all()


def test_each_set_s_clips_come_as_often_as_each_other(plan) -> None:
    sampler = plan((3, 1), (30, 10))
    rows = sampler.rows(0, 4 * 80)  # three rounds of the first set and three of the second
    for label in (0, 1):
        counts = np.bincount(rows.frame_clip[rows.pair_frame][rows.label == label], minlength=40)
        assert set(counts.tolist()) == {4}


def test_what_the_first_set_gives_is_what_it_gives_alone(plan, make_index) -> None:
    mixed = plan((3, 1))
    alone = PairSampler(make_index(120, ticks=250), np.arange(90), seed=5)
    rows = mixed.rows(0, 400)
    assert pairs(alone.rows(0, 300), alone) == [pair for pair in pairs(rows, mixed) if pair[1] < 90]


@pytest.mark.parametrize("source", ["independent", "shared"])
@pytest.mark.parametrize(("window", "visits"), [(0, 1), (2, 3)])
def test_a_step_of_several_sets_is_the_same_on_any_ranks_workers_and_micro_batches(
    plan, source: str, window: int, visits: int
) -> None:
    sampler = plan((3, 1), source=source, shuffle_shards=window, visits=visits)
    assert isinstance(sampler, MixedSampler)
    whole = sampler.rows(0, 9 * PAIRS // sampler.pairs_per_row)
    digests = set()
    for world_size in (1, 2, 3, 4, 6, 12):
        for micro in (8, PAIRS):
            seen = []
            for rank in range(world_size):
                sharding = shard_batch(
                    sampler, batch_pairs=PAIRS, micro_batch_pairs=micro, rank=rank, world_size=world_size
                )
                for workers in (1, 4):  # each takes every so many ranges, of a sampler of its own
                    ranges = [*sharding.row_ranges(0, 9)]
                    read = [sampler.rows(*each) for worker in range(workers) for each in ranges[worker::workers]]
                    digests.add((rank, world_size, sum(rows.digest() for rows in read)))
                seen += [pair for rows in read for pair in pairs(rows, sampler)]
            assert sorted(seen) == pairs(whole, sampler)
        of_ranks = Counter((rank, size) for rank, size, _ in digests)
        assert set(of_ranks.values()) == {1}
        assert sum(digest for _, size, digest in digests if size == world_size) == whole.digest()


def mixture(*sets: tuple[Path, int]) -> str:
    return "data.shards=[" + ", ".join(f"{{path: {path}, weight: {weight}}}" for path, weight in sets) + "]"


def test_a_clip_of_two_sets_is_the_first_s_and_never_met_where_that_holds_it_out(
    small_world: Path, other_set: Path
) -> None:
    first, second = Shards(small_world), Shards(other_set)
    both = MixedShards([first, second], [6, 2])
    assert len(both) == len(first) + len(second) == 56
    assert [one.weight for one in both.sets] == [3, 1]
    keys = [both.key(clip) for clip in both.clips("train")]
    assert len(keys) == len(set(keys)) == 24 + 12
    held_out = [first.key(clip) for clip in first.clips("validation")]
    assert [both.key(clip) for clip in both.clips("validation")] == held_out and not {*held_out} & {*keys}
    assert len({*held_out} & {second.key(clip) for clip in second.clips("train")}) == 2
    assert f"{small_world} with weight 3 (24 clips)" in both.about
    assert f"{other_set} with weight 1 (12 clips, without 4 that are in a set before it)" in both.about
    weighted = (
        ([first, second], [3, 1]),
        ([first, second], [6, 2]),
        ([first, second], [1, 3]),
        ([second, first], [3, 1]),
    )
    digests = {MixedShards(*each).digest for each in weighted}
    assert len(digests) == 3, "equal proportions are equal; other weights and another order are not"


def test_a_record_is_that_of_its_own_set_in_this_process_and_in_a_worker(small_world: Path, other_set: Path) -> None:
    import pickle

    parts = [Shards(small_world), Shards(other_set)]
    here = MixedShards(parts, [1, 1])
    for both in (here, pickle.loads(pickle.dumps(here))):
        for clip in (0, 39, 40, np.int64(55)):
            part, own = (parts[0], clip) if clip < 40 else (parts[1], clip - 40)
            assert both.key(clip) == part.key(own) and both.info(clip) == part.info(own)
            assert (both.picture(clip, 12) == part.picture(own, 12)).all()
            assert (both.sound(clip, 100, 50) == part.sound(own, 100, 50)).all()
            assert both.frame(clip, 3) == part.frame(own, 3)
            files = both.manifest.shards
            assert files[both.index[clip]["shard"]] == part.manifest.shards[part.index[own]["shard"]]


def test_one_set_as_a_list_is_that_set(small_world: Path) -> None:
    config = parse_config({"data": {"shards": [{"path": str(small_world)}]}})
    assert type(config.data.opened()) is Shards and config.data.opened().digest == Shards(small_world).digest
    assert shards_of(config, "run") == small_world
    plain = parse_config({"data": {"shards": str(small_world)}})
    assert plain.data.shards == small_world and f"shards: {small_world}\n" in dump_config(plain)


SETTINGS: dict[str, dict[str, Any]] = {
    "training": {"steps": 9},
    "negatives": {"source": "independent"},
    "validation": {"every_steps": 9},
    "checkpoint": {"every_steps": 2},
}


def test_a_training_on_two_sets_killed_and_resumed_ends_with_the_same_bits_and_on_other_ranks_takes_the_same_pairs(
    small_world: Path, other_set: Path, tmp_path: Path
) -> None:
    path = write_config(tmp_path, small_world, **SETTINGS)
    sets = mixture((small_world, 3), (other_set, 1))
    said = Training(path, tmp_path / "whole", sets).finish()
    assert said.count("several sets: ") == 1 and "without 4 that are in a set before it" in said
    killed = Training(path, tmp_path / "killed", sets, "data.num_workers=1")
    killed.wait_for_step(3)
    killed.kill()
    Training(path, tmp_path / "killed", sets, "data.num_workers=1").finish()
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))
    Training(path, tmp_path / "two", sets, world_size=2).finish()
    digests = [
        [line.get("data/pairs_digest") for line in metrics(tmp_path / run)] for run in ("whole", "killed", "two")
    ]
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) == 10
    config = load_config(tmp_path / "whole" / "config.yaml")
    with pytest.raises(ValueError, match=r"was trained on several sets: give one of them with --shards"):
        shards_of(config, tmp_path / "whole")
    with pytest.raises(ValueError, match="or sets, their weights or their order be others"):
        train_here(path, tmp_path / "whole", mixture((small_world, 2), (other_set, 1)))


def test_sets_at_urls_are_read_by_ranges_and_out_of_a_cache_to_the_bits_of_local_folders(
    small_world: Path, other_set: Path, proxy: Proxy, tmp_path: Path
) -> None:
    path = write_config(
        tmp_path, small_world, **SETTINGS | {"training": {"steps": 3}, "validation": {"every_steps": 0}}
    )
    train_here(path, tmp_path / "local", mixture((small_world, 3), (other_set, 1)))
    urls = [Url(f"s3://shelf/{tmp_path.name}/{name}") for name in ("first", "second")]
    for here, there in zip((small_world, other_set), urls, strict=True):
        copy_packed(here, there, progress=lambda *_: None)
    sets = mixture((urls[0], 3), (urls[1], 1))
    train_here(path, tmp_path / "ranges", sets)
    proxy.requests.clear()
    train_here(path, tmp_path / "cached", sets, f"data.cache={tmp_path / 'cache'}")
    for run in ("ranges", "cached"):
        assert_same_bits(final_state(tmp_path / "local"), final_state(tmp_path / run))
    whole = Counter(request.target for request in proxy.requests if request.target.endswith(".tar"))
    assert len(whole) >= 2 and set(whole.values()) == {1}, "the shards of both are fetched once"
    with pytest.raises(ValueError, match=r"data.cache is for shards at a URL, and .* is a folder of this machine"):
        train_here(path, tmp_path / "no", mixture((urls[0], 3), (other_set, 1)), f"data.cache={tmp_path / 'cache'}")
    with pytest.raises(ValueError, match=r"data.cache_gb\), and .* are needed"):
        train_here(path, tmp_path / "few", sets, f"data.cache={tmp_path / 'few-cache'}", "data.cache_gb=0.0001")


def test_sets_that_cannot_be_mixed_are_refused_in_a_sentence(
    small_world: Path, other_set: Path, tmp_path: Path
) -> None:
    def refused(*sets: tuple[Path, Any], of: tuple[str, ...] = (), saying: str) -> None:
        with pytest.raises(ValueError, match=saying):
            train_here(write_config(tmp_path, small_world), tmp_path / "run", mixture(*sets), *of)
        assert not (tmp_path / "run").exists()

    for weight in (0, -1, 0.5, "many"):
        refused((small_world, 1), (other_set, weight), saying=r"`data.shards.1.weight` is ")
    refused((small_world, 1), (tmp_path, 1), saying=r"has no manifest.json: it is not a packed folder")
    for again in (small_world, small_world / ".." / small_world.name, shutil.copytree(small_world, tmp_path / "copy")):
        refused((small_world, 3), (again, 1), saying="is in data.shards twice, or a copy of it")
    for name, settings in {
        "side 64 and ": PackSettings(side=48),
        "every 1 and": PackSettings(side=64, every=2),
    }.items():
        folder = tmp_path / name.split()[0]
        pack([next((other_set.parent / "world").rglob("clip-00000.*"))], folder, settings, workers=1)
        refused((small_world, 1), (folder, 1), saying=f"has {name}.* (48|2): pack one of them again")
    refused(
        (small_world, 1),
        (other_set, 1),
        of=("data.partitions=2",),
        saying="several sets in data.shards need data.partitions: 1",
    )
    refused(
        (small_world, 1), (other_set, 1), of=("validation.split=train",), saying="another validation.split than train"
    )
    few = tmp_path / "few"
    pack(
        [next((other_set.parent / "world").rglob("clip-00000.*"))],
        few,
        PackSettings(side=64, split=(1.0, 0.0, 0.0)),
        workers=1,
    )
    refused((small_world, 1), (few, 1), saying=f"{few} has 1 clips to train on that no set before it has")
    with pytest.raises(ValueError, match=r"data\.shards"):
        parse_config({"data": {"shards": []}})
    sound = {"model": {"name": "autoencoder"}, "data": {}}
    config = write_config(tmp_path, small_world, **sound)
    with pytest.raises(ValueError, match=r"autoencoder learns from one set, and data.shards names 2"):
        train_here(config, tmp_path / "run", mixture((small_world, 1), (other_set, 1)))
