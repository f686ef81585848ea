"""The supervised baseline that L3-Net is compared with (Look, Listen and Learn): its trunks, trained on labels."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from avc.data.sight import Sight
from avc.models.trunks import Trunk, global_max_pool


class Judgement(NamedTuple):
    """kinds_seen: (F, K) logits of pictures' kinds; kinds_heard: (S, K), of sounds'; pairs: (P, 2), of no and yes."""

    kinds_seen: Tensor
    kinds_heard: Tensor
    pairs: Tensor


class SupervisedNet(nn.Module):
    """Two classifiers, of pictures and of sounds, and their direct combination.

    Each: trunk, fc1 512 → 128 with ReLU, fc2 128 → K. What belongs together is then decided by the scalar product of
    the two softmaxes, the chance that both are of the same kind, against a threshold. It starts at one half and is
    trained on the training pairs, without a say in what the classifiers learn.
    """

    sight: ClassVar[Sight] = Sight()

    def __init__(self, *, width: float, stride: bool, kinds: int) -> None:
        super().__init__()
        self.vision = Trunk(3, width=width, stride=stride)
        self.audio = Trunk(1, width=width, stride=stride)
        self.vision_head = _head(self.vision.out_channels, kinds)
        self.audio_head = _head(self.audio.out_channels, kinds)
        self.threshold = nn.Linear(1, 2)
        with torch.no_grad():
            self.threshold.weight.copy_(torch.tensor([[-3.0], [3.0]]))
            self.threshold.bias.copy_(torch.tensor([1.5, -1.5]))

    def embed_image(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pictures → (N, K) logits of their kinds."""
        return self.vision_head(global_max_pool(self.vision(pictures)))  # type: ignore[no-any-return]

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, K) logits of their kinds."""
        return self.audio_head(global_max_pool(self.audio(spectrograms)))  # type: ignore[no-any-return]

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of P pictures' and P sounds' kinds, row by row → (P, 2) logits of "no" and "yes"."""
        product = (image.float().softmax(dim=1) * audio.float().softmax(dim=1)).sum(dim=1, keepdim=True)
        return self.threshold(product.detach())  # type: ignore[no-any-return]

    def forward(
        self, pictures: Tensor, spectrograms: Tensor, pair_frame: Tensor, pair_sound: Tensor
    ) -> Tensor | Judgement:
        """Classify each picture and each sound once, then compare the pairs: (P, 2) logits; in training all three."""
        seen, heard = self.embed_image(pictures), self.embed_audio(spectrograms)
        pairs = self.compare(seen[pair_frame], heard[pair_sound])
        return Judgement(seen, heard, pairs) if self.training else pairs


def _head(features: int, kinds: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, kinds))
