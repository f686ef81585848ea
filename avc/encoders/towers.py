"""The towers of networks that compare images with audio, each as an encoder.

Layer trunk is the map that the tower's trunk ends in, max-pooled as in Look, Listen and Learn; embedding is what the
tower ends in (AVE-Net: 128 numbers of length 1; L3-Net: its 512 pooled ones). A tower that begins with an encoder has
the latter alone.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.preprocessing import images_to_input, log_spectrogram
from avc.encoders.encoder import AudioEncoder, Encoder, ImageEncoder, first_weights
from avc.models.pair import Localizer, PairNetwork
from avc.settings import PairData

LAYERS = ("trunk", "embedding")


class Spectrogram(nn.Module):
    """float32 (N, 48000) → (N, 1, 257, 199): `avc.data.preprocessing.log_spectrogram`."""

    def forward(self, x: Tensor) -> Tensor:
        """As above."""
        return log_spectrogram(x)[:, None]


def _begun(network: PairNetwork, tower: str) -> Any:
    """The encoder that a tower begins with, which has layers of its own, where it does."""
    return getattr(getattr(network, tower), "encoder", None)


class _Tower(Encoder):
    """What both towers have in common. modality: as pages call it; kind: of trunk, as tables do; cells: of its map."""

    modality: str
    kind: str
    cells: tuple[int, int]

    @property
    def first_filters(self) -> Tensor:
        """(F, channels, h, w)."""
        return first_weights(self.network.get_submodule(self.modality))  # type: ignore[union-attr]

    def unit_name(self, layer: str) -> str:
        """As pages call them."""
        return self.modality

    def places(self, layer: str, samples: int = 0) -> int:
        """The map's cells."""
        return self.cells[0] * self.cells[1] if layer == "trunk" else 1

    def describe(self, layer: str) -> str:
        """As tables call it."""
        return self.kind if layer == "trunk" else layer


class AudioTower(_Tower, AudioEncoder):
    """One second at a time; layer trunk before its last ReLU, 4×3."""

    modality, kind, cells = "audio", "trunk before ReLU", (4, 3)

    def __init__(self, name: str, network: PairNetwork) -> None:
        begun: AudioEncoder | None = _begun(network, "audio")
        super().__init__(name, nn.Unflatten(1, (1, -1)) if begun else Spectrogram())
        self.network = network
        self.layers = LAYERS[1:] if begun else LAYERS
        self.unit_layers = () if begun else LAYERS[:1]
        if begun:
            self.sample_rate_hz = begun.sample_rate_hz

    def features(self, x: Tensor, layer: str) -> Tensor:
        """Spectrograms → (N, D)."""
        if layer == "trunk":
            return F.adaptive_max_pool2d(self.network.audio.features(x), self.cells).flatten(1)
        return self.network.embed_audio(x)

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, 48000) → (N, C, H', W'), after ReLU."""
        return self.network.audio(self.frontend(x))  # type: ignore[no-any-return]


class ImageTower(_Tower, ImageEncoder):
    """Layer trunk after its last ReLU, 4×4. AVOL-Net embeds places, and has no embedding of an image."""

    modality, kind, cells = "vision", "trunk after ReLU", (4, 4)

    def __init__(self, name: str, network: PairNetwork, data: PairData) -> None:
        super().__init__(name)
        self.network, self.data, self.size = network, data, data.image_size
        begun = _begun(network, "vision")
        self.layers = LAYERS[:1] if isinstance(network, Localizer) else LAYERS[1:] if begun else LAYERS
        self.unit_layers = () if begun else LAYERS[:1]
        self.visual_input = network.visual_input

    def features(self, x: Tensor, layer: str) -> Tensor:
        """uint8 (N, size, size, 3) → (N, D)."""
        x = images_to_input(x, None, self.data)
        if layer == "trunk":
            return F.adaptive_max_pool2d(self.network.vision(x), self.cells).flatten(1)
        return self.network.embed_image(x)

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """uint8 (N, size, size, 3) → (N, C, H', W')."""
        return self.network.vision(images_to_input(x, None, self.data))  # type: ignore[no-any-return]
