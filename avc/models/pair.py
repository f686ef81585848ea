"""What the networks that compare an image with a second of audio have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from avc.models.trunks import Trunk


@dataclass(frozen=True)
class VisualInput:
    """frames: images of consecutive ticks, the drawn tick's in their middle; an odd number, at most 25.

    flow_frames: steps of optical flow from tick to tick, as many before the drawn tick as after it; an even number.

    A clip has them wherever it has the half second of sound on either side that a drawn tick needs, which is 12.5 ticks
    (`shards.format.centers`). So the plan draws the same ticks for every network, and for both classes.
    """

    frames: int = 1
    flow_frames: int = 0

    def __post_init__(self) -> None:
        assert self.frames in range(1, 26, 2)
        assert self.flow_frames in range(0, 25, 2)
        assert self.frames == 1 or not self.flow_frames

    def first_frame(self, tick: int) -> int:
        """The tick of the first frame, for the drawn tick."""
        return tick - self.frames // 2

    def first_flow(self, tick: int) -> int:
        """The tick from which the first step of optical flow leads to the next one, for the drawn tick."""
        return tick - self.flow_frames // 2

    @property
    def channels(self) -> int:
        """Red, green and blue, then two of motion for each step of optical flow, to the right and down."""
        return 3 + 2 * self.flow_frames

    def shape(self, side: int) -> tuple[int, ...]:
        """Shape of the input at `side` pixels: (side, side, channels), or (frames, side, side, channels)."""
        image = (side, side, self.channels)
        return image if self.frames == 1 else (self.frames, *image)


class Embeddings(NamedTuple):
    """image: of N images. audio: of M seconds of audio. Shapes are the network's, (N, D) and (M, D) as a rule."""

    image: Tensor
    audio: Tensor


class PairNetwork(nn.Module):
    """Two towers, and a comparison of what they give.

    vision, audio: the trunks. visual_input: what the vision tower takes. one_space: image and audio embeddings can be
    compared by their distance.
    """

    visual_input: ClassVar[VisualInput] = VisualInput()
    one_space: ClassVar[bool] = False
    vision: Trunk
    audio: Trunk

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → embeddings; here (N, 512 · width) features of the vision trunk."""
        return global_max_pool(self.vision(images))

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → embeddings; here (N, 512 · width) features of the audio trunk."""
        return global_max_pool(self.audio(spectrograms))

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P seconds of audio, row by row → (P, 2) logits of "no" and "yes"."""
        raise NotImplementedError

    def forward(self, images: Tensor, spectrograms: Tensor) -> Embeddings:
        """Embed each image and each second of audio once; which of them are compared, the task decides."""
        return Embeddings(self.embed_image(images), self.embed_audio(spectrograms))


@runtime_checkable
class Localizer(Protocol):
    """A network that compares audio with every place of an image."""

    def localize(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P seconds of audio → float32 (P, H', W') logits of "this makes the sound"."""


def global_max_pool(maps: Tensor) -> Tensor:
    """(N, C, H, W) or (N, C, T, H, W) → (N, C): pool4 of both papers takes the maximum over the whole map."""
    if maps.requires_grad and torch.compiler.is_compiling():
        # By its place. Backward, amax looks for it by its value, and in what is computed anew the value is not rounded.
        return maps.flatten(2).max(dim=2).values
    return maps.amax(dim=tuple(range(2, maps.dim())))
