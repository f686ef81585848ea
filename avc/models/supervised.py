"""The supervised baseline that L3-Net is compared with (Look, Listen and Learn): its trunks, trained on labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avc.models.pair import PairNetwork
from avc.models.trunks import build_trunk, global_max_pool
from avc.settings import ClassifierModel


class SupervisedNet(PairNetwork):
    """Two classifiers, of images and of sounds, and their direct combination.

    Each: trunk, fc1 512 → 128 with ReLU, fc2 128 → K. What belongs together is then decided by the scalar product of
    the two softmaxes, the chance that both are of the same class, against a threshold. It starts at one half and is
    trained on the training pairs, without a say in what the classifiers learn.
    """

    def __init__(self, settings: ClassifierModel) -> None:
        super().__init__()
        self.vision = build_trunk(settings.trunk, 3, width=settings.width, stride=settings.stride)
        self.audio = build_trunk(settings.trunk, 1, width=settings.width, stride=settings.stride)
        self.vision_head = _head(self.vision.out_channels, settings.num_classes)
        self.audio_head = _head(self.audio.out_channels, settings.num_classes)
        self.threshold = nn.Linear(1, 2)
        with torch.no_grad():
            self.threshold.weight.copy_(torch.tensor([[-3.0], [3.0]]))
            self.threshold.bias.copy_(torch.tensor([1.5, -1.5]))

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → (N, K) logits of their classes."""
        return self.vision_head(global_max_pool(self.vision(images)))  # type: ignore[no-any-return]

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, K) logits of their classes."""
        return self.audio_head(global_max_pool(self.audio(spectrograms)))  # type: ignore[no-any-return]

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of P pictures' and P sounds' classes, row by row → (P, 2) logits of "no" and "yes"."""
        product = (image.float().softmax(dim=1) * audio.float().softmax(dim=1)).sum(dim=1, keepdim=True)
        return self.threshold(product.detach())  # type: ignore[no-any-return]


def _head(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, classes))
