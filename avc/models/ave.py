"""AVE-Net: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.sight import Sight
from avc.models.trunks import Trunk, TwoStreams, global_max_pool

EMBEDDING = 128


class AVENet(nn.Module):
    """Two towers that meet only in the distance of their normalised embeddings (Objects that Sound, figure 2d).

    Each tower: trunk, fc1 512 → 128 with ReLU, fc2 128 → 128, L2 normalisation of each row. fc3 1 → 2 turns the
    Euclidean distance, 0 to 2, into logits; class 1 is "they correspond".
    """

    sight: ClassVar[Sight] = Sight()

    def __init__(self, *, width: float, stride: bool) -> None:
        super().__init__()
        self.vision = self._vision(width=width, stride=stride)
        self.audio = Trunk(1, width=width, stride=stride)
        self.vision_head = _head(self.vision.out_channels)
        self.audio_head = _head(self.audio.out_channels)
        self.fc3 = nn.Linear(1, 2)
        # The paper starts fc3 with the sign that makes a small distance mean "corresponds" and does not publish the
        # magnitude. Ours puts the border at distance 1, half-way between the same and the orthogonal direction squared.
        with torch.no_grad():
            self.fc3.weight.copy_(torch.tensor([[3.0], [-3.0]]))
            self.fc3.bias.copy_(torch.tensor([-3.0, 3.0]))

    def _vision(self, *, width: float, stride: bool) -> Trunk | TwoStreams:
        return Trunk(3, width=width, stride=stride)

    def embed_image(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pictures → (N, 128) embeddings of length 1."""
        return _unit(self.vision_head(global_max_pool(self.vision(pictures))))

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, 128) embeddings of length 1."""
        return _unit(self.audio_head(global_max_pool(self.audio(spectrograms))))

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P pictures and P sounds, row by row → (P, 2) logits of "no" and "yes"."""
        return self.fc3(euclidean_distance(image, audio)[:, None])  # type: ignore[no-any-return]

    def forward(
        self,
        pictures: Tensor,
        spectrograms: Tensor,
        pair_frame: Tensor,
        pair_sound: Tensor,
        choose: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Embed each picture and each sound once, then compare the pairs: (P, 2) logits.

        pair_frame, pair_sound: int64 (P,), rows of `pictures` and of `spectrograms`. choose, if given, makes another
        pair_sound of the embeddings.
        """
        image, audio = self.embed_image(pictures), self.embed_audio(spectrograms)
        if choose is not None:
            pair_sound = choose(image, audio)
        return self.compare(image[pair_frame], audio[pair_sound])


def euclidean_distance(a: Tensor, b: Tensor) -> Tensor:
    """(P, D), (P, D) → (P,) float32 distances of the rows; the gradient is finite, and zero, at distance zero."""
    # The root of 0 has no finite gradient: one pair of equal embeddings would turn every weight into NaN.
    return ((a.float() - b.float()).square().sum(dim=1) + 1e-12).sqrt()


def _head(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, EMBEDDING))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=1)
