"""AVE-Net: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 3."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.models.pair import PairNetwork
from avc.models.trunks import Trunk, build_trunks
from avc.settings import PairModel

EMBEDDING = 128


class AVENet(PairNetwork):
    """Two towers that meet only in the distance of their normalized embeddings (Objects that Sound, figure 2d).

    Each tower: trunk, fc1 512 → 128 with ReLU, fc2 128 → 128, L2 normalization of each row; over a pretrained encoder
    one layer to 128 in place of fc1 and fc2, as few clips are learnt by heart with more. fc3 1 → 2 turns the
    Euclidean distance, 0 to 2, into logits; class 1 is "they correspond".
    """

    one_space: ClassVar[bool] = True

    def __init__(self, settings: PairModel) -> None:
        super().__init__()
        self.vision, self.audio = self._trunks(settings)
        head = linear_head if getattr(settings, "image", None) is not None else _head
        self.vision_head = head(self.vision.out_channels)
        self.audio_head = head(self.audio.out_channels)
        self.fc3 = nn.Linear(1, 2)
        # The paper starts fc3 with the sign that makes a small distance mean "corresponds" and does not publish the
        # magnitude. Ours puts the border at distance 1, half-way between the same and the orthogonal direction squared.
        with torch.no_grad():
            self.fc3.weight.copy_(torch.tensor([[3.0], [-3.0]]))
            self.fc3.bias.copy_(torch.tensor([-3.0, 3.0]))

    def _trunks(self, settings: PairModel) -> tuple[Trunk, Trunk]:
        return build_trunks(settings)

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → (N, 128) embeddings of length 1."""
        return F.normalize(self.vision_head(super().embed_image(images)).float(), dim=1)

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, 128) embeddings of length 1."""
        return F.normalize(self.audio_head(super().embed_audio(spectrograms)).float(), dim=1)

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P seconds of audio, row by row → (P, 2) logits of "no" and "yes"."""
        # A product and a sum in fp32: autocast would round fc3's logits to bf16, in which many pairs are alike.
        return euclidean_distance(image, audio)[:, None] * self.fc3.weight[:, 0] + self.fc3.bias


def euclidean_distance(a: Tensor, b: Tensor) -> Tensor:
    """(P, D), (P, D) → (P,) float32 distances of the rows; the gradient is finite, and zero, at distance zero."""
    # The root of 0 has no finite gradient: one pair of equal embeddings would turn every weight into NaN.
    return ((a.float() - b.float()).square().sum(dim=1) + 1e-12).sqrt()


def _head(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, EMBEDDING))


def linear_head(features: int) -> nn.Linear:
    """One layer to 128 numbers, about as long as 1 at the start where features have variance 1."""
    head = nn.Linear(features, EMBEDDING)
    nn.init.normal_(head.weight, std=0.1 * features**-0.5)
    nn.init.zeros_(head.bias)
    return head
