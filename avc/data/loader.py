"""Plan and shards → batches.

    1. steps of the run           which rows of the plan, cut into the micro-batches of this rank
    2. a reader                   draws the rows, reads each one's JPEG (or as many as the network sees) and second of
                                  sound, decodes, crops, and leaves uint8 pictures and int16 sound in memory
    3. avc.data.prefetch          has worker processes do so, a few batches ahead of the network

The bytes stay small until they are on the device; `avc.data.transforms` does the rest there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avc.data.plan import Plan, Rows
from avc.data.preprocessing import CROP, crop_origin
from avc.data.reading import AnyPlan
from avc.data.sight import Sight
from shards.format import HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ
from shards.read import Shards


class Batch(NamedTuple):
    """F pictures, S seconds of sound, and P pairs of them.

    pictures: uint8 (F, *sight.shape(crop)), which for most networks is (F, crop, crop, 3). sounds: int16 (S, 48000).
    frame_numbers, sound_numbers: float32 (F, 5), (S, 1), augmentation numbers from the plan. frame_clip,
    sound_clip: int64 (F,), (S,), rows of the index. pair_frame, pair_sound, label: int64 (P,). digest: int64 (), of the
    pairs.
    """

    pictures: Tensor
    sounds: Tensor
    frame_numbers: Tensor
    sound_numbers: Tensor
    frame_clip: Tensor
    sound_clip: Tensor
    pair_frame: Tensor
    pair_sound: Tensor
    label: Tensor
    digest: Tensor

    def pinned(self) -> Batch:
        """A copy in pinned memory."""
        return Batch(*(tensor.pin_memory() for tensor in self))

    def copied(self) -> Batch:
        """A copy in memory of its own."""
        return Batch(*(tensor.clone() for tensor in self))

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


def share(plan: AnyPlan, *, batch_pairs: int, micro_batch_pairs: int, rank: int, world_size: int) -> Share:
    """Cut `batch_pairs` pairs into equal stretches of whole granules, micro-batches as large as allowed.

    Raises ValueError where that is impossible, with sizes that would do.
    """
    granule = plan.granule * plan.pairs_per_row  # pairs that cannot be parted
    if batch_pairs % (world_size * granule):
        step = world_size * granule
        below, above = batch_pairs // step * step, -(-batch_pairs // step) * step
        raise ValueError(
            f"optim.batch_pairs: {batch_pairs} pairs cannot be divided over {world_size} ranks in "
            f"{plan.granule_in_words} ({granule} pairs); use {f'{below} or ' if below else ''}{above}"
        )
    granules = batch_pairs // (world_size * granule)
    if micro_batch_pairs < granule:
        raise ValueError(f"optim.micro_batch_pairs: {micro_batch_pairs} is less than the {granule} pairs kept together")
    micro_batches = next(
        n for n in range(1, granules + 1) if granules % n == 0 and granules // n * granule <= micro_batch_pairs
    )
    return Share(batch_pairs // plan.pairs_per_row, rank, world_size, micro_batches)


class PairReader:
    """Reads stretches of the plan: `reader[start, stop]` is the batch of rows [start, stop).

    image_size: pictures are decoded at the smallest of JPEG's scales (1, 1/2, 1/4, 1/8) whose crop is as large.
    augment: crop where the plan says, else in the middle. sight: what the network sees; all of it has the same crop.
    Raises ValueError where the stored pictures are too small for `image_size`, or too few for `sight`.
    """

    def __init__(
        self, shards: Shards, plan: Plan, *, image_size: int, augment: bool, sight: Sight | None = None
    ) -> None:
        self.shards, self.plan, self.augment, self.sight = shards, plan, augment, sight or Sight()
        every = int(shards.index["every"][plan.clips].max())
        if self.sight.frames > 1 and every > 1:
            raise ValueError(
                f"the network sees {self.sight.frames} frames in a row, but {shards.folder} keeps one picture in "
                f"{every}: pack with --every 1"
            )
        if self.sight.flow_frames and not shards.manifest.settings.flow:
            raise ValueError(
                f"the network sees optical flow, and {shards.folder} holds none: pack the videos again with --flow"
            )
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

    def __getitem__(self, stretch: tuple[int, int]) -> Batch:
        return self.read(self.plan.rows(*stretch))

    def read(self, rows: Rows) -> Batch:
        """Read what the rows name. Raises shards.read.BadRecord where the shards are damaged."""
        room = self.room(places=1, rows=len(rows.frame_clip))
        self.fill(room, 0, rows)
        return room.batch(0, rows)

    def room(self, *, places: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> Room:
        """Memory for batches of up to `rows` rows, one in each of `places` places; from torch or as `empty` does."""
        pictures = empty((places, rows, *self.sight.shape(self.crop)), dtype=torch.uint8)
        sounds = empty((places, rows, SAMPLE_RATE_HZ), dtype=torch.int16)
        return Room(pictures, sounds)

    def fill(self, room: Room, place: int, rows: Rows) -> None:
        """Read what the rows name into a place of `room`. Raises as `read` does."""
        # numpy's views: what torch spends on a slice and a copy is a tenth of decoding the picture.
        pictures, sounds = room.pictures[place].numpy(), room.sounds[place].numpy()
        parts = rows.frame_numbers[:, :2].tolist() if self.augment else [(0.5, 0.5)] * len(rows.frame_clip)
        frames = zip(rows.frame_clip.tolist(), rows.frame_tick.tolist(), parts, strict=True)
        for i, (clip, tick, (down, right)) in enumerate(frames):
            self._see(pictures[i], clip, tick, down=down, right=right)
        for i, (clip, centre) in enumerate(zip(rows.sound_clip.tolist(), rows.sound_centre.tolist(), strict=True)):
            sounds[i] = self.shards.sound(clip, centre - HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ)

    def _see(self, seen: NDArray[np.uint8], clip: int, tick: int, *, down: float, right: float) -> None:
        """Fill `seen`, of the shape that `sight` has, with one crop of all that is around the tick."""
        sight, side = self.sight, self.crop
        film = self.shards.film(clip, sight.first_frame(tick), count=sight.frames, reduce=self.reduce)
        height, width = film[0].shape[:2]
        top, left = crop_origin(height, side, down), crop_origin(width, side, right)
        crop = slice(top, top + side), slice(left, left + side)
        for frame, picture in zip(seen.reshape(-1, side, side, sight.channels), film, strict=True):
            frame[..., :3] = picture[crop]
        if sight.flow_frames:
            flow = self.shards.flow(clip, sight.first_flow(tick), count=sight.flow_frames, reduce=self.reduce)
            for channel, step in zip(range(3, sight.channels, 2), flow, strict=True):
                seen[..., channel : channel + 2] = step[crop]


@dataclass(frozen=True)
class Room:
    """Memory for the large parts of B batches: those of `Batch` with a dimension of B before them."""

    pictures: Tensor
    sounds: Tensor

    def batch(self, place: int, rows: Rows) -> Batch:
        """The batch of `rows` that was read into a place; it shares that place's memory."""
        return Batch(
            self.pictures[place, : len(rows.frame_clip)],
            self.sounds[place, : len(rows.sound_clip)],
            torch.from_numpy(rows.frame_numbers),
            torch.from_numpy(rows.sound_numbers),
            torch.from_numpy(rows.frame_clip),
            torch.from_numpy(rows.sound_clip),
            torch.from_numpy(rows.pair_frame),
            torch.from_numpy(rows.pair_sound),
            torch.from_numpy(rows.label),
            torch.tensor(rows.digest()),
        )
