"""Rows of the sampler → batches: reads JPEGs and seconds of audio, decodes and crops.

The bytes stay small until they are on the device, uint8 images and int16 audio; `avc.data.preprocessing` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avc.data.preprocessing import CROP, center_crop, crop_origin
from avc.data.sampler import PairRows, PairSampler
from avc.models.pair import VisualInput
from shards.format import HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ
from shards.read import Shards


class Batch(NamedTuple):
    """F images, S seconds of audio, and P pairs of them.

    images: uint8 (F, *visual_input.shape(crop)), for most networks (F, crop, crop, 3). audio: int16 (S, 48000).
    image_draws, audio_draws: float32 (F, 5), (S, 1), augmentation numbers from the plan. frame_clip,
    audio_clip: int64 (F,), (S,), rows of the index. pair_frame, pair_audio, label: int64 (P,). digest: int64 (), of the
    pairs.
    """

    images: Tensor
    audio: Tensor
    image_draws: Tensor
    audio_draws: Tensor
    frame_clip: Tensor
    audio_clip: Tensor
    pair_frame: Tensor
    pair_audio: Tensor
    label: Tensor
    digest: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; pinned memory is copied without waiting."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class PairReader:
    """Reads ranges of rows: `reader[start, stop]` is the batch of rows [start, stop).

    augment: images are decoded at the smallest of JPEG's scales (1, 1/2, 1/4, 1/8) whose crop is as large as
    `image_size`, and cropped where the plan says. Else they are decoded whole and brought to `image_size` by
    `center_crop`, as any other picture is. visual_input: what the network sees, all under one crop.
    Raises ValueError where the stored images are too small to augment for `image_size`, or too few for `visual_input`.
    """

    def __init__(
        self,
        shards: Shards,
        sampler: PairSampler,
        *,
        image_size: int,
        augment: bool,
        visual_input: VisualInput | None = None,
    ) -> None:
        self.shards, self.sampler, self.augment = shards, sampler, augment
        self.visual_input = visual_input or VisualInput()
        every = int(shards.index["every"][sampler.clips].max())
        if self.visual_input.frames > 1 and every > 1:
            raise ValueError(
                f"the network sees {self.visual_input.frames} frames in a row, but {shards.folder} keeps one image "
                f"in {every}: pack with --every 1"
            )
        if self.visual_input.flow_frames and not shards.manifest.settings.flow:
            raise ValueError(
                f"the network sees optical flow, and {shards.folder} holds none: pack the videos again with --flow"
            )
        sides = np.minimum(shards.index["width"], shards.index["height"])[sampler.clips]
        side = int(sides.min())
        scales = [reduce for reduce in (8, 4, 2, 1) if round(side * CROP) // reduce >= image_size]
        if augment and not scales:
            raise ValueError(
                f"data.image_size: {image_size} is more than {round(side * CROP)}, 7/8 of the smallest side of the "
                f"pictures in {shards.folder}; lower it, or pack with a larger --side"
            )
        self.reduce = scales[0] if augment else 1
        self.crop = round(side * CROP) // self.reduce if augment else image_size

    def __getitem__(self, row_range: tuple[int, int]) -> Batch:
        return self.read(self.sampler.rows(*row_range))

    def read(self, rows: PairRows) -> Batch:
        """Read what the rows name. Raises shards.read.BadRecord where the shards are damaged."""
        buffers = self.buffers(slots=1, rows=len(rows.frame_clip))
        self.read_into(buffers, 0, rows)
        return buffers.batch(0, rows)

    def buffers(self, *, slots: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> PairBuffers:
        """Memory for batches of up to `rows` rows, one in each of `slots` slots; made by `empty`."""
        images = empty((slots, rows, *self.visual_input.shape(self.crop)), dtype=torch.uint8)
        audio = empty((slots, rows, SAMPLE_RATE_HZ), dtype=torch.int16)
        return PairBuffers(images, audio)

    def read_into(self, buffers: PairBuffers, slot: int, rows: PairRows) -> None:
        """Read what the rows name into a slot of `buffers`. Raises as `read` does."""
        # numpy's views: what torch spends on a slice and a copy is a tenth of decoding the image.
        images, audio = buffers.images[slot].numpy(), buffers.audio[slot].numpy()
        frames = zip(
            images, rows.frame_clip.tolist(), rows.frame_tick.tolist(), rows.image_draws.tolist(), strict=False
        )
        sounds = zip(audio, rows.audio_clip.tolist(), rows.audio_center.tolist(), strict=False)
        seen = (partial(self._see, image, clip, tick, *draws[:2]) for image, clip, tick, draws in frames)
        self.shards.together(chain(seen, (partial(self._hear, *sound) for sound in sounds)))

    def _hear(self, heard: NDArray[np.int16], clip: int, center: int) -> None:
        """Fill `heard` with the second around a sample."""
        heard[:] = self.shards.sound(clip, center - HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ)

    def _see(self, seen: NDArray[np.uint8], clip: int, tick: int, down: float, right: float) -> None:
        """Fill `seen`, of the shape that `visual_input` has, with one crop of all that is around the tick."""
        view, side = self.visual_input, self.crop
        film = self.shards.film(clip, view.first_frame(tick), count=view.frames, reduce=self.reduce)
        height, width = film[0].shape[:2]
        top, left = crop_origin(height, side, down), crop_origin(width, side, right)

        def cropped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            if self.augment:
                return image[top : top + side, left : left + side]
            return center_crop(torch.from_numpy(image)[None], side)[0].numpy()

        for frame, image in zip(seen.reshape(-1, side, side, view.channels), film, strict=True):
            frame[..., :3] = cropped(image)
        if view.flow_frames:
            flow = self.shards.flow(clip, view.first_flow(tick), count=view.flow_frames, reduce=self.reduce)
            for channel, step in zip(range(3, view.channels, 2), flow, strict=True):
                seen[..., channel : channel + 2] = cropped(step)


@dataclass(frozen=True)
class PairBuffers:
    """Memory for the large parts of batches: those of `Batch` with a dimension of slots before them."""

    images: Tensor
    audio: Tensor

    def batch(self, slot: int, rows: PairRows) -> Batch:
        """The batch of `rows` that was read into a slot; it shares the slot's memory."""
        kept = {name: torch.from_numpy(column) for name, column in vars(rows).items() if name in Batch._fields}
        images, audio = self.images[slot, : len(rows.frame_clip)], self.audio[slot, : len(rows.audio_clip)]
        return Batch(images=images, audio=audio, digest=torch.tensor(rows.digest()), **kept)
