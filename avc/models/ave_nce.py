"""AVE-Net's towers for a contrastive loss over all pairs of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avc.models.ave import AVENet
from avc.settings import PairModel


class ContrastiveAVENet(AVENet):
    """AVE-Net with a learnt temperature, from 0.07 and not below 0.01 (Radford et al. 2021, section 2.5)."""

    def __init__(self, settings: PairModel) -> None:
        super().__init__(settings)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by, float32 ()."""
        return self.log_scale.exp().clamp(max=100.0)
