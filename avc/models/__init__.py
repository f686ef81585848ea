"""The published networks, one file each."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from avc.networks import network_of, resolve
from avc.settings import ModelSettings


def build(settings: ModelSettings) -> Any:
    """The network that the settings name, with fresh weights from torch's global generator.

    Raises ValueError for settings that do not fit the network.
    """
    return model_class(settings.name)(settings)


def model_class(name: str) -> Any:
    """The class of a network."""
    return resolve(network_of(name).model)


def parameter_count(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in model.parameters())


def to_channels_last(model: nn.Module) -> None:
    """Lay out the weights of convolutions over images, and of those over images in time, with channels last."""
    for parameter in model.parameters():
        if parameter.dim() in (4, 5):
            layout = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            weight = parameter.data.contiguous(memory_format=layout)
            if weight.dim() == 4 and weight.shape[1] == 1:
                # With one input channel both layouts are the same memory, and torch takes strides that fit both for
                # channels first: the convolution and all that follows would run so. These strides fit one only.
                _, _, height, width = weight.shape
                weight = weight.as_strided(weight.shape, (height * width, 1, width, 1))
            parameter.data = weight
