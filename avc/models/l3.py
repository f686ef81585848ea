"""L3-Net and its supervised baseline: Arandjelović and Zisserman, Look, Listen and Learn, ICCV 2017."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avc.models.pair import PairNetwork
from avc.models.trunks import build_trunks
from avc.settings import ClassifierModel, PairModel


class L3Net(PairNetwork):
    """Two trunks whose 512-D features are concatenated and classified (Look, Listen and Learn, figure 2).

    fc1 512 + 512 → 128 with ReLU, fc2 128 → 2; class 1 is "they correspond". Softmax is the loss's.
    """

    def __init__(self, settings: PairModel) -> None:
        super().__init__()
        self.vision, self.audio = build_trunks(settings)
        self.fc1 = nn.Linear(self.vision.out_channels + self.audio.out_channels, 128)
        self.fc2 = nn.Linear(128, 2)
        # He et al. 2015, for layers before and after a ReLU. torch's own start is so much smaller that a network on few
        # videos stays at chance for long: what separates the classes is how sight and sound go together, and fc1 alone
        # sees both.
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="linear")
        for layer in (self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P sounds, row by row → (P, 2) logits of "no" and "yes"."""
        return self.fc2(torch.relu(self.fc1(torch.cat([image, audio], dim=1))))  # type: ignore[no-any-return]


class SupervisedNet(PairNetwork):
    """L3-Net's trunks under two classifiers, of images and of sounds, and their direct combination.

    Each: trunk, fc1 512 → 128 with ReLU, fc2 128 → K. What belongs together is then decided by the scalar product of
    the two softmaxes, the chance that both are of the same class, against a threshold. It starts at one half and is
    trained on the training pairs, without a say in what the classifiers learn.
    """

    def __init__(self, settings: ClassifierModel) -> None:
        super().__init__()
        self.vision, self.audio = build_trunks(settings)
        self.vision_head = _head(self.vision.out_channels, settings.num_classes)
        self.audio_head = _head(self.audio.out_channels, settings.num_classes)
        self.threshold = nn.Linear(1, 2)
        with torch.no_grad():
            self.threshold.weight.copy_(torch.tensor([[-3.0], [3.0]]))
            self.threshold.bias.copy_(torch.tensor([1.5, -1.5]))

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → (N, K) logits of their classes."""
        return self.vision_head(super().embed_image(images))  # type: ignore[no-any-return]

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, K) logits of their classes."""
        return self.audio_head(super().embed_audio(spectrograms))  # type: ignore[no-any-return]

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of P pictures' and P sounds' classes, row by row → (P, 2) logits of "no" and "yes"."""
        product = (image.float().softmax(dim=1) * audio.float().softmax(dim=1)).sum(dim=1, keepdim=True)
        return self.threshold(product.detach())  # type: ignore[no-any-return]


def _head(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, classes))
