"""The published networks, one file each."""

from __future__ import annotations

import torch
from torch import nn

from avc.config import ModelSettings
from avc.models.ave import AVENet
from avc.models.ave_mf import AVEMFNet
from avc.models.ave_of import AVEOFNet
from avc.models.avol import AVOLNet
from avc.models.l3 import L3Net
from avc.models.supervised import SupervisedNet

CorrespondenceNet = L3Net | AVENet | AVOLNet | SupervisedNet

MODELS: dict[str, type[L3Net] | type[AVENet] | type[AVOLNet] | type[SupervisedNet]] = {
    "l3": L3Net,
    "ave": AVENet,
    "ave_mf": AVEMFNet,
    "ave_of": AVEOFNet,
    "avol": AVOLNet,
    "supervised": SupervisedNet,
}

TITLES = {
    "l3": "L3-Net",
    "ave": "AVE-Net",
    "ave_mf": "AVE+MF",
    "ave_of": "AVE+OF",
    "avol": "AVOL-Net",
    "supervised": "supervised",
}


def build(settings: ModelSettings) -> CorrespondenceNet:
    """The network that the settings name, with fresh weights from torch's global generator.

    Raises ValueError for SoundNet, which compares nothing: it hears alone.
    """
    if settings.name not in MODELS:
        raise ValueError(f"{settings.name} only hears; what is asked for needs one of {', '.join(MODELS)}")
    more = {"kinds": settings.kinds} if settings.name == "supervised" else {}
    return MODELS[settings.name](width=settings.width, stride=settings.stride, **more)


def parameter_count(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in model.parameters())


def to_channels_last(model: nn.Module) -> None:
    """Lay out the weights of convolutions over pictures, and of those over pictures in time, with channels last."""
    for parameter in model.parameters():
        if parameter.dim() in (4, 5):
            layout = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
