"""What a trained network is to those who use its features: one interface for every family.

A network of one's own is a subclass: see `examples/custom_encoder.py`.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from avc.models.pair import VisualInput

TOWER = "tower"  # a layer


class Encoder(nn.Module):
    """Rows of features from audio or from images: `encoder(x, layer)`, float32 (N, D).

    name: whose they are, in tables. layers: what can be taken, the usual one first; `embedding` is what it ends in.
    unit_layers: those whose units have heat, see `maps`. A network's tower begins with TOWER, where it is among the
    layers, else with the usual one; tower_classes: how many of ImageNet's classes TOWER ends in. frontend: what it
    begins with, a spectrogram for instance, and what ONNX files can leave to others. program: digest of the file that
    was run to make it, where one was.
    """

    layers: tuple[str, ...] = ("embedding",)
    unit_layers: tuple[str, ...] = ()
    tower_classes: int = 0
    program: str = ""

    def __init__(self, name: str, frontend: nn.Module | None = None) -> None:
        super().__init__()
        self.name, self.frontend = name, frontend or nn.Identity()

    def __call__(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, D), as `forward`."""
        rows: Tensor = super().__call__(x, layer)
        return rows

    def forward(self, x: Tensor, layer: str) -> Tensor:
        """x: what the subclass takes; layer: of `layers`. Gives float32 (N, units · places), places side by side."""
        return self.features(self.frontend(x), layer)

    def features(self, x: Tensor, layer: str) -> Tensor:
        """What the frontend gives → float32 (N, D)."""
        raise NotImplementedError

    def named_layer(self, layer: str | None) -> str:
        """The layer, or the usual one. Raises ValueError for one that there is not."""
        if layer is not None and layer not in self.layers:
            raise ValueError(f"{self.name} has no layer {layer!r} to take; choose from {', '.join(self.layers)}")
        return layer or self.layers[0]

    def describe(self, layer: str) -> str:
        """The layer as tables call it."""
        return layer

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """x: as of `forward`; layer: of `unit_layers`. Gives heat, float32 (N, units, H', W'), at least 0."""
        raise NotImplementedError

    @property
    def first_filters(self) -> Tensor:
        """Weights of the first convolution: (F, channels, h, w), of waves (F, samples)."""
        return first_weights(self)

    def unit_layer(self, layer: str | None) -> str:
        """The layer, or the last that has units. Raises ValueError for one that there is not."""
        if layer is not None and layer not in self.unit_layers:
            raise ValueError(f"{self.name} has no layer {layer!r} to take; choose from {', '.join(self.unit_layers)}")
        return layer or self.unit_layers[-1]

    def unit_name(self, layer: str) -> str:
        """What the layer's units are called before their number."""
        return layer

    @property
    def key(self) -> str:
        """Digest of its layers, of what it takes, of every weight and of the file that was run to make it."""
        return digest(self)


def first_weights(network: nn.Module) -> Tensor:
    """The weights of a network's first convolution, (F, channels, ...). Raises ValueError where there is none."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module.weight
    raise ValueError(f"{type(network).__name__} has no convolution, so its `first_filters` are to be given")


def digest(model: nn.Module) -> str:
    """SHA-256 of a network's layers, of every weight and of the files that were run to make its encoders."""
    sha256 = hashlib.sha256(repr(model).encode())
    for module in model.modules():
        sha256.update(str(getattr(module, "program", "")).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha256.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        sha256.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()


class AudioEncoder(Encoder):
    """Takes float32 (N, samples) in [-1, 1], mono.

    seconds: how much at once, None for any length. whole: it takes a recording as a whole, repeated, and its layers
    have steps, of which neighbors are a row.
    """

    sample_rate_hz: int = 48_000
    seconds: float | None = 1.0
    whole: bool = False

    def places(self, layer: str, samples: int) -> int:
        """Numbers that stand side by side in a row for each unit. Raises ValueError where a sound is too short."""
        return 1

    def extra_repr(self) -> str:
        """For people and for `key`."""
        return f"{self.sample_rate_hz} Hz"


class ImageEncoder(Encoder):
    """Takes uint8 (N, size, size, 3) RGB, what `avc.data.preprocessing.center_crop` gives.

    visual_input: what stands in place of the 3 where a network sees motion.
    """

    size: int = 224
    visual_input: VisualInput = VisualInput()

    def places(self, layer: str) -> int:
        """Numbers that stand side by side in a row for each unit."""
        return 1

    @property
    def embeds_pictures(self) -> bool:
        """Whether a single picture has an embedding as a whole."""
        return "embedding" in self.layers and self.visual_input == VisualInput()

    def require_single_frames(self) -> None:
        """Raise ValueError for a network whose visual input is more than one frame."""
        if self.visual_input != VisualInput():
            raise ValueError("AVE+MF and AVE+OF see motion and have no features of single images; give another run")

    def extra_repr(self) -> str:
        """For people and for `key`."""
        return f"{self.size} pixels"
