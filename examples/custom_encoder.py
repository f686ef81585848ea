"""A network of your own as an encoder: `avc eval image examples/custom_encoder.py:encoder root=pictures`.

The same words are taken by `avc eval kinds`, `avc eval retrieval`, `avc embed --content image`, `avc explore` and
`avc export --onnx`. For audio, subclass AudioEncoder, whose `features` takes float32 (N, samples) in [-1, 1], mono.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avc.encoders.encoder import ImageEncoder


class Custom(ImageEncoder):
    size = 64  # pixels; pictures come cropped and scaled to it
    layers = ("map", "embedding")  # what can be taken, the usual one first; embedding is what it ends in

    def __init__(self) -> None:
        super().__init__("my network")
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(16, 10)

    def features(self, x: Tensor, layer: str) -> Tensor:
        """uint8 (N, 64, 64, 3) RGB → float32 (N, D)."""
        pooled = self.convolutions(x.permute(0, 3, 1, 2) / 255).mean(dim=(2, 3))
        return pooled if layer == "map" else self.head(pooled)


def encoder() -> Custom:
    torch.manual_seed(0)  # yours: network.load_state_dict(torch.load("weights.pt", weights_only=True))
    return Custom()
