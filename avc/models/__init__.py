"""The published networks, one file each."""

from __future__ import annotations

from torch import nn

from avc.config import ModelSettings
from avc.models.ave import AVENet
from avc.models.avol import AVOLNet
from avc.models.l3 import L3Net

CorrespondenceNet = L3Net | AVENet | AVOLNet

MODELS: dict[str, type[L3Net] | type[AVENet] | type[AVOLNet]] = {"l3": L3Net, "ave": AVENet, "avol": AVOLNet}


def build(settings: ModelSettings) -> CorrespondenceNet:
    """The network that the settings name, with fresh weights from torch's global generator."""
    return MODELS[settings.name](width=settings.width, stride=settings.stride)


def parameter_count(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in model.parameters())
