"""A batch of pairs, as a reader gives it and as it goes to the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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

    def pinned(self) -> Batch:
        """A copy in pinned memory."""
        return Batch(*(tensor.pin_memory() for tensor in self))

    def copied(self) -> Batch:
        """A copy in memory of its own."""
        return Batch(*(tensor.clone() for tensor in self))

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; pinned memory is copied without waiting."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))
