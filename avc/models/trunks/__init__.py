"""Trunks: convolutional networks that a tower begins with, and the interface that they share."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from avc.networks import resolve
from avc.settings import PairModel

TRUNKS = {
    "vgg": "avc.models.trunks.vgg:VGG",
    "resnet18": "avc.models.trunks.resnet:ResNet18",
}


class Trunk(nn.Module):
    """A map of features from an image or a spectrogram.

    out_channels: of the map. stride: pixels of the input from one place of the map to the next. encodes: whether it
    takes rows of features, which an encoder gives beforehand.
    """

    out_channels: int
    stride: int
    frozen = False
    encodes: ClassVar[bool] = False

    def features(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) float → the map before the last ReLU, (N, out_channels, H', W')."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) float → the map after the last ReLU, (N, out_channels, H', W'), at least 0."""
        return torch.relu(self.features(x))

    def freeze(self) -> None:
        """Keep weights and batch statistics as they are from now on, in training too."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode where it is frozen."""
        return super().train(mode and not self.frozen)


def build_trunks(settings: PairModel) -> tuple[Trunk, Trunk]:
    """The trunks of the vision and the audio tower: fresh, or what `model.image` and `model.audio` name.

    Raises ValueError for names of nothing.
    """
    if settings.image is not None:
        return resolve("avc.encoders.pretrained_trunk:pretrained_trunks")(settings)  # type: ignore[no-any-return]
    shape: dict[str, Any] = {"width": settings.width, "stride": settings.stride}
    vision = build_trunk(settings.trunk, 3, **shape)
    return vision, build_trunk(settings.trunk, 1, pool=settings.spectrogram_pool, **shape)


def build_trunk(name: str, in_channels: int, **settings: Any) -> Trunk:
    """A trunk of TRUNKS with fresh weights. Raises ValueError for a name that is not in the list."""
    if name not in TRUNKS:
        raise ValueError(f"`model.trunk` is {name!r} and must be one of {', '.join(TRUNKS)}")
    return resolve(TRUNKS[name])(in_channels, **settings)  # type: ignore[no-any-return]
