"""L3-Net: Arandjelović and Zisserman, Look, Listen and Learn, ICCV 2017."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avc.models.pair import PairNetwork
from avc.models.trunks import build_trunk, global_max_pool
from avc.settings import PairModel


class L3Net(PairNetwork):
    """Two trunks whose 512-D features are concatenated and classified (Look, Listen and Learn, figure 2).

    fc1 512 + 512 → 128 with ReLU, fc2 128 → 2; class 1 is "they correspond". Softmax is the loss's.
    """

    def __init__(self, settings: PairModel) -> None:
        super().__init__()
        self.vision = build_trunk(settings.trunk, 3, width=settings.width, stride=settings.stride)
        self.audio = build_trunk(settings.trunk, 1, width=settings.width, stride=settings.stride)
        self.fc1 = nn.Linear(self.vision.out_channels + self.audio.out_channels, 128)
        self.fc2 = nn.Linear(128, 2)
        # He et al. 2015, for layers before and after a ReLU. torch's own start is so much smaller that a network on few
        # videos stays at chance for long: what separates the classes is how sight and sound go together, and fc1 alone
        # sees both.
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="linear")
        for layer in (self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → (N, 512 · width) features of the vision trunk."""
        return global_max_pool(self.vision(images))

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, 512 · width) features of the audio trunk."""
        return global_max_pool(self.audio(spectrograms))

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P sounds, row by row → (P, 2) logits of "no" and "yes"."""
        return self.fc2(torch.relu(self.fc1(torch.cat([image, audio], dim=1))))  # type: ignore[no-any-return]
