"""Training from shards at a URL: the bits of local files, by ranges and out of a cache that ranks and runs share."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import shards.store
from avc.config import load_config
from avc.data.loader import shard_batch
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.data.stored import FetchAhead
from avc.settings import PairConfig
from avc.tasks.correspondence import training_sampler
from shards.copy import copy_packed
from shards.read import Shards
from shards.store import Url
from tests.avc.launching import Training, assert_same_bits, final_state, metrics, train_here, write_config
from tests.object_store import KEY, SECRET, Proxy, Request


@pytest.fixture
def url(many_shards: Path, proxy: Proxy, tmp_path: Path) -> Url:
    there = Url(f"s3://shelf/{tmp_path.name}")
    copy_packed(many_shards, there, progress=lambda *_: None)
    proxy.requests.clear()
    return there


def test_a_batch_by_ranges_is_the_local_one_and_all_of_it_is_in_flight(
    many_shards: Path, url: Url, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards.store, "STALLED_SECONDS", 100.0)
    monkeypatch.setenv("AVC_STORE_PATIENCE", "400")
    batches = []
    for data in (Shards(many_shards), Shards(url)):
        sampler = PairSampler(data.index, data.clips("train"), seed=3)
        reader = PairReader(data, sampler, image_size=28, augment=True)
        proxy.requests.clear()
        everybody = threading.Barrier(64)  # no request is answered before all are there
        proxy.fault = lambda request, everybody=everybody: everybody.wait(100) and None  # type: ignore[misc]
        batches.append(reader[0, 32])
    for local, remote in zip(*batches, strict=True):
        assert local.equal(remote)
    assert len(proxy.got(".tar")) == 64


def fetched_once(proxy: Proxy, many_shards: Path, *splits: str, spoilt: int = -1) -> bool:
    """Whether the shards of the splits, and the tables, were asked for once, but for every 50th request."""
    whole = [request for request in proxy.requests if request.count % 50 != spoilt]
    asked = Counter(request.target for request in whole if request.target.endswith((".tar", ".npy")))
    drawn = [shard for shard in Shards(many_shards).manifest.shards if shard.split in splits]
    return set(asked.values()) == {1} and len(asked) == len(drawn) + 2


def test_a_run_out_of_the_cache_fetches_each_shard_once_and_ends_with_the_bits_of_local_files(
    many_shards: Path, url: Url, proxy: Proxy, tmp_path: Path
) -> None:
    settings = {"training": {"steps": 6}, "validation": {"every_steps": 0}}  # three epochs
    train_here(write_config(tmp_path, many_shards, **settings), tmp_path / "local")
    config, cached = write_config(tmp_path, url, **settings), f"data.cache={tmp_path / 'cache'}"
    proxy.fault = lambda request: "503" if request.count % 50 == 3 else None
    output = train_here(config, tmp_path / "stored", cached)
    assert_same_bits(final_state(tmp_path / "local"), final_state(tmp_path / "stored"))
    assert fetched_once(proxy, many_shards, "train", spoilt=3)
    proxy.requests.clear()
    proxy.fault = lambda request: None
    output += train_here(config, tmp_path / "again", cached)
    assert proxy.got(".tar") == [] == proxy.got(".npy")
    assert_same_bits(final_state(tmp_path / "local"), final_state(tmp_path / "again"))
    logged = [path.read_bytes() for path in (tmp_path / "stored").rglob("*") if path.is_file()]
    assert str(url).encode() in b"".join(logged)
    for secret in (KEY, SECRET):
        assert secret not in output and not any(secret.encode() in data for data in logged)


def test_two_ranks_with_a_worker_each_share_a_cache_and_two_partitions(
    many_shards: Path, url: Url, proxy: Proxy, tmp_path: Path
) -> None:
    settings = {"data": {"num_workers": 1, "partitions": 2}, "training": {"steps": 4}, "validation": {"every_steps": 4}}
    local = write_config(tmp_path, many_shards, **settings)
    Training(local, tmp_path / "local", world_size=2).finish()
    cached = f"data.cache={tmp_path / 'cache'}"
    Training(write_config(tmp_path, url, **settings), tmp_path / "stored", cached, world_size=2).finish()
    assert_same_bits(final_state(tmp_path / "local"), final_state(tmp_path / "stored"))
    assert fetched_once(proxy, many_shards, "train", "validation")
    digests = [[line.get("data/pairs_digest") for line in metrics(tmp_path / run)] for run in ("local", "stored")]
    assert digests[0] == digests[1] and len(digests[0]) >= 4


def test_a_run_that_is_killed_while_its_cache_is_filled_ends_with_the_same_bits(
    many_shards: Path, url: Url, proxy: Proxy, tmp_path: Path
) -> None:
    settings = {"training": {"steps": 2}, "checkpoint": {"every_steps": 1}, "validation": {"every_steps": 0}}
    Training(write_config(tmp_path, many_shards, **settings), tmp_path / "local").finish()
    config, cached = write_config(tmp_path, url, **settings), f"data.cache={tmp_path / 'cache'}"
    for shards_before in (1, 4):
        seen, reached = len(proxy.got(".tar")), threading.Event()

        def hold(request: Request, most: int = seen + shards_before, reached: threading.Event = reached) -> str | None:
            if len(proxy.got(".tar")) > most:
                reached.set()
                return "stall"
            return None

        proxy.fault = hold
        training = Training(config, tmp_path / "stored", cached, AVC_STORE_PATIENCE="400")
        assert reached.wait(100)
        training.kill()
    proxy.fault = lambda request: None
    Training(config, tmp_path / "stored", cached).finish()
    assert_same_bits(final_state(tmp_path / "local"), final_state(tmp_path / "stored"))
    assert not list((tmp_path / "cache").glob("*.part"))


def test_windows_keep_to_a_cache_that_cannot_hold_the_set_and_end_with_the_bits_of_local_files_after_a_kill(
    many_shards: Path, url: Url, proxy: Proxy, tmp_path: Path
) -> None:
    manifest = Shards(many_shards).manifest
    sizes = sorted(shard.bytes for shard in manifest.shards if shard.split == "train")
    most = sum(sizes[-16:]) + sum(table.bytes for table in manifest.tables)  # two windows of eight
    assert most < 0.8 * sum(sizes)
    settings = {
        "data": {"num_workers": 1, "shuffle_shards": 8, "visits": 2},
        "negatives": {"source": "independent"},
        **{"training": {"steps": 8}, "checkpoint": {"every_steps": 1}, "validation": {"every_steps": 0}},
    }
    Training(write_config(tmp_path, many_shards, **settings), tmp_path / "local").finish()
    cache = tmp_path / "cache"
    config, words = write_config(tmp_path, url, **settings), (f"data.cache={cache}", f"data.cache_gb={most / 1e9}")
    largest, seen = 0, threading.Event()

    def watched(request: Request) -> str | None:
        nonlocal largest
        with suppress(FileNotFoundError):
            largest = max(largest, sum(os.stat(path).st_size for path in cache.glob("?" * 64)))
        if len(proxy.got(".tar")) >= 6:  # requests side by side may be counted two at once
            seen.set()
        return None

    proxy.fault = watched
    training = Training(config, tmp_path / "stored", *words)
    assert seen.wait(200)
    training.kill()
    Training(config, tmp_path / "stored", *words).finish()
    assert_same_bits(final_state(tmp_path / "local"), final_state(tmp_path / "stored"))
    assert 0 < largest <= most
    few = write_config(tmp_path, url, **settings)
    with pytest.raises(ValueError, match=r"data.cache_gb\), and .* are needed"):
        train_here(few, tmp_path / "few", words[0], f"data.cache_gb={0.9 * most / 1e9}")
    assert not (tmp_path / "few").exists()


def test_ranks_of_one_machine_that_draw_from_the_same_shards_need_room_for_them_once(
    many_shards: Path, url: Url, tmp_path: Path
) -> None:
    manifest = Shards(many_shards).manifest
    every = sum(file.bytes for file in (*manifest.shards, *manifest.tables))
    config = load_config(
        write_config(tmp_path, url), [f"data.cache={tmp_path / 'cache'}", f"data.cache_gb={every / 1e9}"]
    )
    assert isinstance(config, PairConfig)
    ranks = []
    for rank in range(2):
        data = config.data.opened()
        sampler = training_sampler(config, data)
        sharding = shard_batch(sampler, batch_pairs=32, micro_batch_pairs=32, rank=rank, world_size=2)
        ranks.append((data, FetchAhead(data, sampler, sharding, config)))
    assert len(ranks) == 2


def test_ranks_that_share_windows_need_room_for_three_of_them_however_many_ranks_there_are(
    many_shards: Path, url: Url, tmp_path: Path
) -> None:
    manifest = Shards(many_shards).manifest
    sizes = sorted(shard.bytes for shard in manifest.shards if shard.split == "train")
    per_window = -(-len(sizes) // (len(sizes) // 4))
    three = sum(sizes[-3 * per_window :]) + sum(table.bytes for table in manifest.tables)
    words = ["data.shuffle_shards=4", "data.visits=8", "negatives.source=independent", "validation.every_steps=0"]

    def ranks(number_of: int, most: int, run: str) -> list[FetchAhead]:
        place = [f"data.cache={tmp_path / run / 'cache'}", f"data.cache_gb={most / 1e9}", f"run.dir={tmp_path / run}"]
        config = load_config(write_config(tmp_path, url), [*words, *place])
        assert isinstance(config, PairConfig)
        opened = []
        for rank in range(number_of):
            data = config.data.opened()
            sampler = training_sampler(config, data)
            sharding = shard_batch(sampler, batch_pairs=32, micro_batch_pairs=8, rank=rank, world_size=number_of)
            opened.append(FetchAhead(data, sampler, sharding, config))
        return opened

    four = ranks(4, three, "shared")
    for step in range(6):  # which leads through several windows; each rank is in the next one before the others
        for rank in four:
            rank.at(step)
    with pytest.raises(ValueError, match=r"data.cache_gb\), and .* are needed"):
        ranks(4, three - 1, "less")


def test_a_store_that_is_gone_for_ever_ends_a_run_in_a_sentence(url: Url, proxy: Proxy, tmp_path: Path) -> None:
    config = write_config(tmp_path, url, data={"num_workers": 1})
    proxy.fault = lambda request: "down" if request.target.endswith(".tar") and len(proxy.got(".tar")) > 3 else None
    training = Training(config, tmp_path / "run", f"data.cache={tmp_path / 'cache'}", AVC_STORE_PATIENCE="2")
    output = training.finish(1)
    assert "the shard cannot be read" in output or "the shard cannot be opened" in output
    assert "and so for 2 s (AVC_STORE_PATIENCE)" in output and "Traceback" not in output
    assert not training.processes()


def test_a_cache_that_is_too_small_is_refused_before_a_run_begins(url: Url, proxy: Proxy, tmp_path: Path) -> None:
    config = write_config(tmp_path, url)
    with pytest.raises(ValueError, match=r"may hold 0.00 GB \(data.cache_gb\), and 0.01 GB are needed"):
        train_here(config, tmp_path / "run", f"data.cache={tmp_path / 'cache'}", "data.cache_gb=0.001")
    assert not (tmp_path / "run").exists() and proxy.got(".tar") == []


def test_a_cache_for_a_folder_of_this_machine_is_refused(many_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.cache is for shards at a URL, and .*many is a folder of this machine"):
        train_here(write_config(tmp_path, many_shards), tmp_path / "run", f"data.cache={tmp_path / 'cache'}")
