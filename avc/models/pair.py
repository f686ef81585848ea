"""What the networks that compare an image with a second of audio have in common."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from avc.models.inputs import VisualInput
from avc.models.trunks import Trunk
from shards.format import SAMPLE_RATE_HZ


class Embeddings(NamedTuple):
    """image: of N images. audio: of M seconds of audio. Shapes are the network's, (N, D) and (M, D) as a rule."""

    image: Tensor
    audio: Tensor


class PairNetwork(nn.Module):
    """Two towers, and a comparison of what they give.

    vision, audio: the trunks. visual_input, sample_rate_hz: what the towers take. sees, hears: False where a network
    from elsewhere lacks that tower. one_space: image and audio embeddings can be compared by their distance.
    """

    visual_input: ClassVar[VisualInput] = VisualInput()
    sample_rate_hz: int = SAMPLE_RATE_HZ
    sees: ClassVar[bool] = True
    hears: ClassVar[bool] = True
    one_space: ClassVar[bool] = False
    vision: Trunk
    audio: Trunk

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → embeddings."""
        raise NotImplementedError

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → embeddings."""
        raise NotImplementedError

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
