"""L3-Net: Arandjelović and Zisserman, Look, Listen and Learn, ICCV 2017."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from avc.data.sight import Sight
from avc.models.trunks import Trunk, global_max_pool


class L3Net(nn.Module):
    """Two trunks whose 512-D features are concatenated and classified (Look, Listen and Learn, figure 2).

    fc1 512 + 512 → 128 with ReLU, fc2 128 → 2; class 1 is "they correspond". Softmax is the loss's.
    """

    sight: ClassVar[Sight] = Sight()

    def __init__(self, *, width: float, stride: bool) -> None:
        super().__init__()
        self.vision = Trunk(3, width=width, stride=stride)
        self.audio = Trunk(1, width=width, stride=stride)
        self.fc1 = nn.Linear(self.vision.out_channels + self.audio.out_channels, 128)
        self.fc2 = nn.Linear(128, 2)
        # He et al. 2015, for layers before and after a ReLU. torch's own start is so much smaller that a network on few
        # videos stays at chance for long: what separates the classes is how sight and sound go together, and fc1 alone
        # sees both.
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="linear")
        for layer in (self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def embed_image(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pictures → (N, 512 · width) features of the vision trunk."""
        return global_max_pool(self.vision(pictures))

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, 512 · width) features of the audio trunk."""
        return global_max_pool(self.audio(spectrograms))

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P pictures and P sounds, row by row → (P, 2) logits of "no" and "yes"."""
        return self.fc2(torch.relu(self.fc1(torch.cat([image, audio], dim=1))))  # type: ignore[no-any-return]

    def forward(self, pictures: Tensor, spectrograms: Tensor, pair_frame: Tensor, pair_sound: Tensor) -> Tensor:
        """Embed each picture and each sound once, then compare the pairs: (P, 2) logits.

        pair_frame, pair_sound: int64 (P,), rows of `pictures` and of `spectrograms`.
        """
        return self.compare(self.embed_image(pictures)[pair_frame], self.embed_audio(spectrograms)[pair_sound])
