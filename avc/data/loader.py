"""Plan and shards → batches.

    1. steps of the run           which rows of the plan, cut into the micro-batches of this rank
    2. a worker process           draws the rows, reads one JPEG and one second of sound each, decodes, crops
    3. the training process       receives uint8 pictures and int16 sound, in order

The bytes stay small until they are on the device; `avc.data.transforms` does the rest there.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avc.data.plan import Plan, Rows
from shards.read import BadRecord, Shards

CROP = 7 / 8  # 224 of 256 pixels, Objects that Sound 3.3


class Batch(NamedTuple):
    """F pictures, S seconds of sound, and P pairs of them.

    pictures: uint8 (F, crop, crop, 3). sounds: int16 (S, 48000). frame_numbers, sound_numbers: float32 (F, 5), (S, 1),
    augmentation numbers from the plan. pair_frame, pair_sound, label: int64 (P,).
    """

    pictures: Tensor
    sounds: Tensor
    frame_numbers: Tensor
    sound_numbers: Tensor
    pair_frame: Tensor
    pair_sound: Tensor
    label: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; pinned memory is copied without waiting."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


@dataclass(frozen=True)
class Share:
    """How one step's rows fall to the ranks, and each rank's to micro-batches.

    Step s is rows [s, s + 1) * rows_per_step; rank r takes the r-th of world_size equal stretches, in `micro_batches`
    equal pieces.
    """

    rows_per_step: int
    rank: int
    world_size: int
    micro_batches: int

    @property
    def rows_per_micro_batch(self) -> int:
        return self.rows_per_step // (self.world_size * self.micro_batches)

    def stretches(self, first_step: int, last_step: int) -> Iterator[tuple[int, int]]:
        """(start, stop) rows of this rank's micro-batches for steps [first_step, last_step), in order."""
        size = self.rows_per_micro_batch
        for step in range(first_step, last_step):
            start = step * self.rows_per_step + self.rank * self.micro_batches * size
            for _ in range(self.micro_batches):
                yield start, start + size
                start += size


def share(plan: Plan, *, batch_pairs: int, micro_batch_pairs: int, rank: int, world_size: int) -> Share:
    """Cut `batch_pairs` pairs into equal stretches of whole granules, micro-batches as large as allowed.

    Raises ValueError where that is impossible, with sizes that would do.
    """
    granule = plan.granule * plan.pairs_per_row  # pairs that cannot be parted
    if batch_pairs % (world_size * granule):
        step = world_size * granule
        below, above = batch_pairs // step * step, -(-batch_pairs // step) * step
        what = f"blocks of {plan.block} clips" if plan.source == "shared" else "a positive and a negative"
        raise ValueError(
            f"optim.batch_pairs: {batch_pairs} pairs cannot be divided over {world_size} ranks in {what} "
            f"({granule} pairs); use {f'{below} or ' if below else ''}{above}"
        )
    granules = batch_pairs // (world_size * granule)
    if micro_batch_pairs < granule:
        raise ValueError(f"optim.micro_batch_pairs: {micro_batch_pairs} is less than the {granule} pairs kept together")
    micro_batches = next(
        n for n in range(1, granules + 1) if granules % n == 0 and granules // n * granule <= micro_batch_pairs
    )
    return Share(batch_pairs // plan.pairs_per_row, rank, world_size, micro_batches)


class PairReader(Dataset[Batch | BadRecord]):
    """Reads stretches of the plan: `reader[start, stop]` is the batch of rows [start, stop).

    image_size: pictures are decoded at the smallest of JPEG's scales (1, 1/2, 1/4, 1/8) whose crop is as large.
    augment: crop where the plan says, else in the middle.
    Raises ValueError where the stored pictures are too small for `image_size`.
    """

    def __init__(self, shards: Shards, plan: Plan, *, image_size: int, augment: bool) -> None:
        self.shards, self.plan, self.augment = shards, plan, augment
        sides = np.minimum(shards.index["width"], shards.index["height"])[plan.clips]
        side = int(sides.min())
        scales = [reduce for reduce in (8, 4, 2, 1) if round(side * CROP) // reduce >= image_size]
        if not scales:
            raise ValueError(
                f"data.image_size: {image_size} is more than {round(side * CROP)}, 7/8 of the smallest side of the "
                f"pictures in {shards.folder}; lower it, or pack with a larger --side"
            )
        self.reduce = scales[0]
        self.crop = round(side * CROP) // self.reduce

    def __getitem__(self, stretch: tuple[int, int]) -> Batch | BadRecord:
        try:
            return self.read(self.plan.rows(*stretch))
        except BadRecord as error:
            return error  # raised in the training process: torch would wrap it in the worker's traceback

    def read(self, rows: Rows) -> Batch:
        """Read what the rows name. Raises shards.read.BadRecord where the shards are damaged."""
        pictures = torch.empty((len(rows.frame_clip), self.crop, self.crop, 3), dtype=torch.uint8)
        for i, (clip, tick) in enumerate(zip(rows.frame_clip.tolist(), rows.frame_tick.tolist(), strict=True)):
            picture = self.shards.picture(clip, tick, reduce=self.reduce)
            room = np.array(picture.shape[:2]) - self.crop
            part = rows.frame_numbers[i, :2] if self.augment else np.float32(0.5)
            top, left = (part * (room + 1)).astype(int)
            pictures[i] = torch.from_numpy(picture[top : top + self.crop, left : left + self.crop])
        sounds = torch.empty((len(rows.sound_clip), 48_000), dtype=torch.int16)
        for i, (clip, centre) in enumerate(zip(rows.sound_clip.tolist(), rows.sound_centre.tolist(), strict=True)):
            sounds[i] = torch.from_numpy(self.shards.sound(clip, centre - 24_000, 48_000))
        return Batch(
            pictures,
            sounds,
            torch.from_numpy(rows.frame_numbers),
            torch.from_numpy(rows.sound_numbers),
            torch.from_numpy(rows.pair_frame),
            torch.from_numpy(rows.pair_sound),
            torch.from_numpy(rows.label),
        )


def load(reader: PairReader, stretches: Iterator[tuple[int, int]], *, num_workers: int, pin: bool) -> Iterator[Batch]:
    """The batches of the given stretches of rows, in that order whatever the number of workers.

    Raises shards.read.BadRecord where the shards are damaged.
    """
    # Not fork: the training process has threads (torch's, NCCL's, W&B's) whose locks a fork would copy. Workers are
    # forked from a server that has imported this module and nothing else.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    batches = DataLoader(
        reader,
        batch_size=None,
        sampler=_Once(stretches),
        num_workers=num_workers,
        pin_memory=pin,
        multiprocessing_context=context if num_workers else None,
        prefetch_factor=2 if num_workers else None,
    )
    for batch in batches:
        if isinstance(batch, BadRecord):
            raise batch
        yield batch


class _Once:
    """An iterator in the place of a sampler."""

    def __init__(self, stretches: Iterator[tuple[int, int]]) -> None:
        self.stretches = stretches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self.stretches
