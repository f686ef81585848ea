"""What the plan names is what the network gets, whoever reads it."""

import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from avc.data.loader import shard_batch
from avc.data.prefetch import WorkerLost
from avc.data.reader import Batch, PairReader
from avc.data.sampler import PairSampler
from shards.format import MANIFEST
from shards.read import BadRecord, Shards
from tests.avc.launching import batches_of


@pytest.fixture(scope="module")
def shards(small_world) -> Shards:
    return Shards(small_world)


def reader_of(shards: Shards, *, image_size: int = 56, augment: bool = True, **settings: object) -> PairReader:
    sampler = PairSampler(shards.index, shards.clips("train"), **({"seed": 3, "block": 4} | settings))
    return PairReader(shards, sampler, image_size=image_size, augment=augment)


@pytest.mark.parametrize("source", ["independent", "shared"])
@pytest.mark.parametrize("num_workers", range(5))
def test_batches_do_not_depend_on_the_number_of_workers(shards, source, num_workers) -> None:
    reader = reader_of(shards, source=source)
    sharding = shard_batch(reader.sampler, batch_pairs=16, micro_batch_pairs=8, rank=1, world_size=2)
    row_ranges = list(sharding.row_ranges(0, 5))
    batches = list(batches_of(reader, iter(row_ranges), num_workers=num_workers))
    assert len(batches) == len(row_ranges)
    for batch, row_range in zip(batches, row_ranges, strict=True):
        for got, expected in zip(batch, reader[row_range], strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_an_interrupt_that_reaches_the_workers_too_costs_no_batch(shards) -> None:
    batches = batches_of(reader_of(shards), ((start, start + 2) for start in range(0, 40, 2)), num_workers=2)
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    assert sum(1 for _ in batches) == 19


def test_a_worker_that_is_killed_is_an_error_with_its_signal(shards) -> None:
    batches = batches_of(reader_of(shards), ((start, start + 2) for start in range(0, 40, 2)), num_workers=2)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="ended with signal 9"):
        list(batches)
    assert not multiprocessing.active_children()


def test_an_error_where_rows_are_read_is_the_same_with_workers(shards) -> None:
    reader = reader_of(shards)
    reader.sampler = None  # type: ignore[assignment]
    for num_workers in (0, 1):
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'rows'"):
            next(batches_of(reader, iter([(0, 2)]), num_workers=num_workers))


def test_a_program_that_ends_with_an_error_does_not_wait_for_its_workers(small_world) -> None:
    program = f"""
from avc.data.prefetch import WorkerLost
from shards.read import Shards
from tests.avc.test_loader import reader_of
from tests.avc.launching import batches_of
batches = batches_of(reader_of(Shards({str(small_world)!r})), ((0, 2) for _ in range(100)), num_workers=1)
next(batches)
raise RuntimeError("one of ours")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: one of ours\n")


def test_a_batch_holds_the_pictures_and_sounds_that_its_rows_name(shards) -> None:
    reader = reader_of(shards, augment=False)
    rows = reader.sampler.rows(0, 8)
    batch = reader.read(rows)
    for i in range(8):
        clip, tick = int(rows.frame_clip[i]), int(rows.frame_tick[i])
        picture = shards.picture(clip, tick)
        top, left = ((side - 56 + 1) // 2 for side in picture.shape[:2])
        expected = picture[top : top + 56, left : left + 56]
        np.testing.assert_array_equal(batch.images[i].numpy(), expected)
        sound = shards.sound(int(rows.audio_clip[i]), 0, int(shards.index[rows.audio_clip[i]]["ticks"]) * 1920)
        centre = int(rows.audio_center[i])
        np.testing.assert_array_equal(batch.audio[i].numpy(), sound[centre - 24_000 : centre + 24_000])


def test_batches_are_bytes_until_they_are_on_the_device(shards) -> None:
    batch = reader_of(shards, source="shared")[0, 8]
    assert isinstance(batch, Batch)
    assert (batch.images.dtype, tuple(batch.images.shape)) == (torch.uint8, (8, 56, 56, 3))
    assert (batch.audio.dtype, tuple(batch.audio.shape)) == (torch.int16, (8, 48_000))
    assert len(batch.label) == len(batch.pair_frame) == len(batch.pair_audio) == 16


def test_random_crops_reach_every_corner_and_never_leave_the_picture(shards) -> None:
    reader = reader_of(shards)
    seen = set()
    for start in range(0, 600, 100):
        rows = reader.sampler.rows(start, start + 100)
        seen |= {int(y * 9) for y in rows.image_draws[:, 0]}  # 64 - 56 = 8 pixels of buffers: 9 places
        assert reader.read(rows).images.shape == (100, 56, 56, 3)
    assert seen == set(range(9))


@pytest.mark.parametrize(("image_size", "reduce", "crop"), [(56, 1, 56), (40, 1, 56), (28, 2, 28), (16, 2, 28)])
def test_pictures_are_decoded_no_larger_than_the_network_needs(shards, image_size, reduce, crop) -> None:
    reader = reader_of(shards, image_size=image_size)
    assert (reader.reduce, reader.crop) == (reduce, crop)
    assert reader[0, 2].images.shape == (2, crop, crop, 3)


def test_a_network_larger_than_the_stored_pictures_is_refused_in_words(shards) -> None:
    with pytest.raises(ValueError, match="image_size: 224 is more than 56"):
        reader_of(shards, image_size=224)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_shard_ends_training_with_the_name_of_the_record(small_world, tmp_path, num_workers) -> None:
    copy = tmp_path / "shards"
    copy.mkdir()
    for path in small_world.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert (copy / MANIFEST).is_file()
    shards = Shards(copy)
    shard = next(copy.glob("train-*.tar"))
    data = bytearray(shard.read_bytes())
    for row in shards.index[shards.clips("train")]:
        start, size = int(row["mjpeg_offset"]), int(row["mjpeg_size"])
        data[start : start + size] = bytes(size)
    shard.write_bytes(data)
    reader = reader_of(Shards(copy))
    with pytest.raises(BadRecord, match=r"\.mjpeg"):
        next(batches_of(reader, iter([(0, 2)]), num_workers=num_workers))
